// SPDX-License-Identifier: Apache-2.0
//
// The laundry: a thread that keeps some memory free, so that a fault finds it at once; never more
// than all pages that are not in would need.
//
// Who takes memory wakes it: when less than the lower water mark is free, when a prefetch took
// some, and when a swap-in had to write its victim itself or waits for a frame. It works in passes
// until the higher mark is reached. A pass goes through the queues of replacement: look() gives
// what is open its second chance and notes what is closed and dirty, collect() takes away in runs
// what is closed and clean; then wash() cleans in runs what was noted, and take_washed() takes
// that, too.
//
// It starts nothing while the server is away, for a store into a page that is being written waits.
// What it cannot write stays dirty; remember() keeps the first such page in its segment, where the
// program's next clean or close finds it.
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "libdsm/pager/pager.h"
#include "libdsm/stat/probes.h"

enum { BATCH_DIRTY = 48, BATCH_BYTES = 1 << 20, BATCH_LOOKS = 1024, PAUSE_MS = 20 };

struct batch {
    struct claims clean; // to be punched
    struct victim dirty[BATCH_DIRTY];
    uint32_t dirty_count;
    uint32_t freed, cleaned; // pages, for the probe
};

void laundry_wake(struct pager *pager)
{
    if (atomic_load(&pager->laundry_idle) == 0) {
        return; // at work: it looks again before it sleeps
    }
    (void)atomic_fetch_add(&pager->laundry_word, 1);
    sync_wake(&pager->laundry_word, 1);
}

void laundry_make_good(struct pager *pager)
{
    lock_acquire(&pager->lock);
    bool less = !frames_enough(pager, 0, pager->high_water);
    lock_release(&pager->lock);
    if (less) {
        laundry_wake(pager);
    }
}

static bool enough(const struct pager *pager, const struct batch *batch)
{
    return frames_enough(pager, batch->clean.credit, pager->high_water);
}

struct round {
    struct pager *pager;
    struct batch *batch;
    uint32_t left; // looks
};

static bool is_noted(const struct batch *batch, struct victim victim)
{
    for (uint32_t i = 0; i < batch->dirty_count; i++) {
        if (batch->dirty[i].segment == victim.segment && batch->dirty[i].page == victim.page) {
            return true;
        }
    }
    return false;
}

// What is dirty is noted, once, and stays where it is until it is clean. When no more can be noted, nothing more is
// looked at: a look may close a page.
static enum replacement_view look(void *context, uint32_t frame, bool aged)
{
    struct round *round = context;
    struct pager *pager = round->pager;
    struct batch *batch = round->batch;
    struct segment *segment = frames_owner(pager, frame);
    uint64_t page = pager->replacement.frames[frame].page;
    if (round->left == 0 || batch->dirty_count == BATCH_DIRTY) {
        return REPLACEMENT_STOP;
    }
    round->left--;
    if (!frames_evictable(pager, segment, page)) {
        return REPLACEMENT_SKIP;
    }
    enum replacement_view view = aged ? REPLACEMENT_TAKE : frames_view(pager, frame);
    if (view != REPLACEMENT_TAKE || !frames_needs_write(segment, page)) {
        return view;
    }
    const struct victim victim = {segment, page};
    if (!is_noted(batch, victim) &&
        pager_use(pager, segment->index) != NULL) { // else it is being closed
        batch->dirty[batch->dirty_count++] = victim;
    }
    return REPLACEMENT_SKIP;
}

static void collect(struct pager *pager, struct batch *batch)
{
    struct round round = {.pager = pager, .batch = batch, .left = BATCH_LOOKS};
    lock_acquire(&pager->lock);
    while (batch->clean.count < PAGER_BATCH && !enough(pager, batch)) {
        uint32_t frame = replacement_choose(&pager->replacement, look, &round, BATCH_LOOKS);
        if (frame == FRAME_NONE) {
            break;
        }
        const struct victim victim = {frames_owner(pager, frame),
                                      pager->replacement.frames[frame].page};
        if (!frames_take_victim(pager, &batch->clean, victim)) {
            break;
        }
    }
    lock_release(&pager->lock);
}

static bool washable(const struct segment *segment, uint64_t page)
{
    const struct page_entry *entry = page_at(&segment->table, page);
    return page_state(&segment->table, entry) == PAGE_RESIDENT && entry->pins == 0 &&
           page_has(entry, PAGE_DIRTY) &&
           (page_has(entry, PAGE_AGED) || protection_of(entry) != TRAP_READ_WRITE);
}

// The pages around this one that are dirty and not being stored into: sent as a run. False: there are none.
static bool begin_around(struct pager *pager, struct victim victim, struct clean_run *run)
{
    uint64_t most = pager_run_pages(victim.segment);
    uint64_t first = victim.page;
    uint64_t end = victim.page + 1;
    lock_acquire(&pager->lock);
    while (first > 0 && end - first < most && washable(victim.segment, first - 1)) {
        first--;
    }
    while (end < victim.segment->table.pages && end - first < most &&
           washable(victim.segment, end)) {
        end++;
    }
    bool still = washable(victim.segment, victim.page);
    lock_release(&pager->lock);
    return still && clean_begin(run, victim.segment, first, end);
}

static void remember(const struct clean_run *run)
{
    struct segment *segment = run->segment;
    struct pager *pager = segment->pager;
    lock_acquire(&pager->lock);
    if (segment->laundry_error == 0) {
        segment->laundry_error = run->error;
        segment->laundry_page = run->failed_page;
    }
    lock_release(&pager->lock);
}

static void settle(struct pager *pager, struct batch *batch)
{
    batch->freed += batch->clean.count;
    frames_settle(pager, &batch->clean);
}

// What was washed had its second chance before: it goes now, not when the hand comes round again and has driven out
// pages that are merely clean.
static void take_washed(struct pager *pager, struct batch *batch, const struct clean_run *run)
{
    struct segment *segment = run->segment;
    uint64_t end = run->base + run->count;
    lock_acquire(&pager->lock);
    for (uint64_t page = run->base;
         page < end && batch->clean.count < PAGER_BATCH && !enough(pager, batch); page++) {
        const struct page_entry *entry = page_at(&segment->table, page);
        if (frames_evictable(pager, segment, page) && !page_has(entry, PAGE_DIRTY) &&
            protection_of(entry) == TRAP_NONE) {
            (void)frames_take_victim(pager, &batch->clean, (struct victim){segment, page});
        }
    }
    lock_release(&pager->lock);
    settle(pager, batch);
}

static void leave(struct pager *pager, const struct batch *batch)
{
    lock_acquire(&pager->lock);
    for (uint32_t i = 0; i < batch->dirty_count; i++) {
        pager_leave(batch->dirty[i].segment);
    }
    lock_release(&pager->lock);
}

// Sends run after run, then takes the answers: one page at a time would be bound by round trips.
static uint32_t begin_all(struct pager *pager, const struct batch *batch, struct backing_lane *lane,
                          struct clean_run *runs)
{
    uint32_t n = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < batch->dirty_count && bytes < BATCH_BYTES; i++) {
        runs[n].lane = lane;
        if (begin_around(pager, batch->dirty[i],
                         &runs[n])) { // else washed with its neighbours, or in use again
            bytes += (uint64_t)runs[n].count * runs[n].segment->page_bytes;
            n++;
        }
    }
    return n;
}

// False: the server does not take them now.
static bool wash(struct pager *pager, struct batch *batch)
{
    struct clean_run runs[BATCH_DIRTY];
    if (batch->dirty_count == 0) {
        return true;
    }
    struct backing_lane *lane = backing_take(pager->backing, BACKING_BULK, SYNC_FOR_EVER);
    if (lane == NULL) {
        return false;
    }
    bool well = true;
    uint32_t n = begin_all(pager, batch, lane, runs);
    for (uint32_t i = 0; i < n; i++) {
        if (clean_end(&runs[i]) == 0) {
            STAT_ADD(pager->stat, laundered_pages, runs[i].count);
            batch->cleaned += runs[i].count;
            take_washed(pager, batch, &runs[i]);
        } else if (runs[i].error != -ECANCELED) {
            remember(&runs[i]);
            well = false;
        }
    }
    backing_give(lane);
    return well;
}

// One round; false when it should rest for a while.
static bool pass(struct pager *pager, struct batch *batch)
{
    int64_t begun = sync_now();
    memset(batch, 0, sizeof *batch);
    collect(pager, batch);
    bool some = batch->clean.count > 0 || batch->dirty_count > 0;
    settle(pager, batch);
    bool well = wash(pager, batch);
    leave(pager, batch);
    if (some && probe_laundry_pass_on()) {
        probe_laundry_pass(batch->freed, batch->cleaned, (u64)(sync_now() - begun));
    }
    return well && batch->freed + batch->cleaned > 0; // else whoever has them is at work
}

static bool wanted(struct pager *pager)
{
    lock_acquire(&pager->lock);
    bool is = !frames_enough(pager, 0, pager->high_water);
    lock_release(&pager->lock);
    return is;
}

void *laundry_run(void *argument)
{
    struct batch batch;
    struct pager *pager = argument;
    uint32_t seen;
    while (sync_goes_on(&pager->stopping, &pager->laundry_word, &seen)) {
        int64_t until = SYNC_FOR_EVER;
        while (atomic_load(&pager->stopping) == 0 && wanted(pager)) {
            if (!backing_up(pager->backing, BACKING_BULK) || !pass(pager, &batch)) {
                until = sync_after_ms(PAUSE_MS);
                break;
            }
        }
        atomic_store(&pager->laundry_idle, 1);
        if (!wanted(pager) || until != SYNC_FOR_EVER) {
            (void)sync_wait(&pager->laundry_word, seen, until);
        }
        atomic_store(&pager->laundry_idle, 0);
    }
    return NULL;
}
