// SPDX-License-Identifier: Apache-2.0
//
// Which pages should come with, or before, a fault. Page numbers in, page numbers out: no I/O, no locks (the pager's
// lock is held).
//
// Two things are kept. A stream is a walk: a stride, the place where it would go on, and the window that was fetched
// for it last. A history is what one thread did: the distances between its last faults. A fault where a stream goes on
// doubles the stream's window; any other fault asks its thread's history for a stride that most of the distances
// have, and begins a stream with it, of one page when there is none. So a random fault brings in one page.
//
// Source: the vote is Boyer and Moore's (1981); asking it of page faults is Maruf and Chowdhury's (Leap, ATC 2020).
#ifndef LIBDSM_POLICY_READ_AHEAD_H
#define LIBDSM_POLICY_READ_AHEAD_H

#include <stdbool.h>
#include <stdint.h>

enum {
    READ_AHEAD_STREAMS = 16,
    READ_AHEAD_THREADS = 16,
    READ_AHEAD_HISTORY = 8,
    READ_AHEAD_STRIDE_MOST = 1 << 14, // pages; what is farther apart are different arrays
    READ_AHEAD_STRIDED_MOST = 32,     // pages of a window whose pages do not lie side by side
};
#define READ_AHEAD_NO_PAGE UINT64_MAX

struct read_ahead_stream {
    uint64_t before; // where the window before the last one began,
    uint64_t from;   // the last one,
    uint64_t next;   // and where the next one would; READ_AHEAD_NO_PAGE: no stream
    uint64_t
        marker; // a touch of it, or of a page behind it, is time for the next window; or READ_AHEAD_NO_PAGE
    uint64_t used; // when, in faults
    int64_t stride;
    uint32_t window; // pages, the touched one too
    uint32_t step;   // closed pages to be opened at the next touch
    bool unasked;    // the window was fetched without a fault, and none has come since
};

struct read_ahead {
    struct read_ahead_stream streams[READ_AHEAD_STREAMS];
    struct read_ahead_thread {
        uint64_t last; // its last fault's page
        uint64_t used; // when, in faults; 0: never
        uint32_t thread;
        uint32_t count; // distances noted
        int64_t distances[READ_AHEAD_HISTORY];
    } threads[READ_AHEAD_THREADS];
    uint64_t clock;
    uint32_t used, wasted; // pages brought in ahead of which it turned out, of late
    int last;              // the stream that the last plan is of
};

struct read_ahead_plan {
    uint64_t page; // the first page to fetch beside the touched one
    int64_t stride;
    uint32_t count; // so many: page, page + stride, ...; 0: none
    uint32_t
        open; // the first so many need not wait for a touch to be opened: the walk is trusted so far
    uint64_t marker; // except this one; or READ_AHEAD_NO_PAGE
};

void read_ahead_start(struct read_ahead *r);
// A thread waits for this page of a segment of `pages`. At most `most` pages are to come, the touched one too.
struct read_ahead_plan read_ahead_fault(struct read_ahead *r, uint32_t thread, uint64_t page,
                                        uint32_t most, uint64_t pages);
// Fewer will really be fetched: right after the plan.
void read_ahead_trim(struct read_ahead *r, uint32_t count);
// The first touch of a page that came ahead and was left closed. Returns how many pages from it on, in the stream's
// direction, may be opened with it (at least 1; *stride says where they lie), and the next window, if it is time.
uint32_t read_ahead_touched(struct read_ahead *r, uint64_t page, uint32_t most, uint64_t pages,
                            int64_t *stride, struct read_ahead_plan *plan);
void read_ahead_used(struct read_ahead *r, uint32_t pages);   // of pages that came ahead: touched,
void read_ahead_wasted(struct read_ahead *r, uint32_t pages); // or taken away untouched

#endif
