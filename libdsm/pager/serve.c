// SPDX-License-Identifier: Apache-2.0
//
// What a worker does for a thread that faulted and could not fetch for itself: it swaps the run in, and tells whoever waits for
// the page when it did not come. See fault.c for the thread, direct.c for the one that needs no worker.
#include "dsm/dsm.h"
#include "libdsm/pager/pager.h"
#include "libdsm/pager/pager_errors.h"

uint32_t pager_run_length(struct segment *segment, uint64_t page,
                          const struct read_ahead_plan *plan)
{
    uint32_t n = 1;
    while (plan->stride == 1 && n <= plan->count &&
           page_state(&segment->table, page_at(&segment->table, page + n)) == PAGE_BACKING) {
        n++;
    }
    if (plan->stride == 1) {
        read_ahead_trim(&segment->ahead, n - 1);
    }
    return n;
}

// The page's worker is done with it: whatever is left of the request goes, and its waiters look again.
static void request_done(struct segment *segment, uint64_t page, int error)
{
    struct page_entry *entry = page_at(&segment->table, page);
    if (!page_has(entry, PAGE_REQUESTED)) {
        return; // went when the page was checked in
    }
    if (error != 0) {
        entry->error = pager_error_code(error);
        entry->attempts++;
    }
    page_set(&segment->table, entry, 0, PAGE_REQUESTED);
    page_wake(&segment->table, entry);
}

void pager_fault_swap(struct swap *swap, struct segment *segment,
                      const struct fault_request *request, const struct read_ahead_plan *plan,
                      uint32_t run, int64_t deadline)
{
    *swap = (struct swap){
        .pager = segment->pager,
        .segment = segment,
        .page = request->page,
        .end = request->page + run,
        .next_page = WIRE_NO_HINT,
        .demand = request->page,
        .demand_write = request->write,
        .fault = true,
        .plan = *plan,
        .last_sent = plan->stride != 1 ? prefetch_start : NULL,
        .request = request,
        .class = BACKING_FAULT,
        // For ever is the thread's affair: it asks again.
        .deadline = deadline == SYNC_FOR_EVER ? sync_after_ms(LIMIT_FAILOVER_MS) : deadline,
    };
}

// True: the request is settled, with its page. What is asked for the page from now on is another request.
static bool swap_in_for_fault(struct segment *segment, const struct fault_request *request,
                              uint32_t run, const struct read_ahead_plan *plan, int64_t picked,
                              int *error)
{
    struct swap swap;
    pager_fault_swap(&swap, segment, request, plan, run, pager_deadline(segment->pager));
    swap.picked = picked;
    *error = pager_swap_in(&swap);
    fault_record_rest(&swap, 2);
    return swap.demand_settled;
}

void pager_serve(struct pager *pager, const struct fault_request *request)
{
    int64_t picked = sync_now();
    lock_acquire(&pager->lock);
    struct segment *segment = pager_use(pager, request->segment);
    if (segment == NULL) {
        lock_release(&pager->lock);
        return;
    }
    // Else the segment's place was taken by another one, or the page came otherwise and the request went with it.
    if (request->page < segment->table.pages &&
        page_has(page_at(&segment->table, request->page), PAGE_REQUESTED)) {
        int error = 0;
        bool settled = false;
        enum page_state state =
            page_state(&segment->table, page_at(&segment->table, request->page));
        if (!segment->frozen && (state == PAGE_BACKING ||
                                 state == PAGE_UNDEFINED)) { // else it came with another page's run
            // One without contents comes alone: memory is short, or the handler would have filled it (fill.c).
            struct read_ahead_plan plan = {.stride = 1};
            uint32_t run = 1;
            if (state == PAGE_BACKING) {
                plan = request->planned ? request->plan
                                        : prefetch_plan(segment, request->thread, request->page);
                run = pager_run_length(segment, request->page, &plan);
            }
            lock_release(&pager->lock);
            settled = swap_in_for_fault(segment, request, run, &plan, picked, &error);
            lock_acquire(&pager->lock);
        }
        if (!settled) {
            request_done(segment, request->page, error);
        }
    }
    pager_leave(segment);
    lock_release(&pager->lock);
}
