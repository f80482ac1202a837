#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# hold_partition.sh PROGRAM ROLE WAY: as hold_paused.sh, but what stands in the way is the network between two namespaces: it
# drops what goes to-server, or to-client, or both.
# shellcheck source=tests/e2e/hold_lib.sh
. "$(dirname "$0")/hold_lib.sh"
way=$3
command -v nft >/dev/null || skip "needs nft (Debian package nftables)"
hold_setup "$1"
make_namespaces
"${in_server[@]}" nft add table inet faults 2>"$work/nft.log" ||
    skip "nft does not work here: $(head -n 1 "$work/nft.log")"
start_dsmd
hold_start "$2"
hold_await pause
to_server=accept
to_client=accept
[ "$way" = to-client ] || to_server=drop
[ "$way" = to-server ] || to_client=drop
"${in_server[@]}" nft -f - <<END
table inet faults {
    chain in { type filter hook input priority 0; iifname != lo $to_server; }
    chain out { type filter hook output priority 0; oifname != lo $to_client; }
}
END
hold_say paused
wants_to_go_on() {
    [ -e "$HOLD_TALK/continue" ] || ended "$client_pid"
}
wait_until "$hold_seconds" wants_to_go_on || fail "the program does not ask for the network again"
"${in_server[@]}" nft delete table inet faults
hold_say continued
hold_wait "$2"
stop_dsmd
