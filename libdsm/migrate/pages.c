// SPDX-License-Identifier: Apache-2.0
//
// See the header. The source keeps its pages' states in the entries that the hardware reads, and writes the bits of a page that
// left anew (VIRT_RES|ON_SWAP); here a state is derived from ours:
//
//     none                                         -> none
//     undefined, or zeros that were never stored   -> zero: its first touch needs no read
//     of a heap that has a template, not stored into -> template
//     everything else                              -> backing
//
// A page in memory that is dirty counts as backing: it is captured after the flush, or before one that must succeed.
//
// A template's page lies in the heap's own backing, which shares it with the template until it is written: so at the destination it
// is as any other that is there. That nobody stored into it is known by the program's mark, which goes along with the page.
//
// At the destination the table is set page by page, before anybody may touch one. The lock is given back in between: faults
// of other segments go on.
#include <errno.h>
#include <stdlib.h>

#include "libdsm/migrate/pages.h"

enum { LOOKS = 256, FIRST_RUNS = 16 };
#define MOST_RUNS (LIMIT_CAPSULE_BYTES / 8)

struct capture {
    struct capsule_run *runs;
    uint32_t count, room;
};

static bool goes_on(const struct capsule_run *run, const struct capsule_run *page)
{
    return run->place == page->place && run->read_only == page->read_only &&
           run->changed == page->changed;
}

static int append(struct capture *c, struct capsule_run page)
{
    if (c->count > 0 && goes_on(&c->runs[c->count - 1], &page)) {
        c->runs[c->count - 1].pages += page.pages;
        return 0;
    }
    if (c->count == c->room) {
        uint32_t room = c->room == 0 ? FIRST_RUNS : 2 * c->room;
        struct capsule_run *more =
            c->count < MOST_RUNS ? reallocarray(c->runs, room, sizeof *more) : NULL;
        if (more == NULL) {
            return c->count < MOST_RUNS ? -ENOMEM : -EFBIG;
        }
        c->runs = more;
        c->room = room;
    }
    c->runs[c->count++] = page;
    return 0;
}

// (L)
static enum capsule_place place_of(const struct page_entry *entry, enum page_state state,
                                   bool template)
{
    bool zeros = state == PAGE_UNDEFINED || state == PAGE_FILLING || state == PAGE_KILLING ||
                 (page_has(entry, PAGE_UNBACKED) && !page_has(entry, PAGE_DIRTY));
    bool stored = page_has(entry, PAGE_CHANGED) || page_has(entry, PAGE_DIRTY);
    return state == PAGE_NONE    ? CAPSULE_NONE
           : zeros               ? CAPSULE_ZERO
           : template && !stored ? CAPSULE_TEMPLATE
                                 : CAPSULE_BACKING;
}

// Takes the lock for each `LOOKS` pages: collects their runs in `batch`, which has room for as many.
static uint32_t look(struct segment *segment, uint64_t page, uint64_t stop, uint64_t template_pages,
                     struct capsule_run *batch, uint64_t *lost)
{
    uint32_t count = 0;
    sync_mask mask = sync_block_signals();
    lock_acquire(&segment->pager->lock);
    for (; page < stop; page++) {
        const struct page_entry *entry = page_at(&segment->table, page);
        enum page_state state = page_state(&segment->table, entry);
        struct capsule_run run = {.pages = 1,
                                  .place = place_of(entry, state, page < template_pages)};
        run.read_only = run.place != CAPSULE_NONE && page_has(entry, PAGE_READ_ONLY);
        run.changed = run.place != CAPSULE_NONE && page_has(entry, PAGE_CHANGED);
        *lost = state == PAGE_LOST && *lost == DSM_NO_PAGE ? page : *lost;
        if (count > 0 && goes_on(&batch[count - 1], &run)) {
            batch[count - 1].pages++;
        } else {
            batch[count++] = run;
        }
    }
    lock_release(&segment->pager->lock);
    sync_restore_signals(mask);
    return count;
}

int pages_capture(struct segment *segment, uint64_t template_pages, struct capsule_run **runs,
                  uint32_t *count, uint64_t *failed)
{
    struct capture c = {NULL, 0, 0};
    struct capsule_run batch[LOOKS];
    uint64_t lost = DSM_NO_PAGE;
    int error = 0;
    for (uint64_t page = 0; page < segment->table.pages && error == 0; page += LOOKS) {
        uint64_t left = segment->table.pages - page;
        uint32_t found =
            look(segment, page, page + (left < LOOKS ? left : LOOKS), template_pages, batch, &lost);
        for (uint32_t i = 0; i < found && error == 0; i++) {
            error = append(&c, batch[i]);
        }
    }
    if (error == 0 && lost != DSM_NO_PAGE) {
        *failed = lost;
        error = -EREMOTEIO;
    }
    if (error != 0) {
        free(c.runs);
        return error;
    }
    *runs = c.runs;
    *count = c.count;
    return 0;
}

// (L)
static void publish_page(struct segment *segment, uint64_t page, const struct capsule_run *run)
{
    struct page_entry *entry = page_at(&segment->table, page);
    enum page_state state = page_state(&segment->table, entry);
    if (run->place == CAPSULE_ZERO && state == PAGE_BACKING) {
        page_move(&segment->table, page, PAGE_UNDEFINED);
    }
    uint32_t set = (run->read_only ? PAGE_READ_ONLY : 0U) | (run->changed ? PAGE_CHANGED : 0U);
    if (set != 0) {
        page_set(&segment->table, entry, set, 0);
    }
}

void pages_publish(struct segment *segment, const struct capsule_run *runs, uint32_t count)
{
    uint64_t page = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (runs[i].place == CAPSULE_NONE) {
            pager_note_none(segment, page, runs[i].pages);
            page += runs[i].pages;
            continue;
        }
        for (uint64_t end = page + runs[i].pages; page < end;) {
            uint64_t stop = end - page < LOOKS ? end : page + LOOKS;
            sync_mask mask = sync_block_signals();
            lock_acquire(&segment->pager->lock);
            for (; page < stop; page++) {
                publish_page(segment, page, &runs[i]);
            }
            lock_release(&segment->pager->lock);
            sync_restore_signals(mask);
        }
    }
}
