#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# mpi.sh RANKS | unpinned: ranks with halo exchange, all on one dsmd, each with segments of its own. Where the buffers are not
# pinned, the message says which page, and what to do.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
[ -x "$build/bin/stencil_mpi" ] || skip "stencil_mpi was not built: needs MPI (Debian package libopenmpi-dev)"
command -v mpirun >/dev/null || skip "needs mpirun (Debian package openmpi-bin)"
make_keys
start_dsmd
# Unprivileged users need a home, and mpirun wants to be asked twice before it runs as root.
export HOME=$work OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 TMPDIR=$work
export DSM_SERVER=$server_address:$server_port DSM_KEY_FILE=$work/client.key
DSM_SERVER_KEY=$(cat "$work/server.key.pub")
export DSM_SERVER_KEY
[ "$(id -u)" -ne 0 ] || chown root "$work/client.key"

ranks() { # RANKS ARGUMENT...
    local count=$1
    shift
    say "mpirun -n $count stencil_mpi $*"
    timeout --kill-after=5 100 setpriv --pdeathsig TERM \
        mpirun --oversubscribe --mca btl_tcp_if_include lo -n "$count" "$build/bin/stencil_mpi" "$@" \
        >"$work/mpi.log" 2>&1 </dev/null
}

case $1 in
unpinned)
    if ranks 2 --unpinned; then
        fail "buffers that are not pinned went unnoticed: $(cat "$work/mpi.log")"
    fi
    sentence='is not pinned[a-z ]*: system calls and MPI do not bring pages in. Call dsm_swap_in with DSM_PIN'
    grep -q "$sentence" "$work/mpi.log" || fail "the message does not say what to do: $(cat "$work/mpi.log")"
    grep 'is not pinned' "$work/mpi.log"
    ;;
*)
    ranks "$1" || fail "exit $?: $(cat "$work/mpi.log")"
    cat "$work/mpi.log"
    grep -qw verified "$work/mpi.log" || fail "no rank said verified"
    [ -z "$("$build/bin/dsmctl" segments | tail -n +2)" ] || fail "segments are left"
    ;;
esac
stop_dsmd
