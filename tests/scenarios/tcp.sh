#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tcp.sh SCENARIO...: all of them on one dsmd over TCP, as an unprivileged user.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/../e2e/lib.sh"
need_programs dsmd dsmctl vm_scenario
make_keys
start_dsmd
mkdir "$work/scenarios"
cp "$@" "$work/scenarios"
client 100 vm_scenario "$work/scenarios"/*.scenario || fail "a scenario failed"
grep -qx "$# passed, 0 failed" "$client_log" || fail "not all of the $# scenarios were played"
stop_dsmd
