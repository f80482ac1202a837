#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# dsmd under a service manager: it says READY, RELOADING, STOPPING and why it failed; marks its lines for the journal; gives up
# system calls; and on SIGTERM finishes and closes while programs work, which go on with the next dsmd.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs dsmd dsmctl dsmstat pagecheck
command -v python3 >/dev/null || skip "needs python3"
make_keys

start_manager
export NOTIFY_SOCKET=$work/manager
: >"$work/dsmd.log"
JOURNAL_STREAM=$(stat -c %d:%i "$work/dsmd.log")
export JOURNAL_STREAM

told() { # LINE [TIMES]
    [ "$(grep -cxE -- "$1" "$work/told")" -ge "${2:-1}" ]
}

start_dsmd
wait_until 20 told READY=1 || skip "dsmd was built without libsystemd"
log_line='<6>"dsmd" of cluster "default" listens on port'
grep -qF "$log_line" "$work/dsmd.log" || fail "no priorities for the journal: $(head -n 1 "$work/dsmd.log")"

say "system calls"
filters=$(sed -n 's/^Seccomp:[[:space:]]*//p' /proc/"$dsmd_pid"/task/*/status | sort | uniq -c | awk '{ print $2 }')
needed=$(nm -D "$build/bin/dsmd" 2>/dev/null || true)
if grep -qE ' __(asan|tsan)_init' <<<"$needed"; then
    say "not tried: sanitizers do without the filter"
else
    [ "$filters" = 2 ] || fail "not every thread has the filter: $filters"
fi

say "reload"
kill -HUP "$dsmd_pid"
wait_until 20 told RELOADING=1 || fail "a reload is not told"
wait_until 20 told READY=1 2 || fail "the end of a reload is not told"
grep -qE '^MONOTONIC_USEC=[0-9]+$' "$work/told" || fail "a reload is told without its time"

is_written_to() { # this dsmd, since its start
    client_command 20 dsmstat server --json
    "${command[@]}" >"$work/load" 2>&1 && grep -qE '"pages_written": ?[1-9]' "$work/load"
}
say "a stop while a program works, and one while a program is stopped"
start_client 240 pagecheck --threads 4 --seconds 30 --pages 2048
wait_until 60 is_written_to || fail "pagecheck writes nothing: $(cat "$client_log")"
stop_dsmd
told STOPPING=1 || fail "a stop is not told"
grep -qxF '<6>stopping' "$work/dsmd.log" || fail "no word of stopping"
grep -qxF '<6>stopped; the store is closed' "$work/dsmd.log" || fail "no word of the end"
start_dsmd
wait_until 60 is_written_to || fail "pagecheck does not go on with the next dsmd: $(cat "$client_log")"
program=$(pgrep -P "$client_pid") || fail "timeout(1) has no child"
kill -STOP "$program"
stop_dsmd
[ "$(grep -cxF '<6>stopped; the store is closed' "$work/dsmd.log")" -eq 2 ] || fail "no orderly end beside a stopped program"
kill -CONT "$program"
start_dsmd
wait_client || fail "pagecheck: exit $?"
grep -qw verified "$client_log" || fail "pagecheck did not say verified"
stop_dsmd
grep -q 'last stop was not clean' "$work/dsmd.log" && fail "a stop was not clean"

say "a start that fails"
chmod 0644 "$work/server.key"
status=0
timeout 60 "$build/bin/dsmd" --config '' --listen 127.0.0.1:0 --store "$store" --key "$work/server.key" \
    --authorized "$work/authorized" 2>>"$work/dsmd.log" || status=$?
[ $status -eq 1 ] || fail "a key that others may read: exit $status"
wait_until 20 told 'STATUS=.*has mode 0644.*' || fail "why it failed is not told"
told 'ERRNO=[1-9][0-9]*' || fail "the number of the error is not told"
grep -qE '^<3>.*has mode 0644' "$work/dsmd.log" || fail "an error is not marked as one"
