# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the hostile tests need besides tests/e2e/lib.sh.
#
#   make_hostile_keys    good, stranger (not authorized), and one for each row of the authorized file below
#   begin_beside         pagecheck, a program linked with the library, which works and verifies until end_beside
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/lib.sh"
# shellcheck disable=SC2034 # for those that source this
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
need_programs dsmd dsmctl pagecheck
python3 -c 'import cryptography' 2>/dev/null || skip "needs python3-cryptography (deploy/install-packages test)"

make_hostile_keys() {
    make_keys
    local name
    for name in good stranger small few reader nocreate other; do
        "$build/bin/dsmctl" keygen "$work/$name.key" >/dev/null || fail "dsmctl keygen"
    done
    {
        cat "$work/authorized"
        echo "$(cat "$work/good.key.pub") good rights=create,read,write,migrate"
        echo "$(cat "$work/other.key.pub") other rights=create,read,write,migrate"
        echo "$(cat "$work/small.key.pub") small quota=64K prefix=small/"
        echo "$(cat "$work/few.key.pub") few connections=3"
        echo "$(cat "$work/reader.key.pub") good rights=read"
        echo "$(cat "$work/nocreate.key.pub") good rights=read,write"
    } >"$work/authorized.new"
    chmod 0600 "$work/authorized.new"
    mv "$work/authorized.new" "$work/authorized"
}

work_beside() {
    local runs=0
    wait_until 60 test -e "$work/beside.go" || exit 1
    until [ -e "$work/beside.stop" ]; do
        "${command[@]}" || exit 1
        runs=$((runs + 1))
        sleep 1
    done
    echo "$runs runs"
}

begin_beside() {
    export DSM_CACHE=1M
    client_command 120 pagecheck --threads 2 --ops 2000 --pages 300
    work_beside >"$work/beside.log" 2>&1 </dev/null &
    beside_pid=$!
    pids+=("$beside_pid")
}

# What it is at, and what it said: for a failure that it may be the reason of.
show_beside() {
    echo "--- the program beside:"
    cat "$work/beside.log"
    local task timeout
    timeout=$(pgrep -P "$beside_pid" | head -n 1)
    for task in $(pgrep -P "${timeout:-0}" -x pagecheck | sed 's,.*,/proc/&/task/*,'); do
        echo "$(cat "$task/comm"): $(cat "$task/wchan" 2>/dev/null) $(cat "$task/syscall" 2>/dev/null)"
    done
}

end_beside() {
    local status=0
    : >"$work/beside.stop" # the cases have said so already, unless they have failed
    wait "$beside_pid" || status=$?
    [ $status -eq 0 ] || { cat "$work/beside.log"; fail "the program beside came to harm: exit $status"; }
    say "the program beside: $(tail -n 1 "$work/beside.log"), all verified"
}
