#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# task_parts.sh BEHAVIOUR: an image with segments of every type, on one dsmd; each process is started by itself.
# shellcheck source=tests/e2e/hold_lib.sh
. "$(dirname "$0")/hold_lib.sh"
hold_setup task_parts
"$build/bin/dsmctl" keygen "$work/there" >/dev/null
cp -p "$work/there" "$work/mine" # of who runs this
if [ "$(id -u)" -eq 0 ]; then
    chown nobody "$work/there"
fi
export TASK_KEY=$work/there TASK_PUBLIC_KEY=$work/there.pub TASK_CAPSULE=$HOLD_TALK/capsule
key=$(cut -d' ' -f1 "$work/client.key.pub")
echo "$key tester rights=create,read,write,migrate" >"$work/authorized"
start_dsmd

# holds PLACES: what dsmctl says of the heap in the capsule.
holds() {
    "$build/bin/dsmctl" capsule show "$TASK_CAPSULE" --key "$work/mine" >"$work/shown"
    grep -A 1 '^heap' "$work/shown" | grep -q "$1" || fail "not $1: $(cat "$work/shown")"
    grep -q '^code' "$work/shown" || fail "the capsule has no code: $(cat "$work/shown")"
}

case $1 in
segments)
    hold_run leave
    holds 'backing 34, template 62 pages'
    hold_run pass
    holds 'backing 35, template 61 pages'
    hold_run stay
    ;;
probes) # what a tracer adds up by itself is what the library counts
    command -v bpftrace >/dev/null || skip "needs bpftrace"
    timeout 60 bpftrace -e 'BEGIN { printf("works\n"); exit(); }' >"$work/traced" 2>&1 || true
    grep -q '^works$' "$work/traced" || skip "bpftrace does not work here: $(tail -n 1 "$work/traced")"
    mkdir -m 0755 "$work/traced.bin" # a copy: other tests run the program meanwhile
    cp -p "$client_bin/task_parts" "$work/traced.bin/"
    client_bin=$work/traced.bin
    at=usdt:$client_bin/task_parts:dsm
    bpftrace -e "$at:migrate_flush { @samples = count(); @sum = sum(arg1); @squares = sum(arg1 * arg1);
            @failed = sum((int32)arg4 != 0); @free = sum(arg2); }
        $at:migrate_leave { printf(\"left %d %d %d %d %d\\n\", arg0, arg1, arg2, arg3 > 300, (int32)arg5); @frozen = sum(arg4 > 0); }
        $at:migrate_arrive { printf(\"arrived %d %d %d\\n\", arg0, arg1 > 300, arg2 > 0); }
        $at:migrate_follow { @pages = sum(arg2); @bytes = sum(arg3); @faults = sum(arg4); }" >"$work/traced" 2>&1 &
    tracer=$!
    pids+=("$tracer")
    wait_until 60 bpftrace_holds "$tracer" "$work/traced" || fail "bpftrace does not attach: $(cat "$work/traced")"
    grep -q '^Attaching 4 ' "$work/traced" || fail "not four probes: $(cat "$work/traced")"
    hold_run leave
    hold_run pass
    kill -INT "$tracer"
    wait_until 60 ended "$tracer" || fail "bpftrace does not end"
    for line in 'left 4 7 28672 1 0' 'arrived 4 1 1' 'left 4 1 4096 1 0' '@samples: 8' '@sum: 8' '@squares: 20' \
        '@failed: 0' '@frozen: 2' '@pages: 10' '@bytes: 40960' '@faults: 10'; do
        grep -qx "$line" "$work/traced" || fail "not $line: $(cat "$work/traced")"
    done
    ;;
*)
    hold_run "$1"
    ;;
esac
stop_dsmd
