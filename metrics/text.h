// SPDX-License-Identifier: Apache-2.0
//
// Prometheus' text format, version 0.0.4, put together in memory of bounded size. A family (name, type, help) comes first, then
// its samples, of which each has the same names of labels. What does not fit is said by metrics_text_failed(), once for all.
#ifndef METRICS_TEXT_H
#define METRICS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rpc/latency.h"

enum { METRICS_TEXT_MOST_BYTES = 8 << 20 };

enum metrics_type { METRICS_COUNTER, METRICS_GAUGE, METRICS_HISTOGRAM };

struct metrics_label {
    const char *name, *value; // of any bytes; what is no UTF-8 must be kept out by the caller
};

struct metrics_text {
    char *bytes; // whoever reads it frees it
    size_t used, room;
    bool failed;
    const char *family; // begun last
    const char *suffix; // of its samples that come: "_sum"
};

void metrics_family(struct metrics_text *text, const char *name, enum metrics_type type,
                    const char *help);
// Samples of the family begun last. labels may be NULL when count is 0.
void metrics_number(struct metrics_text *text, const struct metrics_label *labels, size_t count,
                    uint64_t value);
void metrics_real(struct metrics_text *text, const struct metrics_label *labels, size_t count,
                  double value);
// A whole histogram, in seconds: of each power of two of nanoseconds one bucket, then +Inf, sum and count. At most
// METRICS_LABELS labels.
enum { METRICS_LABELS = 4 };
void metrics_latency(struct metrics_text *text, const struct metrics_label *labels, size_t count,
                     const uint64_t buckets[LATENCY_BUCKETS], uint64_t total_ns);
// Families of one sample without labels.
void metrics_one(struct metrics_text *text, const char *name, enum metrics_type type,
                 const char *help, double value);
const char *metrics_type_text(enum metrics_type type);

#endif
