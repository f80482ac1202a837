#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# secrets.sh: what must stay secret is planted and then searched for: a page's contents and the names of its segment on the wire and in
# the log; the private keys of dsmd and the keys of a connection in every byte of dsmd's memory, where they may only lie in pages that are
# locked and left out of cores, and, once the connection is closed, the latter nowhere. The same in a program of the library, and its
# core; after dsm_close() nothing is left there. Other users cannot read any of it, and a dsmd that is killed by a signal leaves no core.
# shellcheck source=tests/hostile/lib.sh
. "$(dirname "$0")/lib.sh"
need_root "captures packets and reads other processes' memory"
if [ -z "${HOSTILE_ALONE:-}" ]; then # what others send is not searched
    unshare -n true 2>/dev/null || skip "cannot make a network namespace"
    HOSTILE_ALONE=1 unshare -n "$0" || exit $?
    exit 0
fi
ip link set lo up
make_hostile_keys
"$build/bin/dsmctl" keygen "$work/psk.key" >/dev/null || fail "dsmctl keygen"
cd "$work" # where a core would be
start_dsmd --capacity 64M --metrics 127.0.0.1:0 --psk-file "$work/psk.key" --log-level debug
metrics=$(sed -nE 's/.*serves \/metrics on .*:([0-9]+)$/\1/p' "$work/dsmd.log" | tail -n 1)
python3 -B "$here/secrets_hunt.py" "$work" "$server_address" "$server_port" "$dsmd_pid" "$metrics" "$build/lib/libdsm.so" ||
    fail "a secret is where it must not be"

say "no core, and not to be looked at by others"
grep -qE '^Max core file size +0 +0 ' "/proc/$dsmd_pid/limits" || fail "a core is not forbidden: $(grep core "/proc/$dsmd_pid/limits")"
if ! grep -q 'lib[at]san' "/proc/$dsmd_pid/maps"; then
    for file in mem maps environ fd io; do
        if setpriv --reuid=nobody --regid=nogroup --clear-groups cat "/proc/$dsmd_pid/$file" >/dev/null 2>&1; then
            fail "another user reads /proc/PID/$file"
        fi
    done
fi
for file in "$work"/*.key; do
    [ "$(stat -c %a "$file")" = 600 ] || fail "$file has mode $(stat -c %a "$file")"
done
found=$(find "$store" -perm /077 | head -n 1)
[ -z "$found" ] || fail "others may use $found of the store"
kill -SEGV "$dsmd_pid"
wait "$dsmd_pid" 2>/dev/null || true
if find "$work" "$store_parent" -maxdepth 1 -name '*core*' | grep .; then
    fail "a core was left"
fi
