#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# task_agents.sh: "dsmctl migrate" sends a solver round three hosts, each a network namespace with a "dsmctl agent", six times, and the
# result is right. What must be refused is refused with its reason, and the task has not stopped.
# shellcheck source=tests/e2e/task_lib.sh
. "$(dirname "$0")/task_lib.sh"
need_programs dsmd dsmctl solver task_hop_other
make_keys
key=$(cut -d' ' -f1 "$work/client.key.pub")
echo "$key tester rights=create,read,write,migrate" >"$work/authorized"
make_hosts 3
start_dsmd

for name in stranger reader; do
    "$build/bin/dsmctl" keygen "$work/$name.key" >/dev/null
    chown nobody "$work/$name.key"
done
"$build/bin/dsmctl" keygen "$work/agent.key" >/dev/null
agent_key=$(cat "$work/agent.key.pub")
chmod 0600 "$work/authorized"
"$build/bin/dsmctl" authorize "$work/movers" "$work/client.key.pub" tester rights=migrate
"$build/bin/dsmctl" authorize "$work/movers" "$work/reader.key.pub" reader rights=read

# The programs that agents start outlive them.
end_tasks() {
    local status=$? pid
    set +e
    while read -r pid; do
        if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = solver ]; then
            kill -KILL "$pid"
        fi
    done < <(sed -n 's/.*goes on here: .*, process \([0-9]*\)$/\1/p' "$work"/*.log)
    (exit $status)
    e2e_end
}
trap end_tasks EXIT

# agent HOST PORT NAME LINE...: a service with these further lines in its configuration; its log is $work/NAME.log
agent() {
    local host=$1 port=$2 name=$3
    shift 3
    {
        printf '%s = %s\n' listen "192.0.2.1$host:$port" key "$work/agent.key" authorized "$work/movers" user nobody \
            environment "DSM_CONFIG=" environment "DSM_SERVER_KEY=$(cat "$work/server.key.pub")" \
            environment "DSM_KEY_FILE=$work/client.key" environment "LD_LIBRARY_PATH=$client_library"
        printf '%s\n' "$@"
    } >"$work/$name.conf"
    "$build/bin/dsmctl" agent --config "$work/$name.conf" --check || fail "$name: the configuration is not good"
    : >"$work/$name.ready"
    on_host "$host" setpriv --pdeathsig KILL "$build/bin/dsmctl" agent --config "$work/$name.conf" --ready-fd 9 \
        9>"$work/$name.ready" >>"$work/$name.log" 2>&1 </dev/null &
    pids+=($!)
    wait_until 60 test -s "$work/$name.ready" || fail "$name does not start: $(cat "$work/$name.log")"
    echo "$name 192.0.2.1$host:$port $agent_key" >>"$work/hosts"
}
solver="binaries = $client_bin/solver"
server="environment = DSM_SERVER=$server_address:$server_port"
for host in 1 2 3; do
    agent $host 7415 host$host "$solver" "$server" "tasks = 4"
done
agent 2 7416 other "binaries = $client_bin/task_hop_other" "$server"
agent 2 7417 small "$solver" "$server" "tasks = 1"
agent 2 7418 lonely "$solver" "environment = DSM_SERVER=$server_address:9"
{
    echo "nobody 192.0.2.12:7499 $agent_key"
    echo "false 192.0.2.12 $(cat "$work/server.key.pub")"
    echo "server $server_address:$server_port $(cat "$work/server.key.pub")"
} >>"$work/hosts"

# migrate HOST PROGRAM TO [OPTION...]: from that host; what is said is in $work/said
migrate() {
    local host=$1 program=$2 to=$3
    shift 3
    host_command 60 dsmctl migrate "$program" "$to" --hosts "$work/hosts" "$@"
    on_host "$host" "${command[@]}" >"$work/said" 2>&1
}

refused() { # WORDS PROGRAM TO [OPTION...]: from host 1
    local words=$1
    shift
    if migrate 1 "$@"; then
        fail "$*: was not refused"
    fi
    grep -q "$words" "$work/said" || fail "$*: no word of \"$words\": $(cat "$work/said")"
    say "refused: $(cat "$work/said")"
}

solving() { # HOST TASK OPTION...: a solver, whose output is in $work/TASK.log
    local host=$1 task=$2
    shift 2
    host_command 120 solver --name "$task" "$@"
    on_host "$host" "${command[@]}" >"$work/$task.log" 2>&1 </dev/null &
    solver_pid=$!
    pids+=("$solver_pid")
}
movable() { # HOST COUNT
    [ "$(on_host "$1" grep -c ' @dsm-task-' /proc/net/unix)" -ge "$2" ]
}

solving 1 solver --sweeps 100 --moves 6
wait_until 20 movable 1 1 || fail "the task is not movable: $(cat "$work/solver.log")"
refused 'no task "nothing".*solver (' nothing host2
refused 'no task "1"' 1 host2
refused 'no host "host9"' solver host9
refused 'Connection refused' solver nobody
refused "is that the agent's key" solver false
refused 'This is a memory server' solver server
refused 'has no program of build id' solver other
refused 'ended before it took the task (exit status 1)' solver lonely
grep -q 'solver: no session' "$work/lonely.log" || fail "what the program said is not in the log"
mv "$work/client.key" "$work/mover.key"
for name in stranger reader; do
    cp -p "$work/$name.key" "$work/client.key"
    case $name in
    stranger) refused "not in the agent's authorized file" solver host2 ;;
    reader) refused 'no right to migrate' solver host2 ;;
    esac
done
mv "$work/mover.key" "$work/client.key"
setpriv --reuid=daemon --regid=daemon --clear-groups true 2>/dev/null && {
    saved=("${as_nobody[@]}")
    as_nobody=(setpriv --reuid=daemon --regid=daemon --clear-groups)
    refused 'no task "solver"' solver host2
    as_nobody=("${saved[@]}")
}
alive "$solver_pid" || fail "the solver has ended: $(cat "$work/solver.log")"

# The first task that comes fills it.
solving 1 filler --moves 9
wait_until 20 movable 1 2 || fail "the second task is not movable"
migrate 1 filler small || fail "the second task does not move: $(cat "$work/said")"
refused 'This host is full' solver small

# Where it has arrived it says after a moment that it is movable again.
answered() { # HOST PROGRAM TO [OPTION...]: in $answer
    answer=0
    migrate "$@" || answer=$?
    [ $answer -eq 0 ] || ! grep -q 'There is no task' "$work/said"
}
here=1
for next in 2 3 1 2 3 1; do
    options=()
    if [ $here -eq 3 ]; then
        options=(--json)
    fi
    wait_until 60 answered $here solver host$next "${options[@]}" || fail "the task does not become movable: $(cat "$work/said")"
    [ "$answer" -eq 0 ] || fail "from $here to $next: $(cat "$work/said")"
    say "$(tr -s ' \n' ' ' <"$work/said")"
    if [ $here -eq 3 ]; then
        grep -q '"outcome": "moved"' "$work/said" || fail "no JSON: $(cat "$work/said")"
    fi
    here=$next
done
wait "$solver_pid" || fail "the first process ended with $?"
verified() {
    grep -q "verified$" "$work/host1.log"
}
wait_until 60 verified || fail "the result is not verified: $(cat "$work/host1.log")"
cat "$work/host1.log"
