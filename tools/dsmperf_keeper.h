// SPDX-License-Identifier: Apache-2.0
//
// Whatever dsmperf makes that outlives a process (a folder, a swap file, a control group) is taken away by a process that
// waits for its end, however that comes. Its children end with it.
#ifndef TOOLS_DSMPERF_KEEPER_H
#define TOOLS_DSMPERF_KEEPER_H

#include <sys/types.h>

#include "rpc/failure.h"

struct perf_keeper;
// take_away(context) is called in the keeper, with what *context is now. 0, or -errno with a sentence.
int perf_keeper_start(void (*take_away)(const void *context), const void *context,
                      struct perf_keeper **keeper, struct failure *failure);
void perf_keeper_stop(struct perf_keeper **keeper); // lets it take away, and waits until it has

// In a child, first: it is killed when `parent`, which forked it, ends, or has ended.
void perf_end_with(pid_t parent);

#endif
