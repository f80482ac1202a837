#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# prometheus.sh ROOT: promtool takes the example configuration and the alerts, and the alerts' own tests pass; there is a test
# in which each of them fires, and each has words for whoever is told. The dashboard is JSON in which no panel lies on
# another, and each of its variables is used.
# shellcheck source=tests/check/lib.sh
. "$(dirname "$0")/lib.sh"
command -v promtool >/dev/null || {
    echo "SKIPPED: needs promtool (Debian package prometheus)"
    exit 77
}
rules=deploy/prometheus/dsm.rules.yml
tests=tests/prometheus/dsm_rules_test.yml

for command in "check config deploy/prometheus/prometheus.yml" "check rules $rules" "test rules $tests"; do
    # shellcheck disable=SC2086 # into words
    if ! said=$(promtool $command 2>&1); then
        offence "$rules:1: promtool $command: $said"
    fi
done

mapfile -t alerts < <(sed -nE 's/^ *- alert: ([A-Za-z]+)$/\1/p' "$rules")
if [ "${#alerts[@]}" -eq 0 ]; then
    offence "$rules:1: no alert was found"
fi
for alert in "${alerts[@]}"; do
    if ! grep -A 1 -E "^ *alertname: $alert\$" "$tests" | grep -q exp_alerts; then
        offence "$tests:1: no test in which $alert fires"
    fi
done
for word in 'severity: (critical|warning|info)' 'summary:' 'description:'; do
    if [ "$(grep -cE "$word" "$rules")" -ne "${#alerts[@]}" ]; then
        offence "$rules:1: ${#alerts[@]} alerts, but $(grep -cE "$word" "$rules") with $word"
    fi
done

for dashboard in deploy/grafana/*.json; do
    while IFS= read -r line; do
        offence "$dashboard:1: $line"
    done < <(python3 - "$dashboard" 2>&1 <<'END'
import json, sys
board = json.load(open(sys.argv[1]))
panels = board["panels"]
def within(x, a):
    return a["x"] <= x["x"] < a["x"] + a["w"] and a["y"] <= x["y"] < a["y"] + a["h"]
for i, one in enumerate(panels):
    if not one["title"]:
        print("a panel without a title")
    if one["gridPos"]["x"] + one["gridPos"]["w"] > 24:
        print(one["title"], "is wider than the page")
    for other in panels[i + 1:]:
        if one["id"] == other["id"] or within(one["gridPos"], other["gridPos"]) or within(other["gridPos"], one["gridPos"]):
            print(one["title"], "lies on", other["title"])
    if one["type"] != "row" and not one.get("targets"):
        print(one["title"], "shows nothing")
names = [v["name"] for v in board["templating"]["list"]]
for name in names[1:]:
    if "$" + name not in json.dumps(panels):
        print("the variable", name, "is used by nobody")
END
    )
done
verdict
