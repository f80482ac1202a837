#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Pages that are given up give their space and their reservation back: on the server's own figures, also after a restart.
# shellcheck source=tests/e2e/hold_lib.sh
. "$(dirname "$0")/hold_lib.sh"
hold_setup hold_states
figures() { # sets stored, reserved and charged, in KiB, as dsmctl tells an operator
    local text
    text=$(env DSM_SERVER="$server_address:$server_port" DSM_SERVER_KEY="$(cat "$work/server.key.pub")" \
        DSM_KEY_FILE="$work/client.key" LD_LIBRARY_PATH="$client_library" "${as_nobody[@]}" "$client_bin/dsmctl" stat --json)
    read -r stored reserved charged < <(python3 -c 'import json, sys
figures = json.load(sys.stdin)
print(*(figures[name] >> 10 for name in ("stored_bytes", "reserved_bytes", "charged_bytes")))' <<<"$text")
    say "$1: stored $stored KiB, reserved $reserved KiB, charged $charged KiB"
}
promised() { # KIB: so much is reserved, and charged to the one principal
    [ "$reserved" -eq "$1" ] && [ "$charged" -eq "$1" ]
}
start_dsmd
hold_start none
hold_await full
figures full
full=$stored
[ "$full" -ge 8000 ] || fail "the server does not have the pages: $full KiB"
promised $((2 * 8192)) || fail "two segments of 8 MiB"
hold_say seen-full
hold_await half
figures half
[ "$stored" -le $((full / 2 + 64)) ] || fail "giving half of the pages up leaves $stored of $full KiB"
promised $((3 * 4096)) || fail "the reservation was not given back"
hold_say seen-half
hold_await closed
stop_dsmd
start_dsmd
figures "started again"
promised $((3 * 4096 + 8)) || fail "the restart lost it"
hold_say seen-closed
hold_await whole
figures whole
promised $((2 * 8192)) || fail "the reservation was not taken again"
hold_say seen-whole
hold_wait none
stop_dsmd
