#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The example of each of the library's manual pages compiles without a warning, runs with no set-up at all, and prints what the
# page says that it prints. The first block under EXAMPLE is the program, the second its output; where that begins with
# "$ COMMAND", so it is run. Options that the compiler needs besides stand in the program's first line: /* cc OPTION... */
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs dsmd

block() { # PAGE N: the Nth literal block under EXAMPLE, without scdoc's escapes
    awk -v wanted="$2" '/^# / { example = $0 == "# EXAMPLE"; next }
        example && $0 == "```" { inside = !inside; number += inside; next }
        inside && number == wanted' "$1" | sed 's/\\\(.\)/\1/g'
}

try() { # PAGE
    local name command
    name=$(basename "$1" .scd)
    mkdir "$work/$name"
    cd "$work/$name"
    block "$1" 1 >program.c
    block "$1" 2 >expected
    grep -q main program.c || fail "$name: no program under EXAMPLE"
    command=$(sed -n '1s/^\$ //p' expected)
    if [ -n "$command" ]; then
        sed -i 1d expected
    fi
    [ -s expected ] || fail "$name: the page does not say what its example prints"
    read -ra options < <(sed -n '1s,^/\* cc \(.*\) \*/$,\1,p' program.c; echo)
    cc "${options[@]}" -std=gnu17 -Wall -Wextra -Wshadow -Wconversion -Werror -o program program.c -I"$e2e_root/libdsm/include" \
        -L"$build/lib" -Wl,-rpath,"$build/lib" -ldsm -pthread || fail "$name: its example does not compile"
    say "$name: ${command:-./program}"
    env -i PATH="$PATH" HOME="$work" DSM_CONFIG= DSM_EMBEDDED_SIZE=256M timeout 100 \
        sh -c "${command:-./program}" >said || fail "$name: its example ended with $?"
    diff -u expected said || fail "$name: its example prints something else"
}

pages=("$e2e_root"/libdsm/man/*.scd)
[ ${#pages[@]} -ge 8 ] || fail "the pages are not found"
for page in "${pages[@]}"; do
    if [ "${page##*/}" != dsm_probes.7.scd ]; then # its examples are bpftrace's: stat_bpftrace.sh
        try "$page"
    fi
done
