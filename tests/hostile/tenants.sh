#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tenants.sh SECONDS MOST: a hostile principal at ten times its quota beside an honest one; see tenants.py.
# shellcheck source=tests/hostile/lib.sh
. "$(dirname "$0")/lib.sh"
make_hostile_keys
"$build/bin/dsmctl" keygen "$work/greedy.key" >/dev/null || fail "dsmctl keygen"
echo "$(cat "$work/greedy.key.pub") greedy quota=1M prefix=greedy/ connections=16" >>"$work/authorized"
start_dsmd --capacity 256M --metrics 127.0.0.1:0 --lease-ms 3000
metrics=$(sed -nE 's/.*serves \/metrics on .*:([0-9]+)$/\1/p' "$work/dsmd.log" | tail -n 1)
python3 -B "$here/tenants.py" "$work" "$server_address" "$server_port" "$dsmd_pid" "$metrics" "$1" "$2" || fail "tenants"
grep -qE 'refused a (request|write) of "greedy" .* of the quota of 1048576 bytes' "$work/dsmd.log" || fail "the log does not say that it was refused"
stop_dsmd
"$build/bin/dsmd" --store "$store" --key "$work/server.key" --authorized "$work/authorized" --config '' --check || fail "the audit of the store"
