#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# perf_killed.sh folder|swap: dsmperf is killed with all of its process group, in the middle.
#   folder   its dsmd ends, and the folder with its store and keys goes
#   swap     so it is with `apps`; and the swap file is swapped to no more and goes, and so does the control group
part=$1
# On a disk: swap files are.
# shellcheck source=tests/e2e/lib.sh
TMPDIR=/var/tmp . "$(dirname "$0")/lib.sh"
need_programs dsmperf dsmd sort
disk=$work/disk
mkdir "$disk"

children() { # of dsmperf, in $children
    children=()
    read -ra children <"/proc/$pid/task/$pid/children" || true
}

# Sets dsmd and folder, from dsmd's own command line.
find_dsmd() {
    local child
    children
    for child in "${children[@]}"; do
        folder=$(tr '\0' '\n' <"/proc/$child/cmdline" 2>/dev/null | grep -x -A 1 -e --store | tail -n 1) || continue
        folder=${folder%/store}
        dsmd=$child
        [ -d "$folder/store" ] && return 0
    done
    return 1
}

swaps() {
    grep -q "^$disk/" /proc/swaps
}

# The swap file comes before the first program is run.
swaps_or_will_not() {
    local child
    swaps || ended "$pid" && return 0
    children
    for child in "${children[@]}"; do
        [ "$(cat "/proc/$child/comm" 2>/dev/null)" != sort ] || return 0
    done
    return 1
}

start() { # OPTION...
    setsid "$build/bin/dsmperf" "$@" >"$work/rows" &
    pid=$!
    pids+=("$pid")
    wait_until 30 find_dsmd || fail "dsmperf starts no dsmd"
}

gone() { # PATH
    [ ! -e "$1" ]
}

killed() {
    local group
    kill -KILL -- "-$pid"
    wait "$pid" 2>/dev/null || true
    wait_until 20 gone "/proc/$dsmd/exe" || fail "dsmd goes on"
    wait_until 20 gone "$folder" || fail "left behind: $(ls "$folder")"
    for group in /sys/fs/cgroup/dsmperf-"$pid" /sys/fs/cgroup/memory/dsmperf-"$pid"; do
        wait_until 20 gone "$group" || fail "left behind: $group"
    done
    [ -z "$(ls -A "$disk")" ] || fail "left behind: $(ls -A "$disk")"
}

case $part in
folder)
    start --size 8 --rounds 1000 scan
    killed
    ;;
swap)
    need_root "swaps to a file"
    start --size 64 --rounds 1000 --apps sort --local 50 --disk "$disk" apps
    wait_until 60 swaps_or_will_not || fail "dsmperf neither swaps nor goes on without"
    swaps || ! ended "$pid" || fail "dsmperf ended: $(cat "$work/rows")"
    swaps || skip "this machine swaps to no file of ours, or has no memory control group"
    killed
    ! swaps || fail "still swapped to: $(cat /proc/swaps)"
    ;;
*) fail "no such part: $part" ;;
esac
