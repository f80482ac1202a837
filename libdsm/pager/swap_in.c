// SPDX-License-Identifier: Apache-2.0
//
// Swap in: one routine for the program's calls and for faults. Conceptually a loop that gives each page memory and reads it;
// really, reads are built up into runs, a run is sent when the next page that needs a read does not join it (or the
// buffer is full, or the interval ends), and it is sent before its victims are punched, so that the punching costs no
// time of its own. The state machine, with its two states reading and skipping, is Cedar's (VMOpsImpl.SwapIn).
//
// What must never happen: a page opened before it is filled; a frame punched while open; anything left checked out after an
// error: on every way out the run in hand, the page in hand and its victim are checked in first, and pins of this call
// are undone. Errors are raised last, when nothing is held. While a page of others is waited for, nothing of ours is
// checked out, and no lane is held.
//
// Threads: any; the state is on the caller's stack (6 KiB). The lock is taken and given back for each page.
#include <errno.h>

#include "dsm/dsm.h"
#include "libdsm/pager/pager.h"
#include "libdsm/pager/swap_run.h"
#include "libdsm/stat/probes.h"
#include "libdsm/sync/invariant.h"

enum outcome {
    IN_ALREADY,
    IN_READ,       // checked out, needs a read
    IN_NO_READ,    // checked out, needs memory only
    IN_FAULT,      // s->error says which
    IN_WAIT_PAGE,  // in transit for somebody else
    IN_WAIT_FRAME, // no victim now
    IN_BATCH_FULL, // as many victims as can be noted are to be punched first
    IN_NEED_LANE,  // nothing done yet
    IN_FAR_ENOUGH, // a neighbour of the touched page is not worth a write
    IN_NO_IO,
};

struct step { // what consider() found
    enum outcome outcome;
    bool dirty; // there is a dirty victim, in WRITING
    struct victim victim;
    bool all_failed;
};

static struct page_entry *entry_of(const struct swap *s, uint64_t page)
{
    return page_at(&s->segment->table, page);
}

// ---- one page ----

static enum outcome resident(struct swap *s, struct page_entry *entry, enum page_state state)
{
    struct segment *segment = s->segment;
    if ((s->flags & (DSM_KILL | DSM_WRITE)) != 0 && page_has(entry, PAGE_READ_ONLY)) {
        s->error = -EROFS;
        return IN_FAULT;
    }
    bool ahead = page_has(entry, PAGE_AHEAD);
    prefetch_seen(segment, entry);
    enum trap_access access = swap_access(s, s->page);
    if (state == PAGE_WRITING &&
        ((s->flags & (DSM_PIN | DSM_KILL)) != 0 || access == TRAP_READ_WRITE)) {
        return IN_WAIT_PAGE;
    }
    if ((s->flags & DSM_PIN) != 0) {
        s->error = swap_pin(s, entry);
        if (s->error != 0) {
            return IN_FAULT;
        }
    }
    if ((s->flags & DSM_KILL) != 0) {
        swap_kill(s, entry);
    }
    if (protection_of(entry) == TRAP_NONE) {
        replacement_touched(&s->pager->replacement, entry->frame, ahead);
    }
    if (access == TRAP_READ) {
        (void)protection_open(segment, s->page, 1);
    } else if (protection_of(entry) < access) {
        (void)protection_set(segment, s->page, 1, access);
    }
    return IN_ALREADY;
}

// Nobody waits for this page: it does not come where that takes a wait or a write.
static bool optional(const struct swap *s)
{
    return s->prefetch || (s->fault && s->page != s->demand);
}

// Whether clean pages may leave memory for the one in hand. A page that a thread waits for: always;
// one beside it: where no laundry keeps frames free for such. A prefetch: in a walk that is trusted,
// which would break off until a fault takes the same, and if the laundry makes that good.
static bool may_drive_out(const struct swap *s)
{
    bool laundry = s->pager->options.laundry;
    return s->prefetch ? laundry && s->plan.open > 0 : !optional(s) || !laundry;
}

// Memory for the page in hand without driving any out.
static bool room_to_spare(const struct swap *s)
{
    return s->claims.credit >= s->segment->page_bytes ||
           frames_spare(s->pager, s->segment->page_bytes, s->claims.kept);
}

// no_wait: the victim's write and the read leave together, so its frame must do, and the write be likely to succeed: else the
// lane goes down with it.
static bool goes_along(const struct swap *s, struct victim victim)
{
    return s->lane != NULL && s->count == 0 &&
           victim.segment->page_bytes >= s->segment->page_bytes && !victim.segment->write_failed;
}

// The page is not in: memory for it, and what it needs.
static struct step absent(struct swap *s, struct page_entry *entry, enum page_state state)
{
    struct segment *segment = s->segment;
    struct step step = {.outcome = IN_FAULT};
    bool kill = (s->flags & DSM_KILL) != 0;
    bool read = state == PAGE_BACKING && !kill;
    if ((s->flags & (DSM_KILL | DSM_WRITE)) != 0 && page_has(entry, PAGE_READ_ONLY)) {
        s->error = -EROFS;
        return step;
    }
    s->error = backing_fate_errno(backing_fate_of(&segment->placement, s->page));
    if (s->error != 0) {
        return step;
    }
    if (read && s->lane == NULL) {
        step.outcome = s->no_wait && optional(s) ? IN_FAR_ENOUGH
                       : s->no_wait              ? IN_NO_IO
                                                 : IN_NEED_LANE;
        return step;
    }
    if (!may_drive_out(s) && !room_to_spare(s)) {
        step.outcome = IN_FAR_ENOUGH;
        return step;
    }
    enum claim claim =
        frames_claim(s->pager, &s->claims, segment->page_bytes, &step.victim, &step.all_failed);
    if (claim == CLAIM_NONE) {
        step.outcome = s->claims.count == PAGER_BATCH ? IN_BATCH_FULL
                       : optional(s)                  ? IN_FAR_ENOUGH
                       : s->no_wait                   ? IN_NO_IO
                                                      : IN_WAIT_FRAME;
        return step;
    }
    step.dirty = claim == CLAIM_DIRTY;
    if (step.dirty && optional(s)) {
        step.outcome = IN_FAR_ENOUGH;
        return step;
    }
    if (step.dirty && s->no_wait && !(read && goes_along(s, step.victim))) {
        step.outcome = IN_NO_IO;
        return step;
    }
    if (step.dirty && s->lane == NULL) {
        step.outcome = IN_NEED_LANE;
        return step;
    }
    if ((s->flags & DSM_PIN) != 0) {
        s->error = swap_pin(s, entry);
        if (s->error != 0) {
            if (!step.dirty) {
                s->claims.credit += segment->page_bytes;
            }
            return step;
        }
    }
    page_move(&segment->table, s->page,
              read                    ? PAGE_READING
              : state == PAGE_BACKING ? PAGE_KILLING
                                      : PAGE_FILLING);
    if (step.dirty) {
        page_move(&step.victim.segment->table, step.victim.page, PAGE_WRITING);
        STAT_ADD(s->pager->stat, victims_dirty, 1);
    }
    step.outcome = read ? IN_READ : IN_NO_READ;
    return step;
}

// Cedar's AllocateForSwapIn: under the lock, looks at the page in hand and checks it out.
static struct step consider(struct swap *s)
{
    struct page_entry *entry = entry_of(s, s->page);
    enum page_state state = page_state(&s->segment->table, entry);
    if (s->prefetch && state != PAGE_BACKING) {
        return (struct step){.outcome = IN_FAR_ENOUGH}; // one run, no more
    }
    if (s->segment->frozen && (s->flags & DSM_KILL) != 0) {
        s->error = -EBUSY;
        return (struct step){.outcome = IN_FAULT};
    }
    switch (state) {
    case PAGE_RESIDENT:
    case PAGE_WRITING:
        return (struct step){.outcome = resident(s, entry, state)};
    case PAGE_UNDEFINED:
    case PAGE_BACKING:
        return absent(s, entry, state);
    case PAGE_NONE:
        s->error = -EFAULT;
        return (struct step){.outcome = IN_FAULT};
    case PAGE_LOST:
        s->error = -DSM_ELOST;
        return (struct step){.outcome = IN_FAULT};
    default:
        return (struct step){.outcome = optional(s) ? IN_FAR_ENOUGH : IN_WAIT_PAGE};
    }
}

uint32_t swap_check_out(struct swap *s, uint64_t page, int64_t stride, uint32_t most)
{
    uint32_t n = 0;
    lock_acquire(&s->pager->lock);
    for (s->page = page; n < most && s->page < s->segment->table.pages && !s->segment->frozen;
         n++) {
        if (consider(s).outcome != IN_READ) {
            break;
        }
        s->page += (uint64_t)stride;
    }
    lock_release(&s->pager->lock);
    return n;
}

// Memory for the page, with nothing to read and nobody to give any up: consider() will say so, and do no more than check it out.
static bool needs_spare_memory_only(const struct swap *s, uint64_t page)
{
    const struct segment *segment = s->segment;
    const struct page_entry *entry = page_at(&segment->table, page);
    enum page_state state = page_state(&segment->table, entry);
    bool empty = state == PAGE_UNDEFINED || (state == PAGE_BACKING && (s->flags & DSM_KILL) != 0);
    return empty && (s->flags & DSM_PIN) == 0 && !segment->frozen &&
           !page_has(entry, PAGE_READ_ONLY) &&
           backing_fate_of(&segment->placement, page) == BACKING_WELL && room_to_spare(s);
}

// Of the pages behind the one in hand those that need memory only, too. How many, with it; the last is then in hand.
static uint32_t check_out_to_fill(struct swap *s)
{
    uint32_t most = PAGER_FILL_BYTES / s->segment->page_bytes;
    uint32_t n = 1;
    if (s->page + 1 == s->end) {
        return n;
    }
    lock_acquire(&s->pager->lock);
    for (; n < most && s->page + 1 < s->end && needs_spare_memory_only(s, s->page + 1); n++) {
        s->page++;
        if (consider(s).outcome != IN_NO_READ) { // its fate has changed just now: it is met again
            s->error = 0;
            s->page--;
            break;
        }
    }
    lock_release(&s->pager->lock);
    return n;
}

// ---- what follows from it; not under the lock ----

static void victim_back(struct swap *s, struct victim victim)
{
    lock_acquire(&s->pager->lock);
    swap_victim_in(victim);
    lock_release(&s->pager->lock);
}

// Writes the victim alone and claims the page's memory from it. False: the page in hand was given back.
static bool clean_dirty_victim(struct swap *s, const struct step *step)
{
    int64_t begun = sync_now();
    struct clean_run run = {.lane = s->lane, .deadline = s->deadline};
    clean_victim_send(&run, step->victim);
    int error = clean_victim_receive(&run);
    s->waited_ns += (uint64_t)(sync_now() - begun);
    laundry_wake(s->pager);
    if (error != 0) {
        SWAP_ADD(s, failed_to_clean_victims, 1);
        victim_back(s, step->victim);
        frames_note_failed(&s->claims, step->victim, error);
        swap_unworked_without_frame(s, 0);
        if (s->claims.failed_count == PAGER_FAILED_VICTIMS || sync_now() >= s->deadline) {
            swap_fail(s, error, step->victim.segment, step->victim.page);
        }
        return false;
    }
    SWAP_ADD(s, dirty_victims, 1);
    lock_acquire(&s->pager->lock);
    bool claimed = swap_claim_victim(s, step->victim);
    lock_release(&s->pager->lock);
    if (!claimed) { // a smaller victim than the page: once more, with what it gave as credit
        swap_unworked_without_frame(s, 0);
        return false;
    }
    return true;
}

static void append(struct swap *s)
{
    if (s->count == 0) {
        s->base = s->page;
        s->pieces = 0;
    }
    INVARIANT(s->base + s->count == s->page);
    s->pieces += s->count == 0 || placement_begins(&s->segment->placement, s->page);
    s->count++;
}

// needsRead in both states. True: the page is in the run and the next one may be considered.
static bool take_read(struct swap *s, const struct step *step)
{
    SWAP_ADD(s, reads, 1);
    if (step->dirty && s->no_wait) {
        s->victim = step->victim;
        s->victim_state = VICTIM_TO_SEND;
        append(s);
        return true;
    }
    if (s->skipping || step->dirty || s->count == pager_run_pages(s->segment) ||
        placement_full(&s->segment->placement, s->page, s->pieces)) {
        swap_flush(s, step->dirty && !s->skipping ? step->victim.page : s->page);
    }
    if (s->unfinished) { // no_wait: the page in hand is one beside the touched one
        swap_unworked(s, s->page, 1, 0);
        s->end = s->page;
        return false;
    }
    if (s->error != 0) {
        if (step->dirty) {
            victim_back(s, step->victim);
            swap_unworked_without_frame(s, s->error);
        } else {
            swap_unworked(s, s->page, 1, s->error);
        }
        return false;
    }
    if (step->dirty && !clean_dirty_victim(s, step)) {
        return false;
    }
    s->skipping = false;
    append(s);
    return true;
}

static bool take_no_read(struct swap *s, const struct step *step)
{
    SWAP_ADD(s, no_read, 1);
    if (step->dirty) {
        swap_flush(s, step->victim.page);
        if (s->error != 0) {
            victim_back(s, step->victim);
            swap_unworked_without_frame(s, s->error);
            return false;
        }
        if (!clean_dirty_victim(s, step)) {
            return false;
        }
    }
    // The run under way keeps its victims; punching them now is early, never wrong.
    frames_discard(s->pager, &s->claims);
    uint64_t page = s->page;
    uint32_t count = check_out_to_fill(s);
    SWAP_ADD(s, pages, count - 1);
    SWAP_ADD(s, no_read, count - 1);
    uint32_t shift = s->segment->page_shift;
    int error = s->segment->view.ops->place(&s->segment->view, page << shift,
                                            (uint64_t)count << shift, NULL);
    if (error != 0 && s->demand_settled) { // nobody waits for these
        swap_unworked(s, page, count, 0);
        s->end = s->page;
        return false;
    }
    if (error != 0) {
        swap_fail(s, -ENOMEM, s->segment, page);
        swap_unworked(s, page, count, -ENOMEM);
        return false;
    }
    lock_acquire(&s->pager->lock);
    swap_check_in(s, page, count);
    swap_release(s);
    s->skipping = true;
    return true;
}

static bool counts_as_page(enum outcome outcome)
{
    return outcome == IN_ALREADY || outcome == IN_READ || outcome == IN_NO_READ ||
           outcome == IN_FAULT;
}

// One turn of the loop; true when the page in hand is dealt with.
static bool turn(struct swap *s)
{
    lock_acquire(&s->pager->lock);
    struct step step = consider(s);
    lock_release(&s->pager->lock);
    if (s->frame_since != 0 && step.outcome != IN_WAIT_FRAME) {
        probe_wait(s->segment->number, s->page, 1, (u64)(sync_now() - s->frame_since));
        s->frame_since = 0;
    }
    if (counts_as_page(step.outcome)) {
        SWAP_ADD(s, pages, 1);
    }
    int error = s->error;
    switch (step.outcome) {
    case IN_ALREADY:
        SWAP_ADD(s, already_in, 1);
        s->skipping = true;
        return true;
    case IN_READ:
        return take_read(s, &step);
    case IN_NO_READ:
        return take_no_read(s, &step);
    case IN_FAULT: // pages before it are in, before it is raised
        if (s->no_wait && optional(s)) {
            s->error = 0;
            s->end = s->page;
            return false;
        }
        s->error = 0;
        swap_flush(s, WIRE_NO_HINT);
        swap_fail(s, error, s->segment, s->page);
        return false;
    case IN_WAIT_PAGE:
        if (s->no_wait) { // in a handler, where a wait must let signals in
            s->error = -EAGAIN;
            return false;
        }
        swap_await(s, swap_page_wait);
        return false;
    case IN_BATCH_FULL: // early, never wrong
        frames_discard(s->pager, &s->claims);
        return false;
    case IN_WAIT_FRAME:
        s->all_failed = step.all_failed;
        swap_await(s, swap_frame_wait);
        return false;
    case IN_NEED_LANE:
        swap_await(s, swap_lane_wait);
        return false;
    case IN_FAR_ENOUGH:
        s->end = s->page;
        return false;
    default:
        s->error = -EAGAIN;
        return false;
    }
}

// Nothing is checked out any more, but what another thread is to take in: that goes before any
// error, for with it the lane is not free.
static int finish(struct swap *s)
{
    swap_let_go(s);
    if (s->unfinished) {
        return -EINPROGRESS;
    }
    if (s->error != 0) {
        swap_undo_pins(s);
    }
    if (s->error == -EAGAIN) { // it will be made with I/O
        SWAP_ADD(s, calls, -1);
    }
    return s->error;
}

int pager_swap_in(struct swap *s)
{
    s->stat = s->prefetch ? &s->pager->unseen : s->pager->stat;
    SWAP_ADD(s, calls, 1);
    s->first = s->page;
    s->error = 0;
    uint64_t pages = s->segment->table.pages;
    if (s->page > pages || s->end > pages || s->end < s->page) {
        swap_fail(s, -EFAULT, s->segment, pages);
        return s->error;
    }
    while (s->page < s->end && s->error == 0) {
        if (turn(s)) {
            s->page++;
        }
    }
    if (s->error == 0 && !s->unfinished) {
        s->last = true;
        if (s->count == 0 && s->last_sent != NULL) {
            s->last_sent(s);
        }
        swap_flush(s, s->next_page);
    }
    return finish(s);
}

int pager_swap_in_rest(struct swap *s)
{
    s->no_wait = s->unfinished = false;
    backing_take_over(s->lane);
    swap_take_in_runs(s);
    return finish(s);
}
