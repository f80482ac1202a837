#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# api_documented.sh ROOT BUILD: the library and its manual pages speak of the same things.
# - Each function of dsm.h is in one page's NAME, and its declaration in that page's SYNOPSIS; and the other way round.
# - What libdsm.so exports is what dsm.h declares.
# - dsm(7) has, as it is made, each variable of settings.def, and dsm_stats(3) each counter. (The states of pages: manuals.sh.)
# - Each flag and error of dsm.h is in some page, and no page speaks of a DSM_ name that there is not.
build=$(realpath "$2")
# shellcheck source=tests/check/lib.sh
. "$(dirname "$0")/lib.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
header=libdsm/include/dsm/dsm.h
pages=(libdsm/man/*.3.scd)

# declarations: C on standard input as one declaration a line, spaces made equal.
declarations() {
    tr '\n\t' '  ' | sed -E 's/;/;\n/g' | sed -E 's/^ +//; s/ +/ /g; s/\* /*/g; /^[^(]*\([^)]*\);$/!d'
}

# Without comments, directives, and what is not marked as the interface.
gcc -fpreprocessed -dD -E -P -x c "$header" 2>/dev/null | grep -v '^#' | tr '\n' ' ' |
    sed -E 's/DSM_API/\n&/g' | sed -nE 's/^DSM_API ([^;]*;).*/\1/p' | declarations | sort >"$work/declared"
for page in "${pages[@]}"; do
    awk '/^# / { part = $2; next } part == "SYNOPSIS" && !/^(```|#)/' "$page" | sed 's/\\\(.\)/\1/g' |
        sed 's/Link with.*//' | declarations
done | sort >"$work/synopses"
if [ ! -s "$work/declared" ]; then
    offence "$header:1: no function was found"
fi

names_of() { # declarations on standard input
    sed -nE 's/^.*\b(dsm_[a-z_]+)\(.*/\1/p' | sort
}

# differences A B WHERE TEXT: lines of A that B lacks.
differences() {
    local line
    while IFS= read -r line; do
        offence "$3:1: $4: $line"
    done < <(comm -23 "$1" "$2")
}

differences "$work/declared" "$work/synopses" "$header" "declared, and in no SYNOPSIS"
differences "$work/synopses" "$work/declared" libdsm/man "in a SYNOPSIS, and not declared so"

names_of <"$work/declared" >"$work/functions"
sed -nE '/^# NAME/{n;n;s/ - .*//;s/, /\n/g;p}' "${pages[@]}" | sort >"$work/names"
differences "$work/functions" "$work/names" "$header" "in no page's NAME"
differences "$work/names" "$work/functions" libdsm/man "in a page's NAME, and no function"
for page in "${pages[@]}"; do
    sed -nE '/^# NAME/{n;n;s/ - .*//;s/, /\n/g;p}' "$page" | sort >"$work/here"
    awk '/^# / { part = $2; next } part == "SYNOPSIS" && /\(/' "$page" | grep -oE '\bdsm_[a-z_]+\(' |
        tr -d '(' | sort >"$work/there"
    differences "$work/here" "$work/there" "$page" "in NAME, but not in SYNOPSIS"
done

nm -D --defined-only "$build/lib/libdsm.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort >"$work/exported"
differences "$work/exported" "$work/functions" "$header" "exported, and not declared"
differences "$work/functions" "$work/exported" "$header" "declared, and not exported"

# expect PAGE FILE WORD...
expect() {
    local page=$1 from=$2 word
    shift 2
    if [ $# -eq 0 ]; then
        offence "$from:1: nothing was found in it"
    fi
    for word in "$@"; do
        if ! grep -qwF -- "$word" "$page"; then
            offence "$from:1: $word is not in ${page##*/}"
        fi
    done
}

mapfile -t constants < <(grep -oE '^ *(enum \{ +)?DSM_[A-Z_]+ =' "$header" | grep -oE 'DSM_[A-Z_]+'; grep -oE 'DSM_DATA_[A-Z]+' "$header"; echo DSM_NO_PAGE)
cat "${pages[@]}" libdsm/man/dsm.7.scd >"$work/all"
expect "$work/all" "$header" "${constants[@]}"

mapfile -t variables < <(sed -nE 's/^DSM_SETTING\([a-z_]+, ([A-Z_]+),.*/\1/p' libdsm/settings.def)
printf '%s\n' "${variables[@]}" "${constants[@]}" DSM_CONFIG | sort -u >"$work/known"
grep -ohE '\bDSM_[A-Z_]*[A-Z]' libdsm/man/*.scd | sort -u >"$work/spoken"
differences "$work/spoken" "$work/known" libdsm/man "there is no such thing"

if command -v scdoc >/dev/null; then
    for page in libdsm/man/dsm.7.scd libdsm/man/dsm_stats.3.scd; do
        name=$(basename "$page" .scd)
        deploy/manual-page "$page" "$build/bin" 0 "$work/$name" || offence "$page:1: cannot be made"
        sed -i -E 's/\\f[BRIP]//g; s/\\//g' "$work/$name"
    done
    expect "$work/dsm.7" libdsm/settings.def "${variables[@]}"
    mapfile -t counters < <(sed -nE 's/^DSM_COUNTER\(([a-z_]+),.*/\1/p' libdsm/include/dsm/counters.def)
    expect "$work/dsm_stats.3" libdsm/include/dsm/counters.def "${counters[@]}"
fi
verdict
