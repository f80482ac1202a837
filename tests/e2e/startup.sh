#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What can be wrong when dsmd starts: each ends it with exit code 1 and one sentence.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs dsmd dsmctl
make_keys
other=$store_parent/other
rooms=() # in front of dsmd

# refuses WHAT TEXT OPTION...: with all that it needs, and the options over it.
refuses() {
    local what=$1 text=$2 status=0
    shift 2
    "${rooms[@]}" timeout 60 "$build/bin/dsmd" --config '' --listen 127.0.0.1:0 --store "$other" --capacity 16M \
        --key "$work/server.key" --authorized "$work/authorized" "$@" >"$work/said" 2>&1 </dev/null || status=$?
    printf '%-24s %s\n' "$what" "$(cat "$work/said")"
    [ $status -eq 1 ] || fail "$what: exit $status"
    [ "$(wc -l <"$work/said")" -eq 1 ] || fail "$what: not one sentence"
    grep -qF -- "$text" "$work/said" || fail "$what: does not say \"$text\""
}

start_dsmd --capacity 16M
refuses "store in use" "The store in $store is in use by another dsmd." --store "$store"
refuses "address in use" "Cannot listen on 127.0.0.1:$server_port: another process listens there already." \
    --listen "127.0.0.1:$server_port"
stop_dsmd
rm -rf "$other"

chmod 0644 "$work/server.key"
refuses "key that others read" "server.key has mode 0644, so others may use it. Say: chmod 600"
chmod 0600 "$work/server.key"
chmod 0644 "$work/authorized"
refuses "list that others read" "authorized has mode 0644, so others may use it. Say: chmod 600 $work/authorized (or 640"
chmod 0600 "$work/authorized"
refuses "no key" "no.key does not exist" --key "$work/no.key"
refuses "no setting" "The setting store is missing" --store ''
refuses "no address" "\"127.0.0.1\" is no address to listen on" --listen 127.0.0.1
refuses "no room" "lower the capacity or make room" --capacity 8T
rm -rf "$other"
refuses "no number" "\"much\" is no value for capacity" --capacity much
refuses "another directory" "is not a store and not empty" --store "$work"
refuses "shrunk" "can only grow" --store "$store" --capacity 8M

# A format that is not known, in both copies of the header: four bytes behind the magic.
cp -a "$store" "$other"
for at in 8 4104; do
    printf '\377\377\377\177' | dd of="$other/header" bs=1 seek=$at conv=notrunc status=none
done
refuses "unknown version" "a format that this version does not know"
rm -rf "$other"

# A tmpfs that promises more than there is memory takes a mount of our own.
if unshare -m true 2>/dev/null; then
    mkdir "$work/huge"
    # shellcheck disable=SC2016 # for the shell inside
    rooms=(unshare -m sh -c 'mount -t tmpfs -o size=8T,mode=0700 none "$0" && exec "$@"' "$work/huge")
    refuses "too big for memory" "of memory (capacity, headroom and 1 % index)" --store "$work/huge" --capacity 7T
else
    say "not tried: a store too big for memory (no mount of our own)"
fi
