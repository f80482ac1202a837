#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hold_errors.sh PROGRAM ROLE: besides the right keys, one that nobody let in and one that others may read.
# shellcheck source=tests/e2e/hold_lib.sh
. "$(dirname "$0")/hold_lib.sh"
hold_setup "$1"
export HOLD_STRANGER_KEY=$work/stranger.key HOLD_OPEN_KEY=$work/open.key
"$build/bin/dsmctl" keygen "$HOLD_STRANGER_KEY" >/dev/null
cp -p "$work/client.key" "$HOLD_OPEN_KEY"
chmod 0644 "$HOLD_OPEN_KEY"
if [ "$(id -u)" -eq 0 ]; then
    chown nobody "$HOLD_STRANGER_KEY" "$HOLD_OPEN_KEY"
fi
start_dsmd
hold_run "$2"
stop_dsmd
