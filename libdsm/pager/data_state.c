// SPDX-License-Identifier: Apache-2.0
//
// What the program says of its pages' contents, and of who may store into them. Marks cost nothing; giving contents up takes
// the frames back at once, without I/O; giving backing up also tells the server, which takes its space back and keeps that in its
// index: so it is known at the next opening, and pages that are to have backing again ask for it, and may be refused.
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
    return entry->pins > 0 || segment->frozen ? -EBUSY : 0;
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
        error = protection_of(entry) >= TRAP_TRACKED ? -ENOMEM : 0;
    }
    if (error == 0) {
        page_set(&segment->table, entry, read_only ? PAGE_READ_ONLY : 0,
                 read_only ? 0 : PAGE_READ_ONLY);
    }
    if (error == 0 && !read_only && page_state(&segment->table, entry) == PAGE_RESIDENT) {
        protection_writes_again(segment, page, 1);
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
    if (!protection_watch(segment, page)) {
        return -ENOMEM; // stores would go unnoticed
    }
    page_set(&segment->table, entry, PAGE_DEFINED, PAGE_CHANGED);
    return 0;
}

// Under the lock: no more loads and stores of a page in memory, which is then in transit. False: it could not be closed.
static bool check_out(struct segment *segment, uint64_t page)
{
    if (protection_of(page_at(&segment->table, page)) != TRAP_NONE &&
        protection_set(segment, page, 1, TRAP_NONE) != 0) {
        return false;
    }
    page_move(&segment->table, page, PAGE_DISCARDING);
    return true;
}

// The run of pages in memory that begins here. Its length; 0: the page could not be closed.
static uint64_t check_out_run(struct segment *segment, uint64_t page, uint64_t stop)
{
    uint64_t n = 0;
    for (; page + n < stop; n++) {
        const struct page_entry *entry = page_at(&segment->table, page + n);
        if (page_state(&segment->table, entry) != PAGE_RESIDENT || entry->pins > 0 ||
            !check_out(segment, page + n)) {
            break;
        }
    }
    return n;
}

// Its bytes are given back by the caller, those of all its frames at once: each time wakes all who wait for memory.
static void drop_frame(struct segment *segment, uint64_t page)
{
    struct page_entry *entry = page_at(&segment->table, page);
    replacement_remove(&segment->pager->replacement, entry->frame);
    entry->frame = 0;
}

static void forget(struct segment *segment, uint64_t page)
{
    struct page_entry *entry = page_at(&segment->table, page);
    prefetch_forgone(segment, entry);
    page_set(&segment->table, entry, 0,
             PAGE_DIRTY | PAGE_UNBACKED | PAGE_CHANGED | PAGE_DEFINED | PAGE_AGED | PAGE_WANTED);
}

// Not under the lock: punched, then without contents.
static void drop_run(struct segment *segment, uint64_t page, uint64_t count)
{
    (void)segment->view.ops->discard(&segment->view, page << segment->page_shift,
                                     count << segment->page_shift);
    lock_acquire(&segment->pager->lock);
    for (uint64_t i = page; i < page + count; i++) {
        forget(segment, i);
        drop_frame(segment, i);
        page_move(&segment->table, i, PAGE_UNDEFINED);
        page_wake(&segment->table, page_at(&segment->table, i));
    }
    frames_release(segment->pager, count << segment->page_shift);
    lock_release(&segment->pager->lock);
}

static void wait_for(struct data_change *c)
{
    if (pager_wait_page(c->segment, c->page, c->deadline, NULL, false) == -ETIMEDOUT) {
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
        run = check_out_run(segment, c->page, c->stop);
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

// ---- none ----

// Under the lock: one page is checked out to lose its backing; its contents stay until the server has done it.
static int take_page(struct segment *segment, uint64_t page)
{
    struct page_entry *entry = page_at(&segment->table, page);
    enum page_state state = page_state(&segment->table, entry);
    int error = check_page(segment, page, true);
    if (error != 0 || state == PAGE_LOST) {
        return error != 0 ? error : -DSM_ELOST;
    }
    if (state == PAGE_RESIDENT) {
        return check_out(segment, page) ? 0 : -ENOMEM;
    }
    page_set(&segment->table, entry, state == PAGE_UNDEFINED ? PAGE_UNBACKED : 0, 0);
    page_move(&segment->table, page, PAGE_GIVING_UP);
    return 0;
}

static bool takeable(const struct segment *segment, uint64_t page)
{
    enum page_state state = page_state(&segment->table, page_at(&segment->table, page));
    return state != PAGE_NONE && !page_in_transit(state);
}

// Bytes of memory that this frees.
static uint64_t page_gone(struct segment *segment, uint64_t page)
{
    struct page_entry *entry = page_at(&segment->table, page);
    bool resident = page_state(&segment->table, entry) == PAGE_DISCARDING;
    if (resident) {
        drop_frame(segment, page);
    }
    forget(segment, page);
    page_set(&segment->table, entry, 0, PAGE_READ_ONLY);
    page_move(&segment->table, page, PAGE_NONE);
    segment->none_pages++;
    return resident ? segment->page_bytes : 0;
}

static void page_kept(struct segment *segment, uint64_t page)
{
    struct page_entry *entry = page_at(&segment->table, page);
    if (page_state(&segment->table, entry) == PAGE_DISCARDING) {
        page_move(&segment->table, page, PAGE_RESIDENT);
        return;
    }
    page_move(&segment->table, page,
              page_has(entry, PAGE_UNBACKED) ? PAGE_UNDEFINED : PAGE_BACKING);
    page_set(&segment->table, entry, 0, PAGE_UNBACKED);
}

// Not under the lock: what the server did is so here, too.
static void settle(struct segment *segment, uint64_t page, uint64_t count, uint64_t done)
{
    if (done > 0) {
        (void)segment->view.ops->discard(&segment->view, page << segment->page_shift,
                                         done << segment->page_shift);
    }
    uint64_t freed = 0;
    lock_acquire(&segment->pager->lock);
    for (uint64_t i = 0; i < count; i++) {
        if (i < done) {
            freed += page_gone(segment, page + i);
        } else {
            page_kept(segment, page + i);
        }
        page_wake(&segment->table, page_at(&segment->table, page + i));
    }
    if (freed > 0) {
        frames_release(segment->pager, freed);
    }
    lock_release(&segment->pager->lock);
}

// The part that lies in the first page's store. Pages done.
static uint32_t ask_store(struct data_change *c, struct backing_lane *lane, uint16_t op,
                          uint64_t page, uint64_t count)
{
    struct placement_piece piece;
    (void)placement_break(&c->segment->placement, page, count, &piece, 1);
    struct backing_segment *part = c->segment->placement.parts[piece.store];
    struct backing_run run = {
        .segment = part,
        .page = page,
        .count = piece.count,
        .version = atomic_fetch_add(&part->next_version, 1),
        .store = piece.store,
    };
    int error = backing_reserve(backing_lane_to(lane, piece.store), &run, op, c->deadline);
    if (error != 0) {
        fail(c, error, page + run.done);
    }
    return run.done;
}

// To the end, store after store: what one promised stays promised when another refuses. Pages done.
static uint32_t ask_server(struct data_change *c, uint16_t op, uint64_t page, uint64_t count)
{
    struct segment *segment = c->segment;
    struct backing_lane *lane = backing_take(segment->pager->backing, BACKING_BULK, c->deadline);
    if (lane == NULL) {
        fail(c, -ETIMEDOUT, page);
        return 0;
    }
    uint32_t done = 0;
    while (done < count && c->error == 0) {
        done += ask_store(c, lane, op, page + done, count - done);
    }
    backing_give(lane);
    return done;
}

// A run of pages; returns how many are done.
static uint64_t give_backing_up(struct data_change *c)
{
    struct segment *segment = c->segment;
    uint64_t n = 0;
    int error = 0;
    lock_acquire(&segment->pager->lock);
    if (page_in_transit(page_state(&segment->table, page_at(&segment->table, c->page)))) {
        wait_for(c);
        return 0;
    }
    while (c->page + n < c->stop && takeable(segment, c->page + n) && error == 0) {
        error = take_page(segment, c->page + n);
        n += error == 0;
    }
    lock_release(&segment->pager->lock);
    if (n == 0) {
        if (error != 0) {
            fail(c, error, c->page);
        }
        return error == 0; // it has none already
    }
    uint32_t done = ask_server(c, WIRE_GIVE_UP, c->page, n);
    settle(segment, c->page, n, done);
    return done;
}

void pager_note_none(struct segment *segment, uint64_t page, uint64_t count)
{
    uint64_t end = page + count;
    while (page < end) {
        uint64_t stop = smaller(end, page + LOOKS);
        sync_mask mask = sync_block_signals();
        lock_acquire(&segment->pager->lock);
        for (; page < stop; page++) {
            enum page_state state = page_state(&segment->table, page_at(&segment->table, page));
            if (state == PAGE_BACKING || state == PAGE_UNDEFINED) { // nobody has touched it yet
                page_move(&segment->table, page, PAGE_GIVING_UP);
                (void)page_gone(segment, page);
            }
        }
        lock_release(&segment->pager->lock);
        sync_restore_signals(mask);
    }
}

// ---- backing again ----

bool pager_find_none(struct segment *segment, uint64_t page, uint64_t end, uint64_t *first,
                     uint64_t *last)
{
    bool any = false;
    while (page < end) {
        uint64_t stop = smaller(end, page + LOOKS);
        sync_mask mask = sync_block_signals();
        lock_acquire(&segment->pager->lock);
        for (; page < stop && segment->none_pages > 0; page++) {
            if (page_state(&segment->table, page_at(&segment->table, page)) == PAGE_NONE) {
                *first = any ? *first : page;
                *last = page;
                any = true;
            }
        }
        page = segment->none_pages > 0 ? stop : end;
        lock_release(&segment->pager->lock);
        sync_restore_signals(mask);
    }
    return any;
}

// What the server promises, it promises for all of them or for none.
static void allocate(struct data_change *c, uint64_t end)
{
    uint64_t first;
    uint64_t last;
    if (pager_find_none(c->segment, c->page, end, &first, &last)) {
        (void)ask_server(c, WIRE_ALLOCATE, first, last - first + 1);
    }
}

// ---- the loop ----

static uint64_t one_run(struct data_change *c)
{
    switch (c->data) {
    case DSM_DATA_NONE:
        return give_backing_up(c);
    case DSM_DATA_UNDEFINED:
        return give_contents_up(c);
    default:
        return mark_page(c);
    }
}

static void change_part(struct data_change *c, uint64_t end)
{
    if (c->data == DSM_DATA_UNDEFINED) {
        allocate(c, end);
    }
    while (c->page < end && c->error == 0) {
        c->stop = smaller(end, c->page + LIMIT_RUN_PAGES);
        c->page += one_run(c);
    }
}

// Two that give up and allocate the same pages would meet at the server in an order that nobody here knows.
static bool alone(struct data_change *c)
{
    _Atomic uint32_t *word = &c->segment->giving_up;
    uint32_t nobody = 0;
    while (!atomic_compare_exchange_strong(word, &nobody, 1)) {
        nobody = 0;
        if (sync_wait(word, 1, c->deadline) == -ETIMEDOUT) {
            fail(c, -ETIMEDOUT, c->page);
            return false;
        }
    }
    return true;
}

int pager_set_data(struct data_change *c)
{
    bool none_allowed = c->data == DSM_DATA_NONE || c->data == DSM_DATA_UNDEFINED;
    if (none_allowed && !alone(c)) {
        return c->error;
    }
    c->error = check_all(c->segment, c->page, c->end, none_allowed, &c->failed_page);
    while (c->page < c->end && c->error == 0) {
        change_part(c, smaller(c->end, c->page + LIMIT_RESERVE_PAGES));
    }
    if (none_allowed) {
        atomic_store(&c->segment->giving_up, 0);
        sync_wake(&c->segment->giving_up, 1);
    }
    return c->error;
}
