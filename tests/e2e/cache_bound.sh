#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Resident pages never exceed DSM_CACHE: the kernel's own count of the memory behind the program's segments, looked at
# again and again while sixteen threads read and write at random.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
seconds=${1:-5}
cache_mib=4
need_programs dsmd dsmctl pagecheck
make_keys
start_dsmd
# pagecheck takes an eighth of its 32 MiB for its cache.
start_client $((seconds * 3 + 60)) pagecheck --threads 16 --seconds "$seconds" --pages 8192

# client_pid is timeout(1); the program is its child.
program_started() {
    program_pid=$(pgrep -P "$client_pid")
}
wait_until 60 program_started || fail "the program did not start"

# resident_bytes: of all memory files that the program's segments are made of, by their allocated blocks; the program may end
# meanwhile
resident_bytes() {
    { find "/proc/$program_pid/fd" -lname '/memfd:dsm-frames*' -exec stat -L -c %b {} + 2>/dev/null || true; } |
        awk '{ sum += $1 } END { print sum * 512 }'
}

looks=0
most=0
while alive "$client_pid"; do
    now=$(resident_bytes)
    looks=$((looks + 1))
    if [ "$now" -gt "$most" ]; then
        most=$now
    fi
    sleep 0.02
done
wait_client || fail "pagecheck: exit $?"
say "most: $most bytes of $((cache_mib << 20)), seen in $looks looks"
[ "$most" -le $((cache_mib << 20)) ] || fail "more than DSM_CACHE was resident"
[ "$most" -ge $((cache_mib << 19)) ] || fail "the cache was never half full: nothing was tested"
[ $looks -ge 5 ] || fail "only $looks looks: nothing was tested"
stop_dsmd
