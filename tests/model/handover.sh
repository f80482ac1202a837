#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# handover.sh safe|owned|faults|long: spin checks handover.pml. safe: no state in which somebody but the owner may write.
# owned: in the end somebody owns the image. faults: with a part of the protocol left out it does find the fault. long: safe and
# owned together with more that goes wrong.
set -eu
model=$(dirname "$(realpath "$0")")/handover.pml
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
command -v spin >/dev/null || { echo "SKIPPED: spin is not installed"; exit 77; }

optimize=-O1

# check RESULT SAFETY|NFAIR=3 DEFINITION...: runs the checker; its verdict must be RESULT (none, or the beginning of an error).
check() {
    local expected=$1 kind=$2 run=(-m1000000) claim=()
    shift 2
    if [ "$kind" = SAFETY ]; then
        claim=(-DNOCLAIM)
    else
        run+=(-a -f)
    fi
    spin "$@" -a "$model" >spin.out || { cat spin.out; exit 1; }
    cc "$optimize" -w "-D$kind" "${claim[@]}" -DMEMLIM=2000 -o pan pan.c
    ./pan "${run[@]}" >pan.out
    if grep -q '^error: max search depth too small\|pan: reached' pan.out; then
        echo "The search was cut short:"
        cat pan.out
        exit 1
    fi
    local found
    found=$(sed -n 's/^pan:1: //p' pan.out)
    if [ "$expected" = none ]; then
        grep -q 'errors: 0$' pan.out || { cat pan.out; exit 1; }
    elif [[ $found != "$expected"* ]]; then
        echo "Expected \"$expected\", found \"$found\" with $*"
        exit 1
    fi
    echo "${*:-as it is}: ${found:-no fault} ($(sed -n 's/ states, stored.*/ states/p' pan.out))"
}

case $1 in
safe)
    check none SAFETY
    ;;
owned)
    check none NFAIR=3 -DLIVENESS -DROUNDS=1 -DFAULTS=0 -DDEATHS=0
    ;;
faults)
    optimize=-O0 # found soon: compiling takes longer
    check 'assertion violated 0' SAFETY -DNO_FENCE
    check 'assertion violated 0' SAFETY -DNO_REDO
    check 'assertion violated  !(((returned_tokens' SAFETY -DNO_TOKEN
    check 'assertion violated  !(((returned_tokens' SAFETY -DNO_RISE
    check 'acceptance cycle' NFAIR=3 -DLIVENESS -DROUNDS=1 -DFAULTS=0 -DDEATHS=0 -DNO_EXPIRY
    ;;
long)
    check none SAFETY -DFAULTS=2
    check none NFAIR=3 -DLIVENESS -DROUNDS=1
    check none NFAIR=3 -DLIVENESS -DFAULTS=0 -DDEATHS=0
    ;;
esac
