// SPDX-License-Identifier: Apache-2.0
//
// The queues over frames. Which page deserves its second chance is for the pager to say (it knows what is open, pinned or on
// its way); this file knows only order.
//
// Frames, not pages, are queued: their number is the cache's, however large the segments are. While memory is free nothing
// moves and nothing is closed, so a program whose data fit pays nothing. Under pressure each choice takes at most two
// pages from the end of NEW, until an eighth of all is left there: no choice has to pay for a crowd. MAIN may have three
// quarters; the rest is what probation lives on. Both shares were tried on the traces: they matter little, but with no
// room left to probation (MAIN without a limit) half of bfs' hits are lost.
//
// Pages that return (ghosts) go to MAIN only when nearly all do. Without them a set that changes, and is larger than
// probation, would never get in: 73 % of hits on the trace "phases" instead of 96 %. If every one did, zipf would lose
// one or two of its points.
#include "libdsm/policy/replacement.h"
#include "libdsm/sync/invariant.h"

enum {
    NEW_PART = 8,
    PROBATION_PART = 4,
    TRIM = 2,
    MAIN_LOOKS = 8, // into a MAIN that is too long, before probation must give
    RETURNS_MOST = 64,
    STRANGER = 3, // weighs as much as so many pages that return
};

static void leave(struct replacement *r, uint32_t frame)
{
    struct frame *f = &r->frames[frame];
    uint32_t *before =
        f->previous == FRAME_NONE ? &r->head[f->queue] : &r->frames[f->previous].next;
    uint32_t *behind = f->next == FRAME_NONE ? &r->tail[f->queue] : &r->frames[f->next].previous;
    *before = f->next;
    *behind = f->previous;
    r->length[f->queue]--;
}

static void join(struct replacement *r, uint32_t frame, enum replacement_queue queue)
{
    struct frame *f = &r->frames[frame];
    f->queue = (uint8_t)queue;
    f->next = FRAME_NONE;
    f->previous = r->tail[queue];
    *(f->previous == FRAME_NONE ? &r->head[queue] : &r->frames[f->previous].next) = frame;
    r->tail[queue] = frame;
    r->length[queue]++;
}

static void move(struct replacement *r, uint32_t frame, enum replacement_queue queue)
{
    leave(r, frame);
    join(r, frame, queue);
}

void replacement_start(struct replacement *r, struct frame *frames, uint32_t room)
{
    *r = (struct replacement){.frames = frames, .room = room, .taken = 1};
    for (int i = 0; i < QUEUE_COUNT; i++) {
        r->head[i] = r->tail[i] = FRAME_NONE;
    }
}

// A page comes: one that was taken not long ago, and would be here still if MAIN had made room? When nearly all that
// come are such pages, what MAIN holds is of yesterday.
static bool belongs_to_main(struct replacement *r, uint32_t ghost)
{
    bool returns = ghost != 0 && r->taken - ghost < r->length[QUEUE_MAIN];
    if (returns) {
        r->returns += r->returns < RETURNS_MOST;
    } else {
        r->returns = r->returns > STRANGER ? r->returns - STRANGER : 0;
    }
    return returns && r->returns > RETURNS_MOST / 2;
}

uint32_t replacement_add(struct replacement *r, uint32_t segment, uint64_t page, uint32_t ghost)
{
    if (r->head[QUEUE_FREE] == FRAME_NONE && r->count < r->room) {
        r->frames[r->count] = (struct frame){.queue = QUEUE_FREE};
        join(r, r->count++, QUEUE_FREE);
    }
    uint32_t frame = r->head[QUEUE_FREE];
    if (frame != FRAME_NONE) {
        r->frames[frame].page = page;
        r->frames[frame].segment = segment;
        move(r, frame, belongs_to_main(r, ghost) ? QUEUE_MAIN : QUEUE_NEW);
        r->in_use++;
    }
    return frame;
}

void replacement_remove(struct replacement *r, uint32_t frame)
{
    INVARIANT(frame_used(&r->frames[frame]));
    r->in_use--;
    move(r, frame, QUEUE_FREE);
}

uint32_t replacement_take(struct replacement *r, uint32_t frame)
{
    uint32_t ghost = r->taken;
    r->taken += r->taken == UINT32_MAX ? 2 : 1;
    replacement_remove(r, frame);
    return ghost;
}

void replacement_age(struct replacement *r, uint32_t frame)
{
    move(r, frame, QUEUE_AGED);
}

void replacement_touched(struct replacement *r, uint32_t frame, bool first)
{
    if (r->frames[frame].queue == QUEUE_PROBATION) {
        move(r, frame, first ? QUEUE_NEW : QUEUE_MAIN);
    }
}

// ---- the choice ----

struct choice {
    replacement_look *look;
    void *context;
    uint32_t left; // looks
};

static enum replacement_view look_at(struct choice *choice, uint32_t frame, bool aged)
{
    enum replacement_view view = choice->look(choice->context, frame, aged);
    choice->left = view == REPLACEMENT_STOP ? 0 : choice->left - 1;
    return view;
}

static void trim(struct replacement *r, struct choice *choice)
{
    for (int i = 0; i < TRIM && r->length[QUEUE_NEW] > r->in_use / NEW_PART && choice->left > 0;
         i++) {
        uint32_t frame = r->head[QUEUE_NEW];
        if (look_at(choice, frame, false) != REPLACEMENT_STOP) {
            move(r, frame, QUEUE_PROBATION);
        }
    }
}

static uint32_t choose_aged(const struct replacement *r, struct choice *choice)
{
    uint32_t frame = r->head[QUEUE_AGED];
    while (frame != FRAME_NONE && choice->left > 0) {
        if (look_at(choice, frame, true) == REPLACEMENT_TAKE) {
            return frame;
        }
        frame = r->frames[frame].next;
    }
    return FRAME_NONE;
}

// The first frame of the next `most` in the queue that is to be had. Open pages are given their second chance, on
// probation or in MAIN.
static uint32_t round_of(struct replacement *r, enum replacement_queue queue, uint32_t most,
                         struct choice *choice)
{
    for (uint32_t n = 0; n < most && choice->left > 0; n++) {
        uint32_t frame = r->head[queue];
        switch (look_at(choice, frame, false)) {
        case REPLACEMENT_TAKE:
            return frame;
        case REPLACEMENT_PASS:
            move(r, frame, queue == QUEUE_NEW ? QUEUE_PROBATION : queue);
            break;
        case REPLACEMENT_SKIP:
            move(r, frame, queue);
            break;
        default:
            break;
        }
    }
    return FRAME_NONE;
}

uint32_t replacement_choose(struct replacement *r, replacement_look *look, void *context,
                            uint32_t most)
{
    // The first time round MAIN or NEW may pass every page, the second finds them closed.
    static const enum replacement_queue order[] = {QUEUE_PROBATION, QUEUE_MAIN, QUEUE_NEW,
                                                   QUEUE_PROBATION, QUEUE_MAIN};
    struct choice choice = {.look = look, .context = context, .left = most};
    uint32_t frame = choose_aged(r, &choice);
    if (frame != FRAME_NONE) {
        return frame;
    }
    trim(r, &choice);
    if (r->length[QUEUE_MAIN] > r->in_use - r->in_use / PROBATION_PART) {
        frame = round_of(r, QUEUE_MAIN, MAIN_LOOKS, &choice);
    }
    for (unsigned i = 0; i < sizeof order / sizeof order[0] && frame == FRAME_NONE; i++) {
        frame = round_of(r, order[i], r->length[order[i]], &choice);
    }
    return frame;
}

uint32_t replacement_sweep(struct replacement *r)
{
    uint32_t from = r->hand;
    for (uint32_t i = 0; i < r->count; i++) {
        uint32_t at = r->hand < r->count ? r->hand : 0;
        r->hand = at + 1 < r->room ? at + 1 : 0;
        if (frame_used(&r->frames[at])) {
            return at;
        }
    }
    r->hand = from;
    return FRAME_NONE;
}
