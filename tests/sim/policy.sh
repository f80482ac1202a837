#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# policy.sh: replacement policies on the traces that are made by a rule and on two that are recorded here from real programs
# (each verifies its own result meanwhile). No policy beats Belady's, none of the others that a trap allows is better than
# the library's by more than a point, on the whole it is better than all of these but for a plain loop (where any
# order is bad and chance is best), and the table in dsm(7) is the one of today's code.
set -euo pipefail
build=${DSM_BUILD:?}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
record() { # NAME ARGUMENT...
    local name=$1
    shift
    DSM_CONFIG='' DSM_SERVER=embedded DSM_EMBEDDED_SIZE=256M DSM_READ_AHEAD=0 DSM_TRACE_FILE=$work/$name \
        "$build/bin/record_$name" "$@" >"$work/$name.out" 2>&1 || {
        cat "$work/$name.out"
        exit 1
    }
    grep -qw verified "$work/$name.out"
    [ "$(stat -c %s "$work/$name")" -gt 100000 ]
}
record gups --table 32M --updates 50000 --cache 64M
record bfs --scale 12 --roots 1 --cache 64M
"$build/bin/policy_sim" --json "gups-small=$work/gups" "bfs-small=$work/bfs" >"$work/json"
"$build/bin/policy_sim" >"$work/table"
cat "$work/table"
python3 - "$work/json" "$here/../../libdsm/man/dsm.7.scd" <<'P'
import json, re, sys
rows = json.load(open(sys.argv[1]))
sums = {}
for row in rows:
    rate = {p: 100 * h / row["touches"] for p, h in row["hits"].items()}
    name = f'{row["trace"]} {row["frames"]}'
    for policy, value in rate.items():
        assert value <= rate["Belady"] + 1e-9, f"{name}: {policy} beats the best possible"
        if row["trace"] != "loop":
            sums[policy] = sums.get(policy, 0) + value
    for policy in ("clock", "fifo"):
        assert rate["dsm"] >= rate[policy] - 1, f"{name}: {policy} is better by more than a point"
for policy in ("clock", "fifo", "random"):
    assert sums["dsm"] > sums[policy], f"{policy} is better on the whole"
# The rows of the manual that are made by a rule: | trace | frames | dsm | clock | ...
page = open(sys.argv[2]).read()
policies = list(rows[0]["hits"])
for row in rows:
    if "-small" in row["trace"]:
        continue
    cells = [row["trace"], str(row["frames"])] + [f'{100 * row["hits"][p] / row["touches"]:.1f}' for p in policies]
    pattern = r"[\[|]\s*" + r"\s*\n:[<>-]? ?".join(re.escape(c) for c in cells) + r"\s*\n"
    assert re.search(pattern, page), f'dsm(7) does not say: {" ".join(cells)}'
P
