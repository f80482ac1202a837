#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# probes.sh ROOT BUILD: the probes that the lists declare are those that the files have, with the arguments, in number, width and sign, that
# dsm_probes(7) says; each has a semaphore. PROBES_DSM, PROBES_DSMD: other lists, for the self-test.
build=$(realpath "$2")
# shellcheck source=tests/check/lib.sh
. "$(dirname "$0")/lib.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# declared LIST: NAME TYPE... of each probe, from its arguments' lines, and the order of its parameters.
declared() {
    sed -nE 's/^DSM_PROBE\([a-z]+, ([a-z_]+),.*/\1/p' "$1" | while read -r probe; do
        printf '%s' "$probe"
        sed -nE "s/^DSM_ARGUMENT\($probe, [a-z_]+, ([a-z0-9]+),.*/ \1/p" "$1" | sed -E 's/pointer/u64/' | tr -d '\n'
        printf '\n'
    done
}

# parameters LIST, arguments LIST: PROBE NAME..., as the function has them, and as they are described.
parameters() {
    awk '/^DSM_PROBE\(/ { split($0, part, /[(,] */); probe = part[3] }
        /^ +\([a-z_, ]+\)\)$/ { gsub(/[(),]/, ""); $1 = $1; print probe, $0 }' "$1"
}
arguments() {
    sed -nE 's/^DSM_ARGUMENT\(([a-z_]+), ([a-z_]+),.*/\1 \2/p' "$1" |
        awk '{ if ($1 != last) printf "%s%s", last == "" ? "" : "\n", $1; printf " %s", $2; last = $1 } END { print "" }'
}

# found FILE PROVIDER: NAME TYPE... of each place.
found() {
    readelf -n "$1" | awk -v provider="$2" '
        $1 == "Provider:" { mine = $2 == provider }
        mine && $1 == "Name:" { name = $2 }
        mine && $1 == "Location:" { semaphore = $NF }
        mine && $1 == "Arguments:" {
            line = name
            for (i = 2; i <= NF; i++) {
                split($i, part, "@")
                if (part[2] != "" || $i ~ /@/) {
                    type = part[1] == 8 ? "u64" : part[1] == 4 ? "u32" : part[1] == -4 ? "s32" : "width " part[1]
                    line = line " " type
                }
            }
            if (semaphore ~ /^0x0+$/) {
                line = line " without a semaphore"
            }
            print line
        }' | sort -u
}

check() { # LIST FILE PROVIDER
    local line
    declared "$1" | sort >"$work/declared"
    found "$2" "$3" >"$work/found"
    if [ ! -s "$work/declared" ]; then
        offence "$1:1: declares no probe"
    fi
    while IFS= read -r line; do
        offence "$1:1: declares $line; ${2##*/} has no such probe"
    done < <(comm -23 "$work/declared" "$work/found")
    while IFS= read -r line; do
        offence "$1:1: ${2##*/} has $line, which is not declared"
    done < <(comm -13 "$work/declared" "$work/found")
    while IFS= read -r line; do
        offence "$1:1: the parameters $line are described otherwise"
    done < <(comm -3 <(parameters "$1" | sort) <(arguments "$1" | sort))
}

check "${PROBES_DSM:-libdsm/stat/probes.def}" "$build/lib/libdsm.so" dsm
check "${PROBES_DSMD:-server/probes.def}" "$build/bin/dsmd" dsmd
verdict
