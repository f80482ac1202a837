// SPDX-License-Identifier: Apache-2.0
//
// Which frame is taken next: aged pages first, in the order in which they were aged, then second chance round the clock.
// Page numbers in, page numbers out: no I/O, no locks (the pager's lock is held around every call).
// Source: second chance: Corbato's clock, 1968; aging by the program: Cedar's Age.
#ifndef LIBDSM_POLICY_REPLACEMENT_H
#define LIBDSM_POLICY_REPLACEMENT_H

#include <stdbool.h>
#include <stdint.h>

#define FRAME_NONE UINT32_MAX

struct frame { // whose page it holds
    uint64_t page;
    uint32_t segment;
    bool used;
    bool aged;
    uint32_t next, previous; // in the queue of aged ones, or of free ones
};

struct replacement {
    struct frame *frames;
    uint32_t count;  // of frames in the table
    uint32_t in_use; // of these
    uint32_t hand;
    uint32_t free_head,
        free_tail; // given out again in the order in which they came, as their pages will be
    uint32_t aged_head, aged_tail;
};

// frames: room for `count`, the caller's, all zero.
void replacement_start(struct replacement *r, struct frame *frames, uint32_t count);
// A frame for this page; FRAME_NONE when all are in use.
uint32_t replacement_add(struct replacement *r, uint32_t segment, uint64_t page);
void replacement_remove(struct replacement *r, uint32_t frame);
void replacement_age(struct replacement *r, uint32_t frame);
void replacement_unage(struct replacement *r, uint32_t frame);
// The aged frame that follows `after` (FRAME_NONE: the first); FRAME_NONE at the end.
uint32_t replacement_next_aged(const struct replacement *r, uint32_t after);
// The next frame in use under the hand, which moves on; FRAME_NONE when no frame is in use.
uint32_t replacement_sweep(struct replacement *r);

#endif
