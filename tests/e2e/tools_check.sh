#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# dsmctl check: a store that is whole is called that, one that is in use, damaged or none is refused, and no page changes.
# shellcheck source=tests/e2e/tools_lib.sh
. "$(dirname "$0")/tools_lib.sh"
need_programs dsmd dsmctl tools_client
dsmctl=$build/bin/dsmctl

check() { # CODE TEXT ARG...
    local code=$1 text=$2
    shift 2
    status=0
    "$dsmctl" check "$@" >"$out" 2>"$err" || status=$?
    [ $status -eq "$code" ] || fail "check $*: exit code $status, not $code: $(cat "$out" "$err")"
    [ -z "$text" ] || grep -qF -- "$text" "$out" "$err" || fail "check $*: does not say \"$text\" but: $(cat "$out" "$err")"
}

contents() {
    find "$store/segments" "$store"/slots-* -type f -exec sha256sum '{}' + | sort
}

make_keys
start_dsmd --capacity 256M
start_program
check 1 'in use' "$store"
check 1 'Stop that dsmd first' "$store"
kill_dsmd # with the program's segment open and full
before=$(contents)
check 0 'whole' "$store"
grep -q 'without order' "$out" || fail "the crash is not told: $(cat "$out")"
[ "$(contents)" = "$before" ] || fail "the check changed the store"
check 0 '"whole": true' --json "$store"
[ "$(json_number segments)" = 1 ] || fail "segments: $(cat "$out")"
[ "$(json_number stored_bytes)" = 8388608 ] || fail "stored: $(cat "$out")"
grep -q '"stopped_in_order": true' "$out" || fail "the first check did not close in order"
if [ "$(id -u)" -eq 0 ]; then # root leaves nothing that the owner could not open
    chown -R nobody "$store" "$store_parent"
    check 0 'whole' "$store"
    [ -z "$(find "$store" ! -user nobody)" ] || fail "root's files are left: $(find "$store" ! -user nobody -ls)"
    chown -R root "$store" "$store_parent"
fi
start_dsmd # it goes on with it, and so does the program
end_program
stop_dsmd
check 0 'in order' "$store"

check 1 'no store' "$work/nothing"
mkdir "$work/empty"
check 1 'no store' "$work/empty"
[ -z "$(ls -A "$work/empty")" ] || fail "something was made in an empty directory"
check 2 'too few arguments'
printf 'garbage' | dd of="$store/header" bs=1 conv=notrunc status=none
printf 'garbage' | dd of="$store/header" bs=1 seek=4096 conv=notrunc status=none
check 1 'damaged' "$store"
