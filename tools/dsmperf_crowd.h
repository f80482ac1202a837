// SPDX-License-Identifier: Apache-2.0
//
// Many that touch pages at once: processes of threads, which all start at a word, and stop at one. What a touch is, is
// the body's to say: the product's, or the raw limit's.
#ifndef TOOLS_DSMPERF_CROWD_H
#define TOOLS_DSMPERF_CROWD_H

#include "tools/dsmperf.h"

enum { PERF_CROWD_MOST = 1024 };

struct perf_body {
    void *context;
    // In each process, before it has threads. Its state, or -errno with a sentence.
    int (*open)(void *context, uint32_t process, uint32_t threads, void **state,
                struct failure *failure);
    int (*step)(void *state, uint32_t thread, uint64_t *random); // one touch; 0 or -errno
    void (*close)(void *state);
};

struct perf_crowd;
// Forks; the calling process has no threads, and no session. Returns when all are ready.
int perf_crowd_start(const struct perf_body *body, uint32_t processes, uint32_t threads,
                     struct perf_crowd **crowd, struct failure *failure);
// Lets all touch for so long. rates: touches a second of each, processes * threads.
int perf_crowd_round(struct perf_crowd *crowd, uint32_t window_ms, double *rates,
                     struct failure *failure);
void perf_crowd_stop(struct perf_crowd **crowd);

// dsmperf_raw.c: the raw limit of a fault, many times at once. The trap's cycle, in whose handler the page is asked for and
// opened, over a connection of each thread's own, to a process that has a thread for each.
struct perf_raw;
int perf_raw_start(const struct perf_settings *settings, uint32_t processes, uint32_t threads,
                   uint32_t pages, uint32_t spin_us, struct perf_raw **raw);
struct perf_body perf_raw_body(struct perf_raw *raw);
void perf_raw_stop(struct perf_raw **raw); // after its crowd

#endif
