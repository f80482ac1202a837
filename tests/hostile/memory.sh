#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# memory.sh: dsmd in a memory control group that is smaller than its store, which lies in memory. It says so when it starts; the kernel ends
# it in the middle of writes. Started again where there is room, it has every page that it had acknowledged.
# shellcheck source=tests/hostile/lib.sh
. "$(dirname "$0")/lib.sh"
need_root "makes a memory control group"
[ "$(stat -f -c %T "$store")" = tmpfs ] || skip "needs 2 GiB free in /dev/shm"
limit=$((64 << 20))

give_up() {
    skip "cannot make a memory control group: $(head -n 1 "$work/group.log")"
}

# $group, with the limit; $events has the line "oom_kill N".
make_group() {
    : >"$work/group.log"
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        group=/sys/fs/cgroup/dsm-test-$$ events=memory.events
        { echo +memory >/sys/fs/cgroup/cgroup.subtree_control && mkdir "$group" && echo $limit >"$group/memory.max"; } 2>"$work/group.log" || give_up
        [ ! -e "$group/memory.swap.max" ] || echo 0 >"$group/memory.swap.max"
    else
        group=/sys/fs/cgroup/memory/dsm-test-$$ events=memory.oom_control
        { mkdir "$group" && echo $limit >"$group/memory.limit_in_bytes" && echo 0 >"$group/memory.swappiness"; } 2>"$work/group.log" || give_up
        [ ! -e "$group/memory.memsw.limit_in_bytes" ] || echo $limit >"$group/memory.memsw.limit_in_bytes"
    fi
    events=$group/$events
}

remove_group() {
    local status=$?
    set +e
    [ -z "$dsmd_pid" ] || end_process "$dsmd_pid" 8
    rmdir "$group" 2>/dev/null
    (exit $status)
    e2e_end
}

play() { # write|read
    python3 -B "$here/memory.py" "$1" "$work" "$server_address" "$server_port" "$dsmd_pid" || fail "memory.py $1"
}

make_hostile_keys
group=
trap remove_group EXIT
make_group
mkdir -p "$work/small/bin"
printf '#!/bin/sh\necho $$ >"%s/cgroup.procs" && exec "%s" "$@"\n' "$group" "$build/bin/dsmd" >"$work/small/bin/dsmd"
chmod 0755 "$work/small/bin/dsmd"
whole=$build
build=$work/small
start_dsmd --capacity 256M
build=$whole
grep -qE "warning: the store may take 3[0-9]{2} MiB more, and dsmd's memory control group has [1-6][0-9] MiB left" "$work/dsmd.log" ||
    fail "dsmd does not say that its control group is too small"
play write
wait_until 10 ended "$dsmd_pid" || fail "dsmd did not end"
status=0
wait "$dsmd_pid" || status=$?
[ $status -eq 137 ] || fail "dsmd ended with code $status"
grep -qE '^oom_kill [1-9]' "$events" || fail "it was not the kernel that ended dsmd: $(cat "$events")"
start_dsmd
grep -q "last stop was not clean" "$work/dsmd.log" || fail "dsmd does not say how it ended"
play read
stop_dsmd
! grep -E "dsmd: error|Assertion|Sanitizer" "$work/dsmd.log" || fail "dsmd complained"
