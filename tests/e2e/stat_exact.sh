#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# stat_exact.sh TOUCHES PAGES: the kernel's counters are the library's, number by number, after faults of every kind from 8 threads.
# shellcheck source=tests/e2e/stat_lib.sh
. "$(dirname "$0")/stat_lib.sh"
need_probes
need_programs dsmd dsmctl stat_exact
make_keys
start_dsmd
client_command 120 stat_exact "$flag" "$1" "$2"
start_subject "${command[@]}"
watch hist 0.5
go
end_watch
compare
names=(faults_read faults_write swap_in_reads swap_in_no_read) # that one waits for another's is chance
if ! grep -qx 'trap: uffd' "$subject_log"; then # there the kernel notes a store into an open page, and nothing is trapped
    names+=(faults_upgrade)
fi
for name in "${names[@]}"; do
    grep -q "^$name [1-9]" "$subject_log" || fail "there was no $name"
done
finish
stop_dsmd
