#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# symbols.sh LIBRARY HEADER: the library exports the functions that dsm.h declares, with the version DSM_0, and nothing
# else; and its SONAME is libdsm.so.0.
set -euo pipefail
export LC_ALL=C
library=$1
header=$2

declared=$(gcc -E -P -x c "$header" -I "$(dirname "$header")/.." | tr '\n' ' ' | tr ';' '\n' |
    sed -nE 's/.*__attribute__\(\(visibility\("default"\)\)\)[^(]*[ *](dsm_[a-z_]+)\(.*/\1@@DSM_0/p' | sort)
exported=$(nm -D --defined-only "$library" | awk '$2 != "A" { print $3 }' | sort)
if [ -z "$declared" ] || [ -z "$exported" ]; then
    echo "No function is declared in $header, or none exported by $library."
    exit 1
fi
offences=0
while read -r name; do
    echo "$name is declared and not exported."
    offences=$((offences + 1))
done < <(comm -23 <(echo "$declared") <(echo "$exported"))
while read -r name; do
    echo "$name is exported and not declared in dsm.h."
    offences=$((offences + 1))
done < <(comm -13 <(echo "$declared") <(echo "$exported"))
soname=$(readelf -d "$library" | sed -nE 's/.*\(SONAME\).*\[(.*)\]/\1/p')
if [ "$soname" != libdsm.so.0 ]; then
    echo "The SONAME is $soname, not libdsm.so.0."
    offences=$((offences + 1))
fi
[ $offences -eq 0 ] && echo "$(wc -l <<<"$exported") functions, as declared"
