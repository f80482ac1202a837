# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
#
# A wire that spoils what goes over it (spoil_proxy), between a client and the dsmd that runs. After lib.sh.
#
#   start_proxy SEED RATE   it spoils nothing yet
#   over_proxy COMMAND...   with a client that goes by it
#   spoil                   now it does
#   stop_proxy              it must have done each of the things that it can do
start_proxy() {
    "${in_server[@]}" setpriv --pdeathsig KILL "$build/bin/spoil_proxy" "$server_address" "$server_address" "$server_port" "$1" "$2" \
        >"$work/proxy" &
    proxy_pid=$!
    pids+=("$proxy_pid")
    wait_until 60 test -s "$work/proxy" || fail "the proxy does not start"
    dsmd_port=$server_port
    proxy_port=$(head -n 1 "$work/proxy")
}

over_proxy() { # COMMAND...: with a client that goes by the proxy
    server_port=$proxy_port
    "$@"
    server_port=$dsmd_port
}

spoil() {
    kill -USR1 "$proxy_pid"
}

stop_proxy() {
    local missing
    kill -TERM "$proxy_pid"
    wait "$proxy_pid" || fail "the proxy ended with an error"
    say "the wire:$(tail -n +2 "$work/proxy" | tr '\n' ',')"
    missing=$(awk 'NR > 1 && $2 == 0 { printf " %s", $1 }' "$work/proxy")
    [ "$(wc -l <"$work/proxy")" -gt 1 ] || fail "the proxy does not say what it did"
    [ -z "$missing" ] || fail "the wire did not do all that it can:$missing"
}
