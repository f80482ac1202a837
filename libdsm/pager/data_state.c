// SPDX-License-Identifier: Apache-2.0
//
// What the program says of its pages' contents, and of who may store into them. Marks cost nothing; giving contents up takes
// the frames back at once, without I/O; giving backing up also tells the server, by a write of zeros, which takes no slot there.
//
// Nothing is undone half-way: all pages are looked at before the first is changed, so that a page that is pinned or given up
// leaves the interval as it was. A page that is pinned in between ends the call there, and is named.
//
// The first store after a mark must be noticed, so a page that is marked unchanged, or read-only, is closed for stores first.
// Its dirty mark stays: whether memory differs from the server is ours to know, not the program's to say.
//
// Changes of data states run on a worker, since they may wait for pages on their way; read-only marks need not.
#include <errno.h>

#include "libdsm/pager/pager.h"

enum { LOOKS = 256 }; // pages under one hold of the lock

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

enum dsm_data pager_data(const struct segment *segment, const struct page_entry *entry)
{
    enum page_state state = page_state(&segment->table, entry);
    if (state == PAGE_NONE) {
        return DSM_DATA_NONE;
    }
    if (page_has(entry, PAGE_CHANGED)) {
        return DSM_DATA_CHANGED;
    }
    bool contents = state != PAGE_UNDEFINED && state != PAGE_FILLING && state != PAGE_KILLING &&
                    !page_has(entry, PAGE_UNBACKED);
    return contents || page_has(entry, PAGE_DEFINED) ? DSM_DATA_UNCHANGED : DSM_DATA_UNDEFINED;
}

// ---- read-only ----

static int check_page(struct segment *segment, uint64_t page, bool none_allowed)
{
    const struct page_entry *entry = page_at(&segment->table, page);
    if (page_state(&segment->table, entry) == PAGE_NONE && !none_allowed) {
        return -EFAULT;
    }
    return entry->pins > 0 ? -EBUSY : 0;
}

static int check_all(struct segment *segment, uint64_t page, uint64_t end, bool none_allowed,
                     uint64_t *failed)
{
    int error = 0;
    while (page < end && error == 0) {
        uint64_t stop = smaller(end, page + LOOKS);
        sync_mask mask = sync_block_signals();
        lock_acquire(&segment->pager->lock);
        for (; page < stop && error == 0; page++) {
            error = check_page(segment, page, none_allowed);
            *failed = page;
        }
        lock_release(&segment->pager->lock);
        sync_restore_signals(mask);
    }
    return error;
}

static int protect_page(struct segment *segment, uint64_t page, bool read_only)
{
    struct page_entry *entry = page_at(&segment->table, page);
    int error = check_page(segment, page, false);
    if (error == 0 && read_only) {
        protection_no_writes(segment, page, 1);
        error = protection_of(entry) == TRAP_READ_WRITE ? -ENOMEM : 0;
    }
    if (error == 0) {
        page_set(&segment->table, entry, read_only ? PAGE_READ_ONLY : 0,
                 read_only ? 0 : PAGE_READ_ONLY);
    }
    return error;
}

int pager_protect(struct segment *segment, uint64_t page, uint64_t count, bool read_only,
                  uint64_t *failed)
{
    uint64_t end = page + count;
    int error = check_all(segment, page, end, false, failed);
    for (; page < end && error == 0; page++) {
        sync_mask mask = sync_block_signals();
        lock_acquire(&segment->pager->lock);
        error = protect_page(segment, page, read_only);
        lock_release(&segment->pager->lock);
        sync_restore_signals(mask);
        *failed = page;
    }
    return error;
}

// ---- data states; on a worker, whose signals are blocked ----

static void fail(struct data_change *c, int error, uint64_t page)
{
    c->error = error;
    c->failed_page = page;
}

static int mark(struct segment *segment, uint64_t page, bool changed)
{
    struct page_entry *entry = page_at(&segment->table, page);
    if (changed) {
        page_set(&segment->table, entry, PAGE_CHANGED | PAGE_DEFINED, 0);
        return 0;
    }
    protection_no_writes(segment, page, 1);
    if (protection_of(entry) == TRAP_READ_WRITE) {
        return -ENOMEM; // stores would go unnoticed
    }
    page_set(&segment->table, entry, PAGE_DEFINED, PAGE_CHANGED);
    return 0;
}

// Under the lock: the run of pages in memory that begins here is closed and checked out, to be punched. Its length, 0: the page
// could not be closed.
static uint64_t check_out(struct segment *segment, uint64_t page, uint64_t stop)
{
    uint64_t n = 0;
    for (; page + n < stop; n++) {
        struct page_entry *entry = page_at(&segment->table, page + n);
        if (page_state(&segment->table, entry) != PAGE_RESIDENT || entry->pins > 0 ||
            (protection_of(entry) != TRAP_NONE &&
             protection_set(segment, page + n, 1, TRAP_NONE) != 0)) {
            break;
        }
        page_move(&segment->table, page + n, PAGE_DISCARDING);
        replacement_remove(&segment->pager->replacement, entry->frame);
    }
    return n;
}

static void forget(struct segment *segment, uint64_t page)
{
    page_set(&segment->table, page_at(&segment->table, page), 0,
             PAGE_DIRTY | PAGE_UNBACKED | PAGE_CHANGED | PAGE_DEFINED | PAGE_AGED | PAGE_AHEAD |
                 PAGE_WANTED);
}

// Not under the lock: punched, then without contents.
static void drop_run(struct segment *segment, uint64_t page, uint64_t count)
{
    (void)segment->view.ops->discard(&segment->view, page << segment->page_shift,
                                     count << segment->page_shift);
    lock_acquire(&segment->pager->lock);
    for (uint64_t i = page; i < page + count; i++) {
        forget(segment, i);
        page_move(&segment->table, i, PAGE_UNDEFINED);
        page_wake(&segment->table, page_at(&segment->table, i));
        frames_release(segment->pager, segment->page_bytes);
    }
    lock_release(&segment->pager->lock);
}

static void wait_for(struct data_change *c)
{
    if (pager_wait_page(c->segment->pager, c->segment, c->page, c->deadline, NULL, NULL) ==
        -ETIMEDOUT) {
        fail(c, -ETIMEDOUT, c->page);
    }
}

// Gives contents up, page by page or run by run; returns how many pages are done. Takes the lock, and gives it back.
static uint64_t give_contents_up(struct data_change *c)
{
    struct segment *segment = c->segment;
    lock_acquire(&segment->pager->lock);
    enum page_state state = page_state(&segment->table, page_at(&segment->table, c->page));
    if (page_in_transit(state)) {
        wait_for(c);
        return 0;
    }
    int error = check_page(segment, c->page, true);
    uint64_t run = 0;
    if (error == 0 && state == PAGE_RESIDENT) {
        run = check_out(segment, c->page, c->stop);
        error = run == 0 ? -ENOMEM : 0;
    } else if (error == 0 && state == PAGE_LOST) {
        error = -DSM_ELOST;
    } else if (error == 0) {
        forget(segment, c->page);
        if (state != PAGE_UNDEFINED) {
            segment->none_pages -= state == PAGE_NONE;
            page_move(&segment->table, c->page, PAGE_UNDEFINED);
        }
    }
    lock_release(&segment->pager->lock);
    if (error != 0) {
        fail(c, error, c->page);
        return 0;
    }
    if (run > 0) {
        drop_run(segment, c->page, run);
    }
    return run > 0 ? run : 1;
}

static uint64_t mark_page(struct data_change *c)
{
    struct segment *segment = c->segment;
    lock_acquire(&segment->pager->lock);
    if (page_in_transit(page_state(&segment->table, page_at(&segment->table, c->page)))) {
        wait_for(c);
        return 0;
    }
    int error = check_page(segment, c->page, false);
    error = error != 0 ? error : mark(segment, c->page, c->data == DSM_DATA_CHANGED);
    lock_release(&segment->pager->lock);
    if (error != 0) {
        fail(c, error, c->page);
    }
    return error == 0;
}

// The server's part of pages that have no contents here any more, one run. One that the program touched meanwhile keeps what
// it has got.
static void give_backing_up(struct data_change *c, uint64_t page, uint32_t count)
{
    static const uint8_t zeros[LIMIT_RUN_BYTES];
    struct segment *segment = c->segment;
    struct backing_lane *lane = backing_take(segment->pager->backing, BACKING_BULK, c->deadline);
    if (lane == NULL) {
        fail(c, -ETIMEDOUT, page);
        return;
    }
    struct backing_run run = {
        .segment = &segment->backing,
        .page = page,
        .count = count,
        .version = atomic_fetch_add(&segment->backing.next_version, 1),
        .contents = zeros,
    };
    backing_write_send(lane, &run, c->deadline);
    int error = backing_write_receive(lane, &run, c->deadline);
    backing_give(lane);
    if (error != 0) {
        fail(c, error, page + run.done);
    }
    lock_acquire(&segment->pager->lock);
    for (uint64_t i = page; i < page + run.done; i++) {
        if (page_state(&segment->table, page_at(&segment->table, i)) == PAGE_UNDEFINED) {
            page_move(&segment->table, i, PAGE_NONE);
            segment->none_pages++;
        }
    }
    lock_release(&segment->pager->lock);
}

static uint64_t one_page(struct data_change *c)
{
    bool marks = c->data == DSM_DATA_UNCHANGED || c->data == DSM_DATA_CHANGED;
    return marks ? mark_page(c) : give_contents_up(c);
}

// Contents first, then backing, a server's run at a time.
static void one_run(struct data_change *c)
{
    uint64_t begin = c->page;
    c->stop = smaller(c->end, begin + LIMIT_RUN_BYTES / c->segment->page_bytes);
    while (c->page < c->stop && c->error == 0) {
        c->page += one_page(c);
    }
    if (c->data == DSM_DATA_NONE && c->error == 0) {
        give_backing_up(c, begin, (uint32_t)(c->page - begin));
    }
}

int pager_set_data(struct data_change *c)
{
    bool none_allowed = c->data == DSM_DATA_NONE || c->data == DSM_DATA_UNDEFINED;
    c->error = check_all(c->segment, c->page, c->end, none_allowed, &c->failed_page);
    while (c->page < c->end && c->error == 0) {
        one_run(c);
    }
    return c->error;
}
