#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# limits.sh: every limit of rpc/limits.h stands in the table of hostile/README.md, once, with tests and cases that there are; and what the
# library's own limits do for a program.
# shellcheck source=tests/hostile/lib.sh
. "$(dirname "$0")/lib.sh"
limits=$(grep -oE '^(    LIMIT_\w+ =|#define LIMIT_\w+)' "$here/../../rpc/limits.h" | grep -oE 'LIMIT_\w+' | sort -u)
rows=$(sed -n '/^| limit |/,/^$/p' "$here/README.md" | tail -n +3)
named=$(cut -d'|' -f2 <<<"$rows" | grep -oE 'LIMIT_\w+' | sort)
diff <(echo "$limits") <(echo "$named") || fail "limits.h (<) and the table of README.md (>) differ"
known=$(
    ctest --test-dir "$build" -N | sed -n 's/^ *Test *#[0-9]*: //p'
    # shellcheck disable=SC2016 # they are Markdown's
    python3 -B "$here/run.py" --table | grep -oE '`[a-z0-9_.]+` \|$' | tr -d '`| '
    sed -nE 's/.*(add_hostile_test|add_long_test)\((\w+) .*/\2/p' "$here/hostile.cmake" | sed 's/^/hostile./'
)
# shellcheck disable=SC2016 # they are Markdown's
for test in $(cut -d'|' -f3 <<<"$rows" | grep -oE '`[^`]+`' | tr -d '`' | sort -u); do
    grep -qxF -- "$test" <<<"$known" || fail "the table of limits names $test, and there is no such test"
done
while IFS='|' read -r _ limit tests _; do
    grep -q '`' <<<"$tests" || fail "no test reaches $limit"
done <<<"$rows"
say "$(wc -w <<<"$limits") limits"

least=$(((64 + 32) * 4096)) # LIMIT_CACHE_MIN_PAGES and LIMIT_CACHE_PAGES_PER_THREAD
export DSM_CONFIG='' DSM_SERVER=embedded DSM_EMBEDDED_SIZE=64M
program=(python3 -B "$here/patience.py" "$build/lib/libdsm.so")
DSM_CACHE=$least "${program[@]}" open >"$work/cache.log" 2>&1 || { cat "$work/cache.log"; fail "a cache of $least bytes is refused"; }
if DSM_CACHE=$((least - 1)) "${program[@]}" open >"$work/cache.log" 2>&1 || ! grep -q "at least $least (64 pages and 32 " "$work/cache.log"; then
    cat "$work/cache.log"
    fail "a cache of a byte less is not refused so"
fi
[ "$(DSM_CACHE=1M "${program[@]}" stack | sed -n 1p)" = $((64 << 10)) ] || fail "dsm_thread_init() gives another stack"
