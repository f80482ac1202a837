#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# task_hop.sh BEHAVIOUR: tasks that move between processes, each started by itself, on one dsmd.
# shellcheck source=tests/e2e/hold_lib.sh
. "$(dirname "$0")/hold_lib.sh"
hold_setup task_hop
need_programs task_hop_other
for name in there other; do
    "$build/bin/dsmctl" keygen "$work/$name" >/dev/null
    if [ "$(id -u)" -eq 0 ]; then
        chown nobody "$work/$name"
    fi
done
export TASK_KEY=$work/there TASK_PUBLIC_KEY=$work/there.pub TASK_OTHER_KEY=$work/other
export TASK_CAPSULE=$HOLD_TALK/capsule TASK_SECONDS=60
key=$(cut -d' ' -f1 "$work/client.key.pub")
echo "$key tester rights=create,read,write,migrate" >"$work/authorized"
start_dsmd

case $1 in
hop)
    hold_run start
    for ((hop = 0; hop < 4; hop++)); do
        hold_run hop
    done
    hold_run end
    ;;
replay)
    hold_run start
    cp "$TASK_CAPSULE" "$work/first"
    hold_run hop
    cp "$work/first" "$TASK_CAPSULE.first"
    chmod 0644 "$TASK_CAPSULE.first"
    TASK_CAPSULE=$TASK_CAPSULE.first hold_run older
    hold_run end
    hold_run replay
    ;;
late)
    TASK_SECONDS=1 hold_run start
    sleep 1.5
    hold_run late
    hold_run owner
    ;;
binary)
    hold_run start
    hold_program=task_hop_other
    hold_run binary
    hold_program=task_hop
    hold_run end
    ;;
aborted)
    hold_run aborted
    hold_run replay
    ;;
robbed)
    hold_start robbed
    source_pid=$client_pid
    hold_await parked
    cp "$client_log" "$work/source.log"
    hold_run hop
    hold_say taken
    client_pid=$source_pid
    wait "$client_pid" || fail "robbed: exit $?"
    hold_run end
    ;;
right)
    echo "$key tester" >"$work/authorized"
    kill -HUP "$dsmd_pid"
    wait_until 20 grep -q 'SIGHUP: read .* again$' "$work/dsmd.log" || fail "dsmd has not read its files again"
    client 60 task_hop start || true
    grep -q 'migrate' "$client_log" || fail "the missing right is not named: $(cat "$client_log")"
    ;;
*)
    hold_run "$1"
    ;;
esac
stop_dsmd
