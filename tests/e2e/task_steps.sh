#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# task_steps.sh WHAT ROUNDS: see task_steps.py.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs dsmd dsmctl task_steps
command -v python3 >/dev/null || skip "needs python3"
for name in server.key client.key there; do
    "$build/bin/dsmctl" keygen "$work/$name" >/dev/null
done
"$build/bin/dsmctl" authorize "$work/authorized" "$work/client.key.pub" tester rights=create,read,write,migrate
export STEPS_WORK=$work STEPS_STORE=$store STEPS_BIN=$build/bin STEPS_PROGRAM=$build/bin/task_steps
export STEPS_SOURCE=$e2e_root/libdsm/migrate/steps.h
setpriv --pdeathsig TERM python3 "$e2e_root/tests/e2e/task_steps.py" "$@" &
pids+=($!)
wait $!
