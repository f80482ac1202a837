#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# dsmstat server: a dsmd's load, once or at intervals, over a restart of it, in three forms.
# shellcheck source=tests/e2e/tools_lib.sh
. "$(dirname "$0")/tools_lib.sh"
need_programs dsmd dsmctl dsmstat tools_client
make_keys
start_dsmd --capacity 256M
start_program
tools_say 0 '' dsmstat server
[ "$(wc -l <"$out")" -eq 2 ] || fail "lines: $(cat "$out")"
matches '^ *[0-9.k]+ +[0-9.k]+ +[0-9.k]+ +8M +[0-9.]+M +256M +[0-9]+ +2 +[0-9]+ (s|min)$'
tools_say 0 '' dsmstat server "127.0.0.1:$server_port" --json
[ "$(json_number stored_bytes)" = 8388608 ] || fail "stored: $(cat "$out")"
[ "$(json_number pages_written)" -ge 2048 ] || fail "written: $(cat "$out")"
tools_say 0 '' dsmstat server --csv 0.1 3
[ "$(wc -l <"$out")" -eq 4 ] || fail "lines: $(cat "$out")"
awk -F, 'NF != n && NR > 1 { exit 1 } { n = NF }' "$out" || fail "columns: $(cat "$out")"
tools_say 2 'not about a server' dsmstat server -t
tools_say 1 'Is dsmd running there' dsmstat server 127.0.0.1:1
tools_say 1 'HOST:PORT' dsmstat server :

client_command 90 dsmstat server 0.1 --json
"${command[@]}" >"$out" 2>"$err" </dev/null &
watch_pid=$!
pids+=("$watch_pid")
wait_until 20 grep -q '"incarnation":1,' "$out" || fail "nothing of the first: $(cat "$out" "$err")"
kill_dsmd
start_dsmd
wait_until 20 grep -q '"incarnation":2,' "$out" || fail "nothing of the second: $(tail -n 2 "$out") $(cat "$err")"
alive "$watch_pid" || fail "dsmstat ended: $(cat "$err")"
kill -TERM "$watch_pid"
wait "$watch_pid" 2>/dev/null || true
end_program
stop_dsmd
