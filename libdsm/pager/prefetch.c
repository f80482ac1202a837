// SPDX-License-Identifier: Apache-2.0
//
// Pages that come before anybody touches them: beside the page that a thread waits for, in the window after one that is
// being used up, or because the program said which page comes next. The policy (read_ahead.c) says which; here they are
// fetched, and watched.
//
// They take free frames, never a page's, while the laundry keeps some free. Those that the policy does not trust to be
// used stay closed: the first touch is a soft fault, which counts, opens the next ones with it, and starts the next
// window in time. One that leaves memory untouched was fetched for nothing; that is counted, too, and told to the policy.
//
// Pages side by side are one run. Of a stride, each is a request of its own, all sent before the first answer is taken.
#include "libdsm/pager/pager.h"
#include "libdsm/pager/swap_run.h"
#include "libdsm/stat/probes.h"

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

// Pages that may come at once, the touched one too.
static uint32_t most_pages(const struct segment *segment)
{
    const struct pager_options *o = &segment->pager->options;
    uint64_t most = smaller(LIMIT_RUN_BYTES, o->read_ahead_bytes) / segment->page_bytes;
    most = smaller(most, o->cache_bytes / 8 / segment->page_bytes);
    most = smaller(most, o->swap_buffer_pages);
    return most < 1 ? 1 : (uint32_t)most;
}

struct read_ahead_plan prefetch_plan(struct segment *segment, uint32_t thread, uint64_t page)
{
    return read_ahead_fault(&segment->ahead, thread, page, most_pages(segment),
                            segment->table.pages);
}

// ---- what became of them ----

void prefetch_used(struct segment *segment, uint32_t pages)
{
    STAT_ADD(segment->pager->stat, read_ahead_used, pages);
    probe_read_ahead_used(segment->number, pages);
    read_ahead_used(&segment->ahead, pages);
}

void prefetch_seen(struct segment *segment, struct page_entry *entry)
{
    if (page_has(entry, PAGE_AHEAD)) {
        page_set(&segment->table, entry, 0, PAGE_AHEAD | PAGE_SPARED);
        prefetch_used(segment, 1);
    }
}

void prefetch_forgone(struct segment *segment, struct page_entry *entry)
{
    if (page_has(entry, PAGE_AHEAD)) {
        page_set(&segment->table, entry, 0, PAGE_AHEAD | PAGE_SPARED);
        STAT_ADD(segment->pager->stat, read_ahead_wasted, 1);
        probe_read_ahead_wasted(segment->number, 1);
        read_ahead_wasted(&segment->ahead, 1);
    }
}

// The pages that lie beside this one, in the stride's direction, at most `most` with it: closed ones that came ahead.
static void open_beside(struct segment *segment, uint64_t page, int64_t stride, uint32_t most)
{
    uint32_t n = 0;
    while (n + 1 < most) {
        uint64_t next = page + (uint64_t)stride * (n + 1);
        struct page_entry *entry =
            next < segment->table.pages ? page_at(&segment->table, next) : NULL;
        if (entry == NULL || page_state(&segment->table, entry) != PAGE_RESIDENT ||
            !page_has(entry, PAGE_AHEAD)) {
            break;
        }
        prefetch_seen(segment, entry);
        n++;
    }
    if (n > 0) { // or they stay closed: a soft fault for each
        (void)protection_open(segment, stride > 0 ? page + 1 : page - n, n);
    }
}

// plan: of count 0 is the program's own hint. NULL: no record is free, or the segment is being closed.
static struct call *call_for(struct segment *segment, uint64_t page,
                             const struct read_ahead_plan *plan)
{
    struct call *call = call_try(segment->pager, 0);
    if (call != NULL && pager_use(segment->pager, segment->index) == NULL) { // it is being closed
        call_free(segment->pager, call);
        return NULL;
    }
    if (call != NULL) {
        call->kind = CALL_PREFETCH;
        call->plan = *plan;
        call->page = page;
        call->segment = segment;
    }
    return call;
}

struct call *prefetch_touched(struct segment *segment, uint64_t page)
{
    struct read_ahead_plan plan;
    int64_t stride;
    uint32_t open = read_ahead_touched(&segment->ahead, page, most_pages(segment),
                                       segment->table.pages, &stride, &plan);
    prefetch_seen(segment, page_at(&segment->table, page));
    if ((stride == 1 || stride == -1) && !segment->pager->options.exact) {
        open_beside(segment, page, stride, open);
    }
    return plan.count > 0 ? call_for(segment, plan.page, &plan) : NULL;
}

// ---- fetching ----

// Queued for the prefetch's own worker, so that its request leaves before the present answer is in, and after the
// swap-in has the memory that it needs. Dropped when there is no record free.
void prefetch_start(struct swap *swap)
{
    struct pager *pager = swap->pager;
    struct segment *segment = swap->segment;
    struct call *call = NULL;
    lock_acquire(&pager->lock);
    if (swap->plan.count > 0) {
        call = call_for(segment, swap->plan.page, &swap->plan);
    } else if (swap->next_page < segment->table.pages) {
        call = call_for(segment, swap->next_page, &(struct read_ahead_plan){.stride = 1});
    }
    lock_release(&pager->lock);
    if (call != NULL) {
        call_queue(pager, call);
    }
}

static bool on_backing(const struct segment *segment, uint64_t page)
{
    return page < segment->table.pages &&
           page_state(&segment->table, page_at(&segment->table, page)) == PAGE_BACKING;
}

// One run of what lies side by side, so many from the page on as are not in and as there is room for.
static void fetch_run(struct swap *s, uint64_t page, int64_t stride, uint64_t most)
{
    struct pager *pager = s->pager;
    lock_acquire(&pager->lock);
    uint64_t room = frames_free(pager);
    room = room > pager->low_water ? (room - pager->low_water) / s->segment->page_bytes : 0;
    uint64_t n = 0;
    while (n < most && n < room && on_backing(s->segment, page + (uint64_t)stride * n)) {
        n++;
    }
    lock_release(&pager->lock);
    s->page = stride > 0 || n == 0 ? page : page - (n - 1);
    s->end = s->page + n;
    (void)pager_swap_in(s); // an error is met again by whoever wants the page
}

// Pages that do not: all requests leave before the first answer is taken.
static void fetch_apart(struct swap *s)
{
    struct backing_run runs[READ_AHEAD_STRIDED_MOST];
    uint32_t sent = 0;
    s->lane = backing_take(s->pager->backing, s->class, s->deadline);
    for (uint32_t i = 0; s->lane != NULL && i < s->plan.count && sent < READ_AHEAD_STRIDED_MOST;
         i++) {
        s->page = s->plan.page + (uint64_t)s->plan.stride * i;
        if (s->page < s->segment->table.pages && swap_check_out(s)) {
            const struct backing_run one = {.page = s->page, .count = 1, .hint = WIRE_NO_HINT};
            struct backing_run *run = &runs[sent++];
            (void)backing_break(&s->segment->placement, &one, run);
            backing_read_send(backing_lane_to(s->lane, run->store), run, s->deadline);
            swap_tell_request(s, run);
        }
    }
    for (uint32_t i = 0; i < sent; i++) {
        swap_take_in(s, &runs[i], runs[i].page + 1);
    }
    swap_let_go(s);
}

void prefetch_run(struct pager *pager, struct call *call)
{
    struct segment *segment = call->segment;
    struct swap swap = {
        .pager = pager,
        .segment = segment,
        .page = call->page,
        .plan = call->plan,
        .next_page = DSM_NO_PAGE,
        .demand = DSM_NO_PAGE,
        .prefetch = true,
        .stat = &pager->unseen,
        .class = BACKING_BULK,
        .deadline = sync_after_ms(LIMIT_RPC_MS),
    };
    uint64_t most = pager_run_pages(segment);
    if (call->plan.count == 0) {
        fetch_run(&swap, call->page, 1, most); // one run, no more
    } else if (call->plan.stride == 1 || call->plan.stride == -1) {
        fetch_run(&swap, call->page, call->plan.stride, smaller(most, call->plan.count));
    } else {
        fetch_apart(&swap);
    }
    lock_acquire(&pager->lock);
    pager_leave(segment);
    lock_release(&pager->lock);
    call_free(pager, call);
}
