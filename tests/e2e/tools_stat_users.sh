#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A program's counters are seen by its own user and by root, and by nobody else.
# shellcheck source=tests/e2e/tools_lib.sh
. "$(dirname "$0")/tools_lib.sh"
need_root "acts as three users"
need_programs dsmd dsmctl dsmstat tools_client
make_keys
start_dsmd
start_program
tools_say 0 '' dsmstat --csv # as nobody, whose program it is
grep -q ",$program_pid," "$out" || fail "its own user does not see it: $(cat "$out")"
"$build/bin/dsmstat" --csv >"$out" || fail "dsmstat as root: exit $?"
grep -q ",$program_pid," "$out" || fail "root does not see it: $(cat "$out")"
as_nobody=(setpriv --reuid=daemon --regid=daemon --clear-groups)
tools_say 0 'No process that you may look at' dsmstat --csv
! grep -q ",$program_pid," "$out" || fail "another user sees it: $(cat "$out")"
tools_say 1 "is another user's" dsmstat -p "$program_pid"
page=$(find "/proc/$program_pid/fd" -lname '*memfd:dsm-stat*' | head -n 1)
[ "$(stat -L -c '%a %U' "$page")" = '600 nobody' ] || fail "mode and owner: $(stat -L "$page")"
if "${as_nobody[@]}" cat "$page" >"$work/stolen" 2>/dev/null; then
    fail "another user reads the page"
fi
if printf x 2>/dev/null >"$page"; then
    fail "the page can be written from outside"
fi
as_nobody=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
end_program
stop_dsmd
