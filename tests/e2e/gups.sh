#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# RandomAccess on a table four times larger than the cache is right when replayed.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs dsmd dsmctl gups
make_keys
start_dsmd
client 300 gups "$@" || fail "gups: exit $?"
grep -qw verified "$client_log" || fail "gups did not say verified"
stop_dsmd
