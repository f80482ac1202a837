#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# /metrics of dsmd: off unless asked for; the numbers are those that dsmctl and the program have; what else is asked of the
# port; a reload that fails; how addresses are taken, and which are warned of.
# shellcheck source=tests/e2e/metrics_lib.sh
. "$(dirname "$0")/metrics_lib.sh"
need_programs dsmd dsmctl tools_client
make_keys
log=$work/dsmd.log

# dsmd's own: gRPC names its, which come when they are needed. One that has just begun has no name yet.
threads() {
    cat "/proc/$dsmd_pid"/task/*/comm 2>/dev/null | grep -cx dsmd
}
has_threads() {
    [ "$(threads)" -eq "$1" ]
}
steady_threads() { # their number, once it is the same for a while
    local last=0 now=0 same=0
    while [ $same -lt 5 ]; do
        now=$(threads)
        same=$((now == last ? same + 1 : 0))
        last=$now
        sleep 0.1
    done
    echo "$now"
}

start_dsmd --capacity 256M
without=$(steady_threads)
grep -q metrics "$log" && fail "/metrics without being asked for: $(cat "$log")"
stop_dsmd

printf '%s\n' "metrics = 0" "name = hal" >"$work/dsmd.conf"
chmod 0600 "$work/dsmd.conf"
start_dsmd --capacity 256M --config "$work/dsmd.conf"
metrics_port "$log"
grep -q "serves /metrics on 127.0.0.1:$port$" "$log" || fail "not on loopback: $(cat "$log")"
grep -q "can be reached" "$log" && fail "a warning of a loopback address: $(cat "$log")"
wait_until 20 has_threads $((without + 1)) || fail "$(threads) threads instead of $((without + 1))"
filters=$(sed -n 's/^Seccomp:[[:space:]]*//p' /proc/"$dsmd_pid"/task/*/status | sort -u)
if ! grep -q 'lib[at]san' /proc/"$dsmd_pid"/maps; then
    [ "$filters" = 2 ] || fail "not every thread has the filter of system calls: $filters"
fi
scrape "$work/first"
version=$("$build/bin/dsmd" --version | awk '{ print $2 }')
is "dsmd_build_info{version=\"$version\",name=\"hal\",cluster=\"default\"}" 1 "$work/first"
is 'dsmd_store_capacity_bytes' $((256 << 20)) "$work/first"

start_program
tools_say 0 '' dsmctl stat --json
settles dsmd_sessions 1 # dsmctl is gone
sleep 0.2 # longer than a page is kept
scrape
for number in capacity_bytes reserved_bytes stored_bytes; do
    is "dsmd_store_$number" "$(json_number $number)"
done
is 'dsmd_principal_charged_bytes{principal="tester"}' "$(json_number charged_bytes)"
is 'dsmd_principal_quota_bytes{principal="tester"}' +Inf
is 'dsmd_principal_segments{principal="tester"}' "$(json_number segments)"
is dsmd_segments "$(json_number segments)"
is dsmd_read_pages_total "$(json_number pages_read)"
is dsmd_written_pages_total "$(json_number pages_written)"
is dsmd_draining 0
# What the library counts as page data, the server does too; nobody else has moved any.
is 'dsmd_sent_bytes_total{op="read"}' "$(sed -n 's/^bytes_read //p' "$client_log")"
is 'dsmd_received_bytes_total{op="write"}' "$(sed -n 's/^bytes_written //p' "$client_log")"
is 'dsmd_requests_total{op="read",status="ok"}' "$(sed -n 's/^read_requests //p' "$client_log")"
is 'dsmd_requests_total{op="write",status="ok"}' "$(sed -n 's/^write_requests //p' "$client_log")"
is 'dsmd_request_duration_seconds_count{op="read"}' "$(value 'dsmd_requests_total{op="read",status="ok"}')"
is 'dsmd_request_duration_seconds_bucket{op="read",le="+Inf"}' "$(value 'dsmd_requests_total{op="read",status="ok"}')"
awk '$1 == "dsmd_request_duration_seconds_sum{op=\"read\"}" { exit !($2 > 0 && $2 < 60) }' "$page" ||
    fail "the sum of times: $(grep duration_seconds_sum "$page")"
awk '/^dsmd_request_duration_seconds_bucket\{op="read"/ { if ($2 < last) exit 1; last = $2; seen++ }
    END { exit !(seen == 26) }' "$page" || fail "buckets do not grow: $(grep bucket "$page")"
if command -v promtool >/dev/null; then
    promtool check metrics <"$page" >"$out" 2>&1 || fail "promtool: $(cat "$out")"
    [ ! -s "$out" ] || fail "promtool says: $(cat "$out")"
fi

grep '^# TYPE' "$page" | while read -r _ _ name _; do
    grep -qE "\"$name\"|\*$name\*" "$e2e_root/server/metrics.def" "$e2e_root/server/dsmd.8.scd" || fail "dsmd(8) does not have $name"
done

say "what is refused is counted"
"$build/bin/dsmctl" keygen "$work/stranger.key" >/dev/null
chown --reference="$work/client.key" "$work/stranger.key"
mv "$work/client.key" "$work/kept.key"
mv "$work/stranger.key" "$work/client.key"
tool dsmctl ping
[ $status -ne 0 ] || fail "a stranger came in"
mv "$work/kept.key" "$work/client.key"
refusals=$(grep -c "refused 127.0.0.1" "$log") || fail "nothing of the stranger in the log"
sleep 0.2
scrape
is 'dsmd_handshakes_refused_total{reason="unauthorized"}' "$refusals"

for _ in $(seq 30); do # what is no handshake, and soon too many of them
    echo junk >"/dev/tcp/127.0.0.1/$server_port"
done
dropped() {
    scrape
    [ $(($(value 'dsmd_handshakes_refused_total{reason="broken"}') + \
        $(value 'dsmd_handshakes_refused_total{reason="too_many_failures"}'))) -eq 30 ]
}
wait_until 20 dropped || fail "of 30 dropped connections: $(grep refused_total "$page")"
said=$(grep -c 'dropped 127.0.0.1' "$log")
is 'dsmd_log_lines_left_out_total{reason="too_many"}' $((30 - said))
is 'dsmd_log_lines_left_out_total{reason="no_room"}' 0

say "what else is asked of the port"
[ "$(http HEAD /metrics --head)" = 200 ] || fail "HEAD: $(http HEAD /metrics --head)"
[ "$(http GET '/metrics?name=x')" = 200 ] || fail "with a query"
[ "$(http GET /)" = 404 ] || fail "/: $(http GET /)"
[ "$(http GET /metrics/)" = 404 ] || fail "/metrics/"
[ "$(http POST /metrics --data x=1)" = 405 ] || fail "POST: $(http POST /metrics --data x=1)"
[ "$(http DELETE /metrics)" = 405 ] || fail "DELETE"
wait_until 20 has_threads $((without + 1)) || fail "$(threads) threads after all that"

say "a reload"
echo "metrics = 1" >>"$work/dsmd.conf" # twice
kill -HUP "$dsmd_pid"
wait_until 20 grep -q 'nothing was changed' "$log" || fail "no word of a bad reload"
sleep 0.2
scrape
is dsmd_config_last_reload_successful 0
printf '%s\n' "metrics = 1" >"$work/dsmd.conf"
kill -HUP "$dsmd_pid"
wait_until 20 grep -qE 'count after a restart: .*metrics' "$log" || fail "no word of what counts later: $(cat "$log")"
sleep 0.2
scrape
is dsmd_config_last_reload_successful 1
end_program
taken=$port

refuses() { # TEXT ADDRESS
    local status=0
    timeout 60 "$build/bin/dsmd" --config '' --listen 127.0.0.1:0 --store "$store_parent/other" --capacity 16M \
        --key "$work/server.key" --authorized "$work/authorized" --metrics "$2" >"$out" 2>&1 </dev/null || status=$?
    [ $status -eq 1 ] || fail "$2: exit $status"
    grep -qF -- "$1" "$out" || fail "$2: does not say \"$1\" but $(cat "$out")"
}
refuses "Cannot serve /metrics on 127.0.0.1:$taken: another process listens there already." "127.0.0.1:$taken"
refuses '"localhost" is no address for /metrics: say PORT, HOST:PORT or [IPV6]:PORT.' localhost
refuses '"::1:7413" is no address' ::1:7413
refuses '":7413" is no address' :7413
refuses '"70000" is no address' 70000
refuses 'for /metrics is unknown' no.such.host.invalid:7413
refuses 'Cannot serve /metrics on 192.0.2.7:0: ' 192.0.2.7:0
stop_dsmd

start_dsmd --metrics 0.0.0.0:0
grep -qE 'warning: /metrics asks nobody who he is, and 0.0.0.0:[0-9]+ can be reached' "$log" || fail "no warning: $(cat "$log")"
stop_dsmd

say "descriptors that connections to dsmd cannot use up"
: >"$log"
ulimit -n 220
start_dsmd --metrics 0
metrics_port "$log"
python3 -c 'import socket, sys, time
ones = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(150)]
print("connected", flush=True)
time.sleep(60)' "$server_port" >"$out" &
crowd=$!
pids+=("$crowd")
wait_until 20 grep -q connected "$out" || fail "no crowd"
scrape
awk '$1 == "process_open_fds" { exit !($2 > 100 && $2 <= 220 - 64) }' "$page" || fail "$(grep fds "$page")"
end_process "$crowd" 5
stop_dsmd
