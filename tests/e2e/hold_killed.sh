#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hold_killed.sh PROGRAM ROLE [FAILPOINT...]: dsmd dies by SIGKILL in the middle of what the program asks for, and is
# started again on its store. With failpoints (server/store/failpoint.h), at each of them, with a fresh store each time;
# without any, while it has the request and was stopped before it could answer.
# shellcheck source=tests/e2e/hold_lib.sh
. "$(dirname "$0")/hold_lib.sh"
role=$2
hold_setup "$1"
shift 2

dsmd_or_client_ended() {
    ended "$dsmd_pid" || ended "$client_pid"
}

killed_at() { # FAILPOINT
    say "$1"
    store=$store_parent/$1
    server_port=0
    rm -f "$HOLD_TALK"/*
    DSM_FAILPOINT=$1 start_dsmd
    hold_start "$role"
    wait_until "$hold_seconds" dsmd_or_client_ended || fail "dsmd does not come to $1"
    ended "$dsmd_pid" || {
        cat "$client_log"
        fail "dsmd did not come to $1"
    }
    wait "$dsmd_pid" 2>/dev/null || true
    start_dsmd
    hold_say killed
    hold_wait "$role"
    stop_dsmd
}

if [ $# -gt 0 ]; then
    for point in "$@"; do
        killed_at "$point"
    done
    exit 0
fi
start_dsmd
hold_start "$role"
hold_await pause
pause_dsmd
hold_say paused
sleep 0.5
kill_dsmd
start_dsmd
hold_say killed
hold_wait "$role"
stop_dsmd
