#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# program.sh PROGRAM ARGUMENT...: a program with its arrays on a dsmd, which checks its own results, says verified.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs dsmd dsmctl "$1"
make_keys
start_dsmd
client 300 "$@" || fail "$1: exit $?"
grep -qw verified "$client_log" || fail "$1 did not say verified"
client 20 dsmctl segments || fail "dsmctl segments: exit $?"
[ "$(tail -n +2 "$client_log" | wc -l)" -eq 0 ] || fail "segments are left"
stop_dsmd
