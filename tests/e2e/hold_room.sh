#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hold_room.sh PROGRAM ROLE: a store of 32 MiB, or a quota of 32 MiB on a larger one.
# shellcheck source=tests/e2e/hold_lib.sh
. "$(dirname "$0")/hold_lib.sh"
role=$2
hold_setup "$1"
capacity=32M
if [ "$role" = quota ] || [ "${HOLD_REFUSED:-}" = quota ]; then
    capacity=8G
    rm "$work/authorized"
    "$build/bin/dsmctl" authorize "$work/authorized" "$(cat "$work/client.key.pub")" tester quota=32M >/dev/null
fi
start_dsmd --capacity "$capacity"
hold_run "$role"
stop_dsmd
