#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A Prometheus as Debian ships it scrapes a dsmd and a dsm_exporter, with the configuration and the alerts that ship with us,
# and its answers are what the program's dsm_stats() and dsmctl say. Every metric that dashboard and alerts name is served, every
# query of the dashboard is answered, every alert can be evaluated, and DsmdDown knows when dsmd is gone.
# In a space of process numbers of its own: the exporter shows every program of a user, other tests' too.
if [ "$(id -u)" -eq 0 ] && [ -z "${DSM_TEST_ALONE:-}" ]; then
    DSM_TEST_ALONE=$$ exec unshare --pid --fork --kill-child --mount-proc "$0" "$@"
fi
# shellcheck source=tests/e2e/metrics_lib.sh
. "$(dirname "$0")/metrics_lib.sh"
for program in prometheus promtool python3; do
    command -v $program >/dev/null || skip "needs $program (deploy/install-packages test)"
done
need_programs dsmd dsmctl dsm_exporter tools_client
make_keys
compare=$e2e_root/tests/prometheus/compare.py
prometheus_log=$work/prometheus.log

start_dsmd --capacity 256M --metrics 0
metrics_port "$work/dsmd.log"
server_page=127.0.0.1:$port
setpriv --pdeathsig KILL "$client_bin/dsm_exporter" --listen 0 --interval 1 >"$work/exporter.log" 2>&1 </dev/null &
pids+=($!)
wait_until 20 grep -qs 'serves /metrics' "$work/exporter.log" || fail "dsm_exporter says: $(cat "$work/exporter.log")"
metrics_port "$work/exporter.log"
exporter_page=127.0.0.1:$port

# The example, with our addresses and a short interval.
mkdir "$work/prometheus"
sed -e "s/localhost:7413/$server_page/" -e "s/localhost:7414/$exporter_page/" -e 's/interval: 15s/interval: 1s/' \
    "$e2e_root/deploy/prometheus/prometheus.yml" >"$work/prometheus/prometheus.yml"
cp "$e2e_root/deploy/prometheus/dsm.rules.yml" "$work/prometheus/"
setpriv --pdeathsig KILL prometheus --config.file="$work/prometheus/prometheus.yml" --storage.tsdb.path="$work/prometheus/data" \
    --web.listen-address=127.0.0.1:0 >"$prometheus_log" 2>&1 </dev/null &
pids+=($!)
prometheus_pid=$!
listens() {
    grep -qE 'Listening on.* address=127.0.0.1:[1-9]' "$prometheus_log" || ended "$prometheus_pid"
}
wait_until 60 listens || fail "prometheus does not listen: $(tail -n 5 "$prometheus_log")"
url=http://127.0.0.1:$(sed -nE 's/.*Listening on.* address=127.0.0.1:([0-9]+).*/\1/p' "$prometheus_log" | head -n 1)
say "prometheus at $url"

# Of standard input, "NUMBER QUERY": within the time of some scrapes.
must_answer() {
    python3 "$compare" values "$url" 60 || fail "these are not what they should be"
}

start_program
tools_say 0 '' dsmctl stat --json
counter() {
    sed -n "s/^$1 //p" "$client_log" | head -n 1
}
{
    echo '1 up{job="dsmd"}'
    echo '1 up{job="dsm_exporter"}'
    for name in swap_in_calls faults_read faults_write victims laundered_pages read_requests; do
        echo "$(counter $name) sum(dsm_${name}_total{program=\"tools_client\"})"
    done
    echo "$(counter bytes_read) dsm_read_bytes_total{program=\"tools_client\"}"
    echo "$(counter resident_bytes) sum(dsm_resident_bytes)"
    echo "$(counter faults) dsm_fault_duration_seconds_count{program=\"tools_client\"}"
    echo "$(counter read_requests) dsmd_requests_total{op=\"read\",status=\"ok\"}"
    echo "$(counter bytes_written) sum(dsmd_received_bytes_total{op=\"write\"})"
    for name in stored_bytes reserved_bytes capacity_bytes incarnation; do
        echo "$(json_number $name) dsmd_store_$name"
    done
    echo "$(json_number charged_bytes) dsmd_principal_charged_bytes{principal=\"tester\"}"
    echo "$(json_number pages_written) dsmd_written_pages_total"
    # By Prometheus' own arithmetic the median fault lies in the power of two where the library's does, or the next.
    p50=$(counter p50_ns)
    echo "$(awk -v ns="$p50" 'BEGIN { printf "%.12f..%.12f", ns * 0.45 / 1e9, ns * 2.2 / 1e9 }')" \
        'histogram_quantile(0.5, sum by (le) (dsm_fault_duration_seconds_bucket))'
} | must_answer

curl --silent --fail --output "$work/server.page" "http://$server_page/metrics" || fail "no page of dsmd"
curl --silent --fail --output "$work/exporter.page" "http://$exporter_page/metrics" || fail "no page of dsm_exporter"
python3 "$compare" names "$work/server.page" "$work/exporter.page" "$e2e_root/deploy" || fail "names that nobody serves"
python3 "$compare" panels "$url" "$e2e_root/deploy/grafana/dsm.json" || fail "panels without data"
python3 "$compare" rules "$url" || fail "rules that cannot be evaluated"
end_program

stop_dsmd
printf '%s\n' '0 up{job="dsmd"}' '1 count(ALERTS{alertname="DsmdDown",alertstate="pending"})' | must_answer
