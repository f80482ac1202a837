#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# task_hosts.sh MS SWEEPS: a solver hops between three hosts, each a network namespace with a process that was started by itself, and
# comes to the right result. dsmd is in a fourth.
# shellcheck source=tests/e2e/task_lib.sh
. "$(dirname "$0")/task_lib.sh"
need_programs dsmd dsmctl solver
make_keys
key=$(cat "$work/client.key.pub")
echo "$key tester rights=create,read,write,migrate" >"$work/authorized"

make_hosts 3
for host in 1 2 3; do
    "$build/bin/dsmctl" keygen "$work/host$host" >/dev/null
    chown nobody "$work/host$host"
done
start_dsmd

host_pids=()
for host in 3 2 1; do
    next=$((host % 3 + 1))
    start=()
    if [ $host -eq 1 ]; then
        start=(--start --sweeps "$2")
    fi
    host_command 150 solver --listen 7000 --key "$work/host$host" --next 192.0.2.1$next:7000 \
        --next-key "$work/host$next.pub" --ms "$1" "${start[@]}"
    on_host $host "${command[@]}" >"$work/host$host.log" 2>&1 </dev/null &
    host_pids+=($!)
    pids+=($!)
done
for pid in "${host_pids[@]}"; do
    status=0
    wait "$pid" || status=$?
    [ $status -eq 0 ] || { tail -n +1 "$work"/host*.log; fail "a host ended with $status"; }
done
tail -n +1 "$work"/host*.log
grep -q 'verified$' "$work"/host*.log || fail "the result was not verified"
for host in 1 2 3; do
    stays=$(sed -n 's/^stays //p' "$work/host$host.log")
    [ "${stays:-0}" -ge 1 ] || fail "the solver was not on host $host"
done
stop_dsmd
