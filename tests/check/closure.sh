#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# closure.sh OBJECT...: what the fault path reaches outside our code.
#
# Everything reachable from pager_fault() runs in a signal handler, under whatever lock the program holds. So the
# objects are linked with only the sections that the roots reach, and what stays undefined is compared with
# handler_symbols.txt: a symbol that is not in the list is an error; so is one of the list that is no longer needed
# (marked "maybe" where it depends on the compiler or the machine).
#
# A call through a vtable hides what it reaches, so each operation that the fault path calls is a root of its own. (The
# tables themselves would bring in create and destroy, which may allocate.) The objects are made with
# -ffunction-sections -fdata-sections. Environment: CLOSURE_ROOTS, CLOSURE_LIST for the self-test.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
list=${CLOSURE_LIST:-$here/handler_symbols.txt}
roots=${CLOSURE_ROOTS:-$(sed 's/#.*//' "$here/handler_roots.txt")}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A root is FILE:FUNCTION. It may be a static function: it is made visible to the linker in its own object.
flags=()
for root in $roots; do
    flags+=(-u "${root#*:}")
done
number=0
objects=()
for object in "$@"; do
    number=$((number + 1))
    globalize=()
    for root in $roots; do
        if [[ $object == */${root%%:*}.o ]]; then
            globalize+=("--globalize-symbol=${root#*:}")
        fi
    done
    # The notes of probes refer to code, and so would keep all functions that have one.
    objcopy --remove-section=.note.stapsdt --remove-section=.rela.note.stapsdt "${globalize[@]}" "$object" "$work/$number.o"
    objects+=("$work/$number.o")
done
ld -r --gc-sections -e "${flags[1]}" "${flags[@]}" -o "$work/closure.o" "${objects[@]}"

status=0
for root in $roots; do
    if ! nm --defined-only "$work/closure.o" | awk '{ print $3 }' | grep -x "${root#*:}" >/dev/null; then
        echo "The root $root is defined nowhere: correct handler_roots.txt."
        status=1
    fi
done

# SECTION SYMBOL for each reference. (ld -r keeps the names of symbols that only dropped sections used, so
# nm -u alone would say too much.)
nm -u "$work/closure.o" | awk '{ print $NF }' >"$work/names"
objdump -r "$work/closure.o" | awk -v names="$work/names" '
    BEGIN { while ((getline name < names) > 0) outside[name] }
    /^RELOCATION RECORDS FOR/ { section = substr($4, 2, length($4) - 3) }
    { target = $3; sub(/[-+]0x.*/, "", target) }
    target in outside { print section, target }' | sort -u >"$work/references"
awk '{ print $2 }' "$work/references" | sort -u >"$work/undefined"
sed 's/#.*//' "$list" | awk 'NF { print $1 }' | sort -u >"$work/allowed"
sed 's/#.*//' "$list" | awk 'NF && $2 != "maybe" { print $1 }' | sort -u >"$work/needed"
while read -r symbol; do
    echo "The fault path reaches $symbol, which is not in handler_symbols.txt. Referred to by:"
    awk -v symbol="$symbol" '$2 == symbol { print "    " $1 }' "$work/references"
    status=1
done < <(comm -23 "$work/undefined" "$work/allowed")
while read -r symbol; do
    echo "handler_symbols.txt allows $symbol, which the fault path no longer reaches: remove the line."
    status=1
done < <(comm -13 "$work/undefined" "$work/needed")
echo "$(wc -l <"$work/undefined") symbols from outside, $# objects, $((${#flags[@]} / 2)) roots"
exit $status
