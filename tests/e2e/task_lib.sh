# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Hosts for tests of tasks: make_hosts N makes as many network namespaces, dsm-c-PID.1 and so on, at 192.0.2.11 and so on, and one for
# dsmd at 192.0.2.1, joined by a bridge. on_host N COMMAND... runs in one of them.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

make_hosts() { # N
    local host namespace
    need_root "makes network namespaces"
    command -v ip >/dev/null || skip "needs ip (Debian package iproute2)"
    server_namespace=dsm-s-$$
    ip netns add "$server_namespace" 2>"$work/ip.log" || skip "cannot make a network namespace: $(head -n 1 "$work/ip.log")"
    in_server=(ip netns exec "$server_namespace")
    ip -n "$server_namespace" link set lo up
    ip -n "$server_namespace" link add bridge type bridge 2>"$work/ip.log" || skip "cannot make a bridge: $(head -n 1 "$work/ip.log")"
    server_address=192.0.2.1
    ip -n "$server_namespace" addr add $server_address/24 dev bridge
    ip -n "$server_namespace" link set bridge up
    for ((host = 1; host <= $1; host++)); do
        namespace=dsm-c-$$.$host
        ip netns add "$namespace"
        client_namespace="$client_namespace $namespace" # all of them go at the end
        ip link add dh$host netns "$server_namespace" type veth peer name eth0 netns "$namespace" 2>"$work/ip.log" ||
            skip "cannot make a veth pair: $(head -n 1 "$work/ip.log")"
        ip -n "$server_namespace" link set dh$host master bridge up
        ip -n "$namespace" addr add 192.0.2.1$host/24 dev eth0
        ip -n "$namespace" link set lo up
        ip -n "$namespace" link set eth0 up
    done
}

on_host() { # N COMMAND...
    local host=$1
    shift
    ip netns exec "dsm-c-$$.$host" "$@"
}

# host_command SECONDS PROGRAM ARG...: as client_command, for on_host
host_command() {
    local all=$client_namespace
    client_namespace=
    client_command "$@"
    client_namespace=$all
}
