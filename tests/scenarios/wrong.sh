#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The runner notices what differs, and says which line it does not understand.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/../e2e/lib.sh"
need_programs dsmd vm_scenario
export DSM_SERVER=embedded DSM_EMBEDDED_SIZE=64M

refuses() { # WHAT IT SAYS; the scenario on standard input
    cat >"$work/wrong.scenario"
    if "$build/bin/vm_scenario" "$work/wrong.scenario" >"$work/out" 2>&1; then
        fail "accepted: $(cat "$work/wrong.scenario")"
    fi
    grep -q -- "wrong.scenario:$1" "$work/out" || fail "does not say '$1': $(cat "$work/out")"
    grep -qx '0 passed, 1 failed' "$work/out" || fail "the verdict: $(cat "$work/out")"
}

good='buffer 4
pages O O O
frames 100C 101C 102C
call swap_in 0 3'
refuses '5: io was: R0+3' <<<"$good"$'\nio R0+2 R2+1'
refuses '5: io was: R0+3' <<<"$good"$'\nio none'
refuses '5: swap_in was: 1 1 1 | 3 0 0 3 | 0 0' <<<"$good"$'\nexpect swap_in 1 1 1 | 3 0 1 2 | 0 0'
refuses '5: clean was: 0 0 0 | 0 0 0 | 0 0' <<<"$good"$'\nexpect clean 1 0 0 | 0 0 0 | 0 0'
refuses '5: page 1 is C, not O' <<<"$good"$'\nstate C O C'
refuses '5: error none' <<<"$good"$'\nerror EIO 1'
refuses '5: the call before this line failed' <<<"${good/O O O/O O! O}"$'\ncall age 0 1'
refuses '2: "X" is not a page' <<<$'buffer 4\npages O X'
refuses '1: "99C" is not a frame' <<<'frames 99C'
refuses '1: buffer takes' <<<'buffer none'
refuses '1: there is no line "bufer"' <<<'bufer 4'
refuses '1: io must stand after' <<<'io none'
refuses '5: pages must stand before' <<<"$good"$'\npages O'
refuses '4: swap_in knows no "pni"' <<<"$good pni"
refuses '5: expect swap_in takes' <<<"$good"$'\nexpect swap_in 1 2 3'
refuses '1: no call' <<<'buffer 4'
refuses '1: "0-2" is not a row of a placement' <<<'placement 0-2'
refuses '1: "1-2:A" is not a row' <<<'placement 1-2:A'
refuses '1: "4-5:B" is not a row' <<<'placement 0-2:A 4-5:B'
refuses '1: "0-2:I" is not a row' <<<'placement 0-2:I'
refuses '1: "3-2:B" is not a row' <<<'placement 0-2:A 3-2:B'
refuses '1: placement stands once' <<<'placement'
refuses '2: placement stands once' <<<$'placement 0-2:A\nplacement 0-2:B'
refuses '5: placement must stand before' <<<"$good"$'\nplacement 0-2:A'
refuses '6: the placement goes beyond' <<<$'segment 110\nplacement 0-120:B\n'"$good"
refuses '6: io was: R0+2@A R2+1@B' <<<$'placement 0-1:A 2-2:B\n'"$good"$'\nio R0+3@A'
printf '%s\n' "$good" "io R0+3" >"$work/right.scenario"
"$build/bin/vm_scenario" "$work/right.scenario" >"$work/out" || fail "refused: $(cat "$work/out")"
grep -qx '1 passed, 0 failed' "$work/out" || fail "the verdict: $(cat "$work/out")"
