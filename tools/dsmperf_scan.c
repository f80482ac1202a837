// SPDX-License-Identifier: Apache-2.0
//
// `dsmperf scan`: one pass over a cold segment, one load from each page in ascending order, beside its limit: a TCP
// stream of answers of 1 MiB, sealed by one process and opened by another, two requests in flight. Between passes
// the segment is closed and opened again, which empties the cache; that is not timed. Passes and streams take turns.
//
// Only one byte of each page is loaded: reading all of them would measure this machine's memory, too.
#include "tools/dsmperf_bulk.h"
#include "tools/dsmperf_target.h"

struct scan_run {
    const struct perf_settings *settings;
    struct perf_worker *worker;
    struct perf_target target;
    struct perf_bulk bulk;
};

static double pass(struct scan_run *run)
{
    const struct perf_target *target = &run->target;
    double start = perf_now_us();
    for (uint64_t page = 0; page < target->pages; page++) {
        (void)target->base[page * target->page_bytes];
    }
    return (double)target->pages * target->page_bytes / (perf_now_us() - start);
}

static int run_round(struct scan_run *run, struct failure *failure)
{
    dsm_statistics before = {.size = sizeof(before)};
    dsm_statistics after = {.size = sizeof(after)};
    double limit;
    int result = perf_bulk_limit(run->settings, run->worker, PERF_STREAM, &limit);
    if (result != 0) {
        return failure_set(failure, result, "A raw limit could not be measured.");
    }
    result = perf_target_cool(&run->target, failure);
    if (result != 0) {
        return result;
    }
    dsm_stats(run->target.session, &before);
    double rate = pass(run);
    dsm_stats(run->target.session, &after);
    double requests = (double)(after.read_requests - before.read_requests);
    double pages = (double)(after.bytes_read - before.bytes_read) / (double)run->target.page_bytes;
    return perf_bulk_add(&run->bulk, rate, limit, pages / requests, failure);
}

int perf_scan(const struct perf_settings *settings, struct perf_worker *worker,
              struct perf_report *report, struct failure *failure)
{
    static const struct perf_bulk_names names = {.test = "scan",
                                                 .rate = "cold, sequential",
                                                 .limit = "limit: sealed stream, 1 MiB",
                                                 .ratio = "scan / limit, round by round",
                                                 .beside = "read with a request",
                                                 .beside_unit = "pages"};
    struct scan_run run = {.settings = settings, .worker = worker};
    int result = perf_target_open(settings, &run.target, failure);
    if (result != 0) {
        return result;
    }
    for (size_t round = 0; round < settings->rounds && result == 0; round++) {
        perf_progress("scan: rounds", round, settings->rounds);
        result = run_round(&run, failure);
    }
    if (result == 0 && ((result = perf_bulk_report(&run.bulk, settings, &names, report)) != 0 ||
                        (result = perf_open_rows(&run.target, settings, report)) != 0)) {
        failure_set(failure, result, "There is not enough memory.");
    }
    perf_target_close(&run.target);
    perf_bulk_free(&run.bulk);
    return result;
}
