# SPDX-License-Identifier: Apache-2.0
#
# What a Prometheus that scrapes dsmd and dsm_exporter answers.
#
#   compare.py names PAGE PAGE DIRECTORY   every metric that dashboard and alerts of DIRECTORY (deploy) name is on one of the pages
#   compare.py values URL SECONDS          of each line of standard input, "NUMBER QUERY": the query gives one series with that number,
#                                          at the latest after that time. NUMBER may be LOW..HIGH
#   compare.py rules URL                   every rule was evaluated without an error
#   compare.py panels URL DASHBOARD        every query of the dashboard is answered, with data but for what nobody did
import json
import re
import sys
import time
import urllib.parse
import urllib.request

NAMES = re.compile(r"\b((?:dsmd|dsm|process)_[a-z0-9_]+|up)\b(?!\s*=)")
LABELS = re.compile(r'\{[^{}]*\}|by \([^()]*\)|on \([^()]*\)')


def ask(url, path, **arguments):
    with urllib.request.urlopen(f"{url}{path}?{urllib.parse.urlencode(arguments)}", timeout=20) as answer:
        return json.load(answer)["data"]


def result(url, query):
    return ask(url, "/api/v1/query", query=query)["result"]


def dashboard_queries(path):
    board = json.load(open(path))
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], re.sub(r"label_values\((.*), [a-z]+\)", r"\1", variable["definition"])


def rule_queries(path):
    # Enough of YAML for a file that promtool has taken: "expr: ..." in one line, or "|" and deeper lines.
    lines = open(path).read().split("\n")
    for number, line in enumerate(lines):
        if line.strip().startswith("expr:"):
            text = line.split("expr:", 1)[1].strip()
            depth = len(line) - len(line.lstrip())
            if text == "|":
                text = ""
                for more in lines[number + 1:]:
                    if len(more) - len(more.lstrip()) <= depth:
                        break
                    text += more + "\n"
            yield path, text


def names(pages, directory):
    served = {"up"}
    for page in pages:
        served |= {line.split("{")[0].split(" ")[0] for line in open(page) if not line.startswith("#")}
    wrong = 0
    seen = 0
    queries = list(dashboard_queries(f"{directory}/grafana/dsm.json")) + list(
        rule_queries(f"{directory}/prometheus/dsm.rules.yml"))
    for where, query in queries:
        for name in NAMES.findall(LABELS.sub("", query)):
            seen += 1
            if name not in served:
                print(f"{where}: {name} is on no page")
                wrong += 1
    print(f"{len(queries)} queries, {seen} names")
    return wrong == 0 and seen >= 80


def holds(wanted, number):
    low, _, high = wanted.partition("..")
    return float(low) <= float(number) <= float(high or low)


def values(url, seconds):
    end = time.monotonic() + float(seconds)
    wrong = 0
    for line in sys.stdin:
        wanted, query = line.strip().split(" ", 1)
        series = result(url, query)
        while not (len(series) == 1 and holds(wanted, series[0]["value"][1])) and time.monotonic() < end:
            time.sleep(0.1)
            series = result(url, query)
        if len(series) != 1 or not holds(wanted, series[0]["value"][1]):
            print(f"{query} is {[one['value'][1] for one in series]}, not {wanted}")
            wrong += 1
    return wrong == 0


def rules(url):
    end = time.monotonic() + 60
    while True:
        every = [rule for group in ask(url, "/api/v1/rules")["groups"] for rule in group["rules"]]
        if time.monotonic() > end or all(rule["health"] != "unknown" for rule in every):
            break
        time.sleep(0.1)
    bad = [rule for rule in every if rule["health"] != "ok"]
    for rule in bad:
        print(rule["name"], rule["health"], rule.get("lastError", ""))
    print(f"{len(every)} rules, {len(bad)} not in order")
    return not bad and len(every) >= 20


def panels(url, path):
    may_be_empty = {"Handshakes"}  # where nobody was refused
    wrong = answered = 0
    end = time.monotonic() + 60
    for title, query in dashboard_queries(path):
        for variable in ("server", "node", "program", "user"):
            query = query.replace(f'"${variable}"', '".*"')
        query = query.replace("$__rate_interval", "1m")
        series = result(url, query)
        while not series and title not in may_be_empty and time.monotonic() < end:  # a rate takes two scrapes
            time.sleep(0.1)
            series = result(url, query)
        answered += 1
        if not series and title not in may_be_empty:
            print(f"{title}: no data: {query}")
            wrong += 1
        for one in series:
            if one["value"][1] == "NaN" and "quantile" not in query and "/" not in query:
                print(f"{title}: {query} is not a number")
                wrong += 1
    print(f"{answered} queries answered")
    return wrong == 0 and answered >= 40


if __name__ == "__main__":
    what, arguments = sys.argv[1], sys.argv[2:]
    good = {
        "names": lambda: names(arguments[:2], arguments[2]),
        "values": lambda: values(*arguments),
        "rules": lambda: rules(*arguments),
        "panels": lambda: panels(*arguments),
    }[what]()
    sys.exit(0 if good else 1)
