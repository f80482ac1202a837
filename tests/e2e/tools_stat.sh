#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# dsmctl stat: what the server has, and what of it is this principal's.
# shellcheck source=tests/e2e/tools_lib.sh
. "$(dirname "$0")/tools_lib.sh"
need_programs dsmd dsmctl tools_client
make_keys
start_dsmd --capacity 256M
tools_say 0 '' dsmctl stat
matches '^server +127.0.0.1:[0-9]+, dsmd [0-9.]+, up [0-9]+ (s|min)$'
matches '^capacity +256M$'
matches '^stored +0$'
matches '^quota +none$'
matches '^tester has$'
two_sessions() { # [--json]: the program's and this dsmctl's own; that of the dsmctl before may still be going
    tools_say 0 '' dsmctl stat "$@"
    grep -qE '^sessions +2,' "$out" || [ "$(json_number sessions)" = 2 ]
}
start_program
wait_until 20 two_sessions || fail "sessions: $(cat "$out")"
matches '^stored +8M$'
matches '^charged +8M$'
matches '^segments +1$'
wait_until 20 two_sessions --json || fail "sessions: $(cat "$out")"
for pair in capacity_bytes=268435456 stored_bytes=8388608 charged_bytes=8388608 segments=1 sessions=2 incarnation=1; do
    [ "$(json_number "${pair%=*}")" = "${pair#*=}" ] || fail "$pair: $(cat "$out")"
done
[ "$(json_number reserved_bytes)" -ge 8388608 ] || fail "reserved: $(cat "$out")"
[ "$(json_number pages_written)" -ge 2048 ] || fail "pages written: $(cat "$out")"
holds '"quota_bytes": null'
end_program
stop_dsmd
