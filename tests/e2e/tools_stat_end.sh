#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The end of a program is seen by who watches it: once more with the numbers that it ended with, also after kill -9; what
# begins with the same program later is another client.
# shellcheck source=tests/e2e/tools_lib.sh
. "$(dirname "$0")/tools_lib.sh"
need_programs dsmd dsmctl dsmstat tools_client

watch() { # ARG...: dsmstat in the background, $watch_pid, until it has printed a sample
    client_command 90 dsmstat "$@"
    : >"$out"
    "${command[@]}" >"$out" 2>"$err" </dev/null &
    watch_pid=$!
    pids+=("$watch_pid")
    wait_until 20 test -s "$out" || fail "dsmstat prints nothing: $(cat "$err")"
}

make_keys
start_dsmd
start_program
watch --json -p "$program_pid" 0.1
end_program
wait "$watch_pid" || fail "dsmstat: exit $?: $(cat "$err")"
tail -n 1 "$out" >"$work/last"
grep -q '"ended":true' "$work/last" || fail "the end is not in: $(cat "$work/last")"
compare_counters "$work/last" "$client_log"
[ "$(grep -c '"ended":true' "$out")" -eq 1 ] || fail "ended more than once"

start_program
watch --json 0.1
kill -KILL "$program_pid"
wait_until 20 grep -q "\"pid\":$program_pid,[^{]*\"ended\":true" "$out" || fail "the kill is not seen: $(tail -n 2 "$out")"
grep "\"pid\":$program_pid,[^{]*\"ended\":true" "$out" | sed "s/.*{\"pid\":$program_pid/{/; s/}}.*/}}/" >"$work/last"
compare_counters "$work/last" "$client_log"
wait "$client_pid" 2>/dev/null || true
start_program
wait_until 20 grep -q "\"pid\":$program_pid,[^{]*\"ended\":false" "$out" || fail "the next program is not seen"
kill -TERM "$watch_pid"
wait "$watch_pid" 2>/dev/null || true

# Processes end while they are looked at.
client_command 60 dsmstat --csv 0.01 40
"${command[@]}" >"$out" 2>"$err" </dev/null &
watch_pid=$!
pids+=("$watch_pid")
while alive "$watch_pid"; do
    for _ in 1 2 3 4 5; do
        (exec -a short-lived /bin/true) &
        wait $!
    done
done
wait "$watch_pid" || fail "dsmstat among processes that end: exit $?: $(cat "$err")"
[ "$(grep -c ",$program_pid," "$out")" -eq 40 ] || fail "samples: $(cut -c1-60 "$out")"
end_program
stop_dsmd
