// SPDX-License-Identifier: Apache-2.0
//
// Which frame is taken next. Page numbers in, page numbers out: no I/O, no locks (the pager's lock is held around every
// call).
//
// Frames stand in queues. A page that came is NEW, and open. At the end of that queue it is closed and stands on PROBATION:
// touched there, it goes to MAIN, whose pages get a second chance each time they come to its head; not touched, it is
// the next to be taken. So what is touched once, as by a scan, passes by those that are touched again. A page that comes
// back soon after it was taken goes to MAIN at once, when nearly all that come do: what is used has changed. AGED are those that the
// program does not want any more, in the order in which it said so: they go first.
//
// What a trap shows is little: the first touch of a page that is closed. Policies that want to see more must close
// more, and each closing costs a soft fault. On each of the traces of tests/sim this one misses less than the clock, and on
// nearly all it closes less; the table is in dsm(7).
//
// Source: 2Q (Johnson and Shasha, 1994), its queue of ghosts as the refault distance of Linux' page cache; second
// chance: Corbato's clock, 1968; aging by the program: Cedar's Age.
#ifndef LIBDSM_POLICY_REPLACEMENT_H
#define LIBDSM_POLICY_REPLACEMENT_H

#include <stdbool.h>
#include <stdint.h>

#define FRAME_NONE UINT32_MAX

enum replacement_queue {
    QUEUE_FREE, // given out again in the order in which they came, as their pages will be
    QUEUE_NEW,
    QUEUE_PROBATION,
    QUEUE_MAIN,
    QUEUE_AGED,
    QUEUE_COUNT
};

struct frame { // whose page it holds
    uint64_t page;
    uint32_t segment;
    uint8_t queue;
    uint32_t next, previous; // in its queue
};

static inline bool frame_used(const struct frame *frame)
{
    return frame->queue != QUEUE_FREE;
}

struct replacement {
    struct frame *frames;
    uint32_t room; // for so many frames
    uint32_t
        count; // of frames that were ever used: no others are looked at, nor their memory touched
    uint32_t in_use;  // of these
    uint32_t hand;    // of replacement_sweep()
    uint32_t taken;   // pages that were taken, counted round; never 0
    uint32_t returns; // how many of those that come were here not long ago, of late
    uint32_t head[QUEUE_COUNT], tail[QUEUE_COUNT], length[QUEUE_COUNT];
};

// frames: room for so many, the caller's.
void replacement_start(struct replacement *r, struct frame *frames, uint32_t room);
// A frame for this page; FRAME_NONE when all are in use. ghost: what replacement_take() returned when its last frame was
// taken; 0: it never had one, or gave it up.
uint32_t replacement_add(struct replacement *r, uint32_t segment, uint64_t page, uint32_t ghost);
void replacement_remove(struct replacement *r, uint32_t frame);
uint32_t replacement_take(struct replacement *r, uint32_t frame); // removes it, for another page
void replacement_age(struct replacement *r, uint32_t frame); // aged again: to the end of the queue
// Its page was closed, and is touched. first: for the first time ever (it came ahead of any touch).
void replacement_touched(struct replacement *r, uint32_t frame, bool first);

// Whose page is taken next; FRAME_NONE: no such frame among the next `most` that were looked at. look() says what it
// finds in a frame: not to be had now (SKIP); open, and closed now for its second chance (PASS); to be had (TAKE); or that
// enough was looked at (STOP). It may be asked for the same frame again. aged: no second chance is due.
enum replacement_view { REPLACEMENT_SKIP, REPLACEMENT_PASS, REPLACEMENT_TAKE, REPLACEMENT_STOP };
typedef enum replacement_view replacement_look(void *context, uint32_t frame, bool aged);
uint32_t replacement_choose(struct replacement *r, replacement_look *look, void *context,
                            uint32_t most);

// The next frame in use, whatever its queue, round and round; FRAME_NONE when no frame is in use.
uint32_t replacement_sweep(struct replacement *r);

#endif
