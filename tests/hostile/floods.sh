#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# floods.sh short|long: strangers pour connections on dsmd from a network namespace of their own. During every flood a new good
# client gets in, and an old one goes on, verifies and keeps its throughput; dsmd does not grow, and is as before soon after. A third
# run has dsmd with few descriptors. The short form asserts what does not depend on how busy the machine is; the long one the figures,
# too: 2 s for a newcomer, 80 % of the throughput, 5 s until all is as before.
# shellcheck source=tests/hostile/lib.sh
. "$(dirname "$0")/lib.sh"
form=${1:-short}
if [ "$form" = long ]; then
    seconds=20 newcomer_ms=2000 share=80 calm_s=5
else
    seconds=4 newcomer_ms=20000 share=5 calm_s=20
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

flood() { # KIND RATE WHAT THE LOG SAYS
    local kind=$1 amount=$2 says=$3 from worst=0 grown=0 peak=0 newcomers=0
    from=$(wc -l <"$work/dsmd.log")
    ip netns exec "$attacker" nice -n 5 python3 -B "$here/flood.py" "$kind" 192.0.2.1 "$server_port" "$seconds" "$amount" \
        >"$work/flood.log" 2>&1 &
    local flood_pid=$!
    pids+=("$flood_pid")
    old_client_begin "$work/old.log" "$seconds"
    while ! ended "$flood_pid"; do
        newcomer || fail "$kind: a new client does not get in"
        newcomers=$((newcomers + 1))
        [ "$took_ms" -le "$worst" ] || worst=$took_ms
        peak=$(anonymous_kib)
        [ $((peak - memory_before)) -le "$grown" ] || grown=$((peak - memory_before))
        sleep 0.3
    done
    wait "$flood_pid" || { cat "$work/flood.log"; fail "$kind: the flood failed"; }
    old_client_end "$work/old.log"
    local during=$rate begin
    begin=$(milliseconds)
    wait_until "$calm_s" calm || fail "$kind: $(descriptors) descriptors $calm_s s later, $descriptors_before before"
    newcomer || fail "$kind: nobody gets in afterwards"
    say "$(cat "$work/flood.log"); $newcomers newcomers, the slowest in $worst ms; the old client had $((during * 100 / rate_before)) % of $rate_before pages/s; grown by $grown KiB; calm after $(($(milliseconds) - begin)) ms"
    tail -n +$((from + 1)) "$work/dsmd.log" | grep -qE "$says" || fail "$kind: the log does not say /$says/"
    [ "$newcomers" -ge 1 ] || fail "$kind: nobody tried to get in"
    [ "$worst" -le "$newcomer_ms" ] || fail "$kind: a newcomer took $worst ms"
    [ $((during * 100)) -ge $((rate_before * share)) ] || fail "$kind: the old client had $during of $rate_before pages/s"
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
flood half 5000 "$dropped"
flood connect 10000 "$dropped"
if [ "$form" = long ]; then
    flood garbage 3000 'dropped 10\.66\.[0-9.]+: (the handshake failed|too many failed)'
    flood slow 4000 "$dropped"
fi
stop_dsmd

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
stop_dsmd
if grep -E "dsmd: error|Assertion|Sanitizer" "$work/dsmd.log"; then
    fail "dsmd complained"
fi
