// SPDX-License-Identifier: Apache-2.0
//
// Whatever dsmperf makes that outlives a process (a folder, a swap file, a control group) is taken away by a process that
// waits for its end, however that comes.
#ifndef TOOLS_DSMPERF_KEEPER_H
#define TOOLS_DSMPERF_KEEPER_H

#include "rpc/failure.h"

struct perf_keeper;
// take_away(context) is called in the keeper, with what *context is now. 0, or -errno with a sentence.
int perf_keeper_start(void (*take_away)(const void *context), const void *context,
                      struct perf_keeper **keeper, struct failure *failure);
void perf_keeper_stop(struct perf_keeper **keeper); // lets it take away, and waits until it has

#endif
