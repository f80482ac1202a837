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
// Several runs are under way at once, as many as a connection holds: else this end would seal while the other one
// waits, and the other way round. Answers come in the order of sending, so the error that is told is that of the lowest
// page; after one nothing more is sent, and what was sent is taken in. Before a wait for a page nothing is under way.
// Each run has the time that a fault has, counted from its leaving: a large segment may take longer in all.
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

static void fail(struct clean *c, int error, uint64_t page)
{
    if (c->error == 0) {
        c->error = error;
        c->failed_page = page;
    }
}

// ---- a run ----

static void check_in(struct segment *segment, uint64_t page, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        page_move(&segment->table, page + i, PAGE_RESIDENT);
        page_wake(&segment->table, page_at(&segment->table, page + i));
    }
    protection_writes_again(segment, page, count);
}

static void begin_run(struct clean_run *run, struct segment *segment)
{
    run->segment = segment;
    run->count = run->dirty_count = run->pieces = 0;
}

static void append(struct clean_run *run, uint64_t page)
{
    if (run->count == 0) {
        run->base = page;
    }
    INVARIANT(run->base + run->count == page);
    run->pieces += run->count == 0 || placement_begins(&run->segment->placement, page);
    run->count++;
}

static bool full(const struct clean_run *run, uint64_t page)
{
    return run->count == pager_run_pages(run->segment) ||
           placement_full(&run->segment->placement, page, run->pieces);
}

// The dirty marks of the run go off, and are remembered for a failure.
static void take_marks(struct clean_run *run)
{
    struct page_table *table = &run->segment->table;
    memset(run->was_dirty, 0, sizeof run->was_dirty);
    protection_no_writes(run->segment, run->base, run->count);
    for (uint32_t i = 0; i < run->count; i++) {
        struct page_entry *entry = page_at(table, run->base + i);
        // One that is open for stores all the same (no mapping was left to close it) stays dirty.
        if (page_has(entry, PAGE_DIRTY) && protection_of(entry) < TRAP_TRACKED) {
            wire_map_set(run->was_dirty, i);
            page_set(table, entry, PAGE_SENT, PAGE_DIRTY);
        }
    }
}

// Of one physical run's pages.
static void settle_marks(const struct clean_run *run, const struct backing_run *part)
{
    struct page_table *table = &run->segment->table;
    uint32_t first = (uint32_t)(part->page - run->base);
    for (uint32_t i = 0; i < part->count; i++) {
        if (wire_map_get(run->was_dirty, first + i)) { // a clean page taken along is what it was
            page_set(table, page_at(table, part->page + i), i < part->done ? 0 : PAGE_DIRTY,
                     PAGE_SENT | (i < part->done ? PAGE_UNBACKED : 0));
        }
    }
}

// Not under the lock, like receive. lane and deadline are set.
static void leave(struct clean_run *run)
{
    struct segment *segment = run->segment;
    struct pager *pager = segment->pager;
    lock_acquire(&pager->lock);
    take_marks(run);
    lock_release(&pager->lock);
    const struct backing_run whole = {
        .page = run->base,
        .count = run->count,
        .contents = segment->view.contents + (run->base << segment->page_shift),
    };
    run->part_count = backing_break(&segment->placement, &whole, run->parts);
    for (uint32_t i = 0; i < run->part_count; i++) {
        struct backing_run *part = &run->parts[i];
        backing_write_send(backing_lane_to(run->lane, part->store), part, run->deadline);
    }
}

// Its tail of clean pages goes back first.
static void send(struct clean_run *run)
{
    struct pager *pager = run->segment->pager;
    uint32_t tail = run->count - run->dirty_count;
    INVARIANT(run->dirty_count > 0);
    lock_acquire(&pager->lock);
    check_in(run->segment, run->base + run->dirty_count, tail);
    lock_release(&pager->lock);
    run->count = run->dirty_count;
    run->deadline = pager_deadline(pager);
    leave(run);
    STAT_ADD(pager->stat, clean_unneeded_check_out_cleans, tail);
    STAT_ADD(pager->stat, clean_virtual_runs, 1);
    STAT_ADD(pager->stat, clean_physical_runs, run->part_count);
}

static void tell(const struct clean_run *run, const struct backing_run *part, int error)
{
    if (probe_clean_run_on()) {
        uint32_t writes = 0;
        for (uint64_t i = 0; i < part->done; i++) {
            writes += wire_map_get(run->was_dirty, (unsigned)(part->page - run->base + i));
        }
        probe_clean_run(run->segment->number, part->page, part->done, writes,
                        (u64)(sync_now() - part->begun), error, part->store);
    }
}

static void receive(struct clean_run *run)
{
    struct pager *pager = run->segment->pager;
    run->error = 0;
    for (uint32_t i = 0; i < run->part_count; i++) {
        struct backing_run *part = &run->parts[i];
        int error =
            backing_write_receive(backing_lane_to(run->lane, part->store), part, run->deadline);
        if (error != 0 && run->error == 0) {
            run->error = error;
            run->failed_page = part->page + part->done;
        }
        STAT_ADD(pager->stat, clean_pages, part->done);
        tell(run, part, error);
        lock_acquire(&pager->lock);
        settle_marks(run, part);
        check_in(run->segment, part->page, part->count);
        run->segment->write_failed = error != 0;
        lock_release(&pager->lock);
    }
    (void)atomic_fetch_add(&pager->frames_word, 1);
    sync_wake(&pager->frames_word, 1);
}

// ---- runs under way ----

static struct clean_run *in_hand(struct clean *c)
{
    return &c->runs[(c->first + c->under_way) % CLEAN_RUNS];
}

static void take_answer(struct clean *c) // of the run that left first
{
    struct clean_run *run = &c->runs[c->first];
    receive(run);
    if (run->error != 0) {
        fail(c, run->error, run->failed_page);
    } else {
        c->written += run->count;
    }
    c->bytes_under_way -= (uint64_t)run->count * c->segment->page_bytes;
    c->first = (c->first + 1) % CLEAN_RUNS;
    c->under_way--;
}

// What was not sent is as it was.
static void give_back(struct clean *c, uint64_t page, uint32_t count)
{
    lock_acquire(&c->pager->lock);
    check_in(c->segment, page, count);
    lock_release(&c->pager->lock);
}

// The run in hand leaves, when those before it let it and none of them failed.
static void start(struct clean *c)
{
    struct clean_run *run = in_hand(c);
    if (run->count == 0) {
        return;
    }
    uint64_t bytes = (uint64_t)run->count * c->segment->page_bytes;
    while (c->under_way == CLEAN_RUNS - 1 ||
           (c->under_way > 0 && c->bytes_under_way + bytes > LIMIT_LANE_IN_FLIGHT_BYTES)) {
        take_answer(c);
    }
    if (c->error != 0) {
        give_back(c, run->base, run->count);
    } else {
        run->lane = c->lane;
        send(run);
        c->bytes_under_way += (uint64_t)run->count * c->segment->page_bytes;
        c->under_way++;
    }
    begin_run(in_hand(c), c->segment);
}

static void flush(struct clean *c)
{
    start(c);
    while (c->under_way > 0) {
        take_answer(c);
    }
}

// ---- one page; under the lock ----

static bool joins(const struct clean *c, const struct clean_run *run)
{
    return run->count > 0 && !full(run, c->page) && run->base + run->count == c->page &&
           run->count - run->dirty_count < c->pager->options.clean_gap_pages;
}

// What is stored into behind it came during the call.
static void look_ahead(struct clean *c)
{
    if (c->page >= c->looked) {
        protection_look(c->segment, c->page, TRAP_LOOK_UNITS);
        c->looked = c->page + TRAP_LOOK_UNITS;
    }
}

static enum outcome consider_resident(struct clean *c, struct page_entry *entry)
{
    if (entry->pins > 0) {
        c->passed_over++;
        return OUT_PINNED;
    }
    look_ahead(c);
    if (!page_has(entry, PAGE_DIRTY)) {
        if (!joins(c, in_hand(c))) {
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
    } else if (pager_wait_page(c->segment, c->page, pager_deadline(c->pager), NULL, false) ==
               -ETIMEDOUT) {
        fail(c, -ETIMEDOUT, c->page);
    }
}

static bool take_write(struct clean *c)
{
    STAT_ADD(c->pager->stat, clean_writes, 1);
    if (c->skipping || full(in_hand(c), c->page)) {
        start(c);
    }
    if (c->error != 0) {
        give_back(c, c->page, 1);
        return false;
    }
    struct clean_run *run = in_hand(c);
    c->skipping = false;
    append(run, c->page);
    run->dirty_count = run->count;
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
        append(in_hand(c), c->page);
        return 1;
    case OUT_NEEDS_WRITE:
        return take_write(c) ? 1 : 0;
    case OUT_WAIT_PAGE:
        wait_for_page(c);
        return 0;
    case OUT_NEED_LANE:
        c->lane = backing_take(c->pager->backing, BACKING_BULK, pager_deadline(c->pager));
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
    begin_run(in_hand(c), c->segment);
    while (c->page < c->end && c->error == 0) {
        c->page += turn(c);
    }
    let_go(c);
    return c->error;
}

bool clean_begin(struct clean_run *run, struct segment *segment, uint64_t page, uint64_t end)
{
    struct pager *pager = segment->pager;
    begin_run(run, segment);
    lock_acquire(&pager->lock);
    for (; page < end; page++) {
        const struct page_entry *entry = page_at(&segment->table, page);
        if (page_state(&segment->table, entry) != PAGE_RESIDENT || entry->pins > 0 ||
            !page_has(entry, PAGE_DIRTY) || full(run, page)) {
            break;
        }
        page_move(&segment->table, page, PAGE_WRITING);
        append(run, page);
    }
    run->dirty_count = run->count;
    lock_release(&pager->lock);
    if (run->count == 0) {
        return false;
    }
    STAT_ADD(pager->stat, clean_calls, 1);
    STAT_ADD(pager->stat, clean_writes, run->count);
    send(run);
    return true;
}

int clean_end(struct clean_run *run)
{
    receive(run);
    return run->error;
}

void clean_victim_send(struct clean_run *run, struct victim victim)
{
    begin_run(run, victim.segment);
    append(run, victim.page);
    leave(run);
}

int clean_victim_receive(struct clean_run *run)
{
    struct segment *segment = run->segment;
    struct backing_run *part = &run->parts[0];
    int error = backing_write_receive(backing_lane_to(run->lane, part->store), part, run->deadline);
    if (error == -EINPROGRESS) {
        return error;
    }
    tell(run, part, error);
    lock_acquire(&segment->pager->lock);
    settle_marks(run, part);
    segment->write_failed = error != 0;
    lock_release(&segment->pager->lock);
    return error;
}
