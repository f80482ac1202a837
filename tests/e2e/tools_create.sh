#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# dsmctl create makes a segment that nobody holds afterwards, and says what is in the way when it cannot.
# shellcheck source=tests/e2e/tools_lib.sh
. "$(dirname "$0")/tools_lib.sh"
need_programs dsmd dsmctl
make_keys
sed -i 's/$/ quota=96M/' "$work/authorized"
start_dsmd --capacity 160M
tools_say 0 '' dsmctl create one 65537 --page-size 64K
[ "$(cat "$out")" = 'one: 128K in pages of 64K' ] || fail "says: $(cat "$out")"
tools_say 0 '' dsmctl segments one
matches '^one +128K +64K +0 +128K +0 +1 +-$'
tools_say 1 'There is a segment "one" already. Choose another name' dsmctl create one 4K
tools_say 1 'quota' dsmctl create two 96M
tools_say 1 'ask for a larger quota' dsmctl create two 96M
tools_say 1 'is no name for a segment' dsmctl create 'a//b' 4K
tools_say 1 'is no name for a segment' dsmctl create "$(printf '%0256d' 0)" 4K
tools_say 2 'it must be one such as 512M' dsmctl create two 12X
tools_say 2 'it must be one such as 512M' dsmctl create two 0
tools_say 2 'power of two from 4K to 1M' dsmctl create two 4K --page-size=2M
tools_say 2 'too few arguments' dsmctl create two
tools_say 2 'one argument too many' dsmctl create two 4K 4K
sed -i 's/ quota=96M/ quota=1T/' "$work/authorized"
kill -HUP "$dsmd_pid"
end=$((SECONDS + 10))
until tool dsmctl create two 96M && [ $status -eq 0 ] || [ $SECONDS -ge $end ]; do
    sleep 0.1
done
[ $status -eq 0 ] || fail "the larger quota is not seen: $(cat "$err")"
tools_say 1 'no room' dsmctl create three 96M
tools_say 1 '--noreserve' dsmctl create three 96M
tools_say 0 '' dsmctl create three 96M --noreserve

# The right is missing.
sed -i 's/ quota=1T/ rights=read/' "$work/authorized"
kill -HUP "$dsmd_pid"
end=$((SECONDS + 10))
until tool dsmctl create four 4K && [ $status -eq 1 ] || [ $SECONDS -ge $end ]; do
    tool dsmctl delete four
    sleep 0.1
done
grep -q 'no right to create' "$err" || fail "without the right: $(cat "$err")"
stop_dsmd
