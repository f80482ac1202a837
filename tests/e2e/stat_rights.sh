#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Who may not attach is told what is missing and gets what programs tell by themselves; who may gives up root at once.
# shellcheck source=tests/e2e/stat_lib.sh
. "$(dirname "$0")/stat_lib.sh"
need_programs dsmd dsmctl dsmstat stat_exact
need_root "goes from root to nobody and back"

says() { # CODE TEXT COMMAND...
    local code=$1 text=$2 status=0
    shift 2
    "$@" >"$out" 2>"$err" </dev/null || status=$?
    [ $status -eq "$code" ] || fail "$*: exit code $status, not $code: $(cat "$out" "$err")"
    grep -qF -- "$text" "$err" || fail "$*: does not say \"$text\" but: $(cat "$err")"
}

make_keys
start_dsmd
client_command 120 stat_exact "$flag" 0 200 measure
start_subject "${command[@]}"
go

# An ordinary user, of the program's own: its histogram and counters, and what root would add.
says 0 'takes root' "${as_nobody[@]}" "$client_bin/dsmstat" hist -p "$subject_pid"
grep -qE "^ +$subject_pid +" "$out" || fail "no counters: $(cat "$out")"
grep -q 'faults that waited for a page' "$out" || fail "no histogram: $(cat "$out")"
says 0 'segment' "${as_nobody[@]}" "$client_bin/dsmstat" hist --json -p "$subject_pid"
grep -q '"fault_latency"' "$out" || fail "no histogram: $(cat "$out")"
for word in why heat trace; do
    says 1 'takes root' "${as_nobody[@]}" "$client_bin/dsmstat" $word -p "$subject_pid"
    grep -qE "^ +$subject_pid +" "$out" || fail "$word: no counters: $(cat "$out")"
done

# Root on a kernel that lacks something.
if unshare -m mount -t tmpfs none /sys/kernel/btf 2>/dev/null; then
    # shellcheck disable=SC2016 # the inner shell's
    says 1 'CONFIG_DEBUG_INFO_BTF' unshare -m sh -c 'mount -t tmpfs none /sys/kernel/btf; "$1" why' sh "$build/bin/dsmstat"
    # shellcheck disable=SC2016
    [ ! -r /sys/kernel/btf/vmlinux ] || says 1 'CONFIG_UPROBE_EVENTS' unshare -m sh -c 'mount -t tmpfs none /sys/bus/event_source/devices; "$1" why' sh "$build/bin/dsmstat"
fi

# Root's rights: none in the process that shows, three in the one that attaches.
need_probes
status_of() { # PID FIELD
    awk -v field="$2:" '$1 == field { print $2 }' "/proc/$1/status"
}
SUDO_UID=1234 SUDO_GID=2345 watch hist 0.5
child=$(pgrep -P "$watch_pid")
for process in "$watch_pid" "$child"; do
    [ "$(status_of "$process" Uid) $(status_of "$process" Gid)" = '1234 2345' ] || fail "$process is still $(status_of "$process" Uid)"
    [ "$(status_of "$process" NoNewPrivs)" = 1 ] || fail "$process may gain privileges"
    [ "$(status_of "$process" Groups)" = '' ] || fail "$process is in groups"
done
for field in CapInh CapPrm CapEff CapAmb; do
    [ "$((16#$(status_of "$watch_pid" $field)))" -eq 0 ] || fail "$field of dsmstat: $(status_of "$watch_pid" $field)"
done
kept=$((1 << 2 | 1 << 19 | 1 << 21)) # DAC_READ_SEARCH, SYS_PTRACE, SYS_ADMIN
[ "$((16#$(status_of "$child" CapPrm)))" -eq $kept ] || fail "the process that attaches has $(status_of "$child" CapPrm)"
end_watch
finish
stop_dsmd
