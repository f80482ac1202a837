#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Sixteen threads read and write self-verifying pages at random with a cache of one eighth: no mismatch. dsmd and
# client live in two network namespaces, the client is an unprivileged user.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
seconds=${1:-5}
need_programs dsmd dsmctl pagecheck
make_keys
make_namespaces
start_dsmd
client $((seconds * 3 + 60)) pagecheck --threads 16 --seconds "$seconds" --pages 8192 || fail "pagecheck: exit $?"
grep -qw verified "$client_log" || fail "pagecheck did not say verified"
stop_dsmd
