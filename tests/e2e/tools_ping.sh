#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# dsmctl ping says who is there, as whom one came, and how far away it is; and why not, in a sentence that says what to do.
# shellcheck source=tests/e2e/tools_lib.sh
. "$(dirname "$0")/tools_lib.sh"
need_programs dsmd dsmctl
make_keys
start_dsmd
tools_say 0 '' dsmctl ping
matches '^server +127.0.0.1:[0-9]+, dsmd [0-9]+\.[0-9]+\.[0-9]+$'
matches '^store +[0-9a-f]{32}, incarnation 1$'
matches '^protocol +version [0-9]+, (AES-256-GCM|ChaCha20-Poly1305), over '"$DSM_FAULT_LANES"'$'
matches '^you are +tester, with the rights create, read, write$'
matches '^round trip +least [0-9.]+ us, median [0-9.]+ us, greatest [0-9.]+ us, of 20$'
tools_say 0 '' dsmctl ping --json --count=7
[ "$(json_number count)" = 7 ] || fail "count: $(cat "$out")"
awk -v a="$(json_number min_us)" -v b="$(json_number median_us)" -v c="$(json_number max_us)" \
    'BEGIN { exit !(0 < a && a <= b && b <= c) }' || fail "round trips are out of order: $(cat "$out")"
DSM_SUITE=chachapoly tools_say 0 '' dsmctl ping
holds 'ChaCha20-Poly1305'

right=$work/client.key
"$build/bin/dsmctl" keygen "$work/stranger.key" >/dev/null
[ "$(id -u)" -ne 0 ] || chown nobody "$work/stranger.key"
mv "$right" "$work/right.key"
cp -p "$work/stranger.key" "$right"
tools_say 1 'not in the server'"'"'s authorized file' dsmctl ping
mv "$work/right.key" "$right"
[ "$(id -u)" -ne 0 ] || chown nobody "$right"
DSM_CLUSTER=another tools_say 1 'cluster' dsmctl ping
key=$(cat "$work/server.key.pub")
cp "$work/stranger.key.pub" "$work/server.key.pub"
tools_say 1 'key' dsmctl ping
echo "$key" >"$work/server.key.pub"

# Stopped: the connection is made (by the kernel), and no answer comes. A thread that runs stops a little later.
dsmd_is_stopped() {
    [ -z "$(awk '/^State:/ && $2 != "T"' "/proc/$dsmd_pid/task"/*/status)" ]
}
kill -STOP "$dsmd_pid"
wait_until 20 dsmd_is_stopped || fail "dsmd does not stop"
tools_say 1 'dsmctl ping: ' dsmctl ping
kill -CONT "$dsmd_pid"
tools_say 0 '' dsmctl ping
stop_dsmd
tools_say 1 'Is dsmd running there' dsmctl ping
