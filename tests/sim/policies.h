// SPDX-License-Identifier: Apache-2.0
//
// Replacement policies on a page trace. All but LRU and Belady's see what a trap shows: the first touch of a page that is
// out, or in but closed; a page that is open is touched unseen. So each says how many such soft faults its hits took.
#ifndef TESTS_SIM_POLICIES_H
#define TESTS_SIM_POLICIES_H

#include "tests/sim/trace.h"

struct outcome {
    uint32_t hits, soft;
};

struct policy {
    const char *name, *what;
    int (*play)(const struct trace *trace, uint32_t frames,
                struct outcome *outcome); // 0 or -ENOMEM
};

extern const struct policy policies[]; // the library's first; ends with a NULL name

#endif
