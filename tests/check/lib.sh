# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the source checks share. A check is a script that takes the root of a tree, prints one line for each
# offence, "FILE:LINE: what is wrong", and exits 1 when there was one. selftest.sh plants an offence for each.
set -euo pipefail
export LC_ALL=C

root=${1:-$(dirname "${BASH_SOURCE[0]}")/../..}
cd "$root"
rooms=()
for room in rpc libdsm server metrics bpf tools tests deploy .ci; do
    if [ -d "$room" ]; then
        rooms+=("$room")
    fi
done

# sources [GLOB...]: our source files, relative to the root; of all kinds without a GLOB.
sources() {
    local kinds=() glob
    if [ $# -eq 0 ]; then
        set -- '*.c' '*.h' '*.def' '*.proto' '*.map' '*.cmake' '*.sh' CMakeLists.txt
        scripts
    fi
    for glob in "$@"; do
        kinds+=(-o -name "$glob")
    done
    find CMakeLists.txt "${rooms[@]}" -type f '(' "${kinds[@]:1}" ')' | sort
}

# scripts: files without a suffix that name an interpreter in their first line.
scripts() {
    local file
    find "${rooms[@]}" -type f ! -name '*.*' ! -name CMakeLists.txt | sort |
        while read -r file; do
            if [ "$(head -c 2 "$file")" = '#!' ]; then
                echo "$file"
            fi
        done
}

offences=0
offence() {
    echo "$*"
    offences=$((offences + 1))
}

verdict() {
    if [ "$offences" -gt 0 ]; then
        echo "$offences found."
        exit 1
    fi
}
