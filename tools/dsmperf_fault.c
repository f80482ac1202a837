// SPDX-License-Identifier: Apache-2.0
//
// `dsmperf fault`: single touches of absent pages, in random order, with the cache full, each timed by itself. Beside it, in
// turn with it: the sum of what such a touch must pay on this machine (dsmperf_parts.c), and a random direct read of
// 4 KiB from the local disk, which is what a program would pay that swapped there.
//
// A page is known to be absent by dsm_page_state() outside the timed part; touching whatever comes would
// mix one hit in eight into the percentiles. Stores dirty the whole cache before the first round, so that every
// victim must be written.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tools/dsmperf_plot.h"
#include "tools/dsmperf_target.h"

struct fault_run {
    const struct perf_settings *settings;
    struct perf_worker *worker;
    struct perf_target target;
    struct perf_disk *disk; // NULL: none, and `disk_failure` says why
    struct failure disk_failure;
    uint64_t random;
    struct perf_samples touches, reads;             // all rounds
    struct perf_samples limits, medians, per_round; // one of each round
    struct perf_samples disk_medians, per_disk;
    dsm_statistics before, after;
};

static int touch_pages(struct fault_run *run, uint64_t count, struct perf_samples *samples)
{
    return perf_target_touch(&run->target, &run->random, count, run->settings->write, samples);
}

static int add_all(struct perf_samples *to, const struct perf_samples *from)
{
    int result = 0;
    for (size_t i = 0; i < from->count && result == 0; i++) {
        result = perf_samples_add(to, from->values[i]);
    }
    return result;
}

static int read_disk(struct fault_run *run, double fault)
{
    struct perf_samples round = {0};
    if (run->disk == NULL) {
        return 0;
    }
    int result = perf_disk_measure(run->disk, run->settings->samples, &round);
    double median = perf_percentile(&round, 50);
    if (result == 0) {
        result = add_all(&run->reads, &round);
    }
    if (result == 0) {
        result = perf_samples_add(&run->disk_medians, median);
    }
    if (result == 0) {
        result = perf_samples_add(&run->per_disk, fault / median);
    }
    perf_samples_free(&round);
    return result;
}

static int run_round(struct fault_run *run, struct failure *failure)
{
    struct perf_samples round = {0};
    double limit;
    int result = perf_fault_limit(run->settings, run->worker, run->settings->write, &limit);
    if (result != 0) {
        return failure_set(failure, result, "A raw limit could not be measured.");
    }
    result = touch_pages(run, run->settings->samples, &round);
    if (result != 0) {
        perf_samples_free(&round);
        return perf_target_failed(failure, "Touching pages", result);
    }
    double median = perf_percentile(&round, 50);
    if ((result = add_all(&run->touches, &round)) != 0 ||
        (result = perf_samples_add(&run->limits, limit)) != 0 ||
        (result = perf_samples_add(&run->medians, median)) != 0 ||
        (result = perf_samples_add(&run->per_round, median / limit)) != 0) {
        failure_set(failure, result, "There is not enough memory.");
    } else if ((result = read_disk(run, median)) != 0) {
        failure_set(failure, result, "The local disk could not be read.");
    }
    perf_samples_free(&round);
    return result;
}

static int spread(struct perf_report *report, struct perf_row row, const char *metric,
                  const char *unit, struct perf_samples *rounds)
{
    row.unit = unit;
    snprintf(row.metric, sizeof(row.metric), "%s", metric);
    return perf_report_spread(report, row, rounds);
}

static int report_disk(struct fault_run *run, struct perf_report *report, struct perf_row row)
{
    if (run->disk == NULL) {
        return perf_report_why_not(report, row, "random direct read of 4 KiB",
                                   run->disk_failure.text);
    }
    struct perf_row disk = row;
    disk.trap = disk.lanes = "-";
    disk.waiting = "block";
    int result = spread(report, disk, "random direct read of 4 KiB, p50", "us", &run->disk_medians);
    for (unsigned percent = 95; percent < 100 && result == 0; percent += 4) {
        disk.value = perf_percentile(&run->reads, percent);
        disk.min = disk.max = (double)NAN;
        disk.unit = "us";
        snprintf(disk.metric, sizeof(disk.metric), "random direct read of 4 KiB, p%u", percent);
        result = perf_report_add(report, &disk);
    }
    if (result == 0) { // what they mean depends on it
        disk.value = (double)NAN;
        disk.waiting = disk.unit = "-";
        snprintf(disk.metric, sizeof(disk.metric), "direct reads: %s", perf_disk_where(run->disk));
        result = perf_report_add(report, &disk);
    }
    return result == 0
               ? spread(report, row, "p50 / direct read, round by round", "1", &run->per_disk)
               : result;
}

static int report_rows(struct fault_run *run, struct perf_report *report)
{
    const struct perf_settings *settings = run->settings;
    struct perf_row row = {.test = "fault",
                           .trap = settings->trap_now,
                           .lanes = settings->lanes,
                           .waiting = perf_waiting(settings),
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
    if (result != 0 || (result = spread(report, row, "p50 of a round", "us", &run->medians)) != 0 ||
        (result = spread(report, row, "limit of a round", "us", &run->limits)) != 0 ||
        (result = spread(report, row, "p50 / limit, round by round", "1", &run->per_round)) != 0 ||
        (result = report_disk(run, report, row)) != 0) {
        return result;
    }
    double faults = (double)(run->after.faults_read + run->after.faults_write) -
                    (double)(run->before.faults_read + run->before.faults_write);
    row.unit = "pages";
    row.value = (double)(run->after.swap_in_reads - run->before.swap_in_reads) / faults;
    row.min = row.max = (double)NAN;
    snprintf(row.metric, sizeof(row.metric), "read for a fault");
    return perf_report_add(report, &row);
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
        perf_progress("fault: rounds", round, run->settings->rounds);
        result = run_round(run, failure);
    }
    dsm_stats(run->target.session, &run->after);
    if (result == 0 && (result = report_rows(run, report)) != 0) {
        failure_set(failure, result, "There is not enough memory.");
    }
    if (result == 0) {
        struct perf_distribution all[] = {
            {run->settings->write ? "a store's fault" : "a load's fault", &run->touches},
            {"a direct read from the local disk", &run->reads}};
        result = perf_plot_distributions(run->settings, "Random touches of 4 KiB", all,
                                         run->disk != NULL ? 2 : 1,
                                         perf_percentile(&run->limits, 50), failure);
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
    (void)perf_disk_create(settings, &run.disk, &run.disk_failure);
    result = run_rounds(&run, report, failure);
    perf_target_close(&run.target);
    perf_disk_destroy(&run.disk);
    struct perf_samples *all[] = {&run.touches,   &run.reads,        &run.limits,  &run.medians,
                                  &run.per_round, &run.disk_medians, &run.per_disk};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        perf_samples_free(all[i]);
    }
    return result;
}
