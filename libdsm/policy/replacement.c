// SPDX-License-Identifier: Apache-2.0
//
// The clock over frames and the queue of aged ones. Which page deserves its second chance is for the pager to say (it knows
// what is open, pinned or on its way); this file knows only order.
//
// Frames, not pages, are swept: their number is the cache's, however large the segments are. A list would need two links
// moved under the lock at every touch that is noticed; the hand needs none.
#include "libdsm/policy/replacement.h"
#include "libdsm/sync/invariant.h"

void replacement_start(struct replacement *r, struct frame *frames, uint32_t count)
{
    *r = (struct replacement){
        .frames = frames, .count = count, .free_head = count > 0 ? 0 : FRAME_NONE};
    r->free_tail = count > 0 ? count - 1 : FRAME_NONE;
    r->aged_head = r->aged_tail = FRAME_NONE;
    for (uint32_t i = 0; i < count; i++) {
        frames[i].next = i + 1 < count ? i + 1 : FRAME_NONE;
    }
}

uint32_t replacement_add(struct replacement *r, uint32_t segment, uint64_t page)
{
    uint32_t frame = r->free_head;
    if (frame == FRAME_NONE) {
        return FRAME_NONE;
    }
    struct frame *f = &r->frames[frame];
    r->free_head = f->next;
    r->in_use++;
    *f = (struct frame){
        .page = page, .segment = segment, .used = true, .next = FRAME_NONE, .previous = FRAME_NONE};
    return frame;
}

void replacement_unage(struct replacement *r, uint32_t frame)
{
    struct frame *f = &r->frames[frame];
    if (!f->aged) {
        return;
    }
    if (f->previous == FRAME_NONE) {
        r->aged_head = f->next;
    } else {
        r->frames[f->previous].next = f->next;
    }
    if (f->next == FRAME_NONE) {
        r->aged_tail = f->previous;
    } else {
        r->frames[f->next].previous = f->previous;
    }
    f->aged = false;
    f->next = f->previous = FRAME_NONE;
}

void replacement_remove(struct replacement *r, uint32_t frame)
{
    INVARIANT(r->frames[frame].used);
    replacement_unage(r, frame);
    r->frames[frame].used = false;
    r->frames[frame].next = FRAME_NONE;
    if (r->free_head == FRAME_NONE) {
        r->free_head = frame;
    } else {
        r->frames[r->free_tail].next = frame;
    }
    r->free_tail = frame;
    r->in_use--;
}

void replacement_age(struct replacement *r, uint32_t frame)
{
    struct frame *f = &r->frames[frame];
    replacement_unage(r, frame); // aged again: to the end of the queue
    f->aged = true;
    f->previous = r->aged_tail;
    f->next = FRAME_NONE;
    if (r->aged_tail == FRAME_NONE) {
        r->aged_head = frame;
    } else {
        r->frames[r->aged_tail].next = frame;
    }
    r->aged_tail = frame;
}

uint32_t replacement_next_aged(const struct replacement *r, uint32_t after)
{
    return after == FRAME_NONE ? r->aged_head : r->frames[after].next;
}

uint32_t replacement_sweep(struct replacement *r)
{
    for (uint32_t i = 0; i < r->count; i++) {
        uint32_t at = r->hand;
        r->hand = at + 1 < r->count ? at + 1 : 0;
        if (r->frames[at].used) {
            return at;
        }
    }
    return FRAME_NONE;
}
