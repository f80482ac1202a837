#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hold_memlock.sh PROGRAM ROLE: as hold.sh, for a program that locks more memory than most users may.
# shellcheck source=tests/e2e/hold_lib.sh
. "$(dirname "$0")/hold_lib.sh"
need_root "lets a program lock memory"
as_nobody+=(--inh-caps +ipc_lock --ambient-caps +ipc_lock)
"${as_nobody[@]}" true 2>/dev/null || skip "no right to lock memory can be given"
hold_setup "$1"
start_dsmd
hold_run "$2"
stop_dsmd
