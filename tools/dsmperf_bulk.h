// SPDX-License-Identifier: Apache-2.0
//
// Rounds of a rate beside its limit, and the four rows of them.
#ifndef TOOLS_DSMPERF_BULK_H
#define TOOLS_DSMPERF_BULK_H

#include "tools/dsmperf.h"

struct perf_bulk {
    struct perf_samples rates, limits, ratios, beside; // one of each round
};
struct perf_bulk_names { // static text
    const char *test, *rate, *limit, *ratio, *beside, *beside_unit;
};

// MB/s, MB/s, and whatever is shown beside them. 0, or -ENOMEM with a sentence.
int perf_bulk_add(struct perf_bulk *bulk, double rate, double limit, double beside,
                  struct failure *failure);
int perf_bulk_report(struct perf_bulk *bulk, const struct perf_settings *settings,
                     const struct perf_bulk_names *names, struct perf_report *report);
void perf_bulk_free(struct perf_bulk *bulk);

#endif
