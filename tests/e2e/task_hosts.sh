#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# task_hosts.sh MS SWEEPS: a solver hops between three hosts, each a network namespace with a process that was started by itself, and
# comes to the right result. dsmd is in a fourth.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need_root "makes network namespaces"
need_programs dsmd dsmctl solver
command -v ip >/dev/null || skip "needs ip (Debian package iproute2)"
make_keys
key=$(cat "$work/client.key.pub")
echo "$key tester rights=create,read,write,migrate" >"$work/authorized"

server_namespace=dsm-s-$$
ip netns add "$server_namespace" 2>"$work/ip.log" || skip "cannot make a network namespace: $(head -n 1 "$work/ip.log")"
ip -n "$server_namespace" link set lo up
ip -n "$server_namespace" link add bridge type bridge 2>"$work/ip.log" || skip "cannot make a bridge: $(head -n 1 "$work/ip.log")"
server_address=192.0.2.1
ip -n "$server_namespace" addr add $server_address/24 dev bridge
ip -n "$server_namespace" link set bridge up
for host in 1 2 3; do
    namespace=dsm-c-$$.$host
    ip netns add "$namespace"
    client_namespace="$client_namespace $namespace" # all of them go at the end
    ip link add dh$host netns "$server_namespace" type veth peer name eth0 netns "$namespace" 2>"$work/ip.log" ||
        skip "cannot make a veth pair: $(head -n 1 "$work/ip.log")"
    ip -n "$server_namespace" link set dh$host master bridge up
    ip -n "$namespace" addr add 192.0.2.1$host/24 dev eth0
    ip -n "$namespace" link set lo up
    ip -n "$namespace" link set eth0 up
    "$build/bin/dsmctl" keygen "$work/host$host" >/dev/null
    chown nobody "$work/host$host"
done
start_dsmd

all=$client_namespace
host_pids=()
for host in 3 2 1; do
    next=$((host % 3 + 1))
    start=()
    if [ $host -eq 1 ]; then
        start=(--start --sweeps "$2")
    fi
    client_namespace=
    client_command 150 solver --listen 7000 --key "$work/host$host" --next 192.0.2.1$next:7000 \
        --next-key "$work/host$next.pub" --ms "$1" "${start[@]}"
    client_namespace=$all
    ip netns exec dsm-c-$$.$host "${command[@]}" >"$work/host$host.log" 2>&1 </dev/null &
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
client_namespace=
stop_dsmd
client_namespace=$all
