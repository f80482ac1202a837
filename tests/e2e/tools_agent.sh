#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Nobody reads what "dsmctl agent" says: it refuses whom it refused before, and ends when it is told to. And whoever started it with
# the signal ignored that children have ended: it hears of them. And without a descriptor for who comes it rests.
# shellcheck source=tests/e2e/tools_lib.sh
. "$(dirname "$0")/tools_lib.sh"
need_programs dsmctl
make_keys
printf '%s = %s\n' listen 127.0.0.1:0 key "$work/server.key" authorized "$work/authorized" \
    binaries "$client_bin/dsmctl" >"$work/agent.conf"
[ "$(id -u)" -ne 0 ] || echo 'user = nobody' >>"$work/agent.conf"

agent_ready_or_ended() {
    [ -s "$work/ready" ] || ended "$agent_pid"
}

mkfifo "$work/log"
exec 8<>"$work/log" # held open, and not read
: >"$work/ready"
setpriv --pdeathsig KILL env --ignore-signal=CHLD "$build/bin/dsmctl" agent --config "$work/agent.conf" --ready-fd 9 \
    9>"$work/ready" 2>"$work/log" 8>&- </dev/null &
agent_pid=$!
pids+=("$agent_pid")
wait_until 60 agent_ready_or_ended || fail "the agent says nothing for 60 s"
alive "$agent_pid" || fail "the agent ended at start: $(timeout 1 cat <&8)"
server_port=$(sed -n 's/^READY \([0-9]*\) .*/\1/p' "$work/ready")
[ -n "$server_port" ] || fail "the agent told no port: $(cat "$work/ready")"

ignored=$(awk '/^SigIgn:/ { print $2 }' "/proc/$agent_pid/status")
[ $((0x$ignored & 1 << 16)) -eq 0 ] || fail "SIGCHLD is ignored: tasks would be counted for ever"

# Who comes is one too many, and stays where it is; 100 ticks are a second of a processor.
ticks() {
    sed 's/.*) //' "/proc/$agent_pid/stat" | awk '{ print $12 + $13 }'
}
limit=$(prlimit --pid "$agent_pid" --nofile --output SOFT --noheadings)
next=0
while [ -L "/proc/$agent_pid/fd/$next" ]; do
    next=$((next + 1))
done
prlimit --pid "$agent_pid" --nofile="$next":
exec {silent}<>"/dev/tcp/127.0.0.1/$server_port"
before=$(ticks)
sleep 2
used=$(($(ticks) - before))
[ $used -lt 30 ] || fail "without a descriptor to accept with the agent ran for $used ticks of 200"
exec {silent}>&-
prlimit --pid "$agent_pid" --nofile="${limit// /}":

if dd if=/dev/zero of="$work/log" oflag=nonblock bs=4096 2>"$work/filled"; then
    fail "the pipe is never full"
fi
grep -q 'temporarily unavailable' "$work/filled" || fail "the pipe is not full: $(cat "$work/filled")"
tool dsmctl ping # is refused: a line for the log
kill -TERM "$agent_pid"
wait_until 20 ended "$agent_pid" || fail "the agent does not end: its log is full, ping: $(cat "$err")"
wait "$agent_pid" || fail "the agent ended with code $?"
grep -q "This is a host's agent" "$err" || fail "ping was told: $(cat "$err")"
