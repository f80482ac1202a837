#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The arrows of the house: which room may include which, and which files alone may include a foreign library. Seen
# file by file; because every list is closed, what a room reaches through others is bounded too. A room that is
# not listed may include nothing but itself, so a new room gets its arrows when it is made.
# shellcheck source=tests/check/lib.sh
. "$(dirname "$0")/lib.sh"

# ROOM: what it may include beside itself (rooms, or single headers). The longest ROOM that fits counts; "ROOM/." is
# for the files that lie in it directly.
arrows='
libdsm/include:
libdsm/sync:
libdsm/page:     libdsm/sync
libdsm/policy:   libdsm/sync/invariant.h
libdsm/trap:     libdsm/sync
libdsm/stat:     libdsm/sync libdsm/include rpc/probe.h rpc/latency.h
libdsm/backing:  libdsm/settings.h libdsm/sync libdsm/stat libdsm/include rpc
libdsm/pager:    libdsm/settings.h rpc/latency.h libdsm/sync libdsm/page libdsm/policy libdsm/trap libdsm/backing libdsm/stat libdsm/include
libdsm/migrate:  libdsm/settings.h libdsm/sync libdsm/page libdsm/pager libdsm/trap libdsm/backing libdsm/stat libdsm/include rpc/noise.h rpc/keyfile.h rpc/wire.h rpc/limits.h rpc/failure.h rpc/failpoint.h rpc/deadline.h
libdsm/task:     libdsm/session_api.h libdsm/error.h libdsm/sync libdsm/migrate libdsm/include rpc/limits.h rpc/failure.h
libdsm/.:        libdsm rpc
rpc:
metrics:         rpc/failure.h rpc/latency.h
server:          rpc metrics
tools:           rpc metrics server/ready.h server/config.h libdsm/settings.h libdsm/sync libdsm/stat libdsm/backing libdsm/include libdsm/migrate/capsule.h server/store bpf/dsm_events.h
bpf:             libdsm/stat/fault_parts.h
tests:           rpc server metrics libdsm tools bpf
'
# HEADER: the files (shell patterns) that may include it.
dependencies='
grpc/*:       rpc/lane_grpc*.c tests/unit/fronts_room.c
sodium.h:     rpc/noise*.[ch] rpc/keyfile*.c
protobuf-c/*: libdsm/backing/control*.c server/service*.c tools/*.c tests/*
*.pb-c.h:     libdsm/backing/control*.c server/service*.c tools/*.[ch] tests/*
bpf/*:        tools/dsmstat_bpf.c bpf/*
dsm_bpf.*:    tools/dsmstat_bpf.c
jansson.h:    tools/*.[ch] tests/*
ini.h:        rpc/setting_file.c
sys/sdt.h:    rpc/probe.h
microhttpd.h: metrics/http.c
seccomp.h:    server/sandbox.c
systemd/*:    server/ready.c
cmocka.h:     tests/*
'

declare -A may_include
while IFS=: read -r key list; do
    if [ -n "$key" ]; then
        may_include[$key]=$list
    fi
done <<<"$arrows"

# look_up ROOM: what it may include, in $values; fails when it is not in the table.
look_up() {
    [ -n "${may_include[$1]+set}" ] || return 1
    # shellcheck disable=SC2206 # split into words
    values=(${may_include[$1]})
}

# room_of FILE: the longest room of the table that holds it, else its folder.
room_of() {
    room=${1%/*}
    if look_up "$room/."; then
        return
    fi
    while look_up "$room" && return || [[ $room == */* ]]; do
        room=${room%/*}
    done
    room=${1%/*}
    values=()
}

# resolve FILE HEADER: the header's path from the root, in $header; empty when it is not ours.
resolve() {
    local candidate
    for candidate in "${1%/*}/$2" "$2" "libdsm/include/$2"; do
        if [ -e "$candidate" ]; then
            header=${candidate#./}
            if [[ $candidate == *../* ]]; then
                header=$(realpath --relative-to=. "$candidate")
            fi
            return
        fi
    done
    header=
}

check_arrow() { # FILE LINE HEADER
    local allowed
    room_of "$1"
    for allowed in "$room" "${values[@]}"; do
        case $3 in
        "$allowed" | "$allowed"/*) return ;;
        esac
    done
    offence "$1:$2: $room must not include $3"
}

check_dependency() { # FILE LINE HEADER
    local line file
    while IFS= read -r line; do
        # shellcheck disable=SC2254 # these are patterns
        case $3 in
        ${line%%:*})
            [ -n "$line" ] || continue
            set -f
            for file in ${line#*:}; do
                case $1 in
                $file)
                    set +f
                    return
                    ;;
                esac
            done
            set +f
            offence "$1:$2: only ${line#*:} may include <$3>"
            ;;
        esac
    done <<<"$dependencies"
}

seen=0
while IFS=: read -r file line text; do
    seen=$((seen + 1))
    [[ $text =~ [\"\<]([^\"\>]+)[\"\>] ]]
    included=${BASH_REMATCH[1]}
    resolve "$file" "$included"
    if [ -n "$header" ]; then
        check_arrow "$file" "$line" "$header"
    else
        check_dependency "$file" "$line" "$included"
    fi
done < <(sources '*.c' '*.h' | xargs grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]' /dev/null)
if [ "$seen" -eq 0 ]; then
    offence "no include directive found: nothing was checked"
fi
verdict
