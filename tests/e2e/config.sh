#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# dsmd's configuration file at work: it is taken, options come over it, --check finds what is wrong, and SIGHUP changes what can
# be changed, or nothing.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs dsmd dsmctl messages
make_keys
chown "$(id -u)" "$work/client.key"
config=$work/dsmd.conf
log=$work/dsmd.log

connects() {
    DSM_SERVER=$server_address:$server_port DSM_SERVER_KEY=$work/server.key.pub DSM_KEY_FILE=$work/client.key \
        DSM_CACHE=4M timeout 60 "$build/bin/messages" >"$work/said" 2>&1
}

log_says() { # TEXT [TIMES]
    [ "$(grep -cF -- "$1" "$log")" -ge "${2:-1}" ]
}

reload() { # TEXT: is said, once more than before
    local before
    before=$(grep -cF -- "$1" "$log" || true)
    kill -HUP "$dsmd_pid"
    wait_until 20 log_says "$1" $((before + 1)) || fail "SIGHUP: does not say: $1"
}

checks() { # EXIT TEXT LINE...: what dsmd --check says of such a file
    local status=0 expected=$1 text=$2
    shift 2
    printf '%s\n' "store = $store" "key = $work/server.key" "authorized = $work/authorized" "$@" >"$work/check.conf"
    "$build/bin/dsmd" --config "$work/check.conf" --check >"$work/said" 2>&1 || status=$?
    grep -qF -- "$text" "$work/said" || fail "--check does not say \"$text\" but: $(cat "$work/said")"
    [ $status -eq "$expected" ] || fail "--check of \"$*\": exit $status"
    [ "$(wc -l <"$work/said")" -eq 1 ] || fail "--check says more than a line"
}

say "a file, with options over it"
printf '%s\n' "capacity = 48M" "name = from-the-file" "cluster = blue ; the other one" "log-level = info" >"$config"
start_dsmd --config "$config" --name from-an-option
log_says '"from-an-option" of cluster "blue"' || fail "file or options are not taken"
log_says '(48 MiB,' || fail "the file's capacity is not taken"
if connects || ! grep -q 'belongs to cluster "blue"' "$work/said"; then
    fail "not the cluster of the file: $(cat "$work/said")"
fi
export DSM_CLUSTER=blue
connects || fail "no connection: $(cat "$work/said")"

say "SIGHUP: a key less, a setting that counts later, a bad file"
printf '%s\n' "capacity = 64M" "cluster = blue" "log-level = info" >"$config"
cp "$work/authorized" "$work/authorized.kept"
echo '# nobody' >"$work/authorized"
reload "count after a restart: capacity"
if connects || ! grep -q 'not in the server.s authorized file' "$work/said"; then
    fail "a key that was removed still connects: $(cat "$work/said")"
fi
cat "$work/authorized.kept" >"$work/authorized"
printf '%s\n' "capacity = 64M" "" "colour = blue" >"$config"
reload "nothing was changed: $config:3: there is no key \"colour\""
if connects; then
    fail "a bad configuration let the authorized file in"
fi
printf '%s\n' "log-level = error" >"$config"
echo nonsense >>"$work/authorized"
reload "nothing was changed: $work/authorized: line 2"
cat "$work/authorized.kept" >"$work/authorized"

say "SIGHUP: another level of the log"
printf '%s\n' "log-level = error" >"$config"
before=$(wc -l <"$log")
kill -HUP "$dsmd_pid"
wait_until 20 connects || fail "the authorized file was not read again"
[ "$(wc -l <"$log")" -eq "$before" ] || fail "more than errors at log-level error: $(tail -n 1 "$log")"
printf '%s\n' "log-level = info" >"$config"
reload "SIGHUP: read $config and $work/authorized again"
stop_dsmd

say "--check"
checks 0 "the configuration $work/check.conf, the files named and the store are in order" "name = a"
checks 1 "$work/check.conf:5: the key \"name\" stands already on line 4." "name = a" "name = a"
checks 1 "$work/check.conf:4: there is no key \"ready-fd\"" "ready-fd = 3"
checks 1 "\"nowhere\" is no address to listen on" "listen = nowhere"
