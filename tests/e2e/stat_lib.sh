# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the tests of dsmstat's probes need besides lib.sh.
#
#   need_probes                   skips where this machine cannot attach
#   start_subject COMMAND...      a program that prints "pid N", in $subject_pid (its own), $subject_log; waits until it has
#   watch ARG...                  dsmstat as root in the background, $watch_pid, $out, $err; waits until it is attached (--csv)
#   end_watch                     as by ^C; its exit code is 0
#   go | finish                   the subject may begin | may end
#   compare                       the last sums of $out are the counters that the subject printed; compare_soon: they come to be
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

out=$work/out
err=$work/err
flag=$work/go
subject_log=$work/subject.log
watch_pid=
subject_pid=

need_probes() {
    need_root "attaches probes"
    need_programs dsmstat
    local status=0
    timeout 60 "$build/bin/dsmstat" heat 0.1 1 >"$out" 2>"$err" || status=$?
    if [ $status -ne 0 ]; then
        skip "probes cannot be attached here: $(head -n 1 "$err")"
    fi
}

subject_speaks_or_ended() {
    grep -q '^pid ' "$subject_log" || ended "$subject_job"
}

start_subject() {
    : >"$subject_log"
    rm -f "$flag" "$flag.end"
    setpriv --pdeathsig KILL "$@" >"$subject_log" 2>&1 </dev/null &
    subject_job=$!
    pids+=("$subject_job")
    wait_until 30 subject_speaks_or_ended || fail "the program says nothing"
    subject_pid=$(sed -n 's/^pid //p' "$subject_log")
    [ -n "$subject_pid" ] || fail "the program ended: $(cat "$subject_log")"
}

begun_or_ended() {
    [ -s "$out" ] || ended "$watch_pid"
}

watch() {
    : >"$out"
    setpriv --pdeathsig KILL "$build/bin/dsmstat" --csv "$@" >"$out" 2>"$err" </dev/null &
    watch_pid=$!
    pids+=("$watch_pid")
    wait_until 30 begun_or_ended || fail "dsmstat does not begin: $(cat "$err")"
    alive "$watch_pid" || fail "dsmstat ended: $(cat "$out" "$err")"
}

end_watch() {
    local status=0
    kill -INT "$watch_pid"
    wait_until 20 ended "$watch_pid" || fail "dsmstat does not end"
    wait "$watch_pid" || status=$?
    [ $status -eq 0 ] || fail "dsmstat: exit $status: $(cat "$err")"
}

go() {
    : >"$flag"
    wait_until 120 subject_done || fail "the program is not done: $(cat "$subject_log")"
    grep -q '^end$' "$subject_log" || fail "the program failed: $(cat "$subject_log")"
}

subject_done() {
    grep -q '^end$' "$subject_log" || ended "$subject_job"
}

finish() {
    : >"$flag.end"
    wait "$subject_job" || fail "the program: exit $?: $(cat "$subject_log")"
}

same_counters() { # prints how many traps there were
    awk -F, -v pid="$subject_pid" '
        FNR == NR { if (split($0, word, " ") == 2) wanted[word[1]] = word[2]; next }
        FNR == 1 { for (i = 1; i <= NF; i++) name[i] = $i; next }
        $2 == pid { # of each group the last line, which is the latest
            last[$4 "," $5] = $0
        }
        END {
            for (group in last) {
                split(last[group], field, ",")
                for (i in name) sum[name[i]] += field[i]
            }
            for (i in name) {
                if (name[i] in wanted && name[i] != "pid") {
                    compared++
                    if (sum[name[i]] != wanted[name[i]]) {
                        printf "%s: the program counted %d, the kernel %d\n", name[i], wanted[name[i]], sum[name[i]]
                        wrong = 1
                    }
                }
            }
            printf "%d traps, %d counters are the same\n", sum["traps"], compared
            exit wrong || compared < 15
        }' "$subject_log" "$out" >"$work/compared"
}

compare() {
    same_counters || fail "the counters differ: $(cat "$work/compared"); dsmstat said: $(cat "$err")"
    cat "$work/compared"
}

compare_soon() { # while dsmstat still writes samples
    wait_until 60 same_counters || true
    compare
}
