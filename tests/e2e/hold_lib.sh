# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the tests of the library against a running dsmd need besides lib.sh: turns taken with the program through files
# that both can make in $HOLD_TALK, a dsmd that is stopped and continued, stores that are put in another's place.
#
#   hold_setup PROGRAM          keys; what the program needs is built
#   hold_say WHAT               makes $HOLD_TALK/WHAT
#   hold_await WHAT             until the program has made it; fails when the program ends before
#   hold_start ROLE | hold_wait ROLE | hold_run ROLE    of the program, in the background | its end | both
#   pause_dsmd | continue_dsmd  SIGSTOP | SIGCONT
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

hold_seconds=${HOLD_SECONDS:-100}
export HOLD_TALK=$work/talk
mkdir "$HOLD_TALK"
chmod 0777 "$HOLD_TALK"

hold_setup() {
    hold_program=$1
    need_programs dsmd dsmctl "$hold_program"
    make_keys
    if [ -n "${HOLD_GRANT:-}" ]; then # more for the client's key: rights=LIST, quota=SIZE, ...
        sed -i "s/\$/ $HOLD_GRANT/" "$work/authorized"
    fi
}

hold_say() {
    : >"$HOLD_TALK/$1"
}

hold_said_or_ended() {
    [ -e "$HOLD_TALK/$1" ] || ended "$client_pid"
}

hold_await() {
    wait_until "$hold_seconds" hold_said_or_ended "$1" || fail "the program does not say $1"
    [ -e "$HOLD_TALK/$1" ] || {
        cat "$client_log"
        fail "the program ended before it said $1"
    }
    rm -f "$HOLD_TALK/$1"
}

hold_start() {
    start_client "$hold_seconds" "$hold_program" "$1"
}

hold_wait() {
    wait_client || fail "$1: exit $?"
    grep -q "^$1: held\$" "$client_log" || fail "$1 did not say that all held"
}

hold_run() {
    hold_start "$1"
    hold_wait "$1"
}

dsmd_is_stopped() {
    ! cat "/proc/$dsmd_pid/task"/*/status | grep '^State:' | grep -qv 'stopped'
}

# The signal stops a thread that runs a little later. A test that ends with dsmd stopped would keep it from taking SIGTERM.
pause_dsmd() {
    kill -STOP "$dsmd_pid"
    wait_until 20 dsmd_is_stopped || fail "dsmd does not stop"
}

continue_dsmd() {
    kill -CONT "$dsmd_pid"
}
