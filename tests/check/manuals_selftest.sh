#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# manuals_selftest.sh ROOT BUILD: plants offences into copies of the manual pages and of the tables, and expects manuals.sh to
# find each.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(realpath "$1")
build=$(realpath "$2")
if ! command -v scdoc >/dev/null; then
    echo "There is no scdoc."
    exit 77
fi
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
cd "$root"
cp --parents server/*.scd tools/*.scd server/settings.def libdsm/include/dsm/counters.def deploy/manual-page \
    libdsm/man/dsm.7.scd libdsm/page/page_states.def "$tree"
echo >"$tree/CMakeLists.txt"

expected=()
plant() { # FILE SED-SCRIPT WHAT-IS-SAID
    local before
    before=$(md5sum "$tree/$1")
    sed -i -E "$2" "$tree/$1"
    if [ "$(md5sum "$tree/$1")" = "$before" ]; then
        echo "$1: the script $2 changes nothing."
        exit 1
    fi
    expected+=("$3")
}

plant server/dsmd.8.scd '/^\*--lease-ms\*/d' 'dsmd has "--lease-ms MS", the page does not'
plant server/dsmd.8.scd 's/^\*--threads\* _N_/*--threads* _COUNT_/' 'describes "--threads COUNT", dsmd --help does not'
plant server/dsmd.8.scd 's/^    --key server/    --keys server/' 'there is no --keys'
plant server/dsmd.conf.5.scd 's/^\*capacity\*/*capacities*/' 'there is no key capacities'
plant server/dsmd.conf.5.scd 's/^log-level = .*/log-level = loud/' '"loud" is no value for log-level'
plant server/settings.def "\$a DSM_SETTING(colour, \"colour\", TEXT, \"\", 0, 0, \"NAME\", START, \"colour\")" 'lacks colour'
plant tools/dsmctl.1.scd '/^## ping/,/^## segments/s/^\*-c\*, //' 'dsmctl ping has "-c", the page does not'
plant tools/dsmctl.1.scd 's/^## delete/## remove/' 'dsmctl has "delete", the page does not'
plant tools/dsmctl.1.scd 's/--page-size 64K/--pages 64K/' 'there is no --pages'
plant tools/dsmstat.1.scd '/^@counters@$/d' 'lacks swap_in_calls'
plant tools/dsmstat.1.scd '/^@columns@$/d' 'lacks PG/RUN'
plant libdsm/man/dsm.7.scd 's/^@moves@$/lost --> resident by hand/' 'has the move lost resident, page_states.def does not'
expected+=('lacks the move backing reading')
plant libdsm/man/dsm.7.scd '/^@states@$/d' 'lacks killing'
plant tools/dsmperf.1.scd 's/^\*scan\*$/*sweep*/' 'describes "sweep", dsmperf --help does not'
plant tools/dsmperf.1.scd "\$a #No blank" 'cannot be made'

failed=0
if said=$("$here/manuals.sh" "$tree" "$build" 2>&1); then
    echo "manuals.sh found nothing."
    failed=1
fi
for one in "${expected[@]}"; do
    if ! grep -qF -- "$one" <<<"$said"; then
        echo "manuals.sh did not say: $one"
        failed=1
    fi
done
if [ $failed -ne 0 ]; then
    echo "It said:"
    echo "$said"
fi
exit $failed
