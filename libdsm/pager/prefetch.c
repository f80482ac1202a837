// SPDX-License-Identifier: Apache-2.0
//
// Pages that come before anybody touches them: beside the page that a thread waits for, in the window after one that is
// being used up, or because the program said which page comes next. The policy (read_ahead.c) says which; here they are
// fetched, and watched.
//
// They take free frames while the laundry keeps some free, and never a page's, but for a walk that is trusted: its next window
// will be touched, and must not break off for want of a frame that a fault would take a little later. Those that the
// policy does not trust to be used stay closed: the first touch is a soft fault, which counts, opens the next ones with it,
// and starts the next window in time. One that leaves memory untouched was fetched for nothing; that is counted, too, and
// told to the policy.
//
// A window is asked for in parts, and between two answers the worker looks whether there is another window to be asked for.
// So the server has something to seal for as long as the walk goes on: to ask for a window only when the one before it is
// in leaves it idle for a third of the time. Of a stride, each page is a request of its own.
#include "libdsm/pager/pager.h"
#include "libdsm/pager/swap_run.h"
#include "libdsm/stat/probes.h"

uint32_t prefetch_most(const struct segment *segment)
{
    const struct pager_options *o = &segment->pager->options;
    uint64_t most = smaller(LIMIT_RUN_BYTES, o->read_ahead_bytes) / segment->page_bytes;
    most = smaller(most, o->cache_bytes / 8 / segment->page_bytes);
    most = smaller(most, o->swap_buffer_pages);
    return most < 1 ? 1 : (uint32_t)most;
}

struct read_ahead_plan prefetch_plan(struct segment *segment, uint32_t thread, uint64_t page)
{
    return read_ahead_fault(&segment->ahead, thread, page, prefetch_most(segment),
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
    uint32_t open = read_ahead_touched(&segment->ahead, page, prefetch_most(segment),
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

enum { PART_BYTES = 256 << 10, FLIGHT_BYTES = LIMIT_RUN_BYTES, FLIGHT_RUNS = 32 };

struct window {        // the pages of one call
    struct call *call; // NULL: none
    struct swap swap;
    uint64_t page, left; // what is still to be asked for
    int64_t stride;
    uint32_t under_way; // runs
};
struct flight {
    struct pager *pager;
    struct backing_lane *lane;
    struct window windows[2]; // that whose answers come, and the one after it
    uint32_t oldest;
    struct flight_run {
        struct window *window;
        struct backing_run run;
    } runs[FLIGHT_RUNS]; // a ring: those under way
    uint32_t first, count;
    uint64_t bytes;
};

static bool on_backing(const struct segment *segment, uint64_t page)
{
    return page < segment->table.pages &&
           page_state(&segment->table, page_at(&segment->table, page)) == PAGE_BACKING;
}

static void begin(struct flight *f, struct window *w, struct call *call)
{
    bool hint = call->plan.count == 0; // one run, no more
    w->call = call;
    w->page = hint ? call->page : call->plan.page;
    w->left = f->lane == NULL ? 0 : hint ? pager_run_pages(call->segment) : call->plan.count;
    w->stride = hint ? 1 : call->plan.stride;
    w->under_way = 0;
    w->swap = (struct swap){
        .pager = f->pager,
        .segment = call->segment,
        .plan = call->plan,
        .next_page = DSM_NO_PAGE,
        .demand = DSM_NO_PAGE,
        .prefetch = true,
        .stat = &f->pager->unseen,
        .claims.kept = f->pager->low_water,
        .lane = f->lane,
        .keep_lane = true,
        .class = BACKING_BULK,
        .deadline = sync_after_ms(LIMIT_RPC_MS),
    };
}

static void end(struct flight *f, struct window *w)
{
    swap_let_go(&w->swap);
    lock_acquire(&f->pager->lock);
    pager_leave(w->swap.segment);
    lock_release(&f->pager->lock);
    call_free(f->pager, w->call);
    w->call = NULL;
}

// The window whose turn it is to be asked for. NULL: all that is wanted is on its way.
static struct window *window_to_ask(struct flight *f)
{
    for (uint32_t i = 0; i < 2; i++) {
        struct window *w = &f->windows[(f->oldest + i) % 2];
        struct call *call = w->call == NULL ? call_next_ahead(f->pager) : NULL;
        if (call != NULL) {
            begin(f, w, call);
        }
        if (w->call == NULL || w->left > 0) {
            return w->call == NULL ? NULL : w;
        }
    }
    return NULL;
}

static void send(struct flight *f, struct window *w, uint64_t page, uint32_t count)
{
    struct swap *s = &w->swap;
    struct backing_run runs[LIMIT_RUN_PIECES];
    const struct backing_run whole = {.page = page, .count = count, .hint = WIRE_NO_HINT};
    uint32_t n = backing_break(&s->segment->placement, &whole, runs);
    for (uint32_t i = 0; i < n; i++) {
        struct flight_run *to = &f->runs[(f->first + f->count++) % FLIGHT_RUNS];
        *to = (struct flight_run){w, runs[i]};
        backing_read_send(backing_lane_to(f->lane, to->run.store), &to->run, s->deadline);
        swap_tell_request(s, &to->run);
    }
    w->under_way += n;
    f->bytes += (uint64_t)count * s->segment->page_bytes;
    frames_discard(f->pager, &s->claims);
    laundry_make_good(f->pager);
}

// What others have brought in, or are about to.
static void pass_over(struct window *w)
{
    const struct segment *segment = w->swap.segment;
    lock_acquire(&segment->pager->lock);
    while (w->left > 0 && !on_backing(segment, w->page)) {
        w->page += (uint64_t)w->stride;
        w->left--;
    }
    lock_release(&segment->pager->lock);
}

// Pages that lie side by side are one run.
static void ask(struct flight *f, struct window *w)
{
    if (w->call->plan.count > 0) {
        pass_over(w);
    }
    bool apart = w->stride != 1 && w->stride != -1;
    uint64_t part = apart ? 1 : PART_BYTES / w->swap.segment->page_bytes;
    part = smaller(part < 1 ? 1 : part, f->pager->options.swap_buffer_pages);
    part = smaller(part, w->left);
    uint32_t n = swap_check_out(&w->swap, w->page, w->stride, (uint32_t)part);
    if (n > 0) {
        send(f, w, w->stride > 0 ? w->page : w->page - (n - 1), n);
    }
    bool ends = n == 0 || (n < part && w->call->plan.count == 0);
    w->page += (uint64_t)w->stride * n;
    w->left = ends ? 0 : w->left - n;
}

static void take_in(struct flight *f)
{
    struct flight_run *oldest = &f->runs[f->first];
    struct window *w = oldest->window;
    f->bytes -= (uint64_t)oldest->run.count * w->swap.segment->page_bytes;
    swap_take_in(&w->swap, &oldest->run, oldest->run.page + oldest->run.count);
    f->first = (f->first + 1) % FLIGHT_RUNS;
    f->count--;
    w->under_way--;
}

static bool may_ask(const struct flight *f)
{
    return f->count < 2 || (f->bytes < FLIGHT_BYTES && f->count + LIMIT_RUN_PIECES <= FLIGHT_RUNS);
}

void prefetch_run(struct pager *pager, struct call *call)
{
    struct flight f = {
        .pager = pager,
        .lane = backing_take(pager->backing, BACKING_BULK, sync_after_ms(LIMIT_RPC_MS)),
    };
    begin(&f, &f.windows[0], call);
    while (f.windows[f.oldest].call != NULL) {
        struct window *w;
        while (may_ask(&f) && (w = window_to_ask(&f)) != NULL) {
            ask(&f, w);
        }
        w = &f.windows[f.oldest];
        if (w->under_way > 0) {
            take_in(&f);
        }
        if (w->under_way == 0 && w->left == 0) {
            end(&f, w);
            f.oldest = (f.oldest + 1) % 2;
            (void)window_to_ask(&f);
        }
    }
    if (f.lane != NULL) {
        backing_give(f.lane);
    }
}
