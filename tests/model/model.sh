#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# model.sh FIRST LAST OPERATIONS [OPTION...]: vm_model with the seeds FIRST to LAST, one after the other, on one dsmd. The seed that
# fails, and the command that runs it again, are in the output. By hand: tests/model/model.sh 1 1000 100000
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/../e2e/lib.sh"
first=$1
last=$2
operations=$3
shift 3
need_programs dsmd dsmctl vm_model
make_keys
start_dsmd
for ((seed = first; seed <= last; seed++)); do
    client 300 vm_model --seed "$seed" --operations "$operations" "$@" || fail "seed $seed: exit $?"
    grep -q "^seed $seed: as the model says\$" "$client_log" || fail "seed $seed did not say that all held"
done
stop_dsmd
echo "$(((last - first + 1) * operations)) operations"
