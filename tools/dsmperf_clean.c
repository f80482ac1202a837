// SPDX-License-Identifier: Apache-2.0
//
// `dsmperf clean`: how fast changed pages go back. The cache is filled with stores to as many pages, in a row; then dsm_clean() of the
// whole segment is timed, for what it really wrote. Nothing is cleaned ahead of need meanwhile (DSM_LAUNDRY=off, unless the environment
// says otherwise): that would be done before the clock runs. Its limit is a stream of uploads of 1 MiB, sealed by one process and opened by another, two under way. They take turns.
//
// Each round stores to the next eighth of the segment, so that the pages are not the ones of the round before.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/dsmperf_bulk.h"
#include "tools/dsmperf_target.h"

struct clean_run {
    const struct perf_settings *settings;
    struct perf_worker *worker;
    struct perf_target target;
    struct perf_bulk bulk;
};

static void dirty(const struct clean_run *run, size_t round)
{
    const struct perf_target *target = &run->target;
    uint64_t first = round * target->cached_pages % (target->pages - target->cached_pages + 1);
    for (uint64_t page = first; page < first + target->cached_pages; page++) {
        memset((void *)(target->base + page * target->page_bytes), (int)(round % 250) + 1,
               target->page_bytes);
    }
}

static int write_back(struct clean_run *run, double *rate, double *share, struct failure *failure)
{
    dsm_statistics before = {.size = sizeof(before)};
    dsm_statistics after = {.size = sizeof(after)};
    dsm_stats(run->target.session, &before);
    double start = perf_now_us();
    int result = dsm_clean(run->target.segment, (dsm_interval){0, run->target.pages}, NULL);
    double taken = perf_now_us() - start;
    dsm_stats(run->target.session, &after);
    if (result != 0) {
        return perf_target_failed(failure, "Cleaning", result);
    }
    double bytes = (double)(after.clean_writes - before.clean_writes) * run->target.page_bytes;
    *rate = bytes / taken;
    *share = bytes / run->target.page_bytes / (double)run->target.cached_pages;
    return 0;
}

static int run_round(struct clean_run *run, size_t round, struct failure *failure)
{
    double limit = 0, rate = 0, share = 0;
    int result = perf_bulk_limit(run->settings, run->worker, PERF_UPLOAD, &limit);
    if (result != 0) {
        return failure_set(failure, result, "A raw limit could not be measured.");
    }
    dirty(run, round);
    result = write_back(run, &rate, &share, failure);
    return result == 0 ? perf_bulk_add(&run->bulk, rate, limit, share, failure) : result;
}

int perf_clean(const struct perf_settings *settings, struct perf_worker *worker,
               struct perf_report *report, struct failure *failure)
{
    static const struct perf_bulk_names names = {.test = "clean",
                                                 .rate = "write-back of a full cache",
                                                 .limit = "limit: sealed uploads, 1 MiB",
                                                 .ratio = "write-back / limit, round by round",
                                                 .beside = "of the cache still to be written",
                                                 .beside_unit = "1"};
    struct clean_run run = {.settings = settings, .worker = worker};
    int result = setenv("DSM_LAUNDRY", "off", 0) == 0 ? 0 : -errno;
    if (result == 0) {
        result = perf_target_open(settings, &run.target, failure);
    }
    if (result != 0) {
        return result;
    }
    for (size_t round = 0; round < settings->rounds && result == 0; round++) {
        perf_progress("clean: rounds", round, settings->rounds);
        result = run_round(&run, round, failure);
    }
    if (result == 0 && (result = perf_bulk_report(&run.bulk, settings, &names, report)) != 0) {
        failure_set(failure, result, "There is not enough memory.");
    }
    perf_target_close(&run.target);
    perf_bulk_free(&run.bulk);
    return result;
}
