#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# deploy/quickstart on the tree as it is built: the verdict, the tools' tables, and nothing left behind. What goes wrong is
# said with its step.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs dsmd dsmctl dsmstat pagerank gups
export TMPDIR=$work DSM_QUICKSTART_INDEX=$e2e_root/tests/programs/sample-index.txt

say "a short one"
"$e2e_root/deploy/quickstart" --short >"$work/out" 2>&1 || fail "exit $?: $(tail -n 30 "$work/out")"
[[ $(tail -n 1 "$work/out") == verified:* ]] || fail "the last line is no verdict: $(tail -n 1 "$work/out")"
for shown in 'the first "verified", [0-9]* s after the start' 'dsmctl ping' '| round trip' '| HOLDER\|HOLDER$' 'dsmstat 1 3' '| .*PROGRAM'; do
    grep -q -- "$shown" "$work/out" || fail "the output lacks '$shown': $(cat "$work/out")"
done
[ "$(grep -c '^verified$' "$work/out")" -eq 3 ] || fail "not three verified runs: $(cat "$work/out")"
left=$(find "$work" /dev/shm -maxdepth 1 -name 'dsm-quickstart*')
[ -z "$left" ] || fail "left behind: $left"
server=$(sed -n 's/.*dsmd \([0-9]*\) listens on.*/\1/p' "$work/out")
[ -n "$server" ] || fail "no word of dsmd: $(cat "$work/out")"
ended "$server" || fail "dsmd $server still runs"

say "a step that fails"
if DSM_QUICKSTART_INDEX=$work/none "$e2e_root/deploy/quickstart" --short >"$work/out" 2>&1; then
    fail "an index that is not there is no error"
fi
grep -q '^Failed at: Reading the package index' "$work/out" || fail "the step is not named: $(cat "$work/out")"
