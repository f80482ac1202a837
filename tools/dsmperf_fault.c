// SPDX-License-Identifier: Apache-2.0
//
// `dsmperf fault`: single touches of absent pages, in random order, with the cache full, each timed by itself. Beside
// it the sum of what such a touch must pay on this machine, measured in the same rounds and with the same way of
// waiting (both ends sleep, and the faulting thread hands the work to another):
//
//     round trip of a sealed read request and an answer with one page of 4 KiB
//   + seal and open of both headers and of the page (stores: and one more seal, of the victim's page)
//   + the trap's cycle of fill and evict, handed to another thread and back
//
// A page is known to be absent by dsm_page_state() outside the timed part; touching whatever comes would
// mix one hit in eight into the percentiles. Stores dirty the whole cache before the first round, so that every
// victim must be written; the write itself need not be waited for and is not in the limit.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "rpc/wire.h"
#include "tools/dsmperf_target.h"

struct fault_run {
    const struct perf_settings *settings;
    struct perf_worker *worker;
    struct perf_target target;
    uint64_t random;
    struct perf_samples touches;                    // all rounds
    struct perf_samples limits, medians, per_round; // one of each round
    dsm_statistics before, after;
};

static int median_of(struct perf_worker *worker, const struct perf_question *question, double *sum,
                     double times)
{
    struct perf_samples samples = {0};
    int result = perf_worker_ask(worker, question, &samples);
    if (result == 0) {
        *sum += times * perf_percentile(&samples, 50);
    }
    perf_samples_free(&samples);
    return result;
}

static int measure_limit(struct fault_run *run, double *limit)
{
    uint32_t count = (uint32_t)run->settings->samples;
    uint32_t suite = perf_cipher_suite();
    const struct {
        struct perf_question question;
        double times;
    } parts[] = {
        {{.kind = PERF_WIRE,
          .count = count,
          .request = WIRE_HEADER_SEALED_BYTES,
          .bytes = WIRE_HEADER_SEALED_BYTES + PERF_PAGE_BYTES + LIMIT_SEAL_BYTES},
         1},
        {{.kind = PERF_SEAL, .count = count, .suite = suite, .bytes = WIRE_HEADER_BYTES}, 2},
        {{.kind = PERF_OPEN, .count = count, .suite = suite, .bytes = WIRE_HEADER_BYTES}, 2},
        {{.kind = PERF_SEAL, .count = count, .suite = suite, .bytes = PERF_PAGE_BYTES},
         run->settings->write ? 2 : 1},
        {{.kind = PERF_OPEN, .count = count, .suite = suite, .bytes = PERF_PAGE_BYTES}, 1},
        {{.kind = PERF_TRAP, .count = count, .fill = run->settings->fill, .handed = 1}, 1},
    };
    int result = 0;
    *limit = 0;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && result == 0; i++) {
        result = median_of(run->worker, &parts[i].question, limit, parts[i].times);
    }
    return result;
}

static int touch_pages(struct fault_run *run, uint64_t count, struct perf_samples *samples)
{
    return perf_target_touch(&run->target, &run->random, count, run->settings->write, samples);
}

static int run_round(struct fault_run *run, struct failure *failure)
{
    struct perf_samples round = {0};
    double limit;
    int result = measure_limit(run, &limit);
    if (result != 0) {
        return failure_set(failure, result, "A raw limit could not be measured.");
    }
    result = touch_pages(run, run->settings->samples, &round);
    if (result != 0) {
        perf_target_failed(failure, "Touching pages", result);
    }
    double median = perf_percentile(&round, 50);
    for (size_t i = 0; i < round.count && result == 0; i++) {
        result = perf_samples_add(&run->touches, round.values[i]);
    }
    if (result == 0 && ((result = perf_samples_add(&run->limits, limit)) != 0 ||
                        (result = perf_samples_add(&run->medians, median)) != 0 ||
                        (result = perf_samples_add(&run->per_round, median / limit)) != 0)) {
        failure_set(failure, result, "There is not enough memory.");
    }
    perf_samples_free(&round);
    return result;
}

static int report_rows(struct fault_run *run, struct perf_report *report)
{
    const struct perf_settings *settings = run->settings;
    struct perf_row row = {.test = "fault",
                           .trap = settings->trap_now,
                           .lanes = settings->lanes,
                           .waiting = "handed",
                           .unit = "us",
                           .min = (double)NAN,
                           .max = (double)NAN,
                           .limit = perf_percentile(&run->limits, 50)};
    const char *kind = settings->write ? "store" : "load";
    static const unsigned percentiles[] = {50, 95, 99};
    int result = 0;
    for (size_t i = 0; i < 3 && result == 0; i++) {
        snprintf(row.metric, sizeof(row.metric), "random %s, 4 KiB, p%u", kind, percentiles[i]);
        row.value = perf_percentile(&run->touches, percentiles[i]);
        result = perf_report_add(report, &row);
    }
    row.limit = (double)NAN;
    snprintf(row.metric, sizeof(row.metric), "p50 of a round");
    if (result == 0) {
        result = perf_report_spread(report, row, &run->medians);
    }
    snprintf(row.metric, sizeof(row.metric), "limit of a round");
    if (result == 0) {
        result = perf_report_spread(report, row, &run->limits);
    }
    row.unit = "1";
    snprintf(row.metric, sizeof(row.metric), "p50 / limit, round by round");
    if (result == 0) {
        result = perf_report_spread(report, row, &run->per_round);
    }
    double faults = (double)(run->after.faults_read + run->after.faults_write) -
                    (double)(run->before.faults_read + run->before.faults_write);
    row.unit = "pages";
    row.value = (double)(run->after.swap_in_reads - run->before.swap_in_reads) / faults;
    row.min = row.max = (double)NAN;
    snprintf(row.metric, sizeof(row.metric), "read for a fault");
    return result == 0 ? perf_report_add(report, &row) : result;
}

static int run_rounds(struct fault_run *run, struct perf_report *report, struct failure *failure)
{
    // Shrinks what the sequential filling made the library read ahead; stores: dirties the whole cache.
    uint64_t warm = run->settings->write ? 2 * run->target.cached_pages : run->settings->samples;
    int result = touch_pages(run, warm, NULL);
    if (result != 0) {
        return perf_target_failed(failure, "Touching pages", result);
    }
    run->before.size = run->after.size = sizeof(run->before);
    dsm_stats(run->target.session, &run->before);
    for (size_t round = 0; round < run->settings->rounds && result == 0; round++) {
        result = run_round(run, failure);
    }
    dsm_stats(run->target.session, &run->after);
    if (result == 0 && (result = report_rows(run, report)) != 0) {
        failure_set(failure, result, "There is not enough memory.");
    }
    return result;
}

int perf_fault(const struct perf_settings *settings, struct perf_worker *worker,
               struct perf_report *report, struct failure *failure)
{
    struct fault_run run = {.settings = settings, .worker = worker, .random = 0x9e3779b97f4a7c15};
    int result = perf_target_open(settings, &run.target, failure);
    if (result != 0) {
        return result;
    }
    result = run_rounds(&run, report, failure);
    perf_target_close(&run.target);
    perf_samples_free(&run.touches);
    perf_samples_free(&run.limits);
    perf_samples_free(&run.medians);
    perf_samples_free(&run.per_round);
    return result;
}
