#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# stat_why.sh nothing|server|wire|wake|crowd: that part of every fault's time is made long, and dsmstat why names it. With nothing
# made long, and always else, the parts of a fault at the median come to nine tenths at least of what the program itself measured.
# Threads without a processor are a long "wake" where another thread fetches for them; where they fetch for themselves (crowd), no
# part is theirs alone, and only the verdict names it.
# shellcheck source=tests/e2e/stat_lib.sh
. "$(dirname "$0")/stat_lib.sh"
need_probes
need_programs dsmd dsmctl stat_exact
slow=$1
pages=150
mode=measure

make_keys
case $slow in
server)
    store=$work/store # in a file system: what lies in memory is not read
    mkdir -m 0700 "$store"
    [ "$(stat -f -c %T "$store")" != tmpfs ] || skip "$work is in memory"
    LD_PRELOAD=$build/lib/libstat_slow.so start_dsmd
    ;;
wire)
    command -v python3 >/dev/null || skip "needs python3"
    start_dsmd
    setpriv --pdeathsig KILL "$e2e_root/tests/e2e/stat_proxy.py" "$server_port" 2 >"$work/proxy" &
    pids+=("$!")
    wait_until 20 test -s "$work/proxy" || fail "the proxy does not begin"
    server_port=$(cat "$work/proxy")
    ;;
wake | crowd)
    if [ "$slow" = wake ]; then
        export DSM_DIRECT=off
    fi
    start_dsmd
    pages=10
    mode=idle
    ;;
*)
    start_dsmd
    pages=3000
    ;;
esac

client_command 120 stat_exact "$flag" 0 $pages $mode
field() {
    awk -F, -v name="$1" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) at = i } NR == 2 { print $at }' "$out"
}
explained() { # prints how much
    local p50
    p50=$(sed -n 's/^p50_ns //p' "$subject_log")
    awk -F, -v p50="$p50" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i ~ /^at_p50_/ && $i !~ /_(faults|whole_ns|ready_ns)$/) part[i] = 1 }
        NR == 2 { for (i in part) sum += $i
            printf "the parts at the median: %.0f ns; what the program measured: %d ns\n", sum, p50
            exit !(sum >= 0.9 * p50) }' "$out"
}
crowded() { # whether what was to be long was long: no machine that takes its processors away has made something else longer
    awk '{ of[$1] = $2 } END { printf "of %.0f ns in faults, %.0f without a processor\n", of["whole_ns"], of["ready_ns"]
        exit !(of["ready_ns"] >= 0.6 * of["whole_ns"]) }' "$subject_log"
}
as_arranged() {
    case $mode in
    measure) explained ;;
    idle) crowded ;;
    esac
}

for attempt in {1..10}; do # what else runs here may come between the two clocks, or between the threads and their processor
    start_subject "${command[@]}"
    watch why 100 1 --pid "$subject_pid"
    go
    end_watch
    finish
    cat "$out"
    if as_arranged; then
        break
    fi
    [ "$attempt" -lt 10 ] || fail "not once in $attempt times"
done
[ "$(field mean_faults)" -ge $((pages - 1)) ] || fail "faults: $(field mean_faults)"
case $slow in
nothing) ;;
crowd) [ "$(field verdict)" = scheduling ] || fail "the verdict is $(field verdict)" ;;
wake) [ "$(field part) $(field verdict)" = "wake scheduling" ] || fail "the part named is $(field part), the verdict $(field verdict)" ;;
*) [ "$(field part)" = "$slow" ] || fail "the part named is $(field part)" ;;
esac
stop_dsmd
