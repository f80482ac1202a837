#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What dsm_alloc() took on a server is gone from it when the program has ended, and after the lease when it was killed;
# also for a key that may only use names of its own.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs dsmd dsmctl e2e_alloc_hold
make_keys
sed -i 's/$/ prefix=mine\//' "$work/authorized"
start_dsmd --lease-ms 9000

segments() {
    client_command 20 dsmctl segments
    "${command[@]}"
}

scratch() { # how many segments dsm_alloc() has
    segments | grep -c 'tmp/' || true
}

ready() {
    grep -q ready "$client_log" || ended "$client_pid"
}

program() { # its pid: the only child of timeout(1)
    tr -d ' ' <"/proc/$client_pid/task/$client_pid/children"
}

none_left() {
    [ "$(scratch)" -eq 0 ]
}

start_client 60 e2e_alloc_hold exit
wait_client || fail "exit code $?"
grep -q ready "$client_log" || fail "not ready"
[ "$(scratch)" -eq 0 ] || fail "after the program's end there is: $(segments)"

start_client 60 e2e_alloc_hold wait
wait_until 30 ready || fail "not ready"
[ "$(scratch)" -eq 2 ] || fail "a shared and a large array: $(segments)"
kill_dsmd
start_dsmd --lease-ms 9000
sleep 11 # longer than the lease, in which the program has to say that it is still there
[ "$(scratch)" -eq 2 ] || fail "they are gone after the server's restart: $(segments)"
kill -KILL "$(program)"
wait_until 40 none_left || fail "after kill -9 and the lease there is: $(segments)"
stop_dsmd
