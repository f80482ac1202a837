#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# patience.sh: how long a client waits for a server that is there and says nothing, by limits.h: for a connection whose packets go
# nowhere, for an answer of a stopped dsmd, for an embedded dsmd that does not begin, and for one that does not end. Each is over by
# itself, not before its time and not long after. And who only waits keeps its lease all the same.
# shellcheck source=tests/hostile/lib.sh
. "$(dirname "$0")/lib.sh"
need_root "makes network namespaces"
make_keys
chown "$(id -u)" "$work/client.key" # the programs here run as whoever runs this
make_namespaces
start_dsmd --capacity 64M --lease-ms 8000 # longer than LIMIT_HEARTBEAT_MS

waits() { # NAME STATUS COMMAND...: the command takes so many milliseconds, and exits so
    local name=$1 wanted=$2 most begin took status=0
    most=$(sed -nE "s/^ *$name = ([0-9]+),.*/\1/p" "$here/../../rpc/limits.h")
    [ -n "$most" ] || fail "limits.h has no $name"
    begin=$(date +%s%N)
    "${@:3}" >"$work/$name.log" 2>&1 </dev/null || status=$?
    took=$((($(date +%s%N) - begin) / 1000000))
    if [ $status -ne "$wanted" ] || [ "$took" -lt $((most - 50)) ] || [ "$took" -gt $((most * 2 + 5000)) ]; then
        cat "$work/$name.log"
        fail "$name is $most ms; it took $took ms, exit $status"
    fi
    say "$name: after $took ms: $(tail -n 1 "$work/$name.log")"
}

stand_in() { # NAME LINE: what is run in the place of dsmd
    printf '#!/bin/sh\n%s\n' "$2" >"$work/$1"
    chmod 0755 "$work/$1"
}

stand_in silent 'exec sleep 60'
stand_in stopped "STOPPED_FOR=$work exec $build/bin/dsmd \"\$@\""
ip -n "$client_namespace" neigh add 192.0.2.9 lladdr 02:00:00:00:00:01 dev "dc$$" nud permanent # a host that is not there
export DSM_CONFIG='' DSM_CACHE=1M DSM_KEY_FILE=$work/client.key DSM_EMBEDDED_SIZE=64M
DSM_SERVER_KEY=$(cat "$work/server.key.pub")
export DSM_SERVER_KEY
in_client=(ip netns exec "$client_namespace" env "DSM_SERVER=$server_address:$server_port")
program=(python3 -B "$here/patience.py" "$build/lib/libdsm.so")

"${in_client[@]}" "${program[@]}" idle >"$work/idle.log" 2>&1 &
idle_pid=$!
sleep 11
if "${in_client[@]}" "${program[@]}" writer >"$work/writer.log" 2>&1 || ! grep -q "is open" "$work/writer.log"; then
    cat "$work/writer.log"
    fail "who was idle for 11 s has lost a lease of 8 s"
fi
wait "$idle_pid" || fail "the idle one: $(cat "$work/idle.log")"
say "LIMIT_HEARTBEAT_MS: $(cat "$work/writer.log")"

jobs=()
waits LIMIT_CONNECT_MS 1 ip netns exec "$client_namespace" env DSM_SERVER=192.0.2.9:7 "$build/bin/dsmctl" ping &
jobs+=($!)
waits LIMIT_EMBEDDED_START_MS 1 env DSM_SERVER=embedded "DSM_DSMD=$work/silent" "${program[@]}" open &
jobs+=($!)
waits LIMIT_EMBEDDED_END_MS 0 env DSM_SERVER=embedded "DSM_DSMD=$work/stopped" "${program[@]}" close "STOPPED_FOR=$work" &
jobs+=($!)
waits LIMIT_FAILOVER_MS 1 "${in_client[@]}" "${program[@]}" create "$dsmd_pid" &
jobs+=($!)
failed=0
for job in "${jobs[@]}"; do
    wait "$job" || failed=1
done
[ $failed -eq 0 ] || fail "a client has another patience"
stop_dsmd
