#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every C file is as clang-format with the tree's .clang-format leaves it.
# shellcheck source=tests/check/lib.sh
. "$(dirname "$0")/lib.sh"
mapfile -t files < <(sources '*.c' '*.h')
if [ ${#files[@]} -eq 0 ]; then
    echo "No C file found: nothing was checked."
    exit 1
fi
while read -r count file; do
    offence "$file:1: $count places are not as clang-format leaves them: clang-format -i $file"
done < <(clang-format --dry-run -Werror "${files[@]}" 2>&1 | sed -n 's/^\([^:]*\):[0-9:]* error: .*/\1/p' |
    sort | uniq -c)
verdict
