#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The first program of README.md, compiled as it says and run with no set-up at all, does what it seems to do, and leaves
# nothing behind.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs dsmd
readme=$e2e_root/README.md

awk '$0 == "```c" { inside = 1; next } /^```/ { if (inside) exit } inside' "$readme" >"$work/table.c"
compile=$(sed -n '/^cc .*table\.c/{p;q}' "$readme")
if [ ! -s "$work/table.c" ] || [ -z "$compile" ]; then
    fail "the program, or how to compile it, is not found"
fi
ln -s "$build" "$work/build"
ln -s "$e2e_root/libdsm" "$work/libdsm"
cd "$work"
say "$compile"
said=$(env -i PATH="$PATH" HOME="$work" timeout 100 sh -c "$compile") || fail "exit code $?"
[ "$said" = 33554431 ] || fail "it said '$said'"

server_of_this_build() {
    local server
    for server in /proc/[0-9]*; do
        if [ "$(readlink "$server/exe" 2>/dev/null)" = "$build/bin/dsmd" ] &&
            tr '\0' ' ' <"$server/environ" 2>/dev/null | grep "HOME=$work " >/dev/null; then
            return 0
        fi
    done
    return 1
}
no_server() {
    ! server_of_this_build
}
wait_until 20 no_server || fail "its server still runs"
