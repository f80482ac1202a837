// SPDX-License-Identifier: Apache-2.0
//
// What a program would have without remote memory: a memory control group, and a file on the local disk to swap to.
#ifndef TOOLS_DSMPERF_SWAP_H
#define TOOLS_DSMPERF_SWAP_H

#include "tools/dsmperf.h"

struct perf_swap;
// As root. -errno with a sentence that says what this machine does not allow.
int perf_swap_create(const struct perf_settings *settings, uint64_t swap_bytes,
                     struct perf_swap **swap, struct failure *failure);
// The group is empty: a new one, with a limit for its memory; 0: none. Its peak is counted from here on.
int perf_swap_renew(const struct perf_swap *swap, uint64_t limit_bytes);
int perf_swap_enter(const struct perf_swap *swap); // the calling process joins it
int perf_swap_peak(const struct perf_swap *swap,
                   uint64_t *bytes); // the most it has had, of the kernel for it, too
void perf_swap_destroy(struct perf_swap **swap);

#endif
