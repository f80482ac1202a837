#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hold.sh PROGRAM ROLE [DSMD OPTION...]: one behaviour that needs no more than a dsmd that runs.
# shellcheck source=tests/e2e/hold_lib.sh
. "$(dirname "$0")/hold_lib.sh"
program=$1
role=$2
shift 2
hold_setup "$program"
start_dsmd "$@"
hold_run "$role"
stop_dsmd
