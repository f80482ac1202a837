#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# upgrade.sh SECONDS: dsmd is stopped, installed anew and started on its store again and again, while a program works:
# no error to the program, and the server that it ends with is the new file.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
seconds=${1:-10}
need_programs dsmd dsmctl pagecheck
make_keys
prefix=$work/prefix
built=$build
install_dsmd() { # as a package does it: a new file in the place of the old one
    mkdir -p "$prefix/bin"
    cp "$built/bin/dsmd" "$prefix/bin/dsmd.new"
    mv -f "$prefix/bin/dsmd.new" "$prefix/bin/dsmd"
}
install_dsmd
build=$prefix # start_dsmd takes it from there; client programs have their own place
ln -s "$built/lib" "$prefix/lib"
[ "$client_bin" != "$prefix/bin" ] || fail "the programs would be looked for in the wrong place"
start_dsmd
port=$server_port
start_client $((seconds * 3 + 60)) pagecheck --threads 8 --seconds "$seconds" --pages 4096
upgrades=0
wait_until 60 has_segment || fail "pagecheck makes no segment"
end=$((SECONDS + seconds))
while [ $((SECONDS + 2)) -le $end ]; do
    sleep 2
    ended "$client_pid" && break
    before=$(stat -L -c %i "/proc/$dsmd_pid/exe")
    stop_dsmd
    install_dsmd
    start_dsmd
    [ "$server_port" = "$port" ] || fail "dsmd came back on port $server_port, not $port"
    [ "$(stat -L -c %i "/proc/$dsmd_pid/exe")" != "$before" ] || fail "the old file still runs"
    upgrades=$((upgrades + 1))
done
wait_client || fail "pagecheck: exit $?"
grep -qw verified "$client_log" || fail "pagecheck did not say verified"
[ $upgrades -ge 2 ] || fail "only $upgrades upgrades took place"
say "$upgrades upgrades"
stop_dsmd
