#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The bpftrace lines of dsm_probes(7) work as they stand there, with the library's path for LIB and the server's for DSMD: each attaches
# to a program and a server at work, and those about faults and victims print what they saw.
# shellcheck source=tests/e2e/stat_lib.sh
. "$(dirname "$0")/stat_lib.sh"
need_probes
need_programs dsmd dsmctl stat_exact
command -v bpftrace >/dev/null || skip "needs bpftrace"
# It says what it is asked to say, but for what this kernel or its rights do not let it have.
timeout 60 bpftrace -e 'BEGIN { printf("works\n"); exit(); }' >"$out" 2>&1 || true
grep -q '^works$' "$out" || skip "bpftrace does not work here: $(tail -n 1 "$out")"

page=$e2e_root/libdsm/man/dsm_probes.7.scd
mapfile -t lines < <(awk '$0 == "```" { inside = !inside; next } inside' "$page" | grep '^bpftrace -e ')
[ ${#lines[@]} -ge 5 ] || fail "dsm_probes(7) has ${#lines[@]} lines with bpftrace"
make_keys
start_dsmd
client_command 120 stat_exact "$flag" 0 300
start_subject "${command[@]}"

tracers=()
for ((i = 0; i < ${#lines[@]}; i++)); do
    line=${lines[i]//LIB/$build/lib/libdsm.so.0}
    line=${line//DSMD/$build/bin/dsmd}
    bash -c "exec $line" >"$work/tracer.$i" 2>&1 </dev/null &
    tracers+=("$!")
    pids+=("$!")
done
attached() {
    local i
    for ((i = 0; i < ${#lines[@]}; i++)); do
        bpftrace_holds "${tracers[i]}" "$work/tracer.$i" || return 1
    done
}
wait_until 60 attached || fail "bpftrace does not attach: $(cat "$work"/tracer.*)"
go
for ((i = 0; i < ${#lines[@]}; i++)); do
    alive "${tracers[i]}" || fail "this ended: ${lines[i]}: $(cat "$work/tracer.$i")"
done
ends() { # asked again: a signal that comes while it attaches is lost
    local i
    for ((i = 0; i < ${#lines[@]}; i++)); do
        if alive "${tracers[i]}"; then
            kill -INT "${tracers[i]}" 2>/dev/null || true
            sleep 0.3
            return 1
        fi
    done
}
wait_until 60 ends || fail "bpftrace does not end: $(cat "$work"/tracer.*)"
for ((i = 0; i < ${#lines[@]}; i++)); do
    if grep -iE 'error|warning' "$work/tracer.$i" | grep -vE 'RLIMIT_MEMLOCK|failed to detach'; then
        fail "this complains: ${lines[i]}: $(cat "$work/tracer.$i")"
    fi
    case ${lines[i]} in
    *dsm:fault_end* | *dsm:victim*)
        grep -q '^@' "$work/tracer.$i" || fail "this saw nothing: ${lines[i]}: $(cat "$work/tracer.$i")"
        ;;
    esac
done
finish
stop_dsmd
echo "${#lines[@]} lines"
