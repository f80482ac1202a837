// SPDX-License-Identifier: Apache-2.0
//
// First touch of a page without contents, while there is memory: nobody need be asked, and the
// handler gives it some.
//
// Where the trap tracks stores, the pages behind it that a walk will touch next come with it: they
// cost neither a trap nor a system call of their own, and one that is never stored into is given up
// again without a word to the server. Memory that is not spare is not taken for them. Where stores
// are seen by a trap only, each page needs that one in any case, and comes alone.
#include "dsm/dsm.h"
#include "libdsm/pager/pager.h"

static bool without_contents(const struct segment *segment, uint64_t page)
{
    return page_state(&segment->table, page_at(&segment->table, page)) == PAGE_UNDEFINED &&
           backing_fate_of(&segment->placement, page) == BACKING_WELL;
}

bool fill_possible(const struct segment *segment, uint64_t page, bool write)
{
    return without_contents(segment, page) && (!write || fault_may_store(segment, page)) &&
           frames_free(segment->pager) >= segment->page_bytes;
}

// With the touched one.
static uint32_t pages_to_fill(struct segment *segment, uint64_t page)
{
    struct pager *pager = segment->pager;
    uint64_t bytes = segment->page_bytes;
    uint64_t left = segment->table.pages - page;
    uint32_t n = 1;
    if (!segment->view.ops->tracks || !segment->writable || pager->options.exact) {
        return n;
    }
    uint32_t most = first_touch(&segment->fresh, page, prefetch_most(segment));
    while (n < most && n < left && n < PAGER_FILL_BYTES / bytes &&
           without_contents(segment, page + n) && fault_may_store(segment, page + n) &&
           frames_spare(pager, (n + 1) * bytes, pager->low_water)) {
        n++;
    }
    first_touch_got(&segment->fresh, page, n);
    return n;
}

bool fill_at_once(struct segment *segment, uint64_t page, bool write, struct fault_trace *trace)
{
    struct pager *pager = segment->pager;
    struct swap swap = {
        .pager = pager,
        .segment = segment,
        .page = page,
        .end = page + pages_to_fill(segment, page),
        .next_page = WIRE_NO_HINT,
        .demand = page,
        .demand_write = write,
        .fault = true,
        .no_wait = true,
        .deadline = pager_deadline(pager),
    };
    // Pages that are on their way have no frames yet: whoever detaches would not wait for them.
    segment->users++;
    lock_release(&pager->lock);
    bool filled = pager_swap_in(&swap) == 0;
    lock_acquire(&pager->lock);
    pager_leave(segment);
    lock_release(&pager->lock);
    fault_trace_count(trace, swap.counted);
    return filled;
}
