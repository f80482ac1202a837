// SPDX-License-Identifier: Apache-2.0
//
// A segment that stops: before it moves, nothing of it may change any more, and nothing may be read that the next owner could be
// changing. So it is frozen: every page is closed, and stays so; who touches one sleeps until the thaw (or finds, then, that
// the segment has left). Dirty pages stay in memory for the flush, clean ones leave at once. Source: PrepareSegment, FlushSegment (Sprite).
//
// protection_set() is the only place where pages are opened, and refuses for a frozen segment. So what is on its way at the
// freeze may land, and stays closed: nothing has to be waited for, and a store just before the freeze has left its mark, since
// a page that is open for stores is dirty. What some other trap would know by itself must be asked for here, after the closing.
//
// The flush sends run after run before it takes the first answer, as many as a connection has room for; what is in transit for
// others (the laundry, a victim) is waited for at the end by an ordinary cleaning of the whole segment.
//
// A freeze that fails opens nothing again: pages that stay closed cost a soft fault each.
#include <errno.h>
#include <limits.h>

#include "libdsm/pager/pager.h"

enum { FLUSH_WINDOW = LIMIT_LANE_IN_FLIGHT_BYTES / LIMIT_RUN_BYTES, LOOKS = 256 };

// ---- freeze

// The first pinned page, or DSM_NO_PAGE.
static uint64_t pinned_page(const struct segment *segment)
{
    const struct pager *pager = segment->pager;
    for (uint32_t i = 0; i < pager->replacement.count && segment->pinned_pages > 0; i++) {
        const struct frame *frame = &pager->replacement.frames[i];
        if (frame_used(frame) && frame->segment == segment->index &&
            page_at(&segment->table, frame->page)->pins > 0) {
            return frame->page;
        }
    }
    return DSM_NO_PAGE;
}

static int begin(struct segment *segment, uint64_t *failed)
{
    int error = segment->frozen ? -EALREADY : 0;
    if (error == 0 && segment->pinned_pages > 0) {
        *failed = pinned_page(segment);
        error = -EBUSY;
    }
    segment->frozen = segment->frozen || error == 0;
    return error;
}

// (L) One frame's page: closed with those open ones that follow it, and counted.
static int close_page(struct segment *segment, uint64_t page, struct freeze *freeze)
{
    const struct page_entry *entry = page_at(&segment->table, page);
    freeze->dirty_pages += page_has(entry, PAGE_DIRTY);
    freeze->clean_pages += !page_has(entry, PAGE_DIRTY);
    if (protection_of(entry) == TRAP_NONE) {
        return 0;
    }
    uint64_t n = 1;
    while (n < LOOKS && page + n < segment->table.pages &&
           protection_of(page_at(&segment->table, page + n)) != TRAP_NONE) {
        n++;
    }
    freeze->failed_page = page;
    return protection_set(segment, page, n, TRAP_NONE);
}

static int close_all(struct segment *segment, struct freeze *freeze)
{
    struct pager *pager = segment->pager;
    int error = 0;
    for (uint32_t i = 0; i < pager->replacement.count && error == 0;) {
        sync_mask mask = sync_block_signals();
        lock_acquire(&pager->lock);
        for (uint32_t looks = 0; looks < LOOKS && i < pager->replacement.count && error == 0;
             looks++, i++) {
            const struct frame *frame = &pager->replacement.frames[i];
            if (frame_used(frame) && frame->segment == segment->index) {
                error = close_page(segment, frame->page, freeze);
            }
        }
        lock_release(&pager->lock);
        sync_restore_signals(mask);
    }
    return error;
}

int pager_freeze(struct segment *segment, struct freeze *freeze)
{
    struct freeze found = {.failed_page = DSM_NO_PAGE};
    sync_mask mask = sync_block_signals();
    lock_acquire(&segment->pager->lock);
    int error = begin(segment, &found.failed_page);
    lock_release(&segment->pager->lock);
    sync_restore_signals(mask);
    if (error == 0) {
        error = close_all(segment, &found);
        if (error != 0) {
            pager_thaw(segment);
        } else {
            (void)pager_release_clean(segment);
        }
    }
    *freeze = found;
    return error;
}

void pager_thaw_wake(struct pager *pager)
{
    (void)atomic_fetch_add(&pager->thaw_word, 1);
    sync_wake(&pager->thaw_word, INT_MAX);
}

void pager_thaw(struct segment *segment)
{
    sync_mask mask = sync_block_signals();
    lock_acquire(&segment->pager->lock);
    segment->frozen = false;
    lock_release(&segment->pager->lock);
    sync_restore_signals(mask);
    pager_thaw_wake(segment->pager);
}

// ---- free clean

static bool goes(const struct segment *segment, const struct frame *frame)
{
    const struct page_entry *entry = page_at(&segment->table, frame->page);
    return page_state(&segment->table, entry) == PAGE_RESIDENT && entry->pins == 0 &&
           !page_has(entry, PAGE_DIRTY);
}

uint64_t pager_release_clean(struct segment *segment)
{
    struct pager *pager = segment->pager;
    struct claims claims;
    uint64_t left = 0;
    for (uint32_t i = 0; i < pager->replacement.count;) {
        claims.count = 0;
        claims.credit = 0;
        sync_mask mask = sync_block_signals();
        lock_acquire(&pager->lock);
        for (uint32_t looks = 0;
             looks < LOOKS && i < pager->replacement.count && claims.count < PAGER_BATCH;
             looks++, i++) {
            const struct frame *frame = &pager->replacement.frames[i];
            if (!frame_used(frame) || frame->segment != segment->index) {
                continue;
            }
            const struct victim victim = {segment, frame->page};
            if (!goes(segment, frame) || !frames_take_victim(pager, &claims, victim)) {
                left += segment->page_bytes;
            }
        }
        lock_release(&pager->lock);
        frames_settle(pager, &claims);
        sync_restore_signals(mask);
    }
    return left;
}

// ---- flush; on a worker, whose signals are blocked

struct flush {
    struct pager *pager;
    struct segment *segment;
    uint64_t page;  // looked at next
    uint64_t pages; // written
    struct clean cleans[FLUSH_WINDOW];
    uint32_t first, count; // under way
    int error;
    uint64_t failed_page;
};

static void take_answer(struct flush *f)
{
    struct clean *clean = &f->cleans[f->first];
    int error = clean_end(clean);
    if (error != 0 && f->error == 0) {
        f->error = error;
        f->failed_page = clean->failed_page;
    }
    f->pages += error == 0 ? clean->sent : 0;
    f->first = (f->first + 1) % FLUSH_WINDOW;
    f->count--;
}

// The next dirty page from f->page on that nobody else has; the segment's end when there is none.
static void next_dirty(struct flush *f)
{
    const struct page_table *table = &f->segment->table;
    while (f->page < table->pages) {
        uint64_t left = table->pages - f->page;
        uint64_t stop = f->page + (left < LOOKS ? left : LOOKS);
        bool found = false;
        lock_acquire(&f->pager->lock);
        if (f->page % PAGE_CHUNK == 0 && table->chunk_resident[f->page / PAGE_CHUNK] == 0) {
            f->page += left < PAGE_CHUNK ? left : PAGE_CHUNK;
            stop = f->page;
        }
        for (; f->page < stop && !found; f->page += !found) {
            const struct page_entry *entry = page_at(table, f->page);
            found = page_has(entry, PAGE_DIRTY) && page_state(table, entry) == PAGE_RESIDENT &&
                    entry->pins == 0;
        }
        lock_release(&f->pager->lock);
        if (found) {
            return;
        }
    }
}

static void send_all(struct flush *f, struct backing_lane *lane)
{
    for (next_dirty(f); f->page < f->segment->table.pages && f->error == 0; next_dirty(f)) {
        if (f->count == FLUSH_WINDOW) {
            take_answer(f);
        }
        struct clean *clean = &f->cleans[(f->first + f->count) % FLUSH_WINDOW];
        *clean = (struct clean){.pager = f->pager,
                                .segment = f->segment,
                                .page = f->page,
                                .end = f->segment->table.pages,
                                .deadline = pager_deadline(f->pager)};
        if (clean_begin(clean, lane)) {
            f->page += clean->sent;
            f->count++;
        } else {
            f->page++; // another one has it
        }
    }
    while (f->count > 0) {
        take_answer(f);
    }
}

void pager_flush(struct pager *pager, struct call *call)
{
    struct flush f = {.pager = pager, .segment = call->segment};
    struct clean rest = {.pager = pager,
                         .segment = call->segment,
                         .end = call->segment->table.pages,
                         .deadline = pager_deadline(pager),
                         .all = true};
    struct backing_lane *lane = backing_take(pager->backing, BACKING_BULK, pager_deadline(pager));
    if (lane == NULL) {
        f.error = -ETIMEDOUT;
    } else {
        send_all(&f, lane);
        backing_give(lane);
    }
    if (f.error == 0) {
        f.error = pager_clean(&rest);
        f.failed_page = rest.failed_page;
    }
    call->error = f.error;
    call->failed_page = f.failed_page;
    call->failed_segment = call->segment->index;
    call->passed_over = f.pages;
}
