#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hold_paused.sh PROGRAM ROLE: dsmd is stopped by SIGSTOP when the program asks for it, and goes on when it asks again, or
# a while after it asked for that: it cannot ask when it waits for a page itself.
# shellcheck source=tests/e2e/hold_lib.sh
. "$(dirname "$0")/hold_lib.sh"
hold_setup "$1"
start_dsmd
hold_start "$2"
hold_await pause
pause_dsmd
hold_say paused
wants_to_go_on() {
    [ -e "$HOLD_TALK/continue" ] || [ -e "$HOLD_TALK/continue-later" ] || ended "$client_pid"
}
wait_until "$hold_seconds" wants_to_go_on || fail "the program does not ask for dsmd again"
if [ -e "$HOLD_TALK/continue-later" ]; then
    sleep 1
fi
continue_dsmd
hold_say continued
hold_wait "$2"
stop_dsmd
