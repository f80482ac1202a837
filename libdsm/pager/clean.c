// SPDX-License-Identifier: Apache-2.0
//
// Clean: writes changed pages in runs, one routine for the program's calls, for closing and for the laundry. A run may take
// clean pages along between two dirty ones (up to the gap limit): one request instead of two. They are checked out tentatively;
// a tail of them that no dirty page follows is given back unwritten. State machine: Cedar's VMOpsImpl.Clean, with one
// correction: a clean page joins only if it is adjacent to the run, whatever lay between.
//
// Order: writing (in the table) -> no write access -> dirty mark off -> sent -> acknowledged -> resident. A store meanwhile
// waits for the acknowledgement, so what was acknowledged is what was there, each page whole; a failed write puts the
// dirty mark back on the pages that had it, and only on those.
//
// Pinned pages are passed over: write access cannot be taken from a page that a system call or a device writes to.
#include <errno.h>
#include <string.h>

#include "dsm/dsm.h"
#include "libdsm/pager/pager.h"
#include "libdsm/stat/probes.h"
#include "libdsm/sync/invariant.h"

enum outcome {
    OUT_PINNED, // these four are passed over
    OUT_CLEAN,
    OUT_ABSENT,
    OUT_NO_BACKING,
    OUT_CLEAN_TAKEN,
    OUT_NEEDS_WRITE,
    OUT_FAULT,
    OUT_WAIT_PAGE,
    OUT_NEED_LANE,
    OUT_SKIP_CHUNK
};

static struct page_entry *entry_of(const struct clean *c, uint64_t page)
{
    return page_at(&c->segment->table, page);
}

static uint32_t buffer_pages(const struct clean *c)
{
    uint32_t most = LIMIT_RUN_BYTES / c->segment->page_bytes;
    return c->pager->options.swap_buffer_pages < most ? c->pager->options.swap_buffer_pages : most;
}

static void fail(struct clean *c, int error, uint64_t page)
{
    if (c->error == 0) {
        c->error = error;
        c->failed_page = page;
    }
}

// ---- the run ----

static void check_in(struct clean *c, uint64_t page, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        page_move(&c->segment->table, page + i, PAGE_RESIDENT);
        page_wake(&c->segment->table, entry_of(c, page + i));
    }
}

// The dirty marks of the run go off, and are remembered for a failure.
static void take_marks(struct clean *c)
{
    memset(c->was_dirty, 0, sizeof c->was_dirty);
    protection_no_writes(c->segment, c->base, c->count);
    for (uint32_t i = 0; i < c->count; i++) {
        struct page_entry *entry = entry_of(c, c->base + i);
        // One that is open for stores all the same (no mapping was left to close it) stays dirty.
        if (page_has(entry, PAGE_DIRTY) && protection_of(entry) != TRAP_READ_WRITE) {
            wire_map_set(c->was_dirty, i);
            page_set(&c->segment->table, entry, PAGE_SENT, PAGE_DIRTY);
        }
    }
}

// One physical run's pages.
static void settle(struct clean *c, const struct backing_run *run)
{
    uint32_t first = (uint32_t)(run->page - c->base);
    for (uint32_t i = 0; i < run->count; i++) {
        struct page_entry *entry = entry_of(c, run->page + i);
        if (wire_map_get(c->was_dirty, first + i)) { // a clean page taken along is what it was
            page_set(&c->segment->table, entry, i < run->done ? 0 : PAGE_DIRTY,
                     PAGE_SENT | (i < run->done ? PAGE_UNBACKED : 0));
        }
    }
    check_in(c, run->page, run->count);
}

// Not under the lock, like receive. The run leaves; its tail of clean pages goes back first.
static void send(struct clean *c)
{
    INVARIANT(c->dirty_count > 0);
    STAT_ADD(c->pager->stat, clean_virtual_runs, 1);
    lock_acquire(&c->pager->lock);
    check_in(c, c->base + c->dirty_count, c->count - c->dirty_count);
    STAT_ADD(c->pager->stat, clean_unneeded_check_out_cleans, c->count - c->dirty_count);
    c->count = c->dirty_count;
    take_marks(c);
    lock_release(&c->pager->lock);
    const struct backing_run whole = {
        .page = c->base,
        .count = c->count,
        .contents = c->segment->view.contents + (c->base << c->segment->page_shift),
    };
    c->sent = c->count;
    c->run_count = backing_break(&c->segment->placement, &whole, c->runs);
    STAT_ADD(c->pager->stat, clean_physical_runs, c->run_count);
    for (uint32_t i = 0; i < c->run_count; i++) {
        backing_write_send(backing_lane_to(c->lane, c->runs[i].store), &c->runs[i], c->deadline);
    }
}

static void tell(const struct clean *c, const struct backing_run *run, int error)
{
    if (probe_clean_run_on()) {
        uint32_t writes = 0;
        for (uint64_t i = 0; i < run->done; i++) {
            writes += wire_map_get(c->was_dirty, (unsigned)(run->page - c->base + i));
        }
        probe_clean_run(c->segment->number, run->page, run->done, writes,
                        (u64)(sync_now() - run->begun), error, run->store);
    }
}

static void receive(struct clean *c)
{
    for (uint32_t i = 0; i < c->run_count; i++) {
        struct backing_run *run = &c->runs[i];
        int error = backing_write_receive(backing_lane_to(c->lane, run->store), run, c->deadline);
        if (error != 0) {
            fail(c, error, run->page + run->done);
        }
        STAT_ADD(c->pager->stat, clean_pages, run->done);
        tell(c, run, error);
        lock_acquire(&c->pager->lock);
        settle(c, run);
        lock_release(&c->pager->lock);
    }
    (void)atomic_fetch_add(&c->pager->frames_word, 1);
    sync_wake(&c->pager->frames_word, 1);
    c->count = c->dirty_count = 0;
}

static void flush(struct clean *c)
{
    if (c->count > 0) {
        send(c);
        receive(c);
    }
}

static void append(struct clean *c)
{
    if (c->count == 0) {
        c->base = c->page;
        c->pieces = 0;
    }
    INVARIANT(c->base + c->count == c->page);
    c->pieces += c->count == 0 || placement_begins(&c->segment->placement, c->page);
    c->count++;
}

static bool full(const struct clean *c)
{
    return c->count == buffer_pages(c) ||
           placement_full(&c->segment->placement, c->page, c->pieces);
}

// ---- one page; under the lock ----

static bool joins(const struct clean *c)
{
    return c->count > 0 && !full(c) && c->base + c->count == c->page &&
           c->count - c->dirty_count < c->pager->options.clean_gap_pages;
}

static enum outcome consider_resident(struct clean *c, struct page_entry *entry)
{
    if (entry->pins > 0) {
        c->passed_over++;
        return OUT_PINNED;
    }
    if (!page_has(entry, PAGE_DIRTY)) {
        if (!joins(c)) {
            return OUT_CLEAN;
        }
        page_move(&c->segment->table, c->page, PAGE_WRITING);
        return OUT_CLEAN_TAKEN;
    }
    if (c->lane == NULL) {
        return OUT_NEED_LANE;
    }
    page_move(&c->segment->table, c->page, PAGE_WRITING);
    return OUT_NEEDS_WRITE;
}

// Cedar's ConsiderCleaning.
static enum outcome consider(struct clean *c)
{
    struct page_entry *entry = entry_of(c, c->page);
    if (c->page % PAGE_CHUNK == 0 && (c->all || c->segment->none_pages == 0) &&
        c->segment->table.chunk_resident[c->page / PAGE_CHUNK] == 0) {
        return OUT_SKIP_CHUNK;
    }
    switch (page_state(&c->segment->table, entry)) {
    case PAGE_RESIDENT:
        return consider_resident(c, entry);
    case PAGE_WRITING:
    case PAGE_DISCARDING:
    case PAGE_FILLING:
    case PAGE_KILLING:
    case PAGE_GIVING_UP:
        return OUT_WAIT_PAGE;
    case PAGE_NONE:
        return c->all ? OUT_NO_BACKING : OUT_FAULT;
    case PAGE_LOST:
        return OUT_NO_BACKING;
    default:
        return OUT_ABSENT; // nothing here that the server lacks
    }
}

// ---- what follows; not under the lock ----

static void let_go(struct clean *c)
{
    flush(c);
    if (c->lane != NULL) {
        backing_give(c->lane);
        c->lane = NULL;
    }
}

static void wait_for_page(struct clean *c)
{
    let_go(c);
    if (c->error != 0) {
        return;
    }
    lock_acquire(&c->pager->lock);
    if (!page_in_transit(page_state(&c->segment->table, entry_of(c, c->page)))) {
        lock_release(&c->pager->lock);
    } else if (pager_wait_page(c->segment, c->page, c->deadline, NULL, false) == -ETIMEDOUT) {
        fail(c, -ETIMEDOUT, c->page);
    }
}

static void page_back(struct clean *c)
{
    lock_acquire(&c->pager->lock);
    check_in(c, c->page, 1);
    lock_release(&c->pager->lock);
}

static bool take_write(struct clean *c)
{
    STAT_ADD(c->pager->stat, clean_writes, 1);
    if (c->skipping || full(c)) {
        flush(c);
    }
    if (c->error != 0) {
        page_back(c);
        return false;
    }
    c->skipping = false;
    append(c);
    c->dirty_count = c->count;
    return true;
}

static uint64_t passed(struct clean *c, enum outcome why, uint64_t pages)
{
    struct counters *stat = c->pager->stat;
    STAT_ADD(stat, clean_cant_writes, pages);
    switch (why) {
    case OUT_PINNED:
        STAT_ADD(stat, clean_skipped_pinned, pages);
        break;
    case OUT_CLEAN:
        STAT_ADD(stat, clean_skipped_clean, pages);
        break;
    case OUT_NO_BACKING:
        STAT_ADD(stat, clean_skipped_no_backing, pages);
        break;
    default:
        STAT_ADD(stat, clean_skipped_absent, pages);
    }
    c->skipping = true;
    return pages;
}

// One turn of the loop; how many pages are dealt with.
static uint64_t turn(struct clean *c)
{
    lock_acquire(&c->pager->lock);
    enum outcome outcome = consider(c);
    lock_release(&c->pager->lock);
    switch (outcome) {
    case OUT_PINNED:
    case OUT_CLEAN:
    case OUT_ABSENT:
    case OUT_NO_BACKING:
        return passed(c, outcome, 1);
    case OUT_SKIP_CHUNK:
        return passed(c, outcome, c->end - c->page < PAGE_CHUNK ? c->end - c->page : PAGE_CHUNK);
    case OUT_CLEAN_TAKEN:
        STAT_ADD(c->pager->stat, clean_check_out_cleans, 1);
        append(c);
        return 1;
    case OUT_NEEDS_WRITE:
        return take_write(c) ? 1 : 0;
    case OUT_WAIT_PAGE:
        wait_for_page(c);
        return 0;
    case OUT_NEED_LANE:
        c->lane = backing_take(c->pager->backing, BACKING_BULK, c->deadline);
        if (c->lane == NULL) {
            fail(c, -ETIMEDOUT, c->page);
        }
        return 0;
    default:
        flush(c);
        fail(c, -EFAULT, c->page);
        return 0;
    }
}

int pager_clean(struct clean *c)
{
    STAT_ADD(c->pager->stat, clean_calls, 1);
    uint64_t pages = c->segment->table.pages;
    if (c->page > pages || c->end > pages || c->end < c->page) {
        fail(c, -EFAULT, pages);
        return c->error;
    }
    while (c->page < c->end && c->error == 0) {
        c->page += turn(c);
    }
    let_go(c);
    return c->error;
}

bool clean_begin(struct clean *c, struct backing_lane *lane)
{
    c->lane = lane;
    lock_acquire(&c->pager->lock);
    for (; c->page < c->end; c->page++) {
        const struct page_entry *entry = entry_of(c, c->page);
        if (page_state(&c->segment->table, entry) != PAGE_RESIDENT || entry->pins > 0 ||
            !page_has(entry, PAGE_DIRTY) || full(c)) {
            break;
        }
        page_move(&c->segment->table, c->page, PAGE_WRITING);
        append(c);
    }
    c->dirty_count = c->count;
    lock_release(&c->pager->lock);
    if (c->count == 0) {
        return false;
    }
    STAT_ADD(c->pager->stat, clean_calls, 1);
    STAT_ADD(c->pager->stat, clean_writes, c->count);
    send(c);
    return true;
}

int clean_end(struct clean *c)
{
    receive(c);
    c->lane = NULL;
    return c->error;
}

int clean_victim(struct pager *pager, struct backing_lane *lane, struct victim victim,
                 int64_t deadline)
{
    struct clean c = {.pager = pager, .segment = victim.segment, .base = victim.page, .count = 1};
    lock_acquire(&pager->lock);
    take_marks(&c);
    lock_release(&pager->lock);
    const struct backing_run whole = {
        .page = victim.page,
        .count = 1,
        .contents = victim.segment->view.contents + (victim.page << victim.segment->page_shift),
    };
    struct backing_run run;
    (void)backing_break(&victim.segment->placement, &whole, &run);
    lane = backing_lane_to(lane, run.store);
    backing_write_send(lane, &run, deadline);
    int error = backing_write_receive(lane, &run, deadline);
    if (probe_clean_run_on()) {
        probe_clean_run(victim.segment->number, run.page, run.done, run.done,
                        (u64)(sync_now() - run.begun), error, run.store);
    }
    lock_acquire(&pager->lock);
    page_set(&victim.segment->table, page_at(&victim.segment->table, victim.page),
             error != 0 ? PAGE_DIRTY : 0, PAGE_SENT | (error == 0 ? PAGE_UNBACKED : 0));
    lock_release(&pager->lock);
    return error;
}
