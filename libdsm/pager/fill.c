// SPDX-License-Identifier: Apache-2.0
//
// First touch of a page without contents, while there is memory: nobody need be asked, and the
// handler gives it some.
//
// Where the trap tracks stores, the pages behind it that a walk will touch next come with it, as
// many as the policy says: they cost neither a trap nor a system call of their own, and one that is
// never stored into is given up again without a word to the server. Memory that is not spare is
// not taken for them. Where stores are seen by a trap only, each page needs that one in any case,
// and comes alone.
#include <sys/syscall.h>

#include "dsm/dsm.h"
#include "libdsm/pager/pager.h"

// Zeroing so much takes as long as some traps, and a thread waits for it.
enum { FILL_BYTES_MOST = 256 << 10 };

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
    if (!segment->view.ops->tracks || !segment->writable || pager->options.exact) {
        return 1;
    }
    uint32_t thread = (uint32_t)sync_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
    struct read_ahead_plan plan = prefetch_plan(segment, thread, page);
    uint64_t most = plan.stride == 1 ? (uint64_t)plan.count + 1 : 1;
    uint64_t bytes = segment->page_bytes;
    most = most < FILL_BYTES_MOST / bytes ? most : FILL_BYTES_MOST / bytes;
    uint32_t n = 1;
    while (n < most && without_contents(segment, page + n) && fault_may_store(segment, page + n) &&
           frames_spare(pager, (n + 1) * bytes, pager->low_water)) {
        n++;
    }
    read_ahead_trim(&segment->ahead, n - 1);
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
    lock_release(&pager->lock);
    bool filled = pager_swap_in(&swap) == 0;
    fault_trace_count(trace, swap.counted);
    return filled;
}
