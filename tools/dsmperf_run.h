// SPDX-License-Identifier: Apache-2.0
//
// A test program, run once: what it says of itself, and what it took.
#ifndef TOOLS_DSMPERF_RUN_H
#define TOOLS_DSMPERF_RUN_H

#include "tools/dsmperf_swap.h"

enum { PERF_RUN_ARGUMENTS = 16 };

struct perf_run {
    const char *arguments[PERF_RUN_ARGUMENTS]; // its path first; a NULL behind the last
    const struct perf_server *server;          // NULL: the environment's
    const struct perf_swap *swap;              // the group that it runs in; NULL: none
    double seconds;                            // of its work
    uint64_t data_bytes;                       // of its arrays
};
// 0, or -errno with a sentence: it must end well, and have verified its results.
int perf_run(struct perf_run *run, struct failure *failure);

#endif
