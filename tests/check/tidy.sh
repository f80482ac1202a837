#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tidy.sh ROOT BUILD: clang-tidy over every C file that BUILD compiles, but generated ones; .clang-tidy says what counts. The
# analyzer's paths, which take nine tenths of the time, are followed in the product alone: the tests' own run under sanitizers.
root=$(realpath "$1")
build=$(realpath "$2")
export LC_ALL=C
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
look() { # FOLDERS ARGUMENT...
    run-clang-tidy -quiet -p "$build" -j 2 "${@:2}" "^$root/($1)/.*[.]c\$" >>"$log" 2>&1 || status=$?
}
look "rpc|libdsm|server|metrics|tools"
look tests '-checks=-clang-analyzer-*'
sed -i 's/\x1b\[[0-9;]*m//g' "$log"
# Besides offences there is a line for each command, and one for each file's suppressed warnings.
grep -vE '^(clang-tidy|/usr/bin/clang-tidy)|^[0-9]+ warnings? generated|^Suppressed|^Use -header-filter|^$' "$log"
echo "$(grep -c clang-tidy "$log") files"
if ! grep -q clang-tidy "$log"; then
    status=1
fi
exit "$status"
