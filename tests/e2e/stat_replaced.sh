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
# dsmstat holds the program's statistics page, which its child hands over after it has attached to the program's files.
has_met_subject() {
    local held
    held=$(stat -L -c '%d:%i' "/proc/$watch_pid/fd/"* 2>/dev/null || true)
    grep -qx "$(page_of_subject)" <<<"$held"
}
page_of_subject() {
    find "/proc/$subject_pid/fd" -lname '/memfd:dsm-stat*' -exec stat -L -c '%d:%i' {} +
}
for which in old new; do
    start_subject "${command[@]}"
    grep -q "$client_library/" "/proc/$subject_pid/maps" || skip "the program has a library of its own"
    wait_until 60 has_met_subject || fail "dsmstat does not see the $which program: $(cat "$err")"
    go
    compare_soon
    finish
    cp "$build/lib/libdsm.so.0" "$client_library/other"
    mv "$client_library/other" "$client_library/libdsm.so.0"
    alive "$watch_pid" || fail "dsmstat ended with the $which program: $(cat "$err")"
done
end_watch
stop_dsmd
