// SPDX-License-Identifier: Apache-2.0
//
// A segment that stops: before it moves, nothing of it may change any more, and nothing may be read that the next owner could be
// changing. So it is frozen: every page is closed, and stays so; who touches one sleeps until the thaw (or finds, then, that
// the segment has left). Dirty pages stay in memory for the flush, clean ones leave at once. Source: PrepareSegment, FlushSegment (Sprite).
//
// protection_set() is the only place where pages are opened, and refuses for a frozen segment. So what is on its way at the
// freeze may land, and stays closed: nothing has to be waited for, and a store just before the freeze has left its mark: a page
// that is open for stores is dirty, and of one that is tracked protection_set() asks the trap after the closing.
//
// The flush is a cleaning of the whole segment: nothing can become dirty any more, and what is in transit for others (the
// laundry, a victim) is waited for.
//
// A freeze that fails opens nothing again: pages that stay closed cost a soft fault each.
#include <errno.h>
#include <limits.h>

#include "libdsm/pager/pager.h"

enum { LOOKS = 256 };

// ---- pages in memory

// (L) The first page from `page` on that has a frame, at most LOOKS looks away: else where to look on.
static uint64_t look_for_frame(const struct segment *segment, uint64_t page, bool *found)
{
    const struct page_table *table = &segment->table;
    uint64_t stop = smaller(table->pages, page + LOOKS);
    *found = false;
    while (page < stop) {
        if (page % PAGE_CHUNK == 0 && table->chunk_resident[page / PAGE_CHUNK] == 0) {
            return smaller(table->pages, page + PAGE_CHUNK);
        }
        enum page_state state = page_state(table, page_at(table, page));
        if (state == PAGE_RESIDENT || state == PAGE_WRITING) {
            *found = true;
            return page;
        }
        page++;
    }
    return page;
}

// ---- freeze

// (L) The first pinned page, or DSM_NO_PAGE.
static uint64_t pinned_page(const struct segment *segment)
{
    bool found;
    for (uint64_t page = 0; page < segment->table.pages; page += found) {
        page = look_for_frame(segment, page, &found);
        if (found && page_at(&segment->table, page)->pins > 0) {
            return page;
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

// (L) From a page with a frame on: closed with those open ones that follow it, and then counted: until it is closed a store may
// come that only the trap knows of. Their number.
static uint64_t close_run(struct segment *segment, uint64_t page, struct freeze *freeze, int *error)
{
    bool open = protection_of(page_at(&segment->table, page)) != TRAP_NONE;
    uint64_t n = 1;
    while (open && n < LOOKS && page + n < segment->table.pages &&
           protection_of(page_at(&segment->table, page + n)) != TRAP_NONE) {
        n++;
    }
    if (open) {
        freeze->failed_page = page;
        *error = protection_set(segment, page, n, TRAP_NONE);
    }
    for (uint64_t i = 0; i < n; i++) {
        bool dirty = page_has(page_at(&segment->table, page + i), PAGE_DIRTY);
        freeze->dirty_pages += dirty;
        freeze->clean_pages += !dirty;
    }
    return n;
}

static int close_all(struct segment *segment, struct freeze *freeze)
{
    struct pager *pager = segment->pager;
    int error = 0;
    for (uint64_t page = 0; page < segment->table.pages && error == 0;) {
        bool found;
        sync_mask mask = sync_block_signals();
        lock_acquire(&pager->lock);
        page = look_for_frame(segment, page, &found);
        if (found) {
            page += close_run(segment, page, freeze, &error);
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

static bool goes(const struct segment *segment, uint64_t page)
{
    const struct page_entry *entry = page_at(&segment->table, page);
    return page_state(&segment->table, entry) == PAGE_RESIDENT && entry->pins == 0 &&
           !page_has(entry, PAGE_DIRTY);
}

// (L) Those that leave of the pages from this one on, as many as can be noted. Where to look on.
static uint64_t take_clean(struct segment *segment, uint64_t page, struct claims *claims,
                           uint64_t *left)
{
    for (uint32_t looks = 0;
         looks < LOOKS && page < segment->table.pages && claims->count < PAGER_BATCH; looks++) {
        bool found;
        page = look_for_frame(segment, page, &found);
        if (found) {
            const struct victim victim = {segment, page};
            if (!goes(segment, page) || !frames_take_victim(segment->pager, claims, victim)) {
                *left += segment->page_bytes;
            }
            page++;
        }
    }
    return page;
}

uint64_t pager_release_clean(struct segment *segment)
{
    struct pager *pager = segment->pager;
    struct claims claims;
    uint64_t left = 0;
    for (uint64_t page = 0; page < segment->table.pages;) {
        claims.count = 0;
        claims.credit = 0;
        sync_mask mask = sync_block_signals();
        lock_acquire(&pager->lock);
        page = take_clean(segment, page, &claims, &left);
        lock_release(&pager->lock);
        frames_settle(pager, &claims);
        sync_restore_signals(mask);
    }
    return left;
}

// ---- flush; on a worker, whose signals are blocked

void pager_flush(struct pager *pager, struct call *call)
{
    struct clean clean = {
        .pager = pager, .segment = call->segment, .end = call->segment->table.pages, .all = true};
    call->error = pager_clean(&clean);
    call->failed_page = clean.failed_page;
    call->failed_segment = call->segment->index;
    call->passed_over = clean.written;
}
