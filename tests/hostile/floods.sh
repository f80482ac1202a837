#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# floods.sh short|long [KIND...]: strangers pour connections on dsmd from a network namespace of their own. During every flood a new
# good client gets in, and an old one goes on, verifies and keeps its throughput; dsmd does not grow, and is as before soon after. KIND
# "few" has dsmd with few descriptors. The short form asserts what does not depend on how busy the machine is; the long one the
# figures, too: 2 s for a newcomer, 80 % of the throughput, 5 s until all is as before.
#
# Whoever pours needs a processor, which here is taken from dsmd and the old client; an attacker has his own. So the throughput is
# held against what the old client has while the same is poured on a port of the same host where dsmd is not: it listens, and
# takes no connection. The two take turns, and the figure is the median of the rounds' shares: a virtual machine's processors may
# have a fifth of their speed for some seconds, and a share of two windows that are not side by side says little.
# shellcheck source=tests/hostile/lib.sh
. "$(dirname "$0")/lib.sh"
form=${1:-short}
kinds=" ${*:2} "
if [ "$form" = long ]; then
    seconds=8 rounds=7 newcomer_ms=2000 share=80 calm_s=5
else
    seconds=4 rounds=1 newcomer_ms=20000 share=5 calm_s=20
fi
growth_kib=$((32 << 10))

make_attacker() {
    attacker=dsm-c-$$.a
    ip netns add "$attacker"
    ip link add da$$ netns "$server_namespace" type veth peer name dx$$ netns "$attacker" 2>"$work/ip.log" ||
        skip "cannot make a veth pair: $(head -n 1 "$work/ip.log")"
    ip -n "$server_namespace" addr add 198.51.100.1/24 dev da$$
    ip -n "$attacker" addr add 198.51.100.2/24 dev dx$$
    ip -n "$attacker" link set lo up
    ip -n "$attacker" link set dx$$ up
    ip -n "$server_namespace" link set da$$ up
    ip -n "$attacker" route add local 10.66.0.0/16 dev lo
    ip -n "$attacker" route add 192.0.2.0/24 via 198.51.100.1
    ip -n "$server_namespace" route add 10.66.0.0/16 via 198.51.100.2
}

remove_attacker() {
    ip netns del "$attacker" 2>/dev/null || true
    e2e_end
}

anonymous_kib() {
    awk '/^RssAnon:/ { print $2 }' "/proc/$dsmd_pid/status"
}

descriptors() {
    find "/proc/$dsmd_pid/fd" -mindepth 1 2>/dev/null | wc -l
}

milliseconds() {
    echo $(($(date +%s%N) / 1000000))
}

# A good client that was not there before: in $took_ms. It has a second try where the machine is busy only in the short form.
newcomer() {
    local begin
    begin=$(milliseconds)
    client 60 dsmctl ping >"$work/ping.log" 2>&1 || { cat "$work/ping.log"; return 1; }
    took_ms=$(($(milliseconds) - begin))
}

# Pages a second that the old client had swapped in, in $rate.
worked() { # LOG
    rate=$(awk -F '[:,]' '/"swap_ins"/ { pages = $2 } /"seconds"/ { printf "%d", pages / $2 }' "$1")
    [ "${rate:-0}" -gt 0 ] || { cat "$1"; fail "the old client says no throughput"; }
}

old_client_begin() { # LOG SECONDS
    client_command 120 pagecheck --threads 2 --seconds "$2" --pages 2048 --json
    "${command[@]}" >"$1" 2>&1 </dev/null &
    old_pid=$!
    pids+=("$old_pid")
}

old_client_end() { # LOG
    local status=0
    wait "$old_pid" || status=$?
    [ $status -eq 0 ] || { cat "$1"; fail "the old client came to harm: exit $status"; }
    worked "$1"
}

calm() {
    [ "$(descriptors)" -le $((descriptors_before + 2)) ]
}

wanted() { # KIND
    [ "$kinds" = "  " ] || [[ "$kinds" == *" $1 "* ]]
}

pour() { # KIND PORT RATE: $flood_pid
    local pourer=(nice -n 5 python3 -B "$here/flood.py" "$1")
    [ "$1" != connect ] || pourer=("$build/bin/flood_connect")
    ip netns exec "$attacker" "${pourer[@]}" 192.0.2.1 "$2" "$seconds" "$3" >"$work/flood.log" 2>&1 &
    flood_pid=$!
    pids+=("$flood_pid")
}

# What the old client has while the flood goes elsewhere, in $rate_elsewhere.
pour_elsewhere() { # KIND RATE
    "${in_server[@]}" python3 -c '
import socket, time
one = socket.create_server(("192.0.2.1", 9), backlog=4096)
time.sleep(600)' &
    local bystander=$!
    pids+=("$bystander")
    sleep 0.5
    pour "$1" 9 "$2"
    old_client_begin "$work/old.log" "$seconds"
    while ! ended "$flood_pid"; do # who come in meanwhile take their part, too
        newcomer || fail "$1: a new client does not get in beside a flood that goes elsewhere"
        sleep 0.3
    done
    old_client_end "$work/old.log"
    rate_elsewhere=$rate
    wait "$flood_pid" || { cat "$work/flood.log"; fail "$1: the flood failed"; }
    kill "$bystander"
    wait "$bystander" 2>/dev/null || true
}

# The flood itself, and what the old client has beside it in $rate; adds to $worst, $grown and $newcomers.
pour_here() { # KIND RATE
    local peak
    pour "$1" "$server_port" "$2"
    old_client_begin "$work/old.log" "$seconds"
    while ! ended "$flood_pid"; do
        newcomer || fail "$1: a new client does not get in"
        newcomers=$((newcomers + 1))
        [ "$took_ms" -le "$worst" ] || worst=$took_ms
        peak=$(anonymous_kib)
        [ $((peak - memory_before)) -le "$grown" ] || grown=$((peak - memory_before))
        sleep 0.3
    done
    wait "$flood_pid" || { cat "$work/flood.log"; fail "$1: the flood failed"; }
    old_client_end "$work/old.log"
}

# A round's share of the old client, in per cent, in $share_now. Which comes first changes from round to round.
pour_in_turn() { # KIND RATE ROUND
    rate_elsewhere=$rate_before
    [ "$form" = short ] || [ $(($3 % 2)) -eq 0 ] || pour_elsewhere "$1" "$2"
    pour_here "$1" "$2"
    local during=$rate begin calm_ms
    begin=$(milliseconds)
    wait_until "$calm_s" calm || fail "$1: $(descriptors) descriptors $calm_s s later, $descriptors_before before"
    newcomer || fail "$1: nobody gets in afterwards"
    calm_ms=$(($(milliseconds) - begin))
    say "$(cat "$work/flood.log"); calm after $calm_ms ms"
    [ "$form" = short ] || [ "$1" != connect ] || grep -qE '\(([5-9]|1[0-9])[0-9]{3}/s\)' "$work/flood.log" ||
        fail "$1: not half of $2 connections a second were offered"
    [ "$form" = short ] || [ $(($3 % 2)) -eq 1 ] || pour_elsewhere "$1" "$2"
    share_now=$((during * 100 / rate_elsewhere))
    say "the old client had $during pages/s, $share_now % of $rate_elsewhere $([ "$form" = short ] && echo without || echo beside a flood that goes elsewhere)"
}

flood() { # KIND RATE WHAT THE LOG SAYS
    local kind=$1 from worst=0 grown=0 newcomers=0 median round
    local shares=()
    from=$(wc -l <"$work/dsmd.log")
    for ((round = 1; round <= rounds; round++)); do
        pour_in_turn "$kind" "$2" "$round"
        shares+=("$share_now")
    done
    median=$(printf '%s\n' "${shares[@]}" | sort -n | sed -n "$(((rounds + 1) / 2))p")
    say "$kind: the old client kept $median % (of ${shares[*]}); $newcomers newcomers, the slowest in $worst ms; grown by $grown KiB"
    tail -n +$((from + 1)) "$work/dsmd.log" | grep -qE "$3" || fail "$kind: the log does not say /$3/"
    [ "$newcomers" -ge "$rounds" ] || fail "$kind: nobody tried to get in"
    [ "$worst" -le "$newcomer_ms" ] || fail "$kind: a newcomer took $worst ms"
    [ "$median" -ge "$share" ] || fail "$kind: the old client had $median % of its pages"
    [ "$grown" -le "$growth_kib" ] || grep -q 'lib[at]san' "/proc/$dsmd_pid/maps" || fail "$kind: dsmd has grown by $grown KiB"
}

export DSM_CACHE=1M

measure() {
    old_client_begin "$work/old.log" "$((seconds / 2))"
    old_client_end "$work/old.log"
    rate_before=$rate
    sleep 1
    descriptors_before=$(descriptors)
    memory_before=$(anonymous_kib)
}

need_root "makes network namespaces"
make_keys
make_namespaces
make_attacker
trap remove_attacker EXIT
start_dsmd --capacity 256M
measure
dropped='dropped 10\.66\.[0-9.]+: (silent, and its place is needed|no handshake within its time|the handshake failed|too many failed)'
! wanted half || flood half 5000 "$dropped"
! wanted connect || flood connect 10000 "$dropped"
if [ "$form" = long ]; then
    ! wanted garbage || flood garbage 3000 'dropped 10\.66\.[0-9.]+: (the handshake failed|too many failed)'
    ! wanted slow || flood slow 4000 "$dropped"
fi
stop_dsmd

if wanted few; then
    say "a dsmd with 1,024 descriptors"
    mkdir -p "$work/few/bin"
    printf '#!/bin/sh\nulimit -n 1024\nexec "%s" "$@"\n' "$build/bin/dsmd" >"$work/few/bin/dsmd"
    chmod 0755 "$work/few/bin/dsmd"
    whole=$build
    build=$work/few
    start_dsmd --capacity 256M
    build=$whole
    measure
    flood half 3000 "dropped 10\\.66\\.[0-9.]+: silent, and its place is needed"
    ! grep "accept rests" "$work/dsmd.log" || fail "few: strangers have the reserved descriptors"
    stop_dsmd
fi
if grep -E "dsmd: error|Assertion|Sanitizer" "$work/dsmd.log"; then
    fail "dsmd complained"
fi
