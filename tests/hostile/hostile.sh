#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hostile.sh GROUP: plays the hostile cases of a group, or one, GROUP.CASE, on a dsmd, while a program beside them verifies every page it has.
# shellcheck source=tests/hostile/lib.sh
. "$(dirname "$0")/lib.sh"
make_hostile_keys
start_dsmd --capacity 256M --lease-ms 3000 --metrics 127.0.0.1:0
metrics=$(sed -nE 's/.*serves \/metrics on .*:([0-9]+)$/\1/p' "$work/dsmd.log" | tail -n 1)
begin_beside
python3 -B "$here/run.py" "$1" "$work" "$server_address" "$server_port" "$dsmd_pid" "$metrics" ||
    { show_beside; fail "cases of group $1"; }
end_beside
stop_dsmd
if grep -E "dsmd: error|Assertion|Sanitizer" "$work/dsmd.log"; then
    fail "dsmd complained"
fi
