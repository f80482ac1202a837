// SPDX-License-Identifier: Apache-2.0
//
// What `scan` and `clean` have in common: rounds of a rate and its limit, in turn, and of one figure more that says what the rate was of.
// The ratio is taken round by round, so that both its sides are of one moment; the rate's own row has the median of the limits beside it.
#include "tools/dsmperf_bulk.h"

#include <stdio.h>

int perf_bulk_add(struct perf_bulk *bulk, double rate, double limit, double beside,
                  struct failure *failure)
{
    int result = perf_samples_add(&bulk->rates, rate);
    if (result == 0) {
        result = perf_samples_add(&bulk->limits, limit);
    }
    if (result == 0) {
        result = perf_samples_add(&bulk->ratios, rate / limit);
    }
    if (result == 0) {
        result = perf_samples_add(&bulk->beside, beside);
    }
    return result == 0 ? 0 : failure_set(failure, result, "There is not enough memory.");
}

int perf_bulk_report(struct perf_bulk *bulk, const struct perf_settings *settings,
                     const struct perf_bulk_names *names, struct perf_report *report)
{
    struct perf_row row = {.test = names->test,
                           .trap = settings->trap_now,
                           .lanes = settings->lanes,
                           .waiting = perf_waiting(settings),
                           .limit = perf_percentile(&bulk->limits, 50)};
    const struct {
        const char *metric, *unit;
        struct perf_samples *rounds;
    } rows[] = {{names->rate, "MB/s", &bulk->rates},
                {names->limit, "MB/s", &bulk->limits},
                {names->ratio, "1", &bulk->ratios},
                {names->beside, names->beside_unit, &bulk->beside}};
    int result = 0;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && result == 0; i++) {
        (void)snprintf(row.metric, sizeof(row.metric), "%s", rows[i].metric);
        row.unit = rows[i].unit;
        result = perf_report_spread(report, row, rows[i].rounds);
        row.limit = (double)NAN; // but the first
    }
    return result;
}

void perf_bulk_free(struct perf_bulk *bulk)
{
    perf_samples_free(&bulk->rates);
    perf_samples_free(&bulk->limits);
    perf_samples_free(&bulk->ratios);
    perf_samples_free(&bulk->beside);
}
