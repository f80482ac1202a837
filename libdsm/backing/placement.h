// SPDX-License-Identifier: Apache-2.0
//
// Which store holds which pages of a segment. A virtual run (pages side by side that are asked for at once) is broken here
// into physical runs, of which each lies in one store. Numbers and pointers only: no I/O, no locks, handler-safe.
#ifndef LIBDSM_BACKING_PLACEMENT_H
#define LIBDSM_BACKING_PLACEMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "rpc/limits.h"

struct backing_segment;

struct placement_row {
    uint64_t page, pages; // from this page on
    uint32_t store;
};

struct placement {
    uint32_t row_count;
    struct placement_row rows[LIMIT_PLACEMENT_ROWS]; // in order, from page 0 on, without gaps
    struct backing_segment *parts[LIMIT_STORES];     // the segment as each store knows it
};

struct placement_piece { // a physical run
    uint64_t page;
    uint32_t count;
    uint32_t store;
};

// The whole segment in store 0.
void placement_whole(struct placement *placement, struct backing_segment *segment, uint64_t pages);
// 0, or -EINVAL: these rows are not each page of the segment once, in order, in one of so many stores.
int placement_check(const struct placement_row *rows, uint32_t count, uint64_t pages,
                    uint32_t stores);
// Takes rows that were checked; those of one store that lie side by side become one. The parts are the caller's to set. Not while
// anybody works on the segment.
void placement_set(struct placement *placement, const struct placement_row *rows, uint32_t count);

uint32_t placement_store(const struct placement *placement, uint64_t page);
struct backing_segment *placement_part(const struct placement *placement, uint64_t page);
// A run that goes on to this page goes on in another store.
bool placement_begins(const struct placement *placement, uint64_t page);
// A run of so many pieces that goes on to this page would have more than LIMIT_RUN_PIECES.
bool placement_full(const struct placement *placement, uint64_t page, uint32_t pieces);
// The run's pieces in order, at most `most`: returns how many.
uint32_t placement_break(const struct placement *placement, uint64_t page, uint64_t count,
                         struct placement_piece *pieces, uint32_t most);

#endif
