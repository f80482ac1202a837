#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# dsmperf is killed with all of its process group, in the middle: its dsmd ends, and the folder with its store and keys goes; the swap file of `apps`
# is swapped to no more and goes, and so does the control group.
set -euo pipefail
build=$(realpath "${DSM_BUILD:-build}")
work=$(mktemp -d -p /var/tmp "dsm-test-$$.XXXXXX") # on a disk: swap files are
pid=
end() {
    [ -z "$pid" ] || kill -KILL -- "-$pid" 2>/dev/null || true
    rm -rf "$work"
}
trap end EXIT
unset DSM_SERVER DSM_SERVER_KEY DSM_KEY_FILE DSM_CLUSTER DSM_CACHE
export DSM_CONFIG=''

fail() {
    echo "FAILED: $*"
    exit 1
}

within() { # SECONDS COMMAND...: until the command succeeds
    local steps=$(($1 * 20))
    shift
    while ! "$@"; do
        ((steps-- > 0)) || return 1
        sleep 0.05
    done
}

# Sets dsmd and folder, from dsmd's own command line.
find_dsmd() {
    local child children
    read -ra children <"/proc/$pid/task/$pid/children" || true
    for child in "${children[@]}"; do
        folder=$(tr '\0' '\n' <"/proc/$child/cmdline" 2>/dev/null | grep -x -A 1 -e --store | tail -n 1) || continue
        folder=${folder%/store}
        dsmd=$child
        [ -d "$folder/store" ] && return 0
    done
    return 1
}

swaps() {
    grep -q "^$work/" /proc/swaps
}

start() { # OPTION...
    setsid "$build/bin/dsmperf" "$@" >/dev/null &
    pid=$!
    within 30 find_dsmd || fail "dsmperf starts no dsmd"
}

killed() {
    local group
    kill -KILL -- "-$pid"
    wait "$pid" 2>/dev/null || true
    within 20 [ ! -e "/proc/$dsmd/exe" ] || fail "dsmd goes on"
    within 20 [ ! -e "$folder" ] || fail "left behind: $(ls "$folder")"
    for group in /sys/fs/cgroup/dsmperf-"$pid" /sys/fs/cgroup/memory/dsmperf-"$pid"; do
        within 20 [ ! -e "$group" ] || fail "left behind: $group"
    done
    pid=
}

start --size 8 --rounds 1000 scan
killed

if [ "$(id -u)" = 0 ]; then
    start --size 64 --rounds 1000 --apps sort --local 50 --disk "$work" apps
    if within 10 swaps; then
        killed
        ! swaps || fail "still swapped to: $(cat /proc/swaps)"
    else
        echo "no swap file here: that part is left out"
        killed
    fi
fi
[ -z "$(ls -A "$work")" ] || fail "left behind: $(ls -A "$work")"
