#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# task_ends.sh BEHAVIOUR: a program whose tasks end, on one dsmd.
# shellcheck source=tests/e2e/hold_lib.sh
. "$(dirname "$0")/hold_lib.sh"
hold_setup task_ends
"$build/bin/dsmctl" keygen "$work/there" >/dev/null
if [ "$(id -u)" -eq 0 ]; then
    chown nobody "$work/there"
fi
export TASK_KEY=$work/there TASK_PUBLIC_KEY=$work/there.pub
key=$(cut -d' ' -f1 "$work/client.key.pub")
echo "$key tester rights=create,read,write,migrate" >"$work/authorized"
start_dsmd
hold_run "$1"
stop_dsmd
