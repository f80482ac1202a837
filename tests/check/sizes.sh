#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A C file has at most 500 lines and a function at most 70. There is no list of exceptions.
# shellcheck source=tests/check/lib.sh
. "$(dirname "$0")/lib.sh"
file_lines=500
function_lines=70

while read -r file; do
    lines=$(wc -l <"$file")
    if [ "$lines" -gt "$file_lines" ]; then
        offence "$file:1: has $lines lines, more than $file_lines"
    fi
done < <(sources '*.c' '*.h')

# ctags marks a function with its first and last line: name, file, pattern;" f line:N ... end:N
tags=$(sources '*.c' '*.h' | ctags -L - -f - --languages=C,C++ --kinds-C=f --kinds-C++=f \
    --fields=+ne --sort=no --quiet)
if [ -z "$tags" ] && [ -n "$(sources '*.c')" ]; then
    offence "ctags found no function: is universal-ctags installed?"
fi
while read -r file line lines name; do
    offence "$file:$line: $name() has $lines lines, more than $function_lines"
done < <(awk -F '\t' -v most=$function_lines '
    {
        first = last = 0
        for (i = 4; i <= NF; i++) {
            if ($i ~ /^line:/) first = substr($i, 6)
            if ($i ~ /^end:/) last = substr($i, 5)
        }
        if (last - first + 1 > most) print $2, first, last - first + 1, $1
    }' <<<"$tags")
verdict
