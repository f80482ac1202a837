#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# task_parts.sh BEHAVIOUR: an image with segments of every type, on one dsmd; each process is started by itself.
# shellcheck source=tests/e2e/hold_lib.sh
. "$(dirname "$0")/hold_lib.sh"
hold_setup task_parts
"$build/bin/dsmctl" keygen "$work/there" >/dev/null
cp -p "$work/there" "$work/mine" # of who runs this
if [ "$(id -u)" -eq 0 ]; then
    chown nobody "$work/there"
fi
export TASK_KEY=$work/there TASK_PUBLIC_KEY=$work/there.pub TASK_CAPSULE=$HOLD_TALK/capsule
key=$(cut -d' ' -f1 "$work/client.key.pub")
echo "$key tester rights=create,read,write,migrate" >"$work/authorized"
start_dsmd

# holds PLACES: what dsmctl says of the heap in the capsule.
holds() {
    "$build/bin/dsmctl" capsule show "$TASK_CAPSULE" --key "$work/mine" >"$work/shown"
    grep -A 1 '^heap' "$work/shown" | grep -q "$1" || fail "not $1: $(cat "$work/shown")"
    grep -q '^code' "$work/shown" || fail "the capsule has no code: $(cat "$work/shown")"
}

case $1 in
segments)
    hold_run leave
    holds 'backing 34, template 62 pages'
    hold_run pass
    holds 'backing 35, template 61 pages'
    hold_run stay
    ;;
*)
    hold_run "$1"
    ;;
esac
stop_dsmd
