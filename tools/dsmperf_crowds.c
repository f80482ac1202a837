// SPDX-License-Identifier: Apache-2.0
//
// `dsmperf threads` and `dsmperf clients`: random loads by many at once, from one process with 1 to 16 threads, or from 1 to 256
// processes with a session each. The limit is as many raw threads or processes, each of which does the trap's cycle, the round
// trip and the cipher, and nothing else (dsmperf_raw.c), to one process that answers. Product and limit take turns: while
// one crowd is at work the other sleeps.
//
// A touch is of any page of the segment, of which an eighth is in the cache, full from the first: one in eight is a hit, on both
// sides. Looking for absent pages would cost the product alone. Fairness is the slowest member's rate over the mean.
//
// This process has no session: all that it measures it has forked.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/dsmperf_crowd.h"
#include "tools/dsmperf_target.h"

enum { CLIENT_BYTES_MIN = 4 << 20, THREADS_MOST = 16, CLIENTS_MOST = 256 };

struct crowds_run {
    const struct perf_settings *settings;
    struct perf_report *report;
    struct failure *failure;
    bool clients;
    struct perf_target server; // without a session
};
struct figures { // one of each round
    struct perf_samples rates, limits, fair, fair_limits;
};

static uint64_t client_bytes(const struct crowds_run *run, uint32_t processes)
{
    uint64_t bytes = run->settings->bytes / processes / PERF_PAGE_BYTES * PERF_PAGE_BYTES;
    return bytes < CLIENT_BYTES_MIN ? CLIENT_BYTES_MIN : bytes;
}

struct product {
    struct crowds_run *run;
    uint64_t bytes;
};

static int client_open(void *context, uint32_t process, uint32_t threads, void **state,
                       struct failure *failure)
{
    struct product *product = context;
    struct perf_target *target = calloc(1, sizeof(*target));
    uint64_t random = process + 1;
    (void)threads;
    if (target == NULL) {
        return failure_set(failure, -ENOMEM, "There is not enough memory.");
    }
    *target = product->run->server;
    int result = perf_target_start(product->run->settings, target, product->bytes, failure);
    target->own_server = false; // it is our parent's to stop
    *state = target;
    if (result == 0) { // what the sequential filling made the library read ahead is forgotten
        result = perf_target_touch(target, &random, target->cached_pages, false, NULL);
    }
    return result;
}

static int client_step(void *state, uint32_t thread, uint64_t *random)
{
    const struct perf_target *target = state;
    (void)thread;
    (void)target->base[(perf_random(random) >> 16) % target->pages * target->page_bytes];
    return 0;
}

static void client_close(void *state)
{
    perf_target_close(state);
}

static int add_round(const struct crowds_run *run, struct perf_crowd *crowd, uint32_t count,
                     struct perf_samples *rates, struct perf_samples *fair)
{
    double each[PERF_CROWD_MOST];
    double total = 0;
    double least = INFINITY;
    int result = perf_crowd_round(crowd, run->settings->window_ms, each, run->failure);
    for (uint32_t i = 0; i < count && result == 0; i++) {
        total += each[i];
        least = fmin(least, each[i]);
    }
    if (result == 0 &&
        ((result = perf_samples_add(rates, total)) != 0 ||
         (result = perf_samples_add(fair, total > 0 ? least * count / total : 0)) != 0)) {
        failure_set(run->failure, result, "There is not enough memory.");
    }
    return result;
}

static int report_step(struct crowds_run *run, uint32_t count, struct figures *f)
{
    const char *what = run->clients ? "client" : "thread";
    struct perf_row row = {.test = run->clients ? "clients" : "threads",
                           .trap = run->settings->trap_now,
                           .lanes = run->settings->lanes,
                           .waiting = perf_waiting(run->settings),
                           .unit = "1/s",
                           .limit = perf_percentile(&f->limits, 50)};
    snprintf(row.metric, sizeof(row.metric), "%u %s%s, touches", (unsigned)count, what,
             count > 1 ? "s" : "");
    int result = perf_report_spread(run->report, row, &f->rates);
    row.unit = "1";
    row.limit = perf_percentile(&f->fair_limits, 50);
    snprintf(row.metric, sizeof(row.metric), "%u %s%s, slowest / mean", (unsigned)count, what,
             count > 1 ? "s" : "");
    if (result == 0 && count > 1) {
        result = perf_report_spread(run->report, row, &f->fair);
    }
    return result;
}

static int run_rounds(struct crowds_run *run, struct perf_crowd *raw, struct perf_crowd *product,
                      uint32_t count)
{
    struct figures f = {.rates = {0}};
    int result = 0;
    char what[64];
    (void)snprintf(what, sizeof(what), "%u %s at once: rounds", (unsigned)count,
                   run->clients ? "clients" : "threads");
    for (size_t round = 0; round < run->settings->rounds && result == 0; round++) {
        perf_progress(what, round, run->settings->rounds);
        result = add_round(run, raw, count, &f.limits, &f.fair_limits);
        if (result == 0) {
            result = add_round(run, product, count, &f.rates, &f.fair);
        }
    }
    if (result == 0 && (result = report_step(run, count, &f)) != 0) {
        failure_set(run->failure, result, "There is not enough memory.");
    }
    perf_samples_free(&f.rates);
    perf_samples_free(&f.limits);
    perf_samples_free(&f.fair);
    perf_samples_free(&f.fair_limits);
    return result;
}

static int run_step(struct crowds_run *run, uint32_t count)
{
    uint32_t processes = run->clients ? count : 1;
    uint32_t threads = run->clients ? 1 : count;
    uint64_t bytes = client_bytes(run, processes);
    uint32_t pages = (uint32_t)(bytes / PERF_PAGE_BYTES / threads);
    uint32_t spin_us = perf_spins(run->settings) ? PERF_SPIN_US : 0;
    struct product context = {run, bytes};
    struct perf_body body = {&context, client_open, client_step, client_close};
    struct perf_raw *raw = NULL;
    struct perf_crowd *limit = NULL;
    struct perf_crowd *product = NULL;
    perf_progress(run->clients ? "clients: starting" : "threads: starting", 0, count);
    int result = perf_raw_start(run->settings, processes, threads, pages, spin_us, &raw);
    if (result != 0) {
        return failure_set(run->failure, result, "A raw limit could not be started.");
    }
    struct perf_body raw_body = perf_raw_body(raw);
    result = perf_crowd_start(&raw_body, processes, threads, &limit, run->failure);
    if (result == 0) {
        result = perf_crowd_start(&body, processes, threads, &product, run->failure);
    }
    if (result == 0) {
        result = run_rounds(run, limit, product, count);
    }
    perf_crowd_stop(&product);
    perf_crowd_stop(&limit);
    perf_raw_stop(&raw);
    return result;
}

static int run_steps(const struct perf_settings *settings, bool clients, struct perf_report *report,
                     struct failure *failure)
{
    struct crowds_run run = {
        .settings = settings, .report = report, .failure = failure, .clients = clients};
    uint32_t most = settings->most != 0 ? settings->most : clients ? CLIENTS_MOST : THREADS_MOST;
    uint64_t needed = client_bytes(&run, clients ? most : 1) * (clients ? most : 1);
    uint32_t step = clients && most > 4 ? 4 : 2;
    int result = perf_target_server(settings, needed + needed / 4, &run.server, failure);
    for (uint32_t count = 1; count <= most && result == 0;
         count = count < most && count * step > most ? most : count * step) {
        result = run_step(&run, count);
    }
    perf_target_close(&run.server);
    return result;
}

int perf_threads(const struct perf_settings *settings, struct perf_worker *worker,
                 struct perf_report *report, struct failure *failure)
{
    (void)worker;
    return run_steps(settings, false, report, failure);
}

int perf_clients(const struct perf_settings *settings, struct perf_worker *worker,
                 struct perf_report *report, struct failure *failure)
{
    (void)worker;
    return run_steps(settings, true, report, failure);
}
