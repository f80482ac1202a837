#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# perf.sh SUBCOMMAND [OPTION...]: dsmperf at its smallest, with a dsmd of its own. Not how fast anything is, but that what is printed has the
# shape that is documented, that each figure can be one, and that each ratio is that of its row; that a picture is
# one, and that nothing is left behind.
set -euo pipefail
build=$(realpath "${DSM_BUILD:-build}")
work=$(mktemp -d -t "dsm-test-$$.XXXXXX")
trap 'rm -rf "$work"' EXIT
unset DSM_SERVER DSM_SERVER_KEY DSM_KEY_FILE DSM_CLUSTER DSM_CACHE
export DSM_CONFIG='' TMPDIR=$work
subcommand=$1
shift
plot=()
case $subcommand in
fault | apps) plot=(--plot "$work/plot.svg") ;;
esac
"$build/bin/dsmperf" --json --rounds 5 --samples 40 --size 8 "${plot[@]}" "$@" "$subcommand" >"$work/out.json"
python3 - "$subcommand" "$work/out.json" "${plot[@]:1}" <<'END'
import json, math, sys, xml.dom.minidom
test, path = sys.argv[1], sys.argv[2]
rows = json.load(open(path))
swaps = any(row["metric"].startswith("sort, swap, 50") and row["value"] is not None for row in rows)
members = ["test", "metric", "trap", "lanes", "waiting", "value", "min", "max", "unit", "limit", "ratio"]
# What each must show: the beginning of a metric, and whether it has a limit beside it.
needed = {
    "limit": [("TCP round trip, 4 KiB", False), ("fill and evict", False), ("AES-256-GCM upload", False)],
    "fault": [("random ", True), ("p50 / limit", False), ("random direct read of 4 KiB", False), ("read for a fault", False)],
    "scan": [("cold, sequential", True), ("scan / limit", False), ("open 1 TiB", True)],
    "clean": [("write-back of a full cache", True), ("write-back / limit", False)],
    "threads": [("1 thread, touches", True), ("2 threads, touches", True), ("2 threads, slowest / mean", True)],
    "clients": [("1 client, touches", True), ("2 clients, touches", True), ("2 clients, slowest / mean", True)],
    "apps": [("sort, all local", False), ("sort, 50 % local", None), ("sort, swap", None)]
        + ([("sort, memory of either", False)] if swaps else []),
}
def wrong(row, why):
    sys.exit("%s: %s" % (why, row))
for row in rows:
    if list(row) != members or row["test"] != test:
        wrong(row, "not the members of a row of " + test)
    for name in ("test", "metric", "trap", "lanes", "waiting", "unit"):
        if not isinstance(row[name], str) or row[name] == "":
            wrong(row, "no text: " + name)
    for name in ("value", "min", "max", "limit", "ratio"):
        if row[name] is not None and not (math.isfinite(row[name]) and row[name] >= 0):
            wrong(row, "no figure: " + name)
    if row["value"] is None and ": none: " not in row["metric"] and not row["metric"].startswith("direct reads: "):
        wrong(row, "no value, and no reason")
    if row["min"] is not None and not row["min"] <= row["value"] <= row["max"]:
        wrong(row, "the median lies outside of the spread")
    if (row["limit"] is None) != (row["ratio"] is None):
        wrong(row, "a limit without a ratio")
    if row["limit"] and abs(row["ratio"] - row["value"] / row["limit"]) > 0.001 * row["ratio"]:
        wrong(row, "not the ratio")
    if row["unit"] in ("us", "MB/s", "1/s") and row["value"] == 0:
        wrong(row, "took no time")
if test == "apps" and swaps: # no less than the cache's 50 % of an eighth of 32 MiB, twice; nor all of the data and libdsm
    memory = [row["value"] for row in rows if row["metric"].startswith("sort, memory of either")]
    if len(memory) != 1 or not 4 <= memory[0] < 4 + 24:
        sys.exit("memory of either: %r" % memory)
for begin, limited in needed[test]:
    found = [row for row in rows if row["metric"].startswith(begin)]
    if not found:
        sys.exit("no row %r of %r" % (begin, [row["metric"] for row in rows]))
    if limited is not None and limited != (found[0]["limit"] is not None):
        wrong(found[0], "limit")
if len(sys.argv) > 3:
    document = xml.dom.minidom.parse(sys.argv[3]).documentElement
    lines = document.getElementsByTagName("polyline")
    if document.tagName != "svg" or not lines:
        sys.exit("no picture")
    for line in lines:
        points = [tuple(map(float, point.split(","))) for point in line.getAttribute("points").split()]
        if not points or any(not (0 <= x <= 860 and 0 <= y <= 500) for x, y in points):
            sys.exit("a line outside of the picture: %r" % points)
print("%d rows" % len(rows))
END
rm -f "$work/out.json" "$work/plot.svg"
[ -z "$(ls -A "$work")" ] || {
    echo "FAILED: left behind: $(ls -A "$work")"
    exit 1
}
