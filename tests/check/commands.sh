#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# commands.sh ROOT BUILD: what README.md shows exists. Every path of ours in it, every option of our programs in its
# sh blocks, every DSM_ name; and its C blocks compile against dsm.h.
build=$(realpath "$2")
# shellcheck source=tests/check/lib.sh
. "$(dirname "$0")/lib.sh"

# blocks KIND: the README's fenced blocks of that kind, lines that end in a backslash joined.
blocks() {
    awk -v open="\`\`\`$1" '$0 == open { inside = 1; next } /^```/ { inside = 0 } inside' README.md |
        sed -e ':a' -e '/\\$/{N;s/\\\n//;ba' -e '}'
}

while read -r path; do
    if [[ $path == build/* ]]; then
        target=$build/${path#build/}
    else
        target=$path
    fi
    if [ ! -e "$target" ]; then
        offence "README.md:1: names $path, which does not exist"
    fi
done < <(grep -oE '\b(build/bin|tests|deploy|rpc|libdsm|server|tools)/[A-Za-z0-9_./-]*[A-Za-z0-9_]' README.md | sort -u)

while read -r program options; do
    help=$("$build/${program#build/}" --help 2>&1 || true)
    for option in $options; do
        if ! grep -qE -- "$option([^a-z-]|\$)" <<<"$help"; then
            offence "README.md:1: $program has no option $option"
        fi
    done
done < <(blocks sh | awk '{
    program = ""; options = ""
    for (i = 1; i <= NF; i++) {
        if ($i ~ /^build\/bin\//) program = $i
        if (program != "" && $i ~ /^--[a-z]/) { sub(/=.*/, "", $i); options = options " " $i }
    }
    if (program != "") print program options
}')

while read -r name; do
    if ! sources '*.c' '*.h' | xargs grep -qw "$name"; then
        offence "README.md:1: names $name, which no source knows"
    fi
done < <(grep -oE '\bDSM_[A-Z_]+' README.md | sort -u)

# Each C block is a program of its own.
programs=$(mktemp -d)
trap 'rm -rf "$programs"' EXIT
awk -v to="$programs" '$0 == "```c" { inside = 1; count++; next } /^```/ { inside = 0 }
    inside { print > (to "/" count ".c") }' README.md
for program in "$programs"/*.c; do
    if [ -e "$program" ] &&
        ! gcc -std=c17 -D_GNU_SOURCE -Wall -Wextra -Werror -Ilibdsm/include -fsyntax-only "$program"; then
        offence "README.md:1: the C code of its block $(basename "$program" .c) does not compile"
    fi
done
verdict
