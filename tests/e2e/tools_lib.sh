# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the tests of dsmctl and dsmstat need besides lib.sh.
#
#   tool PROGRAM ARG...          as the client's user, with its settings; $status, $out, $err (files)
#   tools_say CODE TEXT PROGRAM ARG...  the exit code is CODE, and TEXT is on standard error; nothing is when TEXT is empty
#   holds TEXT | matches REGEX   of the last tool's output
#   json_number FIELD [FILE]     of compact or indented JSON with one such field
#   start_program [ARG...]       tools_client, until it has printed its counters; $program_pid; end_program lets it end
#   counter_is NAME NUMBER FOUND  what was found later is that number, or at least as much for what rises in a program at rest
#   compare_counters JSON TEXT   every counter of TEXT ("NAME NUMBER" between counters and end, the last such block) is in JSON
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export DSM_CONFIG= # the settings of this machine's user are not the test's
out=$work/out
err=$work/err
status=0

tool() {
    client_command 60 "$@"
    status=0
    "${command[@]}" >"$out" 2>"$err" </dev/null || status=$?
}

tools_say() {
    local code=$1 text=$2
    shift 2
    tool "$@"
    [ $status -eq "$code" ] || fail "$*: exit code $status, not $code: $(cat "$out" "$err")"
    if [ -z "$text" ]; then
        [ ! -s "$err" ] || fail "$*: said: $(cat "$err")"
    else
        grep -qF -- "$text" "$err" || fail "$*: does not say \"$text\" but: $(cat "$err")"
    fi
}

holds() {
    grep -qF -- "$1" "$out" || fail "no \"$1\" in: $(cat "$out")"
}

matches() {
    grep -qE -- "$1" "$out" || fail "nothing like \"$1\" in: $(cat "$out")"
}

json_number() {
    sed -nE "s/.*\"$1\": ?(-?[0-9.]+).*/\1/p" "${2:-$out}"
}

program_speaks_or_ended() {
    grep -q '^end$' "$client_log" || ended "$client_pid"
}

start_program() {
    rm -f "$work/go"
    start_client 100 tools_client "$work/go" "$@"
    wait_until 60 program_speaks_or_ended || fail "the program says nothing"
    program_pid=$(sed -n 's/^pid //p' "$client_log")
    [ -n "$program_pid" ] || fail "the program ended: $(cat "$client_log")"
}

end_program() {
    : >"$work/go"
    wait_client >/dev/null || fail "the program: exit $?"
}

# The keeper says every few seconds that the session lives: the waits for its answers are counted, and nothing else.
counter_is() { # NAME NUMBER FOUND
    case $1 in
    answers_spun | answers_slept) [[ $3 =~ ^[0-9]+$ ]] && [ "$3" -ge "$2" ] ;;
    *) [ "$3" = "$2" ] ;;
    esac
}

compare_counters() {
    local name number seen=0
    while read -r name number; do
        counter_is "$name" "$number" "$(json_number "$name" "$1")" ||
            fail "$name is $number, but dsmstat says: $(json_number "$name" "$1")"
        seen=$((seen + 1))
    done < <(awk '/^counters$/ { n = 0; inside = 1; next } /^end$/ { inside = 0 } inside { block[n++] = $0 }
        END { for (i = 0; i < n; i++) print block[i] }' "$2")
    [ $seen -ge 40 ] || fail "only $seen counters were compared"
}
