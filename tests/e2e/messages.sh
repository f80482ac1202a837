#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A user's first six mistakes: each ends within the connect time-out in a message of its own that says what to do.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs dsmd dsmctl messages
make_keys
dsmctl=$build/bin/dsmctl
"$dsmctl" keygen "$work/stranger.key" >/dev/null
"$dsmctl" keygen "$work/other-server.key" >/dev/null
"$dsmctl" keygen "$work/small.key" >/dev/null
"$dsmctl" authorize "$work/authorized" "$(cat "$work/small.key.pub")" small quota=8M >/dev/null
chmod 0644 "$work"/*.pub
start_dsmd --capacity 64M
messages=()

# mistake NAME ERRNO PART VARIABLE=VALUE... -- BYTES...: ends with that error, and PART stands in what is said.
mistake() {
    local name=$1 error=$2 part=$3 variables=() status=0 started=$SECONDS said
    shift 3
    while [ "$1" != -- ]; do
        variables+=("$1")
        shift
    done
    shift
    said=$(env "DSM_SERVER=$server_address:$server_port" "DSM_SERVER_KEY=$(cat "$work/server.key.pub")" \
        "DSM_KEY_FILE=$work/client.key" DSM_CACHE=4M "${variables[@]}" \
        timeout 60 "$build/bin/messages" "$@" 2>&1) || status=$?
    printf '%-17s %s\n' "$name" "$said"
    [ $status -eq 3 ] || fail "$name: exit $status"
    [[ $said == "$error: "* ]] || fail "$name: not $error"
    [[ $said == *"$part"* ]] || fail "$name: does not say \"$part\""
    [ $((SECONDS - started)) -le 30 ] || fail "$name: took $((SECONDS - started)) s"
    messages+=("${said#*: }")
}

as_root() { # the keys are this test's own: it runs the client as itself
    if [ "$(id -u)" -eq 0 ]; then
        chown root "$work"/*.key
    fi
}
as_root

# Port 1 of a loopback address: nobody listens there.
mistake "not there" ECONNREFUSED "Is dsmd running there" "DSM_SERVER=127.0.0.1:1" -- 4096
mistake "wrong key" EACCES "dsmctl authorize" "DSM_KEY_FILE=$work/stranger.key" -- 4096
mistake "wrong server key" ECONNRESET "check DSM_SERVER_KEY" "DSM_SERVER_KEY=$work/other-server.key.pub" -- 4096
mistake "wrong cluster" EACCES "set DSM_CLUSTER" "DSM_CLUSTER=elsewhere" -- 4096
mistake "full store" ENOSPC "have the server's capacity raised" -- $((48 << 20)) $((48 << 20))
mistake "over quota" EDQUOT "a larger quota" "DSM_KEY_FILE=$work/small.key" -- $((6 << 20)) $((6 << 20))

different=$(printf '%s\n' "${messages[@]}" | sort -u | wc -l)
[ "$different" -eq 6 ] || fail "$different different messages, not 6"
stop_dsmd
