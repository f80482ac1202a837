#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# unit.sh ROOT: systemd takes deploy/systemd/*.service without a word, and finds each exposed by at most 2.0.
# shellcheck source=tests/check/lib.sh
. "$(dirname "$0")/lib.sh"
most=2.0
if ! systemd-analyze security --help >/dev/null 2>&1 || ! systemd-analyze --help | grep -e --offline >/dev/null; then
    echo "SKIPPED: needs systemd-analyze with security --offline (Debian package systemd)"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for unit in deploy/systemd/*.service; do
    level=$(systemd-analyze security --offline=true --no-pager "$unit" 2>"$work/said" |
        sed -nE 's/.*Overall exposure level for .*: ([0-9.]+) .*/\1/p')
    if [ -z "$level" ]; then
        offence "$unit:1: systemd-analyze says no exposure level: $(head -n 1 "$work/said")"
    elif ! awk -v level="$level" -v most=$most 'BEGIN { exit !(level <= most) }'; then
        offence "$unit:1: exposure level $level, more than $most"
    fi
    # The program need not be installed here; in its place stands one that is.
    sed -E 's:/usr/s?bin/[a-z_]+:/bin/true:' "$unit" >"$work/${unit##*/}"
    systemd-analyze verify --man=no "$work/${unit##*/}" >"$work/said" 2>&1 || true
    while IFS= read -r line; do
        offence "$unit:1: $line"
    done < <(grep -F "${unit##*/}" "$work/said" || true)
    echo "$unit: exposure level $level"
done
verdict
