#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# task_hop.sh HOPS: a task goes on in as many processes, each started by itself, and comes to the right result.
# shellcheck source=tests/e2e/hold_lib.sh
. "$(dirname "$0")/hold_lib.sh"
hold_setup task_hop
"$build/bin/dsmctl" keygen "$work/there" >/dev/null
chmod 0644 "$work/there.pub"
if [ "$(id -u)" -eq 0 ]; then
    chown nobody "$work/there"
fi
export TASK_KEY=$work/there TASK_CAPSULE=$HOLD_TALK/capsule
start_dsmd
hold_run start
for ((hop = 0; hop < $1; hop++)); do
    hold_run hop
done
hold_run refused
hold_run end
stop_dsmd
