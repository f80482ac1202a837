// SPDX-License-Identifier: Apache-2.0
//
// What `fault` and `scan` measure: a session with a cache of one eighth of its one segment, whose pages
// are all written (none of zeros, which would not travel) and clean.
#ifndef TOOLS_DSMPERF_TARGET_H
#define TOOLS_DSMPERF_TARGET_H

#include <dsm/dsm.h>

#include "tools/dsmperf.h"

struct perf_target {
    struct perf_server server;
    bool own_server;
    dsm *session;
    dsm_segment *segment;
    char name[64];
    volatile uint8_t *base;
    uint64_t pages;
    uint64_t cached_pages;
    uint32_t page_bytes;
};

// The two steps of perf_target_open(): the server, of which the session may be another process's; the session and its segment.
int perf_target_server(const struct perf_settings *settings, uint64_t capacity,
                       struct perf_target *target, struct failure *failure);
int perf_target_start(const struct perf_settings *settings, struct perf_target *target,
                      uint64_t bytes, struct failure *failure);
// 0, or -errno with a sentence; on failure nothing is left behind.
int perf_target_open(const struct perf_settings *settings, struct perf_target *target,
                     struct failure *failure);
// Touches pages that are not in, in random order, and adds the microseconds of each (samples may be NULL). 0 or -errno.
int perf_target_touch(struct perf_target *target, uint64_t *random, uint64_t count, bool write,
                      struct perf_samples *samples);
// The path of a program beside this one. 0 or -errno.
int perf_target_beside(const char *name, char *path, size_t bytes);
// Closes and opens the segment again: every page is out, nothing is cached.
int perf_target_cool(struct perf_target *target, struct failure *failure);
// dsmperf_open.c: rows of what opening a large segment takes. 0 or -ENOMEM.
int perf_open_rows(const struct perf_target *target, const struct perf_settings *settings,
                   struct perf_report *report);
void perf_target_close(struct perf_target *target); // deletes the segment
// The library's own sentence about the call that just failed.
int perf_target_failed(struct failure *failure, const char *what, int result);

#endif
