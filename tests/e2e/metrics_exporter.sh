#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# dsm_exporter: a program's counters are those that the library tells, while it lives and after its end; a second run adds to
# them; what was done before it looked does not count; other users' programs are seen by those alone who may.
# In a space of process numbers of its own: the exporter shows every program of a user, other tests' too.
if [ "$(id -u)" -eq 0 ] && [ -z "${DSM_TEST_ALONE:-}" ]; then
    DSM_TEST_ALONE=$$ exec unshare --pid --fork --kill-child --mount-proc "$0" "$@"
fi
# shellcheck source=tests/e2e/metrics_lib.sh
. "$(dirname "$0")/metrics_lib.sh"
need_programs dsmd dsmctl dsm_exporter tools_client
make_keys
start_dsmd --capacity 256M
user=$(id -un)
[ "$(id -u)" -ne 0 ] || user=nobody
group="{program=\"tools_client\",user=\"$user\"}"

start_exporter() { # LOG SETPRIV-OPTION... -- OPTION...
    local log=$1 before=()
    shift
    while [ "$1" != -- ]; do
        before+=("$1")
        shift
    done
    setpriv --pdeathsig KILL "${before[@]}" "$client_bin/dsm_exporter" --listen 0 "${@:2}" >"$log" 2>&1 </dev/null &
    exporter_pid=$!
    pids+=("$exporter_pid")
    wait_until 20 grep -qs 'serves /metrics' "$log" || fail "dsm_exporter says: $(cat "$log")"
    metrics_port "$log"
}

end_exporter() {
    local status=0
    kill -TERM "$exporter_pid"
    wait "$exporter_pid" || status=$?
    [ $status -eq 0 ] || fail "dsm_exporter ended with $status"
}

# counters_are FACTOR BLOCK: those of the program's output, which has them in the order of --list, and more behind
counters_are() {
    local name number sample type found seen=0
    while read -r name number sample type; do
        found=$(value "$sample$group")
        counter_is "$name" $((number * $1)) "$found" || fail "$sample is \"$found\", not $((number * $1))"
        grep -qx "# TYPE $sample $type" "$page" || fail "$sample is no $type"
        case $sample in
        dsm_"$name" | dsm_"$name"_total | *_bytes | *_bytes_total | *_seconds_total) ;;
        *) fail "$sample is served for $name" ;;
        esac
        seen=$((seen + 1))
    done < <(awk -v block="$2" '/^end$/ { inside = 0 } inside == block { print } /^counters$/ { inside = ++blocks }' "$client_log" |
        head -n "$(wc -l <"$work/counters")" | paste -d ' ' - "$work/counters")
    [ $seen -ge 40 ] || fail "only $seen counters were compared"
}

"$build/bin/dsm_exporter" --list >"$work/list"
awk -F '\t' '$1 == "dsm_swap_in_calls_total" { inside = 1 } inside { print $1, $2 }' "$work/list" >"$work/counters"
start_manager

told() { # LINE; where it was built without libsystemd, nothing is
    ! grep -q libsystemd <<<"$libraries" || wait_until 20 grep -qx "$1" "$work/told"
}
libraries=$(ldd "$build/bin/dsm_exporter")

export NOTIFY_SOCKET=$work/manager
start_exporter "$work/exporter.log" -- --interval 1
told READY=1 || fail "readiness is not told"
unset NOTIFY_SOCKET
grep -q 'serves /metrics on 127.0.0.1:' "$work/exporter.log" || fail "not on loopback: $(cat "$work/exporter.log")"
start_program
sleep 1.1 # a look is fresh for a second
scrape
counters_are 1 1
is "dsm_fault_duration_seconds_count$group" "$(sed -n 's/^faults //p' "$client_log" | head -n 1)"
is "dsm_processes$group" 1
is "dsm_sessions_total$group" 1
is "dsm_cache_bytes$group" $((4 << 20))
awk -v ns="$(sed -n 's/^total_ns //p' "$client_log" | head -n 1)" -v sample="dsm_fault_duration_seconds_sum$group" \
    '$1 == sample { d = $2 - ns / 1e9; found = 1; exit } END { exit !(found && d < 1e-9 && d > -1e-9) }' "$page" ||
    fail "the sum of the faults' times"
if command -v promtool >/dev/null; then
    promtool check metrics <"$page" >"$out" 2>&1 || fail "promtool: $(cat "$out")"
    [ ! -s "$out" ] || fail "promtool says: $(cat "$out")"
fi

say "the program ends; another one like it comes"
first=$(value "dsm_swap_in_calls_total$group")
end_program
calls=$(awk '$1 == "swap_in_calls" { n = $2 } END { print n }' "$client_log") # of its last word
sleep 1.1
scrape
is "dsm_processes$group" 0
is "dsm_resident_bytes$group" 0
is "dsm_swap_in_calls_total$group" "$calls"
[ "$calls" -ge "$first" ] || fail "$first calls while it worked, $calls at its end"
start_program
sleep 1.1
scrape
more=$(sed -n 's/^swap_in_calls //p' "$client_log")
is "dsm_swap_in_calls_total$group" $((calls + more))
is "dsm_sessions_total$group" 2
end_exporter
told STOPPING=1 || fail "a stop is not told"

say "one that is started later; one for each process; one that may not look"
start_exporter "$work/late.log" -- --by-process
sleep 1.1
scrape
late="{program=\"tools_client\",user=\"$user\",pid=\"$program_pid\"}"
is "dsm_swap_in_calls_total$late" 0
is "dsm_processes$late" 1
end_exporter
if [ "$(id -u)" -eq 0 ]; then
    start_exporter "$work/other.log" --reuid=daemon --regid=daemon --clear-groups --
    grep -q "sees this user's programs alone" "$work/other.log" || fail "does not say what it cannot see"
    scrape
    is dsm_exporter_sees_all_users 0
    [ -z "$(value "dsm_processes$group")" ] || fail "sees another user's program"
    end_exporter
    start_exporter "$work/able.log" --reuid=daemon --regid=daemon --clear-groups \
        --inh-caps=+sys_ptrace,+dac_read_search --ambient-caps=+sys_ptrace,+dac_read_search --
    scrape
    is dsm_exporter_sees_all_users 1
    is "dsm_processes$group" 1
    end_exporter
fi
end_program

while IFS=$'\t' read -r name type _; do
    grep -qx "# TYPE $name $type" "$page" || fail "--list has $name, the page has not"
done <"$work/list"
for options in '--listen localhost' '--limit 0' '--limit 513' '--interval x' extra; do
    status=0
    # shellcheck disable=SC2086 # into words
    timeout 20 "$build/bin/dsm_exporter" $options >"$out" 2>&1 || status=$?
    [ $status -eq 1 ] || [ $status -eq 2 ] || fail "$options: exit $status"
    [ -s "$out" ] || fail "$options: says nothing"
done
