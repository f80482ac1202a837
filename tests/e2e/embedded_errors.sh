#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# When no server is named and none of the program's own is right either, the message says what to do.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs dsmd e2e_embedded
export LD_LIBRARY_PATH=$client_library DSM_CONFIG=

says() { # PATTERN [VARIABLE=VALUE...]
    local out pattern=$1
    shift
    out=$(env "$@" timeout 60 "$client_bin/e2e_embedded" failure 2>&1) || fail "$*: exit $?: $out"
    say "$* -> $out"
    grep -qE -- "$pattern" <<<"$out" || fail "$*: it should say '$pattern'"
}

for variable in SLURM_JOB_ID PBS_JOBID LSB_JOBID OMPI_COMM_WORLD_SIZE PMI_SIZE; do
    says "^error -22: .*batch job \($variable is set\).*DSM_SERVER=embedded" "$variable=7"
done
says '^error 0:' SLURM_JOB_ID=7 DSM_SERVER=embedded
says '^error 0:' DSM_FAULT_TIMEOUT=30000
says '^error -22: DSM_KEY_FILE is set, but DSM_SERVER is not' "DSM_KEY_FILE=$work/none"
says '^error -2: DSM_DSMD is /nowhere/dsmd' DSM_DSMD=/nowhere/dsmd
says '^error -[0-9]+: .*ended at its start' DSM_DSMD=/bin/false
says '^error -28: .*no room' DSM_EMBEDDED_SIZE=16M
says '^error -[0-9]+: The embedded server could not start: .*lower the capacity' DSM_EMBEDDED_SIZE=8T
