#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# As pagecheck.sh, while dsmd is killed by SIGKILL again and again and started on its store: no mismatch, and no error
# to the program. dsmd and client live in two network namespaces, the client is an unprivileged user.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
seconds=${1:-5}
pause=${2:-3}
need_programs dsmd dsmctl pagecheck
make_keys
make_namespaces
start_dsmd
port=$server_port
start_client $((seconds * 3 + 60)) pagecheck --threads 16 --seconds "$seconds" --pages 8192
kills=0
wait_until 60 has_segment || fail "pagecheck makes no segment"
end=$((SECONDS + seconds))
while [ $((SECONDS + pause)) -le $end ]; do
    sleep "$pause"
    ended "$client_pid" && break
    kill_dsmd
    start_dsmd
    [ "$server_port" = "$port" ] || fail "dsmd came back on port $server_port, not $port"
    kills=$((kills + 1))
done
wait_client || fail "pagecheck: exit $?"
grep -qw verified "$client_log" || fail "pagecheck did not say verified"
[ $kills -ge 1 ] || fail "dsmd was never killed: nothing was tested"
say "dsmd was killed $kills times"
stop_dsmd
