// SPDX-License-Identifier: Apache-2.0
//
// Asks the rooms of the server for their numbers and writes them down, in the order of metrics.def. Nothing is counted here.
//
// What it reveals to whoever reaches the port: names of principals and what they take, how busy the server is, and who was
// refused how often; never a key, an address, a segment's name or a page. That is why it is off unless asked for.
//
// It must not let the number of clients decide how much there is to say: series are labelled by operation, status and reason,
// which are fixed lists, and by principal, of which the first METRICS_PRINCIPALS by name are told. Names in their order, and
// not the largest: a series that comes and goes is of no use to who draws or alerts; what the rest could hide is in
// dsmd_quota_fullest_ratio. Statuses that never occurred are left out, but ok and those of the alerts that ship with us, so
// that a rate of them is 0 and not nothing.
//
// Threads: the page's own (metrics/http.c); locks are the rooms' own, each held for a copy. main says `reloaded`.
#include "server/metrics.h"

#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "server/tally.h"

enum { METRICS_PRINCIPALS = 128 };

enum metric {
#define DSM_METRIC(id, name, type, labels, meaning) METRIC_##id,
#include "server/metrics.def"
#undef DSM_METRIC
};

static const struct {
    const char *name;
    enum metrics_type type;
    const char *meaning;
} families[] = {
#define DSM_METRIC(id, name, type, labels, meaning) {name, METRICS_##type, meaning},
#include "server/metrics.def"
#undef DSM_METRIC
};

struct metrics {
    struct metrics_options options;
    struct metrics_http *http;
    _Atomic bool reload_failed;
    // What is put together for a page.
    struct service_facts facts;
    struct tally_sums sums;
    struct store_facts store;
    struct listener_counts counts;
    struct catalog_totals totals;
    struct catalog_sums principals[METRICS_PRINCIPALS];
    size_t principal_count;
};

static void begin(struct metrics_text *text, enum metric metric)
{
    metrics_family(text, families[metric].name, families[metric].type, families[metric].meaning);
}

static void one(struct metrics_text *text, enum metric metric, uint64_t value)
{
    begin(text, metric);
    metrics_number(text, NULL, 0, value);
}

static void say_state(const struct metrics *metrics, struct metrics_text *text)
{
    const struct metrics_label labels[] = {{"version", DSM_VERSION},
                                           {"name", metrics->options.name},
                                           {"cluster", metrics->options.cluster}};
    begin(text, METRIC_BUILD);
    metrics_number(text, labels, sizeof labels / sizeof *labels, 1);
    one(text, METRIC_DRAINING, metrics->facts.draining ? 1 : 0);
    one(text, METRIC_RELOADED, atomic_load(&metrics->reload_failed) ? 0 : 1);
}

static bool op_is_served(unsigned op)
{
    return op != WIRE_ATTACH && op != WIRE_CLOSE; // those two end in the front
}

static bool status_is_told(unsigned status, uint64_t count)
{
    return count > 0 || status == WIRE_OK || status == WIRE_STORE_ERROR ||
           status == WIRE_NO_SPACE || status == WIRE_OVER_QUOTA;
}

static void say_requests(const struct tally_sums *sums, struct metrics_text *text)
{
    begin(text, METRIC_REQUESTS);
    for (unsigned op = 0; op < TALLY_OPS; op++) {
        for (unsigned status = 0; op_is_served(op) && status < WIRE_STATUS_COUNT; status++) {
            const struct metrics_label labels[] = {{"op", tally_op_name(op)},
                                                   {"status", tally_status_name(status)}};
            if (status_is_told(status, sums->answers[op][status])) {
                metrics_number(text, labels, 2, sums->answers[op][status]);
            }
        }
    }
    begin(text, METRIC_DURATION);
    for (unsigned op = 0; op < TALLY_OPS; op++) {
        const struct metrics_label label = {"op", tally_op_name(op)};
        if (op_is_served(op)) {
            metrics_latency(text, &label, 1, sums->latency[op], sums->latency_ns[op]);
        }
    }
}

static void say_by_op(struct metrics_text *text, enum metric metric, const uint64_t *values)
{
    begin(text, metric);
    for (unsigned op = 0; op < TALLY_OPS; op++) {
        const struct metrics_label label = {"op", tally_op_name(op)};
        if (op_is_served(op)) {
            metrics_number(text, &label, 1, values[op]);
        }
    }
}

static void say_load(const struct metrics *metrics, struct metrics_text *text)
{
    say_requests(&metrics->sums, text);
    say_by_op(text, METRIC_RECEIVED, metrics->sums.received_bytes);
    say_by_op(text, METRIC_SENT, metrics->sums.sent_bytes);
    one(text, METRIC_READ_PAGES, metrics->facts.pages_read);
    one(text, METRIC_WRITTEN_PAGES, metrics->facts.pages_written);
    one(text, METRIC_SESSIONS, metrics->totals.sessions);
    one(text, METRIC_LANES, metrics->facts.lanes);
    one(text, METRIC_LANES_LIMIT, LIMIT_CONNECTIONS);
    one(text, METRIC_SEGMENTS, metrics->totals.segments);
}

static void say_handshakes(const struct listener_counts *counts, struct metrics_text *text)
{
    begin(text, METRIC_ACCEPTED);
    metrics_number(text, &(const struct metrics_label){"lane", "sock"}, 1,
                   counts->accepted[WIRE_LANE_SOCK]);
    metrics_number(text, &(const struct metrics_label){"lane", "grpc"}, 1,
                   counts->accepted[WIRE_LANE_GRPC]);
    begin(text, METRIC_REFUSED);
    for (unsigned status = 0; status < WIRE_STATUS_COUNT; status++) {
        const struct metrics_label label = {"reason", tally_status_name(status)};
        if (counts->refused[status] > 0 || status == WIRE_UNAUTHORIZED) {
            metrics_number(text, &label, 1, counts->refused[status]);
        }
    }
    for (unsigned drop = LISTENER_DROP_TOLD + 1; drop < LISTENER_DROPS; drop++) {
        const struct metrics_label label = {"reason", listener_drop_name(drop)};
        metrics_number(text, &label, 1, counts->dropped[drop]);
    }
}

static void say_waits(const struct spin_share *spinning, struct metrics_text *text)
{
    begin(text, METRIC_WAITS);
    metrics_number(text, &(const struct metrics_label){"way", "spun"}, 1,
                   atomic_load(spinning->spun));
    metrics_number(text, &(const struct metrics_label){"way", "slept"}, 1,
                   atomic_load(spinning->slept));
}

static void say_log(const struct metrics *metrics, struct metrics_text *text)
{
    uint64_t too_many;
    uint64_t no_room;
    log_left_out(metrics->options.log, &too_many, &no_room);
    begin(text, METRIC_LEFT_OUT);
    metrics_number(text, &(const struct metrics_label){"reason", "too_many"}, 1, too_many);
    metrics_number(text, &(const struct metrics_label){"reason", "no_room"}, 1, no_room);
}

static void say_store(const struct store_facts *store, struct metrics_text *text)
{
    one(text, METRIC_CAPACITY, store->capacity_bytes);
    one(text, METRIC_RESERVED, store->reserved_bytes);
    one(text, METRIC_STORED, store->stored_bytes);
    one(text, METRIC_HEADROOM, store->headroom_free_bytes);
    one(text, METRIC_HEADROOM_WAITS, store->headroom_waits);
    one(text, METRIC_INCARNATION, store->incarnation);
    one(text, METRIC_CLEAN, store->clean ? 1 : 0);
}

static void say_principals(const struct metrics *metrics, struct metrics_text *text)
{
    static const enum metric each[] = {METRIC_QUOTA, METRIC_CHARGED, METRIC_OWN_SEGMENTS,
                                       METRIC_OWN_SESSIONS};
    one(text, METRIC_PRINCIPALS, metrics->totals.principals);
    begin(text, METRIC_FULLEST);
    metrics_real(text, NULL, 0, metrics->totals.fullest);
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        begin(text, each[i]);
        for (size_t k = 0; k < metrics->principal_count; k++) {
            const struct catalog_sums *sums = &metrics->principals[k];
            const struct metrics_label label = {"principal", sums->principal};
            if (each[i] == METRIC_QUOTA && sums->quota_bytes == UINT64_MAX) {
                metrics_real(text, &label, 1, (double)INFINITY);
                continue;
            }
            metrics_number(text, &label, 1,
                           each[i] == METRIC_QUOTA          ? sums->quota_bytes
                           : each[i] == METRIC_CHARGED      ? sums->charged_bytes
                           : each[i] == METRIC_OWN_SEGMENTS ? sums->segments
                                                            : sums->sessions);
        }
    }
}

static void render(void *context, struct metrics_text *text)
{
    struct metrics *metrics = context;
    const struct metrics_options *options = &metrics->options;
    service_facts(options->service, &metrics->facts);
    tally_read(service_tally(options->service), &metrics->sums);
    store_facts(options->store, &metrics->store);
    listener_count(options->listener, &metrics->counts);
    metrics->principal_count = service_principals(options->service, metrics->principals,
                                                  METRICS_PRINCIPALS, &metrics->totals);
    say_state(metrics, text);
    say_load(metrics, text);
    say_handshakes(&metrics->counts, text);
    say_waits(metrics->options.spinning, text);
    say_log(metrics, text);
    say_store(&metrics->store, text);
    say_principals(metrics, text);
}

static int start(struct metrics *metrics, struct failure *failure)
{
    const struct metrics_http_options http = {.address = metrics->options.address,
                                              .prefix = "dsmd",
                                              .render = render,
                                              .context = metrics};
    int error = metrics_http_create(&http, &metrics->http, failure);
    return error == 0 ? metrics_http_start(metrics->http, failure) : error;
}

int metrics_create(const struct metrics_options *options, struct metrics **metrics,
                   struct failure *failure)
{
    struct metrics *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return failure_set(failure, -ENOMEM, "There is no memory for /metrics.");
    }
    made->options = *options;
    int error = start(made, failure);
    if (error != 0) {
        metrics_destroy(&made);
        return error;
    }
    bool local;
    const char *address = metrics_http_address(made->http, &local);
    log_line(options->log, LOG_LEVEL_INFO, "serves /metrics on %s", address);
    if (!local) {
        log_line(options->log, LOG_LEVEL_WARNING,
                 "/metrics asks nobody who he is, and %s can be reached from other machines: see "
                 "dsmd(8) for what it tells",
                 address);
    }
    *metrics = made;
    return 0;
}

void metrics_reloaded(struct metrics *metrics, bool well)
{
    if (metrics != NULL) {
        atomic_store(&metrics->reload_failed, !well);
    }
}

void metrics_destroy(struct metrics **metrics)
{
    struct metrics *old = *metrics;
    if (old == NULL) {
        return;
    }
    metrics_http_destroy(&old->http);
    free(old);
    *metrics = NULL;
}
