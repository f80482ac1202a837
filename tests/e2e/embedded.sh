#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# embedded.sh HOW ROLE: a program with a server of its own, in one of these surroundings,
#   plain      as we are
#   user       as an unprivileged user
#   directory  where mounting is not allowed, so that the store is a directory in /dev/shm
# ends, or lives on, as ROLE says (tests/e2e/embedded.c); afterwards there is no process, file, socket or mapping of the
# server. The server is told from others by its name: it runs as a copy of dsmd with a name of its own.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
how=$1
role=$2
need_programs dsmd e2e_embedded

# Thread sanitizer's own thread keeps dsmd from entering a user name space: without the right to mount, there is the directory.
seen=no
symbols=$(nm -D "$client_bin/dsmd" 2>/dev/null || true)
if [ "$how" = directory ] || { [ "$how" = user ] && grep -q ' __tsan_init' <<<"$symbols"; }; then
    seen=yes
fi
name=dsmd.$$ # at most 15 characters: the kernel cuts there
chmod 0755 "$work"
cp "$client_bin/dsmd" "$work/$name"
export DSM_DSMD=$work/$name LD_LIBRARY_PATH=$client_library DSM_CACHE=4M DSM_EMBEDDED_SIZE=128M DSM_CONFIG=
case $how in
plain) around=() ;;
user)
    [ ${#as_nobody[@]} -gt 0 ] || skip "needs root, to become somebody else"
    around=("${as_nobody[@]}")
    ;;
directory)
    # A name space without a user in it: there, nobody can make another one or mount.
    around=("${as_nobody[@]}" unshare --user)
    "${around[@]}" true 2>/dev/null || skip "no user name spaces here"
    ;;
esac

servers() { # pids
    local comm
    for comm in /proc/[0-9]*/comm; do
        if [ "$(cat "$comm" 2>/dev/null)" = "$name" ]; then
            basename "${comm%/comm}"
        fi
    done
}

places() { # what a store in a directory leaves to be seen while it lives
    find /dev/shm -maxdepth 1 -name 'dsm-embedded.*' -newer "$work/begin" 2>/dev/null
}

sockets() { # PID: inodes
    find "/proc/$1/fd" -lname 'socket:*' -printf '%l\n' 2>/dev/null | tr -dc '0-9\n' || true
}

no_descriptors() { # the program lives on without any of ours
    local left # gRPC keeps an eventfd for the next time
    left=$(find "/proc/$client_pid/fd" -lname 'socket:*' -o -lname '*memfd:*' -o -lname '*pidfd*')
    [ -z "$left" ] || fail "descriptors are left: $left"
    if grep -E 'memfd:|dsm-embedded' "/proc/$client_pid/maps"; then
        fail "mappings are left"
    fi
}

no_server() {
    [ -z "$(servers)" ]
}

gone() {
    wait_until 20 no_server || fail "20 s after $1 the server still runs"
    [ -z "$(places)" ] || fail "$1 leaves $(places)"
    local inode
    for inode in $inodes; do
        if grep -qw "$inode" /proc/net/unix; then
            fail "$1 leaves socket $inode: $(grep -w "$inode" /proc/net/unix)"
        fi
    done
}

said() {
    grep -q "^$1" "$work/out"
}

start() { # ROLE: in a session of its own, so that ^C is for it alone; its pid is in $client_pid
    : >"$work/out"
    mkfifo "$work/in.$1" && exec 8<>"$work/in.$1"
    env --default-signal=INT setsid setpriv --pdeathsig KILL "${around[@]}" "$client_bin/e2e_embedded" "$1" \
        >"$work/out" 2>&1 <&8 8<&- &
    client_pid=$!
    pids+=("$client_pid")
    wait_until 60 said_or_ended || fail "the program says nothing"
    said ready || fail "the program is not ready: $(cat "$work/out")"
    inodes=
    # A forked child has copies of the connections until it ends or calls exec; the control socket it closes.
    if [ "$role" != fork ]; then
        inodes=$(sockets "$client_pid")
    fi
}

said_or_ended() {
    said ready || ended "$client_pid"
}

runs() { # the server does, and its store is where it should be
    local server
    server=$(servers)
    [ "$(wc -w <<<"$server")" -eq 1 ] || fail "servers that run: '$server'"
    if [ "$seen" = yes ]; then
        [ -n "$(places)" ] || fail "the store is not in /dev/shm"
    else
        [ -z "$(places)" ] || fail "the store can be seen: $(places)"
    fi
    [ "$(ps -o ppid= -p "$server" | tr -d ' ')" != "$client_pid" ] || fail "the server is the program's child"
    [ "$(ps -o sid= -p "$server" | tr -d ' ')" != "$(ps -o sid= -p "$client_pid" | tr -d ' ')" ] ||
        fail "the server is in the program's session: ^C would reach it"
}

child() {
    sed -n 's/^child //p' "$work/out"
}

touch "$work/begin"
sleep 0.02
case $role in
exit)
    start exit
    wait "$client_pid" || fail "exit code $?"
    gone "the end of the program"
    ;;
kill)
    start wait
    runs
    kill -KILL "$client_pid"
    gone "kill -9"
    ;;
interrupt)
    start wait
    runs
    kill -INT -- "-$client_pid"
    gone "^C"
    ;;
close)
    start close
    gone "dsm_close()"
    alive "$client_pid" || fail "the program ended"
    no_descriptors
    ;;
exec)
    start exec
    gone "exec()"
    alive "$client_pid" || fail "the program ended"
    no_descriptors
    ;;
fork | fork-exec)
    start "$role"
    runs
    pids+=("$(child)")
    kill -KILL "$client_pid"
    gone "the end of the program whose child lives on"
    alive "$(child)" || fail "the child ended"
    kill -KILL "$(child)"
    ;;
lost)
    start lost
    runs
    kill -KILL "$(servers)"
    begun=$SECONDS
    echo gone >&8
    wait "$client_pid" || fail "the program: $(cat "$work/out")"
    said sigbus || fail "no SIGBUS: $(cat "$work/out")"
    [ $((SECONDS - begun)) -le 15 ] || fail "it took $((SECONDS - begun)) s to find out"
    start exit # the next server takes away what the killed one had to leave
    wait "$client_pid" || fail "exit code $?"
    gone "the next program"
    ;;
*) fail "no such role" ;;
esac
