# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the tests of /metrics need besides tools_lib.sh.
#
#   metrics_port LOG         where dsmd or dsm_exporter says that it serves /metrics, in $port
#   scrape [FILE]            the page at $port, into FILE ($page when none is given)
#   value SAMPLE [FILE]      its number, as it stands there: value 'dsmd_requests_total{op="read",status="ok"}'
#   is SAMPLE NUMBER [FILE]  fails unless it is that number
#   settles SAMPLE NUMBER    scrapes until it is that number
#   http METHOD PATH [ARG..] the status of an answer to curl
# shellcheck source=tests/e2e/tools_lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/tools_lib.sh"
page=$work/page
command -v curl >/dev/null || skip "needs curl (deploy/install-packages test)"

metrics_port() {
    port=$(sed -nE 's/.*serves \/metrics on .*:([0-9]+)$/\1/p' "$1" | tail -n 1)
    [ -n "$port" ] || fail "no port for /metrics: $(cat "$1")"
}

scrape() {
    curl --silent --show-error --fail --max-time 10 --output "${1:-$page}" "http://127.0.0.1:$port/metrics" ||
        fail "/metrics cannot be had"
}

value() {
    awk -v sample="$1" '{ number = $NF; sub(/ [^ ]*$/, "") } $0 == sample { print number }' "${2:-$page}"
}

is() {
    [ "$(value "$1" "${3:-$page}")" = "$2" ] || fail "$1 is \"$(value "$1" "${3:-$page}")\", not $2"
}

settled() {
    scrape
    [ "$(value "$1")" = "$2" ]
}

settles() {
    wait_until 20 settled "$1" "$2" || is "$1" "$2"
}

http() {
    curl --silent --max-time 10 --output /dev/null --write-out '%{http_code}' --request "$1" "${@:3}" \
        "http://127.0.0.1:$port$2" || true
}
