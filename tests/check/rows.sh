#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# rows.sh ROOT BUILD: every test that the tables of tests/README.md name, of Cedar's operations and of what is promised, is one of ctest's.
build=$(realpath "$2")
# shellcheck source=tests/check/lib.sh
. "$(dirname "$0")/lib.sh"
known=$(ctest --test-dir "$build" -N | sed -n 's/^ *Test *#[0-9]*: //p')
# shellcheck disable=SC2016
named=$(sed -n "/^## Cedar's operations/,/^## Adding/p" tests/README.md | grep -oE '`(vm|unit|e2e|sim|hostile|model|vectors|stat|check)\.[^`]+`' | tr -d '`' | sort -u)
if [ -z "$named" ]; then
    offence "tests/README.md:1: the table of Cedar's operations names no test"
fi
for name in $named; do
    if ! grep -qxF -- "$name" <<<"$known"; then
        offence "tests/README.md:1: there is no test $name"
    fi
done
verdict
