#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# api_documented_selftest.sh ROOT BUILD: plants offences into copies of the header and of the pages, and expects
# api_documented.sh to find each.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(realpath "$1")
build=$(realpath "$2")
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failed=0

plant() { # EXIT WHAT FILE SED-SCRIPT
    local status=0 output
    rm -rf "${tree:?}"/*
    mkdir -p "$tree/libdsm/page" "$tree/deploy"
    cp -r "$root/libdsm/man" "$root/libdsm/include" "$root/libdsm/settings.def" "$tree/libdsm/"
    cp "$root/libdsm/page/page_states.def" "$tree/libdsm/page/"
    cp "$root/deploy/manual-page" "$tree/deploy/"
    echo >"$tree/CMakeLists.txt"
    sed -i -E "$4" "$tree/libdsm/$3"
    output=$("$here/api_documented.sh" "$tree" "$build" 2>&1) || status=$?
    if [ $status -ne "$1" ]; then
        echo "$2: exit $status, expected $1:"
        echo "$output"
        failed=1
    fi
}

plant 0 "sound pages" man/dsm.7.scd ''
plant 1 "a function without a page" include/dsm/dsm.h 's/^(DSM_API int )dsm_thread_init\(void\);/&\n\1dsm_another(void);/'
plant 1 "a function that a NAME lacks" man/dsm_segment.3.scd 's/dsm_segment_base, //'
plant 1 "another type in a SYNOPSIS" man/dsm_stats.3.scd 's/^int dsm_stats/long dsm_stats/'
plant 1 "a function that there is not" man/dsm_stats.3.scd 's/^int dsm_stats.*/&\nint dsm_reset(void);/'
plant 1 "a flag without a word" include/dsm/dsm.h 's/^( *)DSM_NORESERVE = .*/&\n\1DSM_ANOTHER = 1 << 7,/'
plant 1 "a word for no flag" man/dsm_segment.3.scd 's/DSM_EXCLUSIVE/DSM_INCLUSIVE/'
plant 1 "a variable that there is not" man/dsm.7.scd 's/DSM_LAUNDRY/DSM_WASHING/'
if command -v scdoc >/dev/null; then
    plant 1 "a setting without a row" man/dsm.7.scd '/^@settings/d'
    plant 1 "a counter without a row" man/dsm_stats.3.scd '/^@counters/d'
fi
exit $failed
