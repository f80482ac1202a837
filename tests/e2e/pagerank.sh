#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# pagerank.sh [FILE]: the ranks of the packages of an index (of this machine's Debian index without FILE) are, to
# the last bit, those of a run in local memory.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs dsmd dsmctl pagerank
if [ $# -eq 0 ]; then
    command -v apt-cache >/dev/null || skip "needs apt-cache: this is no Debian"
    apt-cache dumpavail >"$work/index"
    if ! grep -q -m 1 '^Package:' "$work/index"; then
        need_root "apt has no package index, and apt-get update needs root"
        apt-get -q update >"$work/apt.log" 2>&1 || skip "no package index, and apt-get update failed"
        apt-cache dumpavail >"$work/index"
    fi
    set -- "$work/index"
else
    cp "$1" "$work/index"
fi
chmod 0644 "$work/index"
make_keys
start_dsmd
client 600 pagerank "$work/index" || fail "pagerank: exit $?"
grep -qw verified "$client_log" || fail "pagerank did not say verified"
stop_dsmd
