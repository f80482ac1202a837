#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Many clients come, work, and are killed by SIGKILL at any moment, while dsmd is stopped or killed and started on its
# store again. Whoever is left alive verifies every page. When all are gone, dsmd has no lane, no session and no
# descriptor more than before, and the audit of the store finds it in order.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
clients=${1:-8}
seconds=${2:-12}
restarts=${3:-2}
lease_ms=2000
declare -A working=() # pid -> log
started=0
verified=0
killed=0
turned_away=0

client_begin() {
    local log=$work/client-$started.log
    started=$((started + 1))
    env "DSM_SERVER=$server_address:$server_port" "DSM_SERVER_KEY=$(cat "$work/server.key.pub")" \
        "DSM_KEY_FILE=$work/client.key" setpriv --pdeathsig KILL \
        "$build/bin/pagecheck" --threads 2 --seconds $((RANDOM % 4 + 1)) --pages $((128 << RANDOM % 3)) \
        >"$log" 2>&1 </dev/null &
    working[$!]=$log
}

client_reap() { # PID: it has ended by itself
    local status=0
    wait "$1" || status=$?
    if [ $status -eq 2 ] && grep -q "^pagecheck: No session" "${working[$1]}"; then
        status=0 # there was no dsmd to come to: no promise, and nothing to verify
        turned_away=$((turned_away + 1))
        echo verified >>"${working[$1]}"
        verified=$((verified - 1))
    fi
    if [ $status -ne 0 ] || ! grep -qw verified "${working[$1]}"; then
        cat "${working[$1]}"
        fail "a client that nobody killed: exit $status"
    fi
    rm -f "${working[$1]}"
    unset "working[$1]"
    verified=$((verified + 1))
}

client_kill() { # PID
    kill -KILL "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
    rm -f "${working[$1]}"
    unset "working[$1]"
    killed=$((killed + 1))
}

round() { # kills one in eight, takes in who has ended, makes up the number
    local pid
    for pid in "${!working[@]}"; do
        if ended "$pid"; then
            client_reap "$pid"
        elif [ $((RANDOM % 8)) -eq 0 ]; then
            client_kill "$pid"
        fi
    done
    while [ ${#working[@]} -lt "$clients" ]; do
        client_begin
    done
}

descriptors() {
    find "/proc/$dsmd_pid/fd" -mindepth 1 2>/dev/null | wc -l
}

look() { # of one dsmctl: the one before may still be going
    env "DSM_SERVER=$server_address:$server_port" "DSM_SERVER_KEY=$(cat "$work/server.key.pub")" \
        "DSM_KEY_FILE=$work/client.key" "$build/bin/dsmctl" stat --json >"$work/statistics"
}

statistic() { # NAME, of the last look
    sed -nE "s/.*\"$1\": *([0-9]+).*/\1/p" "$work/statistics" | head -n 1
}

only_dsmctl_is_left() {
    look && [ "$(statistic sessions)" = 1 ] && [ "$(statistic lanes)" = 1 ]
}

goes_on() { # for its time, and until everything has happened once; whom a round kills is chance
    local took=$((SECONDS - begin))
    [ $took -lt "$seconds" ] ||
        { [ $took -lt $((seconds + 60)) ] && { [ $killed -lt 1 ] || [ $done_restarts -lt "$restarts" ]; }; }
}

need_programs dsmd dsmctl pagecheck
make_keys
chown "$(id -u)" "$work/client.key"
options=(--capacity 1G --lease-ms "$lease_ms")
start_dsmd "${options[@]}"
port=$server_port
done_restarts=0
begin=$SECONDS
while goes_on; do
    round
    sleep 0.5
    if [ $done_restarts -lt "$restarts" ] &&
        [ $((SECONDS - begin)) -ge $(((done_restarts + 1) * seconds / (restarts + 1))) ]; then
        if [ $((done_restarts % 2)) -eq 0 ]; then kill_dsmd; else stop_dsmd; fi
        start_dsmd "${options[@]}"
        [ "$server_port" = "$port" ] || fail "dsmd came back on port $server_port, not $port"
        done_restarts=$((done_restarts + 1))
    fi
done
for pid in "${!working[@]}"; do
    wait_until 120 ended "$pid" || fail "client $pid does not end"
    client_reap "$pid"
done
if [ $verified -lt 1 ] || [ $killed -lt 1 ] || [ $done_restarts -ne "$restarts" ]; then
    fail "nothing was tested"
fi
say "$started clients: $verified verified, $killed killed, $turned_away turned away; dsmd was started $((done_restarts + 1)) times"
wait_until 30 only_dsmctl_is_left || fail "left: $(statistic sessions) sessions, $(statistic lanes) lanes"
segments=$(statistic segments)
held=$(descriptors)
stop_dsmd
start_dsmd "${options[@]}"
only_dsmctl_is_left || fail "sessions after a restart"
fresh=$(descriptors)
say "descriptors of dsmd: $held, of a fresh one on the same store: $fresh; $segments segments of the killed"
[ "$held" -le $((fresh + 1)) ] || fail "descriptors were left open"
if grep -E "dsmd: error|Assertion|Sanitizer" "$work/dsmd.log"; then
    fail "dsmd complained"
fi
stop_dsmd
"$build/bin/dsmd" --store "$store" --key "$work/server.key" --authorized "$work/authorized" --check ||
    fail "the audit of the store"
