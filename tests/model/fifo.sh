#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# fifo.sh: vm_vectors as root, which alone may have threads of real-time priority.
# shellcheck source=tests/e2e/hold_lib.sh
. "$(dirname "$0")/../e2e/hold_lib.sh"
need_root "uses SCHED_FIFO"
hold_setup vm_vectors
as_nobody=()
client_bin=$build/bin
client_library=$build/lib
chown root "$work/client.key"
start_dsmd
status=0
client "$hold_seconds" vm_vectors fifo || status=$?
[ $status -ne 77 ] || skip "$(sed -n 's/^SKIPPED: //p' "$client_log")"
[ $status -eq 0 ] || fail "fifo: exit $status"
grep -q '^fifo: held$' "$client_log" || fail "fifo did not say that all held"
stop_dsmd
