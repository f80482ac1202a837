#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Pages that are given up give their space back: on the server's own figures.
# shellcheck source=tests/e2e/hold_lib.sh
. "$(dirname "$0")/hold_lib.sh"
hold_setup hold_states
if [ "$(id -u)" -eq 0 ]; then
    as_client=("${as_nobody[@]}")
else
    as_client=()
fi
stored() { # MiB, as dsmctl tells an operator
    env DSM_SERVER="$server_address:$server_port" DSM_SERVER_KEY="$(cat "$work/server.key.pub")" \
        DSM_KEY_FILE="$work/client.key" LD_LIBRARY_PATH="$client_library" "${as_client[@]}" "$client_bin/dsmctl" stat --json |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["stored_bytes"] >> 10)'
}
start_dsmd
hold_start none
hold_await full
full=$(stored)
hold_say seen-full
hold_await half
half=$(stored)
say "the server stored $full KiB, now $half KiB"
[ "$full" -ge 8000 ] || fail "the server does not have the pages: $full KiB"
[ "$half" -le $((full / 2 + 64)) ] || fail "giving half of the pages up leaves $half of $full KiB"
hold_say seen-half
hold_wait none
stop_dsmd
