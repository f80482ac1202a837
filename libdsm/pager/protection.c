// SPDX-License-Identifier: Apache-2.0
//
// What the program may do with which page, and what that costs in mappings. The kernel keeps a mapping for each run of
// equal protection and allows some 65,530 of them in all, so edges between runs are counted here, at the only place
// where protection changes; near the limit pages are closed (their frames stay) until there is room. A page
// that stays closed costs a soft fault, never an error to the program.
//
// A trap that splits no mapping (trap_uffd) has no edges, and no limit.
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

static uint64_t edges_in(const struct segment *segment, uint64_t page, uint64_t count)
{
    uint64_t edges = 0;
    enum trap_access before = access_before(segment, page);
    for (uint64_t i = 0; i <= count; i++) {
        enum trap_access now = access_at(segment, page + i);
        edges += now != before;
        before = now;
    }
    return edges;
}

static uint64_t edges_after(const struct segment *segment, uint64_t page, uint64_t count,
                            enum trap_access access)
{
    return (uint64_t)(access_before(segment, page) != access) +
           (access_at(segment, page + count) != access);
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

static int protect(struct segment *segment, uint64_t page, uint64_t count, enum trap_access from,
                   enum trap_access to)
{
    return segment->view.ops->protect(&segment->view, page << segment->page_shift,
                                      count << segment->page_shift, from, to);
}

static int change(struct segment *segment, uint64_t page, uint64_t count, enum trap_access access)
{
    struct pager *pager = segment->pager;
    bool edges = segment->view.ops->maps_edges;
    uint64_t before = edges ? edges_in(segment, page, count) : 0;
    uint64_t after = edges ? edges_after(segment, page, count, access) : 0;
    int error = protect(segment, page, count, access_of_all(segment, page, count), access);
    if (error != 0) {
        return error;
    }
    // A page that is open for stores is dirty, whoever opened it: no store can go unnoticed.
    static const uint32_t flags[] = {
        [TRAP_NONE] = 0,
        [TRAP_READ] = PAGE_OPEN_READ,
        [TRAP_READ_WRITE] = PAGE_OPEN | PAGE_DIRTY | PAGE_CHANGED,
    };
    for (uint64_t i = 0; i < count; i++) {
        struct page_entry *entry = page_at(&segment->table, page + i);
        pager->open_pages += access != TRAP_NONE;
        pager->open_pages -= protection_of(entry) != TRAP_NONE;
        page_set(&segment->table, entry, flags[access], PAGE_OPEN & ~flags[access]);
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

void protection_renew(struct segment *segment, uint64_t page)
{
    if (!segment->view.ops->maps_edges) {
        (void)protect(segment, page, 1, TRAP_ANY, access_at(segment, page));
    }
}

void protection_no_writes(struct segment *segment, uint64_t page, uint64_t count)
{
    uint64_t end = page + count;
    while (page < end) {
        uint64_t n = 0;
        while (page + n < end && access_at(segment, page + n) == TRAP_READ_WRITE) {
            n++;
        }
        if (n > 0 && protection_set(segment, page, n, TRAP_READ) != 0) {
            // No mapping left for a split: closing joins with closed neighbours, page by page if need be.
            (void)protection_set(segment, page, n, TRAP_NONE);
        }
        page += n > 0 ? n : 1;
    }
}
