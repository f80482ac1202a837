#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Shell scripts pass shellcheck.
# shellcheck source=tests/check/lib.sh
. "$(dirname "$0")/lib.sh"
mapfile -t files < <(
    scripts
    sources '*.sh'
)
if [ ${#files[@]} -eq 0 ]; then
    echo "No script found: nothing was checked."
    exit 1
fi
# SC2119: a function that takes optional arguments is called without any.
shellcheck -x -e SC2119,SC2120 "${files[@]}"
