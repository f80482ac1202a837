#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# dsmctl capsule show, with and without the destination's key, from a file and a pipe. Usage: capsule_show.sh DSMCTL CAPSULE_MAKE
set -eu
export LC_ALL=C
dsmctl=$(realpath "$1")
make=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

wrong() {
    echo "FAILED: $*"
    exit 1
}

# shows TEXT COMMAND...: it succeeds and says so.
shows() {
    local text=$1
    shift
    "$@" >out 2>err || wrong "$*: $(cat err)"
    grep -qF -- "$text" out || wrong "$*: does not say \"$text\" but: $(cat out)"
}

# refuses TEXT COMMAND...: exit code 1, and nothing on standard output.
refuses() {
    local text=$1 code=0
    shift
    "$@" >out 2>err || code=$?
    if [ "$code" -ne 1 ] || [ -s out ]; then
        wrong "$*: exit code $code, said $(cat out)"
    fi
    grep -qF -- "$text" err || wrong "$*: does not say \"$text\" but: $(cat err)"
}

"$dsmctl" keygen there >/dev/null
"$dsmctl" keygen other >/dev/null
"$make" there.pub capsule
"$make" there.pub old 1000000000000
shows "$(cat there.pub)" "$dsmctl" capsule show capsule
shows 'contents   sealed' "$dsmctl" capsule show capsule
shows 'expires    2100-01-01 00:00:00 UTC' "$dsmctl" capsule show capsule
! grep -q solver out || wrong 'contents are shown without a key'
shows 'alice/solver/heap: 64K in pages of 4K' "$dsmctl" capsule show --key there capsule
grep -qF 'none 0, zero 10, backing 3, template 3 pages, 4 runs' out || wrong "pages: $(cat out)"
grep -qF 'node7 (pid 4711), 2023-11-14 22:13:20 UTC' out || wrong "source: $(cat out)"
! grep -qiE 'a5a5|7e7e' out || wrong 'the token or the registers are shown'
shows '(it has)' "$dsmctl" capsule show old
field() { # FILE EXPRESSION of the object c
    python3 -c 'import json, sys; c = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$1" "$2"
}
cp capsule copy
"$dsmctl" capsule show --json - <copy >json
[ "$(field json '[c["version"], c["expired"], c["contents"]]')" = '[1, False, None]' ] || wrong 'JSON without a key'
# shellcheck disable=SC2002 # a pipe is what is tried
cat old | "$dsmctl" capsule show -j -k there - >json
[ "$(field json '[c["expired"], c["bytes"], len(c["contents"]["segments"]), c["contents"]["segments"][2]["pages"]["zero"]]')" = "[True, $(stat -c %s old), 5, 60]" ] || wrong "JSON: $(cat json)"
! grep -qiE 'a5a5|7e7e' json || wrong 'the token or the registers are in the JSON'

refuses 'another key' "$dsmctl" capsule show --key other capsule
head -c 200 /dev/zero >zeros
refuses 'This is no capsule' "$dsmctl" capsule show zeros
head -c 300 capsule >short
refuses 'its end is missing' "$dsmctl" capsule show -k there short
{ head -c 300 capsule; echo x; tail -c +303 capsule; } >changed
refuses 'altered' "$dsmctl" capsule show -k there changed
{ cat capsule; echo; } >long
refuses 'goes on after' "$dsmctl" capsule show -k there long
refuses 'cannot be opened' "$dsmctl" capsule show absent
code=0
"$dsmctl" capsule open capsule >out 2>err || code=$?
[ "$code" -eq 2 ] || wrong 'a word that is none'
echo 'dsmctl capsule show: as it should be'
