#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# beside_criu.sh [MIB [RATE]]: one computation with MIB of memory (256), which stores into RATE MiB a second (64), is moved to another process by
# capsules, and by CRIU (of $CRIU, or the PATH); a table says for how long it stood still, by its own clock, and what was written.
#
# dsm: the other process waits already; all pages come from dsmd, over sealed connections. CRIU: dump and restore on one host,
# the images in memory; nothing is copied to another host, which would come on top. Where CRIU does not work the table says so, and why.
# shellcheck source=tests/e2e/hold_lib.sh
. "$(dirname "$0")/hold_lib.sh"
mib=${1:-256} rate=${2:-64}
hold_setup moving_load
"$build/bin/dsmctl" keygen "$work/there" >/dev/null
if [ "$(id -u)" -eq 0 ]; then
    chown nobody "$work/there"
fi
export TASK_KEY=$work/there TASK_PUBLIC_KEY=$work/there.pub MOVE_CAPSULE=$HOLD_TALK/capsule
key=$(cut -d' ' -f1 "$work/client.key.pub")
echo "$key tester rights=create,read,write,migrate" >"$work/authorized"
mkfifo -m 0666 "$MOVE_CAPSULE"
start_dsmd

value() { # NAME FILE
    sed -n "s/^$1 //p" "$2"
}

rows=
row() { # WAY GAP_US BEFORE AFTER
    rows+=$(awk -v way="$1" -v gap="$2" -v before="$3" -v after="$4" 'BEGIN {
        printf "%-38s %10.1f %12.1f %12s", way, gap / 1000, before / 1048576, after == "-" ? "-" : sprintf("%.1f", after / 1048576) }')$'\n'
}

move() { # WAY clean|-
    local end=$HOLD_TALK/end-$2 before
    client_command 120 moving_load arrive "$mib" "$rate" "$end"
    "${command[@]}" >"$work/arrive.log" 2>&1 </dev/null &
    local arriving=$!
    pids+=("$arriving")
    client 120 moving_load leave "$mib" "$rate" "$end" "$2" >"$work/leave.log" || fail "it does not leave: $(cat "$work/leave.log")"
    sleep 1
    : >"$end"
    wait "$arriving" || fail "it does not go on: $(cat "$work/arrive.log")"
    before=$(($(value before "$work/leave.log") + $(value capsule "$work/leave.log")))
    row "$1" "$(value gap_us "$work/arrive.log")" $before "$(value after "$work/arrive.log")"
    [ "$(value faults "$work/arrive.log")" -gt 0 ] || fail "nothing followed it"
}
move "dsm, as it is" -
move "dsm, cleaned half a second before" clean
stop_dsmd

criu=${CRIU:-$(command -v criu || true)}
images=$work/images
not_run() {
    rows+=$(printf '%-38s not run: %s' "$1" "$2")$'\n'
}
run_criu() { # LOG ARG...
    "$criu" "${@:2}" --images-dir "$images/$1" --log-file log -v1 >"$work/criu.out" 2>&1 && return
    why=$(cat "$images/$1/log" "$work/criu.out" 2>/dev/null | grep -m 1 Error || tail -n 1 "$work/criu.out")
    return 1
}
beside() { # WAY pre|-
    local way="CRIU $version, $1" end=$work/criu-end-$2 frozen=() pid
    rm -rf "$images" && mkdir -p "$images/pre" "$images/last"
    setsid "$build/bin/moving_load" plain "$mib" "$rate" "$end" >"$work/plain.log" 2>&1 </dev/null &
    pid=$!
    pids+=("$pid")
    sleep 1.5
    if [ "$2" = pre ]; then
        run_criu pre pre-dump --tree "$pid" --track-mem || { not_run "$way" "$why"; end_process "$pid" 1; return; }
        frozen=(--track-mem --prev-images-dir ../pre)
        sleep 0.5
    fi
    run_criu last dump --tree "$pid" "${frozen[@]}" || { not_run "$way" "$why"; end_process "$pid" 1; return; }
    wait "$pid" || true
    run_criu last restore --restore-detached || { not_run "$way" "$why"; return; }
    sleep 1
    : >"$end"
    wait_until 20 grep -q '^stored' "$work/plain.log" || fail "what CRIU restored does not end"
    row "$way" "$(value gap_us "$work/plain.log")" "$(du -sb "$images" | cut -f 1)" -
}
version=$("${criu:-false}" --version 2>/dev/null | sed -n 's/^Version: //p' || true)
if [ -z "$criu" ]; then
    not_run CRIU "it is not installed (CRIU=PATH names one)"
elif [ "$(id -u)" -ne 0 ]; then
    not_run "CRIU $version" "needs root"
else
    beside "dump and restore" -
    beside "pre-dump half a second before" pre
fi
printf '\n%s MiB, %s MiB/s stored at random, pages of 4 KiB; Linux %s\n' "$mib" "$rate" "$(uname -r)"
printf '%-38s %10s %12s %12s\n%s' way 'still, ms' 'MiB before' 'MiB after' "$rows"
