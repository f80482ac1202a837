// SPDX-License-Identifier: Apache-2.0
//
// A thread that faults fetches its page itself, in the handler, over a lane of faults that is free at once: handing the
// work to another thread and waking up again costs more than trap, cipher and wire together.
//
// In the handler asynchronous signals are blocked, so it stays there for PAGER_DIRECT_MS at most, and waits for nothing but the
// lane's answers: where it would have to wait for a page, a frame or a lane, a worker is asked. A changed page that has to go
// leaves just before the request, on the same lane, and is answered first. The swap-in's state does not lie on the
// thread's stack but in a place that belongs to the lane. When the patience ends, or the touched page is in and much of
// its run is not, the thread leaves it there as it is, to the byte, and a thread of that lane goes on with it. Each lane
// has one of its own: it can always go on, whoever else waits.
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "libdsm/pager/pager.h"

enum { NOTHING, LEFT, STOPPING };

struct direct {
    struct pager *pager;
    _Atomic uint32_t left; // what is to be done by the lane's thread; a futex
    struct swap swap;
    struct fault_request request;
};

static enum direct_end end_of(const struct swap *s, int error)
{
    if (error == 0) {
        return DIRECT_IN;
    }
    if (s->error != 0 && s->failed_page == s->demand && s->error != -EAGAIN) {
        return DIRECT_FAILED; // or a page of the same number elsewhere: it is looked at again
    }
    if (error == -EINPROGRESS && !s->demand_settled) {
        return DIRECT_LEFT;
    }
    return error == -EAGAIN ? DIRECT_NOT : DIRECT_IN;
}

// Who owns the lane owns the place: with it all of this is given away.
static void give(struct direct *d)
{
    struct segment *segment = d->swap.segment;
    fault_record_rest(&d->swap, 2);
    backing_give(d->swap.lane);
    lock_acquire(&segment->pager->lock);
    pager_leave(segment);
    lock_release(&segment->pager->lock);
}

static void leave(struct direct *d)
{
    atomic_store(&d->left, LEFT);
    sync_wake(&d->left, 1);
}

enum direct_end direct_fetch(struct segment *segment, uint64_t page, bool write,
                             struct fault_request *request, struct fault_trace *trace,
                             int64_t deadline)
{
    struct pager *pager = segment->pager;
    struct backing_lane *lane = backing_direct(pager->backing, sync_after_ms(PAGER_DIRECT_MS));
    if (lane == NULL) {
        lock_release(&pager->lock);
        return DIRECT_NOT;
    }
    struct direct *d = &pager->direct[lane->number];
    *request = (struct fault_request){
        .segment = segment->index,
        .thread = (uint32_t)sync_call(SYS_gettid, 0, 0, 0, 0, 0, 0),
        .page = page,
        .write = write,
        .planned = true,
    };
    request->plan = prefetch_plan(segment, request->thread, page);
    uint32_t run = pager_run_length(segment, page, &request->plan);
    fault_trace_ask(trace, pager, request);
    segment->users++;
    lock_release(&pager->lock);
    d->request = *request;
    pager_fault_swap(&d->swap, segment, &d->request, &request->plan, run, deadline);
    d->swap.picked = sync_now();
    d->swap.no_wait = d->swap.keep_lane = true;
    d->swap.lane = lane;
    int error = pager_swap_in(&d->swap);
    enum direct_end end = end_of(&d->swap, error);
    if (error == -EINPROGRESS) {
        leave(d);
    } else {
        give(d);
    }
    if (trace->on && end != DIRECT_NOT) {
        lock_acquire(&pager->lock);
        fault_trace_did(trace, pager);
        lock_release(&pager->lock);
    }
    return end;
}

// ---- the lane's thread ----

void *direct_go_on(void *direct)
{
    struct direct *d = direct;
    for (;;) {
        uint32_t state = LEFT;
        if (atomic_compare_exchange_strong(&d->left, &state, NOTHING)) {
            (void)pager_swap_in_rest(&d->swap);
            give(d);
        } else if (state == STOPPING) {
            return NULL;
        } else {
            (void)sync_wait(&d->left, NOTHING, SYNC_FOR_EVER);
        }
    }
}

int direct_start(struct pager *pager)
{
    pager->direct_count = pager->backing->lane_count;
    void *memory = mmap(NULL, pager->direct_count * sizeof(struct direct), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return -ENOMEM;
    }
    pager->direct = memory;
    return 0;
}

struct direct *direct_of(struct pager *pager, uint32_t i)
{
    if (pager->backing->lanes[i].class != BACKING_FAULT) {
        return NULL;
    }
    pager->direct[i].pager = pager;
    return &pager->direct[i];
}

void direct_stop(struct pager *pager)
{
    for (uint32_t i = 0; pager->direct != NULL && i < pager->direct_count; i++) {
        atomic_store(&pager->direct[i].left, STOPPING); // no thread may be in a fault
        sync_wake(&pager->direct[i].left, 1);
    }
}

void direct_free(struct pager *pager)
{
    if (pager->direct != NULL) {
        (void)munmap(pager->direct, pager->direct_count * sizeof(struct direct));
        pager->direct = NULL;
    }
}
