#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# examples.sh ROOT BUILD: deploy/dsmd.conf and deploy/client.conf name every key of the tables once, with its default where it
# is commented out, and both ends take them as they are and with every default put in. The tables come from dsmctl settings.
build=$(realpath "$2")
# shellcheck source=tests/check/lib.sh
. "$(dirname "$0")/lib.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# keys END: "KEY DEFAULT" for each key that a file may hold.
keys() {
    DSM_CONFIG='' "$build/bin/dsmctl" settings "$1" --json --config '' |
        python3 -c 'import json, sys
for one in json.load(sys.stdin)[sys.argv[1]]:
    if one["change"] != "option":
        print(one["key"], one["default"])' "$1"
}

check_example() { # END FILE
    local key initial line number
    keys "$1" >"$work/keys"
    if [ ! -s "$work/keys" ]; then
        offence "$2:1: dsmctl settings names no key"
    fi
    while read -r key initial; do
        line=$(grep -nE "^#?$key =" "$2" || true)
        number=${line%%:*}
        if [ "$(grep -cE "^#?$key =" "$2")" -ne 1 ]; then
            offence "$2:1: does not name the key $key once"
        elif [ "${line#*:}" != "#$key =${initial:+ }$initial" ] && [[ ${line#*:} == '#'* ]]; then
            offence "$2:$number: the default of $key is \"$initial\""
        fi
    done <"$work/keys"
    while IFS=: read -r number key; do
        if ! grep -q "^$key " "$work/keys"; then
            offence "$2:$number: there is no key $key"
        fi
    done < <(grep -nE '^#?[a-z-]+ =' "$2" | sed -E 's/^([0-9]+):#?([a-z-]+) =.*/\1:\2/')
}

# Both ends read it: as it is, and with the defaults taken in.
check_taken() { # FILE
    local said
    cp "$1" "$work/as-it-is"
    sed -E 's/^#([a-z-]+ =)/\1/' "$1" >"$work/all"
    for file in "$work/as-it-is" "$work/all"; do
        case $1 in
        *client.conf) said=$(DSM_CONFIG=$file "$build/bin/dsmctl" settings client 2>&1 >/dev/null) || offence "$1:1: $said" ;;
        *) said=$("$build/bin/dsmctl" settings dsmd --config "$file" 2>&1 >/dev/null) || offence "$1:1: $said" ;;
        esac
    done
}

check_example dsmd deploy/dsmd.conf
check_example client deploy/client.conf
check_taken deploy/dsmd.conf
check_taken deploy/client.conf
verdict
