#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Used wrongly, the tools say how it is right (exit code 2); without settings they say which are missing (1).
# shellcheck source=tests/e2e/tools_lib.sh
. "$(dirname "$0")/tools_lib.sh"
need_programs dsmctl dsmstat

say() { # CODE TEXT PROGRAM ARG...
    local code=$1 text=$2 program=$3
    shift 3
    status=0
    "$build/bin/$program" "$@" >"$out" 2>"$err" || status=$?
    [ $status -eq "$code" ] || fail "$program $*: exit code $status, not $code: $(cat "$out" "$err")"
    grep -qF -- "$text" "$out" "$err" || fail "$program $*: does not say \"$text\" but: $(cat "$out" "$err")"
}

say 2 'say which command' dsmctl
say 2 'there is no command "pong"' dsmctl pong
for command in ping segments stat create delete check; do
    say 0 "  $command " dsmctl --help
    say 0 'Usage: dsmctl '"$command" dsmctl "$command" --help
done
say 1 'DSM_SERVER is not set' dsmctl ping
say 1 'DSM_SERVER is not set' dsmctl segments
say 1 'DSM_SERVER is not set' dsmstat server
DSM_CACHE=much say 1 'DSM_CACHE' dsmctl stat
say 2 '1 to 100000' dsmctl ping --count=0
say 2 '1 to 100000' dsmctl ping --count=-1
say 2 'argument too many' dsmctl ping there
say 2 'argument too many' dsmctl segments a b
say 0 'Usage: dsmstat' dsmstat --help
say 2 'the interval is "often"' dsmstat often
say 2 'the interval is "0"' dsmstat 0
say 2 'the interval is "nan"' dsmstat nan
say 2 'the count is "0"' dsmstat 1 0
say 2 'the count is "-1"' dsmstat -- 1 -1
say 2 'argument too many' dsmstat 1 1 1
say 2 '--pid is "self"' dsmstat -p self
say 2 'exclude each other' dsmstat --json --csv
say 2 'exclude each other' dsmstat -t -p 1
say 2 'every counter anyway' dsmstat -a --json
for program in dsmctl dsmstat; do
    grep -q '^[0-9]' <<<"$("$build/bin/$program" --version | cut -d' ' -f2)" || fail "$program --version"
done
if "$build/bin/dsmstat" --json >/dev/full 2>"$err"; then
    fail "a full disk is not noticed"
fi
