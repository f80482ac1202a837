#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hold_size.sh hold_size ROLE [DSMD OPTION...]: what dsmd's memory is while the program is at it. Pages and indexes of a store on tmpfs are
# memory of its files; everything else is anonymous, and must be little: 64 MiB for 1,000 clients that do nothing, and
# nothing for the size of a segment.
# shellcheck source=tests/e2e/hold_lib.sh
. "$(dirname "$0")/hold_lib.sh"
program=$1
role=$2
shift 2
hold_setup "$program"
start_dsmd "$@"

memory_kib() { # of dsmd: its own, and the kernel's tables for it
    awk '/^(RssAnon|VmPTE):/ { sum += $2 } END { print sum }' "/proc/$dsmd_pid/status"
}

look() { # WHAT MOST-KIB: since $before
    local after
    after=$(memory_kib)
    say "dsmd: $before KiB, $1: $after KiB; $2 KiB more are allowed"
    [ $((after - before)) -le "$2" ] || fail "dsmd took $((after - before)) KiB more, not at most $2"
}

case $role in
tebibyte)
    before=$(memory_kib)
    hold_run "$role"
    look "behind a segment of 1 TiB" 2048
    ;;
crowd)
    ulimit -n 20000 2>/dev/null || true
    export HOLD_KEYS=$((HOLD_CLIENTS / 200 + 1)) # a key has a limit of its own
    for ((key = 0; key < HOLD_KEYS; key++)); do
        "$build/bin/dsmctl" keygen "$HOLD_TALK/client-$key.key" >/dev/null
        "$build/bin/dsmctl" authorize "$work/authorized" "$(cat "$HOLD_TALK/client-$key.key.pub")" "crowd-$key" >/dev/null
    done
    if [ "$(id -u)" -eq 0 ]; then
        chown nobody "$HOLD_TALK"/client-*.key
    fi
    kill -HUP "$dsmd_pid"
    wait_until 20 grep -q 'SIGHUP: read .* again$' "$work/dsmd.log" || fail "dsmd has not read its files again"
    hold_start crowd
    hold_await first
    sleep 0.5 # what a handshake needed is given back
    before=$(memory_kib)
    hold_say looked
    hold_await crowd
    sleep 0.5
    look "with $HOLD_CLIENTS idle clients more" $(((64 << 10) * HOLD_CLIENTS / 1000))
    hold_say away
    hold_wait crowd >/dev/null
    ;;
esac
stop_dsmd
