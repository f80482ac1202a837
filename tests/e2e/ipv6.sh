#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# dsmd on an IPv6 address and on all addresses of both kinds; a client that says [ADDRESS]:PORT, by variable and by file.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs dsmd dsmctl pagecheck
grep -q 00000000000000000000000000000001 /proc/net/if_inet6 2>/dev/null || skip "no IPv6 on the loopback interface"
make_keys

server_address='[::1]'
start_dsmd
client 60 pagecheck --seconds 1 || fail "pagecheck over $server_address: exit $?"
stop_dsmd

server_address='[::]'
server_port=0 # the old one may be somebody else's on another address
start_dsmd
for server_address in '[::1]' 127.0.0.1; do
    client 60 pagecheck --seconds 1 || fail "pagecheck over $server_address: exit $?"
done
stop_dsmd
