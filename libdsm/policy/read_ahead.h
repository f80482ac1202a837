// SPDX-License-Identifier: Apache-2.0
//
// How many pages a fault should bring in. A fault where an earlier one left off doubles that stream's window; any other
// starts a stream of one page in the place of the one unused for longest. Several streams, since threads walk side by side.
// No I/O, no locks (the pager's lock is held).
#ifndef LIBDSM_POLICY_READ_AHEAD_H
#define LIBDSM_POLICY_READ_AHEAD_H

#include <stdint.h>

enum { READ_AHEAD_STREAMS = 16 };

struct read_ahead {
    struct {
        uint64_t next;   // page at which this stream would go on
        uint64_t used;   // when, in faults
        uint32_t window; // pages fetched last
    } streams[READ_AHEAD_STREAMS];
    uint64_t clock;
    int last; // the stream that the last call of read_ahead_window chose
};

void read_ahead_start(struct read_ahead *r);
// Pages to fetch from `page` on: 1 to `most`.
uint32_t read_ahead_window(struct read_ahead *r, uint64_t page, uint32_t most);
// How many of them will really be fetched, when fewer: right after read_ahead_window().
void read_ahead_trim(struct read_ahead *r, uint32_t pages);

#endif
