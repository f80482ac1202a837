#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What strangers can do to /metrics of dsmd (slow, many, huge, malformed, pipelined, wrong) neither harms a program that works
# on the same server at the time, nor keeps a good scrape from its answer; and of it all nothing is left.
# shellcheck source=tests/e2e/metrics_lib.sh
. "$(dirname "$0")/metrics_lib.sh"
command -v python3 >/dev/null || skip "needs python3 (deploy/install-packages test)"
need_programs dsmd dsmctl pagecheck
make_keys
start_dsmd --capacity 256M --metrics 0
metrics_port "$work/dsmd.log"

(
    : >"$work/rounds"
    while [ ! -e "$work/enough" ]; do
        client_command 60 pagecheck --threads 2 --pages 4096 --seconds 1 || exit 1
        "${command[@]}" >"$work/pagecheck.log" 2>&1 </dev/null || exit 1
        echo round >>"$work/rounds"
    done
) &
session_pid=$!
pids+=("$session_pid")
python3 "$(dirname "$0")/strangers.py" "$port" "$dsmd_pid" || fail "strangers do harm"
alive "$session_pid" || fail "the session beside them failed: $(cat "$work/pagecheck.log")"
: >"$work/enough"
wait "$session_pid" || fail "the session beside them failed: $(cat "$work/pagecheck.log")"
[ "$(wc -l <"$work/rounds")" -ge 1 ] || fail "the session beside them did nothing"
say "$(wc -l <"$work/rounds") rounds of a session beside them"
scrape
awk '/^dsmd_scrapes_total\{code="405"\}/ && $2 > 0 { n++ } /^dsmd_scrapes_ended_total/ && $2 > 0 { n++ } END { exit n != 2 }' "$page" ||
    fail "not counted: $(grep scrapes "$page")"
stop_dsmd
