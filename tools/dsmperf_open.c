// SPDX-License-Identifier: Apache-2.0
//
// What size costs: a thin segment of 1 TiB is opened again and again, touched at its end, and closed. It should take no more than one of a few
// pages, which is opened beside it, in turn: that is its limit. A server that has no addresses or no right for such a
// segment is no failure; the row says why there is no figure.
#include <stdio.h>

#include "tools/dsmperf_target.h"

#define LARGE_BYTES (UINT64_C(1) << 40)
enum { SMALL_BYTES = 1 << 20 };

static int time_open(dsm *session, const char *name, struct perf_samples *ms)
{
    dsm_segment *segment;
    double start = perf_now_us();
    int result = dsm_segment_open(session, name, 0, &segment);
    if (result != 0) {
        return result;
    }
    volatile const uint8_t *base = dsm_segment_base(segment);
    (void)base[dsm_segment_size(segment) - 1];
    double taken = perf_now_us() - start;
    result = dsm_segment_close(segment);
    return result == 0 ? perf_samples_add(ms, taken / 1000) : result;
}

static int make(const struct perf_target *target, const char *name, uint64_t bytes)
{
    dsm_segment *segment;
    int result = dsm_segment_create(target->session, name, bytes, PERF_PAGE_BYTES,
                                    DSM_NORESERVE | DSM_EXCLUSIVE, &segment);
    return result == 0 ? dsm_segment_close(segment) : result;
}

int perf_open_rows(const struct perf_target *target, const struct perf_settings *settings,
                   struct perf_report *report)
{
    struct perf_samples large = {0};
    struct perf_samples small = {0};
    struct perf_row row = {.test = "scan",
                           .trap = settings->trap_now,
                           .lanes = settings->lanes,
                           .waiting = perf_waiting(settings),
                           .unit = "ms"};
    char names[2][80];
    (void)snprintf(names[0], sizeof(names[0]), "%s-large", target->name);
    (void)snprintf(names[1], sizeof(names[1]), "%s-small", target->name);
    int result = make(target, names[0], LARGE_BYTES);
    if (result == 0) {
        result = make(target, names[1], SMALL_BYTES);
    }
    for (size_t i = 0; i < settings->rounds && result == 0; i++) {
        result = time_open(target->session, names[0], &large);
        if (result == 0) {
            result = time_open(target->session, names[1], &small);
        }
    }
    (void)dsm_segment_delete(target->session, names[0]);
    (void)dsm_segment_delete(target->session, names[1]);
    if (result == 0) {
        row.limit = perf_percentile(&small, 50);
        (void)snprintf(row.metric, sizeof(row.metric), "open 1 TiB, touch its end (limit: 1 MiB)");
        result = perf_report_spread(report, row, &large);
    } else {
        result = perf_report_why_not(report, row, "open 1 TiB", dsm_strerror(result));
    }
    perf_samples_free(&large);
    perf_samples_free(&small);
    return result;
}
