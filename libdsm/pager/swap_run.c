// SPDX-License-Identifier: Apache-2.0
//
// The run of a swap-in: what is checked out, sent, taken in, and given back. A run is sent first, then its victims are punched,
// then the answer is taken in, so punching costs no time of its own; and what the kernel has in use never exceeds the
// cache, for the frames are filled after that. Pages are delivered record by record: fill, open, wake, in this order.
//
// On a failure the pages that did not come are given back: their frames, perhaps half filled, are punched before
// anybody may try those pages again, and their waiters look again.
#include <errno.h>
#include <limits.h>

#include "dsm/dsm.h"
#include "libdsm/pager/pager.h"
#include "libdsm/pager/pager_errors.h"
#include "libdsm/pager/swap_run.h"
#include "libdsm/stat/probes.h"
#include "libdsm/sync/invariant.h"

static struct page_entry *entry_of(const struct swap *s, uint64_t page)
{
    return page_at(&s->segment->table, page);
}

static uint64_t offset_of(const struct swap *s, uint64_t page)
{
    return page << s->segment->page_shift;
}

// ---- pins ----

static bool pin_allowed(const struct pager *pager, const struct segment *segment)
{
    uint64_t left = ((uint64_t)pager->options.swap_buffer_pages + 2) * segment->page_bytes;
    if (left > pager->options.cache_bytes / 2) {
        left = pager->options.cache_bytes / 2;
    }
    return pager->options.exact ||
           pager->pinned_bytes + segment->page_bytes + left <= pager->options.cache_bytes;
}

int swap_pin(struct swap *s, struct page_entry *entry)
{
    if (entry->pins == UINT16_MAX || s->segment->frozen) {
        return s->segment->frozen ? -EBUSY : -EOVERFLOW;
    }
    if (entry->pins == 0) {
        if (!pin_allowed(s->pager, s->segment)) {
            return -ENOMEM;
        }
        s->pager->pinned_bytes += s->segment->page_bytes;
        s->segment->pinned_pages++;
    }
    entry->pins++;
    return 0;
}

void swap_undo_pins(struct swap *s)
{
    if ((s->flags & DSM_PIN) != 0 && s->page > s->first) {
        (void)pager_unpin(s->segment, s->first, s->page - s->first);
    }
}

// ---- contents that are not wanted ----

static bool shut(const struct swap *s, const struct page_entry *entry)
{
    if (entry->pins > ((s->flags & DSM_PIN) != 0)) {
        return protection_shut_pinned(s->segment, s->page);
    }
    protection_no_writes(s->segment, s->page, 1);
    return protection_of(entry) < TRAP_TRACKED;
}

// Contents are not wanted: zeros, and nothing to write. Stores are shut out first; where they cannot be (the page is pinned by
// somebody else, or no mapping is left) it stays dirty.
void swap_kill(struct swap *s, struct page_entry *entry)
{
    static const uint8_t zeros[LIMIT_PAGE_MIN_BYTES];
    struct segment *segment = s->segment;
    bool is_shut = shut(s, entry);
    for (uint32_t at = 0; at < segment->page_bytes; at += sizeof zeros) {
        (void)segment->view.ops->fill(&segment->view, offset_of(s, s->page) + at, zeros,
                                      sizeof zeros);
    }
    if (is_shut) {
        page_set(&segment->table, entry, PAGE_UNBACKED, PAGE_DIRTY | PAGE_CHANGED | PAGE_DEFINED);
    }
    protection_writes_again(segment, s->page, 1);
}

// ---- giving a page back to its program, or to its backing ----

enum trap_access swap_access(const struct swap *s, uint64_t page)
{
    const struct page_entry *entry = entry_of(s, page);
    if (page_has(entry, PAGE_AHEAD)) {
        return TRAP_NONE;
    }
    bool write = (s->flags & DSM_WRITE) != 0 || (s->demand == page && s->demand_write);
    return write && s->segment->writable && !page_has(entry, PAGE_READ_ONLY) ? TRAP_READ_WRITE
                                                                             : TRAP_READ;
}

// Nobody touched it yet. It stays closed, so that the first touch is seen, unless the walk is
// trusted so far, or somebody waits for it by now. The marker stays closed for them, too: without
// its touch the next window would not come.
static uint32_t came_ahead(struct swap *s, uint64_t page)
{
    const struct read_ahead_plan *plan = &s->plan;
    uint64_t n = (uint64_t)((int64_t)(page - plan->page) / plan->stride); // steps of the walk
    bool trusted = n < plan->open && !s->pager->options.exact;
    STAT_ADD(s->pager->stat, read_ahead_pages, 1);
    if (page == plan->marker || (!trusted && !page_has(entry_of(s, page), PAGE_WAITERS))) {
        return PAGE_AHEAD;
    }
    prefetch_used(s->segment, 1);
    return 0;
}

// What follows an image that arrived.
static void count_arrival(const struct swap *s, uint64_t page, uint64_t count)
{
    bool demanded = s->demand >= page && s->demand - page < count;
    STAT_ADD(s->pager->stat, migrate_faults_after, s->fault && demanded);
    STAT_ADD(s->pager->stat, migrate_bytes_after, count * s->segment->page_bytes);
    probe_migrate_follow(s->segment->number, page, (uint32_t)count, count * s->segment->page_bytes,
                         s->fault && demanded);
}

// Under the lock, page by page or run by run: the frames are filled. Fill, open, wake, in this order.
void swap_check_in(struct swap *s, uint64_t page, uint64_t count)
{
    struct segment *segment = s->segment;
    if (segment->arrived && page_state(&segment->table, entry_of(s, page)) == PAGE_READING) {
        count_arrival(s, page, count);
    }
    for (uint64_t i = 0; i < count; i++) {
        struct page_entry *entry = entry_of(s, page + i);
        s->demand_settled |= s->demand == page + i;
        bool unbacked = page_state(&segment->table, entry) != PAGE_READING;
        entry->frame =
            replacement_add(&s->pager->replacement, segment->index, page + i, entry->frame);
        INVARIANT(entry->frame != FRAME_NONE);
        page_move(&segment->table, page + i, PAGE_RESIDENT);
        uint32_t set = unbacked ? PAGE_UNBACKED : 0;
        if (s->plan.count > 0 && s->demand != page + i) {
            set |= came_ahead(s, page + i);
        } else if (s->demand == page + i && !s->no_wait && page_has(entry, PAGE_WAITERS)) {
            set |= PAGE_WANTED; // no_wait: the thread that wants it is this one
            entry->delivered_ms = (uint32_t)(sync_now() / 1000000);
        }
        // What was killed is undefined, whatever was stored into it before.
        uint32_t clear = unbacked && (s->flags & DSM_KILL) != 0 ? PAGE_CHANGED | PAGE_DEFINED : 0;
        // Asked for to be stored into, it is changed, also where it became read-only meanwhile and is not opened for that.
        if ((s->flags & DSM_WRITE) != 0 && !segment->frozen) {
            set |= PAGE_DIRTY | PAGE_CHANGED;
        }
        page_set(&segment->table, entry, set, PAGE_REQUESTED | clear);
    }
    for (uint64_t i = 0; i < count;) {
        enum trap_access access = swap_access(s, page + i);
        uint64_t n = 1;
        while (i + n < count && swap_access(s, page + i + n) == access) {
            n++;
        }
        if (access != TRAP_NONE) { // it is closed now
            // Or stays so: the touch is a soft fault.
            (void)(access == TRAP_READ ? protection_open(segment, page + i, n)
                                       : protection_set(segment, page + i, n, access));
        }
        i += n;
    }
    for (uint64_t i = 0; i < count; i++) {
        struct page_entry *entry = entry_of(s, page + i);
        if (s->demand == page + i) {
            fault_record_settle(s);
        }
        if (s->demand == page + i && page_has(entry, PAGE_WAITERS)) {
            page_set(&segment->table, entry, 0, PAGE_WAITERS);
            s->wake = &entry->word;
        } else {
            page_wake(&segment->table, entry);
        }
    }
}

// The thread that waits for the page needs the lock first of all: it is woken when it can have it.
void swap_release(struct swap *s)
{
    _Atomic uint32_t *wake = s->wake;
    s->wake = NULL;
    lock_release(&s->pager->lock);
    if (wake != NULL) {
        sync_wake(wake, INT_MAX);
    }
}

// Not under the lock. The pages did not come: their frames, perhaps half filled, go, then the pages go back.
void swap_give_back(struct swap *s, uint64_t page, uint64_t count, int error)
{
    struct segment *segment = s->segment;
    if (count == 0) {
        return;
    }
    (void)segment->view.ops->discard(&segment->view, offset_of(s, page),
                                     count << segment->page_shift);
    lock_acquire(&s->pager->lock);
    for (uint64_t i = 0; i < count; i++) {
        struct page_entry *entry = entry_of(s, page + i);
        enum page_state state = page_state(&segment->table, entry);
        page_move(&segment->table, page + i, state == PAGE_FILLING ? PAGE_UNDEFINED : PAGE_BACKING);
        if (error != 0) { // those after the first were never tried
            entry->error = i == 0 ? pager_error_code(error) : PAGER_ERROR_RETRY;
            entry->attempts++;
            s->demand_settled |= s->demand == page + i;
        }
        if (error != 0 && s->demand == page + i) {
            fault_record_settle(s);
        }
        page_set(&segment->table, entry, 0, PAGE_REQUESTED);
        page_wake(&segment->table, entry);
        s->claims.credit += segment->page_bytes;
    }
    lock_release(&s->pager->lock);
}

void swap_unworked(struct swap *s, uint64_t page, uint64_t count, int error)
{
    if ((s->flags & DSM_PIN) != 0) {
        (void)pager_unpin(s->segment, page, count);
    }
    swap_give_back(s, page, count, error);
}

void swap_unworked_without_frame(struct swap *s, int error)
{
    swap_unworked(s, s->page, 1, error);
    s->claims.credit -= s->segment->page_bytes;
}

void swap_fail(struct swap *s, int error, struct segment *segment, uint64_t page)
{
    if (s->error == 0) {
        s->error = error;
        s->failed_segment = segment;
        s->failed_page = page;
    }
}

// ---- the run under way ----

static int sink_place(void *context, uint64_t page, uint32_t count, void **to)
{
    struct swap *s = context;
    return s->segment->view.ops->place(&s->segment->view, offset_of(s, page),
                                       (uint64_t)count << s->segment->page_shift, to);
}

static int sink_fill(void *context, uint64_t page, uint32_t offset, const void *from,
                     uint32_t bytes)
{
    struct swap *s = context;
    return s->segment->view.ops->fill(&s->segment->view, offset_of(s, page) + offset, from, bytes);
}

static void sink_deliver(void *context, uint64_t page, uint32_t count)
{
    struct swap *s = context;
    lock_acquire(&s->pager->lock);
    swap_check_in(s, page, count);
    swap_release(s);
    if (s->prefetch && s->plan.count == 0) {
        STAT_ADD(s->pager->stat, prefetched_pages, count);
    }
    if (s->no_wait && s->demand_settled) { // what is left of a long run lands behind the thread
        const struct backing_run *run = &s->runs[s->run_next];
        backing_lane_to(s->lane, run->store)->leave =
            run->page + run->count - page - count > DIRECT_REST_PAGES;
    }
}

static const struct backing_sink swap_sink = {
    .place = sink_place, .fill = sink_fill, .deliver = sink_deliver};

void swap_take_in(struct swap *s, struct backing_run *run, uint64_t end)
{
    int error =
        backing_read_receive(backing_lane_to(s->lane, run->store), run, &swap_sink, s, s->deadline);
    if (error == -EINPROGRESS) {
        s->unfinished = true;
        return;
    }
    if (probe_run_deliver_on()) {
        probe_run_deliver(s->segment->number, run->page, run->done, run->bytes,
                          (u64)(sync_now() - run->begun), error, run->store);
    }
    if (error != 0) {
        swap_fail(s, error, s->segment, run->page + run->done);
        swap_give_back(s, run->page + run->done, end - run->page - run->done, error);
    }
}

// The lane that fetches the page for which a thread waits says what that costs.
static void time_demand(struct swap *s, struct backing_lane *lane, const struct backing_run *run)
{
    bool demanded = s->request != NULL && s->request->record != 0 && s->demand >= run->page &&
                    s->demand - run->page < run->count;
    backing_lane_time(lane, demanded);
    if (demanded) {
        s->timed = lane;
        s->run = (struct fault_run){.pages = s->count, .store = run->store};
    }
}

void swap_tell_request(const struct swap *s, const struct backing_run *run)
{
    probe_run_request(s->segment->number, run->page, run->count, run->store,
                      s->prefetch ? 2
                      : s->fault  ? 0
                                  : 1);
}

// ---- a victim's write, under way with the run ----

void swap_victim_in(struct victim victim)
{
    page_move(&victim.segment->table, victim.page, PAGE_RESIDENT);
    protection_writes_again(victim.segment, victim.page, 1);
    page_wake(&victim.segment->table, page_at(&victim.segment->table, victim.page));
}

bool swap_claim_victim(struct swap *s, struct victim victim)
{
    struct victim another;
    bool all_failed = false;
    if (page_has(page_at(&victim.segment->table, victim.page), PAGE_DIRTY) ||
        !frames_take_victim(s->pager, &s->claims, victim)) { // it cannot be closed
        frames_note_failed(&s->claims, victim, -ENOMEM);
        swap_victim_in(victim);
        return false;
    }
    return frames_claim(s->pager, &s->claims, s->segment->page_bytes, &another, &all_failed) ==
           CLAIM_DONE;
}

static void send_victim(struct swap *s)
{
    if (s->victim_state == VICTIM_TO_SEND) {
        s->victim_state = VICTIM_SENT;
        s->victim_run.lane = s->lane;
        s->victim_run.deadline = s->deadline;
        clean_victim_send(&s->victim_run, s->victim);
    }
}

// There is no memory for what is on its way: nobody takes the answers, and the page is asked for again, of a worker.
static void forgo_runs(struct swap *s)
{
    for (uint32_t i = 0; i < s->run_count; i++) {
        backing_lane_down(backing_lane_to(s->lane, s->runs[i].store));
    }
    swap_give_back(s, s->base, s->count, 0);
    s->claims.credit -= s->segment->page_bytes; // the touched page had none yet
    s->run_next = s->run_count;
    swap_fail(s, -EAGAIN, s->segment, s->demand);
}

// True: its frame is the run's, or there was none.
static bool take_victim(struct swap *s)
{
    if (s->victim_state != VICTIM_SENT) {
        return true;
    }
    int error = clean_victim_receive(&s->victim_run);
    if (error == -EINPROGRESS) {
        s->unfinished = true;
        return false;
    }
    s->victim_state = VICTIM_NONE;
    laundry_wake(s->pager);
    lock_acquire(&s->pager->lock);
    bool claimed = error == 0 && swap_claim_victim(s, s->victim);
    if (error != 0) {
        swap_victim_in(s->victim);
    }
    lock_release(&s->pager->lock);
    SWAP_ADD(s, dirty_victims, error == 0);
    SWAP_ADD(s, failed_to_clean_victims, error != 0);
    if (!claimed) {
        forgo_runs(s);
    } else {
        frames_discard(s->pager, &s->claims);
    }
    return claimed;
}

// In the order of their pages, so the lowest failed page is named, and what other stores have of the pages after it is in.
void swap_take_in_runs(struct swap *s)
{
    if (!take_victim(s) && s->unfinished) {
        return;
    }
    for (; s->run_next < s->run_count; s->run_next++) {
        bool last = s->run_next + 1 == s->run_count;
        uint64_t end = last ? s->base + s->count : s->runs[s->run_next + 1].page;
        swap_take_in(s, &s->runs[s->run_next], end);
        if (s->unfinished) {
            return;
        }
    }
    s->count = 0;
}

// Sends the run that was built up, makes room while it is on its way, and takes it in. Not under the lock. Broken between
// stores, all its pieces leave first.
void swap_flush(struct swap *s, uint64_t hint)
{
    if (s->count == 0 || s->unfinished) {
        return;
    }
    const struct backing_run whole = {.page = s->base, .count = s->count, .hint = hint};
    uint32_t n = backing_break(&s->segment->placement, &whole, s->runs);
    s->run_count = n;
    s->run_next = 0;
    SWAP_ADD(s, virtual_runs, 1);
    SWAP_ADD(s, physical_runs, n);
    send_victim(s);
    for (uint32_t i = 0; i < n; i++) {
        struct backing_lane *lane = backing_lane_to(s->lane, s->runs[i].store);
        time_demand(s, lane, &s->runs[i]);
        backing_read_send(lane, &s->runs[i], s->deadline);
        swap_tell_request(s, &s->runs[i]);
    }
    if (s->last && s->last_sent != NULL) {
        s->last_sent(s);
    }
    frames_discard(s->pager, &s->claims);
    swap_take_in_runs(s);
}

void swap_let_go(struct swap *s) // of everything, before a wait
{
    swap_flush(s, WIRE_NO_HINT);
    frames_settle(s->pager, &s->claims);
    if (s->lane != NULL && !s->keep_lane) {
        backing_give(s->lane);
        s->lane = NULL;
    }
}
