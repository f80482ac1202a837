#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# dsmctl delete deletes without asking, unless somebody has the segment open: then it names the holder.
# shellcheck source=tests/e2e/tools_lib.sh
. "$(dirname "$0")/tools_lib.sh"
need_programs dsmd dsmctl tools_client
make_keys
start_dsmd
tools_say 1 'There is no segment "one". "dsmctl segments" lists' dsmctl delete one
tools_say 0 '' dsmctl create one 1M
tools_say 0 '' dsmctl delete one
[ ! -s "$out" ] || fail "says: $(cat "$out")"
tools_say 1 'There is no segment "one"' dsmctl delete one
tools_say 1 'is no name for a segment' dsmctl delete ''
tools_say 2 'too few arguments' dsmctl delete
start_program
tools_say 1 "/$program_pid/tools_client" dsmctl delete "tools/$program_pid"
grep -q 'Let it close the segment' "$err" || fail "no advice: $(cat "$err")"
end_program
tools_say 1 'There is no segment' dsmctl delete "tools/$program_pid"
stop_dsmd
