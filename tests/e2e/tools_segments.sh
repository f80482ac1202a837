#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# dsmctl segments lists all that there is, also where it takes several messages, once each and in order of name.
# shellcheck source=tests/e2e/tools_lib.sh
. "$(dirname "$0")/tools_lib.sh"
need_programs dsmd dsmctl tools_client
many=240 # of 254 characters each: more than one message of 64 KiB holds
make_keys
start_dsmd
tools_say 0 '' dsmctl segments
[ "$(cat "$out")" = 'NAME  SIZE  PAGE  STORED  RESERVED  READERS  EPOCH  HOLDER' ] || fail "the empty list: $(cat "$out")"
tools_say 0 '' dsmctl segments --json
[ "$(cat "$out")" = '[]' ] || fail "the empty list: $(cat "$out")"

long=$(printf '%0250d' 0)
for i in $(seq -w 1 $many); do
    tools_say 0 '' dsmctl create "$long-$i" 4K
done
tools_say 0 '' dsmctl create b/thin 1M --noreserve --page-size=64K
tools_say 0 '' dsmctl segments
[ "$(sed 1d "$out" | wc -l)" -eq $((many + 1)) ] || fail "$(sed 1d "$out" | wc -l) lines"
sed 1d "$out" | awk '{ print $1 }' | sort -C -u || fail "names are out of order or twice"
matches '^b/thin +1M +64K +0 +thin +0 +1 +-$'
matches "^$long-001 +4K +4K +0 +4K +0 +1 +-\$"
tools_say 0 '' dsmctl segments --json
[ "$(grep -c '"name"' "$out")" -eq $((many + 1)) ] || fail "$(grep -c '"name"' "$out") objects"
tools_say 0 '' dsmctl segments b/
[ "$(wc -l <"$out")" -eq 2 ] || fail "with a prefix: $(cat "$out")"
tools_say 0 '' dsmctl segments c
[ "$(wc -l <"$out")" -eq 1 ] || fail "with a prefix of nothing: $(cat "$out")"

start_program
tools_say 0 '' dsmctl segments tools/
matches "^tools/$program_pid +8M +[0-9]+K +8M +8M +0 +[0-9]+ +[^ ]+/$program_pid/"
tools_say 0 '' dsmctl segments --json tools/
[ "$(json_number bytes)" = 8388608 ] || fail "bytes: $(cat "$out")"
[ "$(json_number stored_bytes)" = 8388608 ] || fail "stored_bytes: $(cat "$out")"
end_program
stop_dsmd
