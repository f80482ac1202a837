#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# dsmstat reads the counters of a running program without a word to it, and they are the ones that dsm_stats tells.
# shellcheck source=tests/e2e/tools_lib.sh
. "$(dirname "$0")/tools_lib.sh"
need_programs dsmd dsmctl dsmstat tools_client
make_keys
start_dsmd
tools_say 1 'There is no process' dsmstat -p 4194304
"${as_nobody[@]}" sleep 100 &
bystander=$!
pids+=("$bystander")
has_begun() { [ "$(cat "/proc/$bystander/comm")" = sleep ]; }
wait_until 20 has_begun || fail "sleep does not begin"
tools_say 1 'has no session open' dsmstat -p "$bystander"
start_program fork
child=$(sed -n 's/^child //p' "$client_log")
tools_say 0 '' dsmstat --json -p "$program_pid"
compare_counters "$out" "$client_log"
cp "$out" "$work/json"
holds "\"pid\":$program_pid,\"program\":\"tools_client\",\"server\":\"127.0.0.1:$server_port\",\"ended\":false"
[ "$(json_number cache_bytes)" = 4194304 ] || fail "cache: $(cat "$out")"
# A forked child is no client, whatever descriptors it has.
tools_say 1 'has no session open' dsmstat -p "$child"
tools_say 0 '' dsmstat --csv
grep -qE "^[0-9.]+,$program_pid,\"tools_client\"," "$out" || fail "not in: $(cat "$out")"
! grep -q "^[0-9.]*,$child," "$out" || fail "the child is in: $(cat "$out")"
header=$(head -n 1 "$out" | tr , '\n' | grep -nx faults_write | cut -d: -f1)
[ "$(grep ",$program_pid," "$out" | cut -d, -f"$header")" = "$(sed -n 's/^faults_write //p' "$client_log")" ] ||
    fail "faults_write in: $(cat "$out")"
faults=$(sed -n 's/^faults //p' "$client_log")
[ "$faults" -gt 0 ] || fail "no fault waited"
[ "$(sed 's/.*"buckets":\[\[//; s/\]\].*//; s/\],\[/\n/g' "$work/json" | awk -F, '{ n += $2 } END { print n }')" = "$faults" ] ||
    fail "the buckets of: $(cat "$work/json")"
p90=$(head -n 1 "$out" | tr , '\n' | grep -nx fault_p90_ns | cut -d: -f1)
[ "$(grep ",$program_pid," "$out" | cut -d, -f"$p90")" = "$(sed -n 's/^p90_ns //p' "$client_log")" ] ||
    fail "fault_p90_ns in: $(cat "$out")"
tools_say 0 '' dsmstat --all -p "$program_pid"
matches "^ +$faults +faults +waited for a page: P50 [0-9.]+[um]?s P90 [0-9.]+[um]?s P99 [0-9.]+[um]?s P99.9 [0-9.]+[um]?s\$"
matches "^ +$(sed -n 's/^clean_writes //p' "$client_log") +[0-9.kM]+/s +pages +clean_writes: pages that needed the write\$"
# As vmstat: a heading, the first line since the start, then a line for each interval, in which nothing happens here.
tools_say 0 '' dsmstat -p "$program_pid" 0.2 3
[ "$(wc -l <"$out")" -eq 4 ] || fail "lines: $(cat "$out")"
[ "$(awk 'NR > 2 { print $2, $5 }' "$out" | sort -u)" = '0 0' ] || fail "something happens: $(cat "$out")"
awk 'NR == 2 { exit !($2 > 0) }' "$out" || fail "nothing happened since the start: $(cat "$out")"
tools_say 0 '' dsmstat 0.02 50
[ "$(grep -c PROGRAM "$out")" -ge 3 ] || fail "the heading is not repeated"
tools_say 0 '' dsmstat --total
[ "$(wc -l <"$out")" -eq 2 ] || fail "total: $(cat "$out")"
end_program
DSM_STAT=off start_program
tools_say 1 'has no session open' dsmstat -p "$program_pid"
end_program
stop_dsmd
