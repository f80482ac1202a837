#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What the kernel counts is what was fired: 10^6 made-up faults from 8 threads of a program that is linked statically, for each
# segment and server; in a program that was there before dsmstat, and in one that comes later.
# shellcheck source=tests/e2e/stat_lib.sh
. "$(dirname "$0")/stat_lib.sh"
need_probes
start_subject "$build/bin/stat_firing" "$flag" 8 135000
watch hist 0.5
go
compare_soon
finish
start_subject "$build/bin/stat_firing" "$flag" 8 1000
go
end_watch
compare
finish

start_subject "$build/bin/stat_firing" "$flag" 8 1000
watch hist 0.2 --pid "$subject_pid"
go
sleep 0.5
finish
wait_until 20 ended "$watch_pid" || fail "dsmstat goes on after the end of its process"
wait "$watch_pid" || fail "dsmstat: exit $?: $(cat "$err")"
compare
[ ! -s "$err" ] || fail "dsmstat said: $(cat "$err")"
