#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# probes_selftest.sh ROOT BUILD: probes.sh finds what it is there to find.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$1 build=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

# broken WHAT COMMAND: the list, changed by the sed command, must be complained of.
broken() {
    sed -E "$2" "$root/libdsm/stat/probes.def" >"$work/list"
    if cmp -s "$work/list" "$root/libdsm/stat/probes.def"; then
        echo "$1: the list was not changed"
        status=1
    elif PROBES_DSM=$work/list "$here/probes.sh" "$root" "$build" >"$work/said" 2>&1; then
        echo "$1: was not found"
        status=1
    fi
}

broken "a probe that is not in the file" 's/^DSM_PROBE\(dsm, victim,/DSM_PROBE(dsm, victims,/; s/^DSM_ARGUMENT\(victim,/DSM_ARGUMENT(victims,/'
broken "a probe that is not declared" '/^DSM_PROBE\(dsm, victim,/d; /^DSM_ARGUMENT\(victim,/d'
broken "another width" 's/^(DSM_ARGUMENT\(victim, page, )u64/\1u32/'
broken "another sign" 's/^(DSM_ARGUMENT\(run_deliver, error, )s32/\1u32/'
broken "an argument too many" 's/^(DSM_ARGUMENT\(victim, dirty, .*)$/\1\nDSM_ARGUMENT(victim, more, u32, number, "")/'
broken "an argument too few" '/^DSM_ARGUMENT\(victim, dirty/d'
broken "another name" 's/^DSM_ARGUMENT\(victim, dirty/DSM_ARGUMENT(victim, unclean/'
exit "$status"
