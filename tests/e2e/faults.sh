#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# faults.sh SEED OPERATIONS SECONDS READS: pagecheck over a wire that spoils bytes (spoil_proxy), while a schedule drawn from SEED
# stops and kills dsmd, stops the client, kills another client, and lays partitions, loss and a narrow band between
# their two namespaces. No load may ever be wrong, whatever was acknowledged must be there, and every fault must end.
# SECONDS bounds the schedule: then the network is left alone, and the rest of the operations goes through the spoiled wire.
# At least READS reads of whole pages must have been checked in the end.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/e2e/spoil_lib.sh
. "$(dirname "$0")/spoil_lib.sh"
RANDOM=${1:-1}
seed=${1:-1}
operations=${2:-60000}
seconds=${3:-20}
reads=${4:-500000}
command -v nft >/dev/null || skip "needs nft (Debian package nftables)"
need_programs dsmd dsmctl pagecheck spoil_proxy
make_keys
make_namespaces
"${in_server[@]}" nft add table inet faults 2>"$work/nft.log" ||
    skip "nft does not work here: $(head -n 1 "$work/nft.log")"
start_dsmd
start_proxy "$seed" 500

pause() { # MOST_MS
    sleep "$(printf '%d.%03d' $((RANDOM % $1 / 1000)) $((RANDOM % $1 % 1000)))"
}

rules() { # RULE...: what the server's namespace drops
    {
        echo "table inet faults {"
        echo " chain in { type filter hook input priority 0; iifname != lo $1; }"
        echo " chain out { type filter hook output priority 0; oifname != lo $2; }"
        echo "}"
    } | "${in_server[@]}" nft -f -
}

no_rules() {
    "${in_server[@]}" nft delete table inet faults
}

declare -A met
note() {
    met[$1]=$((${met[$1]:-0} + 1))
}

pagecheck_pid() { # of the client's own process, below those that start it
    local pid=$client_pid next
    while next=$(pgrep -P "$pid" | head -n 1) && [ -n "$next" ]; do
        pid=$next
    done
    echo "$pid"
}

one_fault() {
    local pid
    case $((RANDOM % 9)) in
    0)
        note kill
        kill_dsmd
        pause 1500
        start_dsmd
        ;;
    1)
        note stop
        kill -STOP "$dsmd_pid"
        pause 2500
        kill -CONT "$dsmd_pid"
        ;;
    2)
        note stop-client
        pid=$(pagecheck_pid)
        kill -STOP "$pid" 2>/dev/null || return 0
        pause 1500
        kill -CONT "$pid" 2>/dev/null || true
        ;;
    3)
        note partition
        rules drop drop
        pause 2500
        no_rules
        ;;
    4)
        note to-server
        rules drop accept
        pause 2500
        no_rules
        ;;
    5)
        note to-client
        rules accept drop
        pause 2500
        no_rules
        ;;
    6)
        note loss
        rules "numgen random mod 100 < 8 drop" "numgen random mod 100 < 8 drop"
        pause 4000
        no_rules
        ;;
    7)
        note narrow
        "${in_server[@]}" tc qdisc add dev ds$$ root tbf rate 40mbit burst 64k latency 30ms
        pause 4000
        "${in_server[@]}" tc qdisc del dev ds$$ root
        ;;
    *)
        note kill-client
        over_proxy client_command 60 pagecheck --threads 4 --pages 512 --seconds 30
        "${command[@]}" >/dev/null 2>&1 </dev/null &
        pid=$!
        pids+=("$pid")
        sleep 0.7
        pkill -KILL -P "$pid" 2>/dev/null || true
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
        ;;
    esac
}

export DSM_FAULT_TIMEOUT=0 # a fault may wait as long as the trouble lasts
over_proxy start_client 14000 pagecheck --threads 16 --pages 8192 --seed "$seed" --ops "$operations" --walk-percent 25
wait_until 60 has_segment || fail "pagecheck makes no segment"
spoil
end=$((SECONDS + seconds))
while [ $SECONDS -lt $end ] && ! ended "$client_pid"; do
    one_fault
    pause 700
done
wait_client || fail "pagecheck: exit $?"
grep -qw verified "$client_log" || fail "pagecheck did not say verified"
say "faults:$(for fault in "${!met[@]}"; do printf ' %s %s' "$fault" "${met[$fault]}"; done)"
[ ${#met[@]} -ge 3 ] || fail "only ${#met[@]} kinds of faults were met: nothing was tried"
stop_proxy
checked=$(sed -n 's/.* \([0-9][0-9]*\) page reads checked$/\1/p' "$client_log")
[ "${checked:-0}" -ge "$reads" ] || fail "only ${checked:-0} page reads were checked, not $reads"
stop_dsmd
