// SPDX-License-Identifier: Apache-2.0
//
// A line on stderr, rewritten in place, that says what is measured, how far that is, and how long the rest takes if it goes on as
// it did. On terminals only: what is measured runs for minutes, and a log wants none of it.
#include "tools/dsmperf.h"

#include <stdio.h>
#include <unistd.h>

static double start_us; // of what is being measured now

void perf_progress(const char *what, uint64_t done, uint64_t total)
{
    if (isatty(STDERR_FILENO) == 0) {
        return;
    }
    if (done == 0 || start_us <= 0) {
        start_us = perf_now_us();
    }
    (void)fprintf(stderr, "\r\033[K%s: %llu of %llu", what, (unsigned long long)done,
                  (unsigned long long)total);
    if (done > 0) {
        double left_s = (perf_now_us() - start_us) / 1e6 * (double)(total - done) / (double)done;
        (void)fprintf(stderr, ", %.0f s left", left_s);
    }
    (void)fflush(stderr);
}

void perf_progress_end(void)
{
    if (isatty(STDERR_FILENO) != 0) {
        (void)fputs("\r\033[K", stderr);
        (void)fflush(stderr);
    }
}
