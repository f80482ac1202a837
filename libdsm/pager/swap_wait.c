// SPDX-License-Identifier: Apache-2.0
//
// What a swap-in waits for: a page that is on its way for somebody else, a frame, a lane. Before it sleeps it lets go of everything: what
// it has checked out is sent and taken in, the memory that it claimed is settled, its lane is given back. So two
// swap-ins never wait for one another. After it the page in hand is looked at again from the start.
#include <errno.h>

#include "libdsm/pager/pager.h"
#include "libdsm/pager/swap_run.h"

static void fail_for_victim(struct swap *s)
{
    const struct victim *last = &s->claims.failed[s->claims.failed_count - 1];
    swap_fail(s, s->claims.failed_error, last->segment, last->page);
}

void swap_frame_wait(struct swap *s)
{
    swap_let_go(s);
    if (s->error != 0) {
        return;
    }
    if (s->all_failed) {
        fail_for_victim(s);
        return;
    }
    if (s->frame_awaited != s->page + 1) {
        s->frame_awaited = s->page + 1;
        s->frame_since = sync_now();
        STAT_ADD(s->pager->stat, waits, 1);
    }
    if (pager_goes(s->segment)) { // who waits for its users may be the one to give frames back
        swap_fail(s, -ECANCELED, s->segment, s->page);
        return;
    }
    uint32_t seen = atomic_load(&s->pager->frames_word);
    laundry_wake(s->pager);
    // A frame may have become free before `seen` was read: the slice is short.
    int64_t slice = sync_after_ms(10);
    (void)sync_wait(&s->pager->frames_word, seen, slice < s->deadline ? slice : s->deadline);
    if (sync_now() >= s->deadline && s->claims.failed_count > 0) {
        fail_for_victim(s);
    } else if (sync_now() >= s->deadline) {
        swap_fail(s, -ENOMEM, s->segment, s->page);
    }
}

void swap_page_wait(struct swap *s)
{
    swap_let_go(s);
    if (s->error != 0) {
        return;
    }
    lock_acquire(&s->pager->lock);
    enum page_state state = page_state(&s->segment->table, page_at(&s->segment->table, s->page));
    if (!page_in_transit(state)) {
        lock_release(&s->pager->lock);
    } else if (pager_wait_page(s->segment, s->page, s->deadline, NULL, false) == -ETIMEDOUT) {
        swap_fail(s, -ETIMEDOUT, s->segment, s->page);
    }
}

void swap_lane_wait(struct swap *s)
{
    frames_settle(s->pager, &s->claims);
    s->lane = backing_take(s->pager->backing, s->class, s->deadline);
    if (s->lane == NULL) {
        swap_fail(s, -ETIMEDOUT, s->segment, s->page);
    }
}

void swap_await(struct swap *s, void (*wait)(struct swap *s))
{
    int64_t begun = sync_now();
    wait(s);
    s->waited_ns += (uint64_t)(sync_now() - begun);
}
