// SPDX-License-Identifier: Apache-2.0
//
// What the program may do with which page, and what that costs in mappings. The kernel keeps a mapping for each run of
// equal protection and allows some 65,530 of them in all, so edges between runs are counted here, at the only place
// where protection changes; near the limit pages are closed (their frames stay) until there is room. A page
// that stays closed costs a soft fault, never an error to the program.
//
// A trap that splits no mapping (trap_uffd) has no edges, and no limit; but where it tracks stores, each run of pages that are open
// to loads alone is a mapping of its own.
//
// A page that is tracked may have been stored into without anybody here knowing. So whoever asks for its marks looks first
// (protection_look), and what is known then is true until the next store; what must stay true is shut for stores first, and
// looked at after that: change() does so whenever it takes store access away. A page that was found stored into is open for
// stores like any other, and dirty: it is not looked at again until it is tracked anew.
//
// mprotect is called under the lock: it takes the process's own lock of mappings anyway, and a page's flags and its protection
// must never disagree, or a store would go unnoticed.
#include <errno.h>

#include "libdsm/pager/pager.h"
#include "libdsm/sync/invariant.h"

enum { ROOM_SWEEPS = 512, ROOM_EDGES = 64 };

enum trap_access protection_of(const struct page_entry *entry)
{
    uint32_t word = page_word(entry);
    if ((word & PAGE_OPEN_WRITE) != 0) {
        return TRAP_READ_WRITE;
    }
    if ((word & PAGE_TRACKED) != 0) {
        return TRAP_TRACKED;
    }
    return (word & PAGE_OPEN_READ) != 0 ? TRAP_READ : TRAP_NONE;
}

static enum trap_access access_at(const struct segment *segment, uint64_t page)
{
    return page < segment->table.pages ? protection_of(page_at(&segment->table, page)) : TRAP_NONE;
}

static enum trap_access access_before(const struct segment *segment, uint64_t page)
{
    return page > 0 ? access_at(segment, page - 1) : TRAP_NONE;
}

static bool one_mapping(const struct segment *segment, enum trap_access a, enum trap_access b)
{
    const struct trap_ops *ops = segment->view.ops;
    bool shut = ops->tracks && segment->writable && (a == TRAP_READ) != (b == TRAP_READ);
    return ops->maps_edges ? a == b : !shut;
}

static uint64_t edges_in(const struct segment *segment, uint64_t page, uint64_t count)
{
    uint64_t edges = 0;
    enum trap_access before = access_before(segment, page);
    for (uint64_t i = 0; i <= count; i++) {
        enum trap_access now = access_at(segment, page + i);
        edges += !one_mapping(segment, now, before);
        before = now;
    }
    return edges;
}

static uint64_t edges_after(const struct segment *segment, uint64_t page, uint64_t count,
                            enum trap_access access)
{
    return (uint64_t)!one_mapping(segment, access_before(segment, page), access) +
           !one_mapping(segment, access_at(segment, page + count), access);
}

static enum trap_access access_of_all(const struct segment *segment, uint64_t page, uint64_t count)
{
    enum trap_access first = access_at(segment, page);
    for (uint64_t i = 1; i < count; i++) {
        if (access_at(segment, page + i) != first) {
            return TRAP_ANY;
        }
    }
    return first;
}

// Where the trap tracks, pages that are open to all stores, tracked or not, are alike to it.
static enum trap_access access_of_run(const struct segment *segment, uint64_t page, uint64_t count)
{
    enum trap_access access = access_of_all(segment, page, count);
    for (uint64_t i = 0; access == TRAP_ANY && segment->view.ops->tracks; i++) {
        if (i == count) {
            return TRAP_READ_WRITE;
        }
        if (access_at(segment, page + i) < TRAP_TRACKED) {
            break;
        }
    }
    return access;
}

static int protect(struct segment *segment, uint64_t page, uint64_t count, enum trap_access from,
                   enum trap_access to)
{
    return segment->view.ops->protect(&segment->view, page << segment->page_shift,
                                      count << segment->page_shift, from, to);
}

// ---- what the trap knows ----

static const uint32_t flags_of[] = {
    [TRAP_NONE] = 0,
    [TRAP_READ] = PAGE_OPEN_READ,
    [TRAP_TRACKED] = PAGE_TRACKED,
    // A page that is open for stores is dirty, whoever opened it: no store can go unnoticed.
    [TRAP_READ_WRITE] = PAGE_OPEN_READ | PAGE_OPEN_WRITE | PAGE_DIRTY | PAGE_CHANGED,
};

// At most TRAP_LOOK_UNITS pages. Those of them that are tracked, and were stored into: bit n.
static uint64_t stored_of(struct segment *segment, uint64_t page, uint64_t count)
{
    uint64_t tracked = 0;
    for (uint64_t i = 0; i < count; i++) {
        tracked |= (uint64_t)(access_at(segment, page + i) == TRAP_TRACKED) << i;
    }
    if (tracked == 0) {
        return 0;
    }
    return tracked & segment->view.ops->stored(&segment->view, page << segment->page_shift,
                                               count << segment->page_shift, segment->page_bytes);
}

// Those that are tracked and were stored into: they become so.
static void note_stored(struct segment *segment, uint64_t page, uint64_t count, uint32_t set)
{
    for (uint64_t at = 0; segment->view.ops->tracks && at < count; at += TRAP_LOOK_UNITS) {
        uint64_t n = count - at < TRAP_LOOK_UNITS ? count - at : TRAP_LOOK_UNITS;
        uint64_t stored = stored_of(segment, page + at, n);
        for (; stored != 0; stored &= stored - 1) {
            uint64_t found = page + at + (uint64_t)__builtin_ctzll(stored);
            page_set(&segment->table, page_at(&segment->table, found), set,
                     set & PAGE_OPEN_WRITE ? PAGE_TRACKED : 0);
        }
    }
}

void protection_look(struct segment *segment, uint64_t page, uint64_t count)
{
    INVARIANT(lock_held(&segment->pager->lock));
    uint64_t left = segment->table.pages - page;
    note_stored(segment, page, count < left ? count : left, flags_of[TRAP_READ_WRITE]);
}

// ---- changes ----

static int change(struct segment *segment, uint64_t page, uint64_t count, enum trap_access access)
{
    struct pager *pager = segment->pager;
    bool edges = segment->view.ops->maps_edges || segment->view.ops->tracks;
    uint64_t before = edges ? edges_in(segment, page, count) : 0;
    uint64_t after = edges ? edges_after(segment, page, count, access) : 0;
    int error = protect(segment, page, count, access_of_run(segment, page, count), access);
    if (error != 0) {
        return error;
    }
    if (access < TRAP_TRACKED) { // no more stores come
        note_stored(segment, page, count, PAGE_DIRTY | PAGE_CHANGED);
    }
    for (uint64_t i = 0; i < count; i++) {
        struct page_entry *entry = page_at(&segment->table, page + i);
        pager->open_pages += access != TRAP_NONE;
        pager->open_pages -= protection_of(entry) != TRAP_NONE;
        page_set(&segment->table, entry, flags_of[access], PAGE_OPEN & ~flags_of[access]);
    }
    STAT_SET(pager->stat, open_pages, pager->open_pages);
    pager->edges = pager->edges + after - before;
    STAT_SET(pager->stat, open_edges, pager->edges);
    return 0;
}

static void close_some(struct pager *pager)
{
    uint64_t target = pager->edges > ROOM_EDGES ? pager->edges - ROOM_EDGES : 0;
    for (int i = 0; i < ROOM_SWEEPS && pager->edges > target; i++) {
        uint32_t frame = replacement_sweep(&pager->replacement);
        if (frame == FRAME_NONE) {
            return;
        }
        struct segment *segment = frames_owner(pager, frame);
        uint64_t page = pager->replacement.frames[frame].page;
        if (access_at(segment, page) != TRAP_NONE && frames_evictable(pager, segment, page) &&
            change(segment, page, 1, TRAP_NONE) == 0) {
            STAT_ADD(pager->stat, closed_for_edges, 1);
        }
    }
}

int protection_set(struct segment *segment, uint64_t page, uint64_t count, enum trap_access access)
{
    struct pager *pager = segment->pager;
    INVARIANT(lock_held(&pager->lock) && page + count <= segment->table.pages);
    if (access != TRAP_NONE && segment->frozen) {
        return -ENOMEM; // whatever was on its way stays closed
    }
    if (access != TRAP_NONE && pager->edges + 2 > pager->options.map_limit) {
        close_some(pager);
    }
    int error = change(segment, page, count, access);
    if (error == -ENOMEM) {
        close_some(pager);
        error = change(segment, page, count, access);
    }
    return error;
}

typedef bool page_test(const struct segment *segment, uint64_t page);

// Those for which the test holds, run by run. The first error.
static int set_those(struct segment *segment, uint64_t page, uint64_t count, page_test *one,
                     enum trap_access access)
{
    int error = 0;
    uint64_t end = page + count;
    while (page < end) {
        uint64_t n = 0;
        while (page + n < end && one(segment, page + n)) {
            n++;
        }
        int failed = n > 0 ? protection_set(segment, page, n, access) : 0;
        error = error != 0 ? error : failed;
        page += n > 0 ? n : 1;
    }
    return error;
}

static bool closed(const struct segment *segment, uint64_t page)
{
    return access_at(segment, page) == TRAP_NONE;
}

static bool closed_to_be_tracked(const struct segment *segment, uint64_t page)
{
    const struct page_entry *entry = page_at(&segment->table, page);
    return closed(segment, page) && segment->view.ops->tracks && segment->writable &&
           !page_has(entry, PAGE_READ_ONLY) && page_state(&segment->table, entry) != PAGE_WRITING;
}

int protection_open(struct segment *segment, uint64_t page, uint64_t count)
{
    int error = set_those(segment, page, count, closed_to_be_tracked, TRAP_TRACKED);
    return error != 0 ? error : set_those(segment, page, count, closed, TRAP_READ);
}

void protection_renew(struct segment *segment, uint64_t page)
{
    if (!segment->view.ops->maps_edges) {
        protection_look(segment, page, 1); // a store may be forgotten with the page's entry
        (void)protect(segment, page, 1, access_at(segment, page), access_at(segment, page));
    }
}

static bool lets_stores(const struct segment *segment, uint64_t page)
{
    return access_at(segment, page) >= TRAP_TRACKED;
}

static bool shut_for_a_while(const struct segment *segment, uint64_t page)
{
    return access_at(segment, page) == TRAP_READ &&
           !page_has(page_at(&segment->table, page), PAGE_READ_ONLY);
}

void protection_no_writes(struct segment *segment, uint64_t page, uint64_t count)
{
    if (set_those(segment, page, count, lets_stores, TRAP_READ) != 0) {
        // No mapping left for a split: closing joins with closed neighbours, page by page if need be.
        (void)set_those(segment, page, count, lets_stores, TRAP_NONE);
    }
}

void protection_writes_again(struct segment *segment, uint64_t page, uint64_t count)
{
    if (segment->view.ops->tracks && segment->writable) { // where it fails, a store is a touch
        (void)set_those(segment, page, count, shut_for_a_while, TRAP_TRACKED);
    }
}

bool protection_watch(struct segment *segment, uint64_t page)
{
    if (!segment->view.ops->tracks) {
        protection_no_writes(segment, page, 1);
    } else {
        protection_look(segment, page, 1);
        if (access_at(segment, page) == TRAP_READ_WRITE) {
            (void)protection_set(segment, page, 1, TRAP_TRACKED);
        }
    }
    return access_at(segment, page) != TRAP_READ_WRITE;
}

bool protection_shut_pinned(struct segment *segment, uint64_t page)
{
    struct page_entry *entry = page_at(&segment->table, page);
    protection_look(segment, page, 1);
    if (protection_of(entry) == TRAP_TRACKED) { // whatever sets the mark again came since the look
        page_set(&segment->table, entry, 0, PAGE_DIRTY | PAGE_CHANGED);
        protection_no_writes(segment, page, 1);
        if (page_has(entry, PAGE_DIRTY) || protection_of(entry) >= TRAP_TRACKED) {
            page_set(&segment->table, entry, PAGE_DIRTY | PAGE_CHANGED, 0);
            return false;
        }
    }
    return protection_of(entry) < TRAP_TRACKED;
}
