#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# dsmstat killed at any moment, or the process that attaches for it: nothing stays attached, no program and no map in the kernel,
# no semaphore raised in the program, and the terminal is as it was.
# shellcheck source=tests/e2e/stat_lib.sh
. "$(dirname "$0")/stat_lib.sh"
need_probes
bpftool=$(PATH=$PATH:/usr/sbin command -v bpftool) || skip "needs bpftool"

begin() { # WORD: dsmstat in $victim
    : >"$out"
    "$build/bin/dsmstat" "$1" --csv -p "$subject_pid" 0.1 >"$out" 2>"$err" </dev/null &
    victim=$!
    pids+=("$victim")
}

has_child() {
    child=$(pgrep -P "$victim") || ended "$victim"
}

# "prog 12", "map 13", "link 14": what the process has of the kernel's BPF objects.
held() { # PID
    cat "/proc/$1/fdinfo/"* 2>/dev/null | sed -nE 's/^(prog|map|link)_id:\s*([0-9]+)$/\1 \2/p' | sort -u
}

none_is_left() {
    local kind
    for kind in prog map link; do
        "$bpftool" $kind show 2>/dev/null | sed -nE "s/^([0-9]+): .*/$kind \1/p"
    done | sort -u >"$work/there"
    [ -z "$(comm -12 "$work/held" "$work/there")" ]
}

start_subject "$build/bin/stat_firing" "$flag" 4 1000
for word in hist why trace; do
    begin $word
    wait_until 20 test -s "$out" || fail "dsmstat $word does not begin: $(cat "$err")"
    wait_until 5 has_child || fail "nobody attaches"
    { held "$victim"; held "$child"; } | sort -u >"$work/held"
    grep -q prog "$work/held" || fail "dsmstat $word has no programs"
    grep -q link "$work/held" || fail "dsmstat $word has attached nothing: $(cat "$err" "$work/held")"
    if [ $word = why ]; then # the other one
        kill -KILL "$child"
        wait_until 10 ended "$victim" || fail "dsmstat goes on without the process that attaches"
        grep -q 'has ended' "$err" || fail "dsmstat does not say why it ends: $(cat "$err")"
    else
        kill -KILL "$victim"
    fi
    wait "$victim" 2>/dev/null || true
    wait_until 10 test ! -d "/proc/$child" || fail "the process that attaches lives on"
    wait_until 10 none_is_left || fail "dsmstat $word leaves in the kernel: $(cat "$work/held")"
done
for delay in 0.05 0.15; do # somewhere in its beginning
    begin why
    sleep $delay
    held "$victim" | sort -u >"$work/held"
    child=$(pgrep -P "$victim" || true)
    kill -KILL "$victim"
    wait "$victim" 2>/dev/null || true
    wait_until 10 test ! -d "/proc/${child:-none}" || fail "the process that attaches lives on"
    wait_until 10 none_is_left || fail "killed after $delay s, it leaves: $(cat "$work/held")"
done
go
finish
grep -q '^attached 0$' "$subject_log" || fail "a semaphore is still raised: $(tail -n 1 "$subject_log")"

if command -v script >/dev/null; then
    script -qec "stty -g; '$build/bin/dsmstat' heat 0.1 & sleep 0.7; kill -KILL \$!; wait; stty -g" /dev/null \
        </dev/null >"$work/terminal" 2>&1 || true
    modes=$(grep -cE '^[0-9a-f]+(:[0-9a-f]+){20,}' "$work/terminal")
    if [ "$modes" -eq 2 ]; then
        [ "$(grep -E '^[0-9a-f]+(:[0-9a-f]+){20,}' "$work/terminal" | sort -u | wc -l)" -eq 1 ] ||
            fail "the terminal's modes changed: $(cat "$work/terminal")"
        if grep -q "$(printf '\033')" "$work/terminal"; then
            fail "there are a terminal's commands in the output"
        fi
    fi
fi
