#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# dsmstat heat and trace show each fault once, where it was, under the segment's name; --segment leaves the others out; JSON is JSON;
# pictures fit an 80-column line.
# shellcheck source=tests/e2e/stat_lib.sh
. "$(dirname "$0")/stat_lib.sh"
need_probes
need_programs dsmd dsmctl stat_exact
command -v python3 >/dev/null || skip "needs python3"
make_keys
start_dsmd
client_command 120 stat_exact "$flag" 0 400 measure

look() { # ARG...: while the program faults 400 times
    start_subject "${command[@]}"
    watch "$@" --pid "$subject_pid"
    go
    end_watch
    finish
    tail -n +2 "$out" >"$work/rows"
    [ ! -s "$err" ] || fail "dsmstat $*: said: $(cat "$err")"
}

look heat 0.2
awk -F, -v pid="$subject_pid" '
    { gsub(/"/, "") }
    $2 != pid || $4 != "stat/shared-" pid || $7 + $8 > 4096 { print "not of the segment: " $0; bad = 1 }
    { faults += $9; low += $7 < 1024 ? $9 : 0 }
    END { print faults " faults, " low " of them in the first quarter"
        exit bad || faults != 400 || low < 50 || low > 150 }' "$work/rows" || fail "heat: $(head -n 3 "$out")"

look trace
awk -F, -v pid="$subject_pid" '
    { gsub(/"/, ""); parts = $14 + $15 + $16 + $17 + $18 + $19 + $20 }
    $2 != pid || $4 != "stat/shared-" pid || $10 != "R" || $8 < 1 { print "what is this: " $0; bad = 1 }
    parts != $12 && parts != $13 { off++ }
    END { print NR " lines"; exit bad || NR != 400 }' "$work/rows" || fail "trace: $(head -n 3 "$out")"

look trace --segment no/such
[ ! -s "$work/rows" ] || fail "--segment lets through: $(head -n 3 "$work/rows")"

# Without --csv no first line tells that it has attached; its child's links do.
has_attached() { # PID
    local child
    child=$(pgrep -P "$1") && grep -qs '^link_id' "/proc/$child/fdinfo/"*
}

start_subject "${command[@]}"
watchers=()
also() { # FILE ARG...
    "$build/bin/dsmstat" "${@:2}" --pid "$subject_pid" >"$work/$1" 2>>"$err" </dev/null &
    watchers+=("$!")
    pids+=("$!")
}
for word in hist why heat trace; do
    also $word.json $word --json 100 1
done
also heat.text heat 0.5
also hist.text hist 100 1
for pid in "${watchers[@]}"; do
    wait_until 30 has_attached "$pid" || fail "dsmstat does not attach: $(cat "$err")"
done
sleep 0.5
go
sleep 0.6
for pid in "${watchers[@]}"; do
    kill -INT "$pid"
    wait_until 20 ended "$pid" || fail "dsmstat does not end"
    wait "$pid" || fail "dsmstat: exit $?: $(cat "$err")"
done
finish
for word in hist why heat trace; do
    python3 -c '
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
assert lines and "pid" in json.dumps(lines), lines' "$work/$word.json" || fail "$word --json: $(head -c 300 "$work/$word.json")"
done
grep -q "stat/shared-$subject_pid" "$work/hist.text" || fail "hist: $(cat "$work/hist.text")"
grep -q "$subject_pid .*|.*|" "$work/heat.text" || fail "heat: $(cat "$work/heat.text")"
awk 'length > 80 && /[|#]/ && !/PID|server/ { print "too long: " $0; bad = 1 } END { exit bad }' "$work/heat.text" ||
    fail "heat is wider than 80 columns"
stop_dsmd
