#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A search tree with one false parent is not verified.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs dsmd dsmctl bfs
make_keys
start_dsmd
if client 300 bfs --scale 10 --roots 1 --spoil; then
    fail "a false parent was accepted"
fi
grep -q 'breaks rule [1-5] at vertex' "$client_log" || fail "the broken rule is not named: $(cat "$client_log")"
stop_dsmd
