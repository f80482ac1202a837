// SPDX-License-Identifier: Apache-2.0
//
// Samples of a measurement, all of them kept. A histogram would be smaller, but a run has at most some
// hundred thousand samples, and a sorted array has no bucket whose width must be argued about. Percentiles
// are by nearest rank: every figure printed was really measured once.
//
// One thread; nothing here is called while a clock runs except perf_samples_add(), and callers reserve by
// timing outside of it.
#include "tools/dsmperf.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

int perf_samples_add(struct perf_samples *samples, double value)
{
    if (samples->count == samples->capacity) {
        size_t capacity = samples->capacity == 0 ? 1024 : samples->capacity * 2;
        double *values = reallocarray(samples->values, capacity, sizeof(*values));
        if (values == NULL) {
            return -ENOMEM;
        }
        samples->values = values;
        samples->capacity = capacity;
    }
    samples->values[samples->count++] = value;
    return 0;
}

void perf_samples_free(struct perf_samples *samples)
{
    free(samples->values);
    *samples = (struct perf_samples){0};
}

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;
    return (a > b) - (a < b);
}

double perf_percentile(struct perf_samples *samples, double percent)
{
    if (samples->count == 0) {
        return (double)NAN;
    }
    qsort(samples->values, samples->count, sizeof(*samples->values), compare);
    size_t rank = (size_t)ceil(percent / 100.0 * (double)samples->count);
    if (rank < 1) {
        rank = 1;
    }
    if (rank > samples->count) {
        rank = samples->count;
    }
    return samples->values[rank - 1];
}

double perf_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}
