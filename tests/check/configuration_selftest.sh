#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# configuration_selftest.sh ROOT BUILD: plants offences into copies of the examples and of the unit, and expects
# examples.sh and unit.sh to find each.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(realpath "$1")
build=$(realpath "$2")
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failed=0

plant() { # CHECK EXIT WHAT FILE SED-SCRIPT
    local status=0 output
    rm -rf "${tree:?}"/*
    mkdir -p "$tree/deploy/systemd" "$tree/tests"
    cp "$root"/deploy/*.conf "$tree/deploy/"
    cp "$root"/deploy/systemd/*.service "$tree/deploy/systemd/"
    echo >"$tree/CMakeLists.txt"
    sed -i -E "$5" "$tree/$4"
    output=$("$here/$1.sh" "$tree" "$build" 2>&1) || status=$?
    if [ $status -eq 77 ]; then
        echo "$output"
    elif [ $status -ne "$2" ] || { [ "$2" -ne 0 ] && ! grep -qE "^$4:[0-9]+:" <<<"$output"; }; then
        echo "$1: $3: exit $status, expected $2:"
        echo "$output"
        failed=1
    fi
}

plant examples 0 "sound examples" deploy/dsmd.conf ''
plant examples 1 "a key that is not named" deploy/dsmd.conf '/lease-ms/d'
plant examples 1 "another default" deploy/client.conf 's/^#clean-gap = 4/#clean-gap = 5/'
plant examples 1 "a key named twice" deploy/client.conf "\$a #stat = on"
plant examples 1 "a key that there is not" deploy/dsmd.conf "\$a #colour = blue"
plant examples 1 "a value that is none" deploy/dsmd.conf 's/^store = .*/threads = many/'
plant unit 0 "a sound unit" deploy/systemd/dsmd.service ''
plant unit 1 "a unit that is open" deploy/systemd/dsmd.service '/^(SystemCall|Capability|Restrict|Protect)/d'
plant unit 1 "a word that systemd does not know" deploy/systemd/dsmd.service 's/^LockPersonality/LockPersonalities/'
exit $failed
