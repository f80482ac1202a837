# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The harness of the end-to-end tests: real processes, real sockets, network namespaces of our own. A test sources it,
# asks for what it needs, and says one behaviour. What it starts ends with it: by pid, in the EXIT trap, however
# the test ends. Every wait has a time-out. A machine that lacks something skips the test (exit 77) and says why.
#
#   make_keys                       a server's and a client's key, and the authorized file
#   make_namespaces                 from here on dsmd and client live in two namespaces joined by a veth pair
#   start_dsmd [OPTION...]          on $store; the second time on the same port
#   stop_dsmd | kill_dsmd           SIGTERM and an orderly end | SIGKILL
#   client SECONDS PROGRAM ARG...   as an unprivileged user (when we are root), output into $client_log as well
#   start_client SECONDS PROGRAM..  the same in the background, in $client_pid; wait_client takes its exit code
#   wait_until SECONDS COMMAND...   polls; fails when the time is over
#   has_segment                     the server has one, or the client has ended
#   bpftrace_holds PID LOG          all of its probes are attached
#   start_manager                   a stand-in for the service manager at $work/manager; what it is told: $work/told
#   fail TEXT | skip TEXT
#
# From the environment: DSM_BUILD (the build directory), DSM_FAULT_LANES.
set -euo pipefail
export LC_ALL=C

e2e_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$(realpath "${DSM_BUILD:-$e2e_root/build}")
[ -d "$build/bin" ] || { echo "$build/bin does not exist: build first"; exit 1; }
unset DSM_SERVER DSM_SERVER_KEY DSM_KEY_FILE DSM_CLUSTER DSM_CACHE
export DSM_CONFIG='' # what this machine is configured for is not tested

dsmd_pid=
client_pid=
server_port=0
server_address=127.0.0.1
server_namespace=
client_namespace=
in_server=() # begins a command that is to be run where dsmd is
pids=() # of every process that this test started

say() {
    printf '%s %s\n' "$(date +%T.%3N)" "$*"
}

skip() {
    echo "SKIPPED: $*"
    exit 77
}

fail() {
    echo "FAILED: $*"
    exit 1
}

need_root() {
    [ "$(id -u)" -eq 0 ] || skip "needs root: $*"
}

need_programs() {
    local program
    for program in "$@"; do
        [ -x "$build/bin/$program" ] || fail "$build/bin/$program is not built"
    done
}

wait_until() { # SECONDS COMMAND...
    local end=$((SECONDS + $1 + 1))
    shift
    until "$@"; do
        if [ $SECONDS -ge $end ]; then
            return 1
        fi
        sleep 0.05
    done
}

alive() { # PID: a child that has not ended (a zombie has)
    local state
    state=$(awk '/^State:/ { print $2 }' "/proc/$1/status" 2>/dev/null) && [ -n "$state" ] && [ "$state" != Z ]
}

ended() {
    ! alive "$1"
}

end_process() { # PID SECONDS: SIGTERM, after the time SIGKILL
    if alive "$1"; then
        kill -TERM "$1" 2>/dev/null || true
        wait_until "$2" ended "$1" || kill -KILL "$1" 2>/dev/null || true
    fi
    wait "$1" 2>/dev/null || true
}

e2e_end() {
    local status=$? pid namespace
    trap - EXIT INT TERM
    set +e
    for pid in "${pids[@]}"; do
        end_process "$pid" 8
    done
    for namespace in $client_namespace $server_namespace; do
        ip netns del "$namespace" 2>/dev/null
    done
    if [ $status -ne 0 ] && [ $status -ne 77 ] && [ -d "$work" ]; then
        echo "--- end of dsmd's log:"
        tail -n 40 "$work/dsmd.log" 2>/dev/null
    fi
    rm -rf "$work" "$store_parent"
    exit $status
}

# What a test left that was killed by SIGKILL: named by the pid of a process that is gone.
clear_stale() {
    local path pid
    for path in "${TMPDIR:-/tmp}"/dsm-test-* /dev/shm/dsm-test-* /run/netns/dsm-[sc]-*; do
        pid=$(sed -nE 's/^(dsm-test|dsm-s|dsm-c)-([0-9]+)(\..*)?$/\2/p' <<<"${path##*/}")
        if [ -n "$pid" ] && [ ! -d "/proc/$pid" ] && [ -O "$path" ]; then
            case $path in
            /run/netns/*) ip netns del "${path##*/}" 2>/dev/null || true ;;
            *) rm -rf "$path" ;;
            esac
        fi
    done
}

# The service manager's end of the socket, $work/manager: every message into $work/told, line by line.
start_manager() {
    cat >"$work/manager.py" <<'END'
import socket, sys
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.bind(sys.argv[1])
with open(sys.argv[2], "a", buffering=1) as told:
    while True:
        told.write(manager.recv(4096).decode() + "\n")
END
    : >"$work/told"
    setpriv --pdeathsig TERM python3 "$work/manager.py" "$work/manager" "$work/told" &
    pids+=($!)
    wait_until 20 test -S "$work/manager" || fail "the stand-in of the service manager does not start"
}

# The store lies in memory where there is room for it.
roomy_directory() {
    local free
    free=$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1)
    if [ "${free:-0}" -gt $((2 << 20)) ] && [ -w /dev/shm ]; then
        mktemp -d -p /dev/shm "dsm-test-$test_pid.XXXXXX"
    else
        mktemp -d -t "dsm-test-$test_pid.XXXXXX"
    fi
}

# In a space of process numbers of its own a test cannot tell who is gone; its own number outside is DSM_TEST_ALONE.
test_pid=${DSM_TEST_ALONE:-$$}
if [ -z "${DSM_TEST_ALONE:-}" ]; then
    clear_stale
fi
work=$(mktemp -d -t "dsm-test-$test_pid.XXXXXX")
store_parent=$(roomy_directory)
store=$store_parent/store
client_log=$work/client.log
trap e2e_end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
chmod 0755 "$work"
mkdir -m 0700 "$store"

make_keys() {
    local dsmctl=$build/bin/dsmctl
    "$dsmctl" keygen "$work/server.key" >/dev/null || fail "dsmctl keygen"
    "$dsmctl" keygen "$work/client.key" >/dev/null || fail "dsmctl keygen"
    "$dsmctl" authorize "$work/authorized" "$(cat "$work/client.key.pub")" tester >/dev/null ||
        fail "dsmctl authorize"
    if [ "$(id -u)" -eq 0 ]; then
        chown nobody "$work/client.key"
    fi
}

make_namespaces() {
    need_root "makes network namespaces"
    command -v ip >/dev/null || skip "needs ip (Debian package iproute2)"
    # Known to the EXIT trap from the moment they may exist.
    server_namespace=dsm-s-$$
    ip netns add "$server_namespace" 2>"$work/ip.log" ||
        skip "cannot make a network namespace: $(head -n 1 "$work/ip.log")"
    in_server=(ip netns exec "$server_namespace")
    client_namespace=dsm-c-$$
    ip netns add "$client_namespace"
    ip link add ds$$ netns "$server_namespace" type veth peer name dc$$ netns "$client_namespace" \
        2>"$work/ip.log" || skip "cannot make a veth pair: $(head -n 1 "$work/ip.log")"
    server_address=192.0.2.1
    ip -n "$server_namespace" addr add $server_address/24 dev ds$$
    ip -n "$client_namespace" addr add 192.0.2.2/24 dev dc$$
    ip -n "$server_namespace" link set lo up
    ip -n "$client_namespace" link set lo up
    ip -n "$server_namespace" link set ds$$ up
    ip -n "$client_namespace" link set dc$$ up
}

# With the filter on system calls in every thread, unless it was made for a sanitizer or told otherwise; without capabilities.
in_sandbox() { # OPTION...
    local status
    status=$(cat /proc/"$dsmd_pid"/task/*/status)
    ! grep -qE '^Cap(Prm|Eff|Inh|Amb):.*[1-9a-f]' <<<"$status" || return 1
    [[ " $* " == *" --seccomp "* ]] || grep -q 'lib[at]san' "/proc/$dsmd_pid/maps" ||
        ! grep -E '^(Seccomp|NoNewPrivs):' <<<"$status" | grep -qvE '^(Seccomp:.2|NoNewPrivs:.1)$'
}

dsmd_ready_or_ended() {
    [ -s "$work/ready" ] || ended "$dsmd_pid"
}

start_dsmd() {
    : >"$work/ready"
    # Should the test be killed, the kernel ends dsmd.
    "${in_server[@]}" setpriv --pdeathsig KILL "$build/bin/dsmd" --listen "$server_address:$server_port" --store "$store" \
        --key "$work/server.key" --authorized "$work/authorized" --config '' --ready-fd 9 "$@" \
        9>"$work/ready" >>"$work/dsmd.log" 2>&1 </dev/null &
    dsmd_pid=$!
    pids+=("$dsmd_pid")
    wait_until 60 dsmd_ready_or_ended || fail "dsmd says nothing for 60 s"
    alive "$dsmd_pid" || fail "dsmd ended at start"
    in_sandbox "$@" || fail "dsmd serves without its filter, or with capabilities"
    server_port=$(sed -n 's/.*:\([0-9][0-9]*\).*/\1/p' "$work/ready" | head -n 1)
    [ -n "$server_port" ] || fail "dsmd told no port: $(cat "$work/ready")"
}

stop_dsmd() {
    local status=0
    kill -TERM "$dsmd_pid"
    wait_until 60 ended "$dsmd_pid" || fail "dsmd does not end within 60 s of SIGTERM"
    wait "$dsmd_pid" || status=$?
    [ $status -eq 0 ] || fail "dsmd ended with code $status"
}

kill_dsmd() {
    alive "$dsmd_pid" || fail "dsmd ended by itself"
    kill -KILL "$dsmd_pid"
    wait "$dsmd_pid" 2>/dev/null || true
}

has_segment() {
    [ -n "$(ls "$store/segments" 2>/dev/null)" ] || ended "$client_pid"
}

# It says how many it attaches before it has. Of its descriptors of perf events those that it polls carry its output, and each of
# the others is a probe; it sleeps when it has made the last one work.
bpftrace_holds() { # PID LOG
    local wanted events polled
    wanted=$(sed -n 's/^Attaching \([0-9][0-9]*\) probes*\.\.\.$/\1/p' "$2")
    events=$(find "/proc/$1/fd" -lname 'anon_inode:\[perf_event\]' 2>/dev/null | wc -l)
    polled=$(cat "/proc/$1/fdinfo/"* 2>/dev/null | grep -c '^tfd:') || true
    [ -n "$wanted" ] && [ $((events - polled)) -ge "$wanted" ] && grep -q '^State:.S' "/proc/$1/status"
}

# The unprivileged user may be shut out of the folder that the tree lies in: then it gets copies.
client_bin=$build/bin
client_library=$build/lib
as_nobody=()
if [ "$(id -u)" -eq 0 ]; then
    as_nobody=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
    if ! "${as_nobody[@]}" test -r "$build/bin/." -a -x "$build/bin/."; then
        client_bin=$work/bin
        client_library=$work/lib
        cp -a "$build/bin" "$client_bin"
        cp -a "$build/lib" "$client_library"
    fi
fi

client_command() { # SECONDS PROGRAM ARG...: sets $command
    local seconds=$1 program=$2
    shift 2
    # DSM_CONFIG: no file of this machine has a say.
    command=(env "DSM_CONFIG=" "DSM_SERVER=$server_address:$server_port" "DSM_SERVER_KEY=$(cat "$work/server.key.pub")"
        "DSM_KEY_FILE=$work/client.key" "LD_LIBRARY_PATH=$client_library"
        setpriv --pdeathsig TERM timeout --kill-after=5 "$seconds" "${as_nobody[@]}" "$client_bin/$program" "$@")
    if [ -n "$client_namespace" ]; then
        command=(ip netns exec "$client_namespace" "${command[@]}")
    fi
}

client() {
    start_client "$@"
    wait_client
}

start_client() {
    client_command "$@"
    say "${*:2}"
    : >"$client_log"
    "${command[@]}" >"$client_log" 2>&1 </dev/null &
    client_pid=$!
    pids+=("$client_pid")
}

wait_client() { # the time-out is timeout(1)'s
    local status=0
    wait "$client_pid" || status=$?
    cat "$client_log"
    if [ $status -eq 124 ] || [ $status -eq 137 ]; then
        fail "the client was not done in time"
    fi
    if [ $status -ne 0 ] && [[ "${DSM_TRAP:-}" == uffd* ]] && grep -q 'DSM_TRAP=uffd: .* is refused here' "$client_log"; then
        skip "this kernel has no userfaultfd for shared memory"
    fi
    return $status
}
