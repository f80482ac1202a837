#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# manuals.sh ROOT BUILD: the manual pages say what the programs know. Options (with their arguments) of --help and of the
# page are the same, of dsmctl for each command; dsmd.conf(5) has every key of settings.def, dsmstat(1) every counter and column; options
# in examples exist, and dsmd takes the example of its configuration; man shows the made pages without a warning.
# dsm(7) has every state of page_states.def, and its diagram every move and no other.
#
# A page writes an option at the beginning of a line: *-c*, *--count* _N_
build=$(realpath "$2")
# shellcheck source=tests/check/lib.sh
. "$(dirname "$0")/lib.sh"
if ! command -v scdoc >/dev/null; then
    echo "There is no scdoc."
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# help_options: of the --help on standard input, "-c", "--count N", one a line.
help_options() {
    sed -nE 's/^ +((-[A-Za-z?]), )? *(--[a-z-]+)(\[?=([^ ]+))?( .*)?$/\2\n\3 \5/p' | sed -E 's/ $//; /^$/d' | sort
}

# page_options: the same of lines of a page.
page_options() {
    { grep -E '^\*-' || true; } | sed -E 's/, /\n/g; s/\\//g' | sed -E 's/^\*(-[^*]+)\*( _(.*)_)?$/\1 \3/; s/ $//' | sort
}

# part PAGE START [LEVEL]: what stands between the heading that begins with START and the next heading of any level.
part() {
    awk -v start="$2" '/^#+ / { inside = ($0 == start || index($0, start " ") == 1); next } inside' "$1"
}

# same PAGE WHAT: work/help and work/page.
same() {
    local option
    if [ ! -s "$work/help" ]; then
        offence "$1:1: $2 --help shows no option"
    fi
    while read -r option; do
        offence "$1:1: $2 has \"$option\", the page does not"
    done < <(comm -23 "$work/help" "$work/page")
    while read -r option; do
        offence "$1:1: describes \"$option\", $2 --help does not"
    done < <(comm -13 "$work/help" "$work/page")
}

# words_of_help: those that --help lists below its options, as "  word   meaning".
words_of_help() {
    sed -nE 's/^  ([a-z]+)   .*/\1/p' | sort
}

check_program() { # PAGE PROGRAM
    "$build/bin/$2" --help >"$work/said"
    help_options <"$work/said" >"$work/help"
    part "$1" '# OPTIONS' | page_options >"$work/page"
    same "$1" "$2"
}

check_commands() { # PAGE
    local command
    "$build/bin/dsmctl" --help | sed '1,/^Commands/d' | sed -E 's/^( *[a-z]+) .*/\1   ./' | words_of_help >"$work/help"
    sed -nE 's/^## ([a-z]+).*/\1/p' "$1" | sort >"$work/page"
    same "$1" dsmctl
    while read -r command; do
        { "$build/bin/dsmctl" "$command" --help 2>&1 || true; } | help_options >"$work/help"
        { part "$1" '# OPTIONS' && part "$1" "## $command"; } | page_options >"$work/page"
        same "$1" "dsmctl $command"
    done < <(sed -nE 's/^## ([a-z]+).*/\1/p' "$1")
}

check_measurements() { # PAGE
    "$build/bin/dsmperf" --help | words_of_help >"$work/help"
    part "$1" '# MEASUREMENTS' | sed -nE 's/^\*([a-z]+)\*$/\1/p' | sort >"$work/page"
    same "$1" dsmperf
}

# lacks PAGE PATTERN WORD...: says which words the made page does not have, where %s of the pattern stands for the word.
lacks() {
    local page=$1 pattern=$2 word
    shift 2
    for word in "$@"; do
        # shellcheck disable=SC2059
        if ! grep -q -- "$(printf "$pattern" "$word")" "$work/$page"; then
            offence "$page:1: lacks $word"
        fi
    done
}

check_keys() { # PAGE: what the notes name is a key, too
    local key
    mapfile -t keys < <(sed -nE 's/^DSM_SETTING\([a-z_]+, "([a-z-]+)".*/\1/p' server/settings.def)
    if [ "${#keys[@]}" -eq 0 ]; then
        offence "server/settings.def:1: no key was found"
    fi
    sed -n '/^T{$/{n;p}' "$work/dsmd.conf.5" >"$work/dsmd.conf" # the first column of its table
    lacks dsmd.conf '^\\\\fB%s\\\\fR$' "${keys[@]}"
    while read -r key; do
        if ! grep -qxF -- "$key" <<<"$(printf '%s\n' "${keys[@]}")"; then
            offence "$1:1: there is no key $key"
        fi
    done < <(part "$1" '# NOTES ON SOME SETTINGS' | grep -E '^\*' | grep -oE '[a-z-]+')
}

# Literal blocks: a file of the configuration, and commands behind a prompt. Lines that end in a backslash are joined.
blocks() {
    awk '$0 == "```" { inside = !inside; next } inside' "$1" | sed -E -e ':a' -e '/\\$/{N;s/\\+\n//;ba' -e '}'
}

check_example() { # PAGE
    local said
    blocks "$1" | sed -E '/^[a-z-]+ = /!d' >"$work/example"
    if [ ! -s "$work/example" ]; then
        offence "$1:1: has no example"
    elif ! said=$("$build/bin/dsmctl" settings dsmd --config "$work/example" 2>&1 >/dev/null); then
        offence "$1:1: $said"
    fi
}

check_command_lines() { # PAGE
    local program command option help
    while read -r program command; do
        help=$("$build/bin/$program" --help)
        if [ "$program" = dsmctl ]; then
            help=$("$build/bin/dsmctl" "${command%% *}" --help 2>&1) || offence "$1:1: dsmctl ${command%% *} is no command"
        fi
        for option in $command; do
            if [[ $option == --* ]] && ! grep -qE -- "^ .*$option([^a-z-]|\$)" <<<"$help"; then
                offence "$1:1: an example says $program $command, and there is no $option"
            fi
        done
    done < <(blocks "$1" | sed -nE 's/^[$#] ([A-Z_]+=[^ ]+ )*(dsmd|dsmctl|dsmstat|dsmperf|dsm_exporter) ?/\2 /p')
}

check_rendering() { # PAGE
    local name said
    name=$(basename "$1" .scd)
    if ! said=$(deploy/manual-page "$1" "$build/bin" 0 "$work/$name" 2>&1) || [ -n "$said" ]; then
        offence "$1:1: cannot be made: $said"
    elif command -v man >/dev/null; then
        said=$(LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -l "$work/$name" 2>&1 >/dev/null) || true
        if [ -n "$said" ]; then
            offence "$1:1: $said"
        fi
    fi
}

check_states() { # PAGE: the moves as "from to", of the declaration and of the made page
    local name move last=
    name=$(basename "$1" .scd)
    mapfile -t states < <(sed -nE 's/^PAGE_STATE\(([A-Z_]+),.*/\L\1/p' libdsm/page/page_states.def)
    if [ "${#states[@]}" -eq 0 ]; then
        offence "libdsm/page/page_states.def:1: no state was found"
    fi
    lacks "$name" '^%s$' "${states[@]}"
    sed -nE 's/^PAGE_MOVE\(([A-Z_]+), ([A-Z_]+),.*/\L\1 \2/p' libdsm/page/page_states.def | sort >"$work/moves"
    sed -nE 's/^([a-z_]*) *\\?-\\?-> ([a-z_]+) .*/\1 \2/p' "$work/$name" |
        while IFS=' ' read -r from to; do
            if [ -z "$to" ]; then # a further move of the same state
                to=$from
                from=$last
            fi
            last=$from
            echo "$from $to"
        done | sort >"$work/drawn"
    while read -r move; do
        offence "$1:1: the diagram lacks the move $move"
    done < <(comm -23 "$work/moves" "$work/drawn")
    while read -r move; do
        offence "$1:1: the diagram has the move $move, page_states.def does not"
    done < <(comm -13 "$work/moves" "$work/drawn")
}

while read -r page; do
    check_rendering "$page"
    check_command_lines "$page"
done < <(find libdsm server tools -name '*.scd' | sort)
check_program server/dsmd.8.scd dsmd
check_program tools/dsmctl.1.scd dsmctl
check_program tools/dsmstat.1.scd dsmstat
check_program tools/dsmperf.1.scd dsmperf
check_program tools/dsm_exporter.1.scd dsm_exporter
check_commands tools/dsmctl.1.scd
check_measurements tools/dsmperf.1.scd
check_keys server/dsmd.conf.5.scd
check_example server/dsmd.conf.5.scd
check_states libdsm/man/dsm.7.scd
mapfile -t counters < <(sed -nE 's/^DSM_COUNTER\(([a-z_]+),.*/\1/p' libdsm/include/dsm/counters.def)
lacks dsmstat.1 '^\\\\fB%s\\\\fR (' "${counters[@]}"
mapfile -t columns < <(sed -nE 's/^DSM_COLUMN\([A-Z_]+, "([^"]+)".*/\1/p' libdsm/include/dsm/counters.def)
lacks dsmstat.1 '^\\\\fB%s\\\\fR$' "${columns[@]}"
mapfile -t keys < <(sed -nE 's/^AGENT_SETTING\([a-z_]+, "([a-z-]+)".*/\1/p' tools/agent.def)
lacks dsmctl-agent.1 '^\\\\fB%s\\\\fR' "${keys[@]}"
mapfile -t metrics < <(sed -nE 's/^DSM_METRIC\([A-Z_]+, "([a-z_]+)".*/\1/p' server/metrics.def)
lacks dsmd.8 '^\\\\fB%s\\\\fR' "${metrics[@]}"
mapfile -t metrics < <("$build/bin/dsm_exporter" --list | cut -f 1)
lacks dsm_exporter.1 '^\\\\fB%s\\\\fR' "${metrics[@]}"
verdict
