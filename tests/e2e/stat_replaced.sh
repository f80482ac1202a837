#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A library that is replaced while dsmstat watches: programs with the old file and with the new one are counted, exactly; and
# dsmstat survives the end of both.
# shellcheck source=tests/e2e/stat_lib.sh
. "$(dirname "$0")/stat_lib.sh"
need_probes
need_programs dsmd dsmctl stat_exact
make_keys
start_dsmd
client_library=$work/replaced
mkdir -m 0755 "$client_library"
cp "$build/lib/libdsm.so.0" "$client_library/"
client_command 120 stat_exact "$flag" 256 100
watch hist 0.5
for which in old new; do
    start_subject "${command[@]}"
    grep -q "$client_library/" "/proc/$subject_pid/maps" || skip "the program has a library of its own"
    sleep 0.6 # dsmstat looks
    go
    sleep 0.8 # a sample
    compare
    finish
    cp "$build/lib/libdsm.so.0" "$client_library/other"
    mv "$client_library/other" "$client_library/libdsm.so.0"
    alive "$watch_pid" || fail "dsmstat ended with the $which program: $(cat "$err")"
done
end_watch
stop_dsmd
