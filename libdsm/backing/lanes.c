// SPDX-License-Identifier: Apache-2.0
//
// Who has which lane, and whether it is up. Two words for each: `owned` (compare-and-swap, a futex for its class) and
// `up` (the number of its connection; 0 while the keeper connects it again). An owner that meets an error says down
// and touches the lane no more until it is up again; the keeper touches it only while it is down. So the pointer to the
// connection needs no lock.
//
// Where a session has several stores, a lane is one connection to each: who takes the first store's lane takes those of the same
// number, which nobody else goes for but a keeper, for the moment of a heartbeat. So two threads that each need two stores
// cannot wait for one another, and all runs of a request leave before an answer is waited for.
#include <errno.h>
#include <limits.h>

#include "dsm/dsm.h"
#include "libdsm/backing/backing.h"
#include "libdsm/sync/futex.h"

enum { LANES_TURN_MS = 1 };

static bool take_one(struct backing_lane *lane)
{
    uint32_t free_word = 0;
    return atomic_compare_exchange_strong_explicit(&lane->owned, &free_word, 1,
                                                   memory_order_acquire, memory_order_relaxed);
}

static void give_one(struct backing_lane *lane)
{
    struct backing *backing = lane->backing;
    enum backing_class class = lane->class;
    atomic_store_explicit(&lane->owned, 0, memory_order_release);
    (void)atomic_fetch_add(&backing->given[class], 1);
    if (atomic_load(&backing->asleep[class]) != 0) {
        sync_wake(&backing->given[class], 1);
    }
}

// Until one of the class is given back, if `given` was read before the last look. Counted before the futex looks
// at the word, and read by the giver after it changed it: one of the two sees the other.
static void await_given(struct backing *backing, enum backing_class class, uint32_t given,
                        int64_t deadline)
{
    (void)atomic_fetch_add(&backing->asleep[class], 1);
    (void)sync_wait(&backing->given[class], given, deadline);
    (void)atomic_fetch_sub(&backing->asleep[class], 1);
}

struct backing_lane *backing_lane_to(struct backing_lane *lane, uint32_t store)
{
    return store == 0 ? lane : &lane->backing->others[store]->lanes[lane->number];
}

// ---- the other stores' ----

static void give_others(struct backing_lane *lane, uint32_t below)
{
    while (below-- > 1) {
        give_one(backing_lane_to(lane, below));
    }
}

// A keeper has it, if anybody. It wakes one sleeper, perhaps another lane's: so the slice is short.
static bool wait_for_one(struct backing_lane *lane, int64_t deadline)
{
    enum { SLICE_MS = 5 };
    struct backing *backing = lane->backing;
    while (!take_one(lane)) {
        if (atomic_load(&backing->stopping) != 0 || sync_now() >= deadline) {
            return false;
        }
        uint32_t given = atomic_load(&backing->given[lane->class]);
        await_given(backing, lane->class, given, sync_after_ms(SLICE_MS));
    }
    return true;
}

// With the first store's lane in hand. False: that is given back.
static bool take_others(struct backing_lane *lane, int64_t deadline)
{
    for (uint32_t i = 1; i < lane->backing->store_count; i++) {
        if (!wait_for_one(backing_lane_to(lane, i), deadline)) {
            give_others(lane, i);
            give_one(lane);
            return false;
        }
    }
    return true;
}

// ---- a lane ----

static struct backing_lane *try_first(struct backing *backing, enum backing_class class)
{
    for (uint32_t i = 0; i < backing->lane_count; i++) {
        struct backing_lane *lane = &backing->lanes[i];
        if (lane->class == class && take_one(lane)) {
            return lane;
        }
    }
    return NULL;
}

struct backing_lane *backing_try(struct backing *backing, enum backing_class class)
{
    struct backing_lane *lane = try_first(backing, class);
    return lane != NULL && take_others(lane, 0) ? lane : NULL;
}

// Who waited for a turn's time stands in line: from then on no direct thread overtakes it.
static struct backing_lane *take_first(struct backing *backing, enum backing_class class,
                                       int64_t deadline)
{
    int64_t turn = 0;
    bool in_line = false;
    struct backing_lane *lane = NULL;
    for (;;) {
        uint32_t given = atomic_load(&backing->given[class]);
        lane = try_first(backing, class);
        if (lane != NULL || atomic_load(&backing->stopping) != 0) {
            break;
        }
        int64_t now = sync_now();
        turn = turn == 0 ? sync_later(now, LANES_TURN_MS) : turn;
        if (now >= deadline) {
            break;
        }
        if (!in_line && now >= turn) {
            in_line = true;
            (void)atomic_fetch_add(&backing->in_line[class], 1);
        }
        await_given(backing, class, given, in_line || deadline < turn ? deadline : turn);
    }
    if (in_line) {
        (void)atomic_fetch_sub(&backing->in_line[class], 1);
    }
    return lane;
}

struct backing_lane *backing_take(struct backing *backing, enum backing_class class,
                                  int64_t deadline)
{
    struct backing_lane *lane = take_first(backing, class, deadline);
    return lane != NULL && take_others(lane, deadline) ? lane : NULL;
}

// ---- direct ----

static bool lane_up(struct backing_lane *lane)
{
    uint32_t up = 1;
    for (uint32_t i = 0; up != 0 && (i == 0 || i < lane->backing->store_count); i++) {
        up = atomic_load_explicit(&backing_lane_to(lane, i)->up, memory_order_acquire);
    }
    return up != 0;
}

static void set_patience(struct backing_lane *lane, int64_t until)
{
    for (uint32_t i = 0; i == 0 || i < lane->backing->store_count; i++) {
        backing_lane_to(lane, i)->patience = until;
        backing_lane_to(lane, i)->leave = false;
    }
}

struct backing_lane *backing_direct(struct backing *backing, int64_t until)
{
    if (atomic_load(&backing->in_line[BACKING_FAULT]) != 0) {
        return NULL;
    }
    for (uint32_t i = 0; i < backing->lane_count; i++) {
        struct backing_lane *lane = &backing->lanes[i];
        if (lane->class != BACKING_FAULT || !lane_up(lane) || !take_one(lane)) {
            continue;
        }
        if (take_others(lane, 0)) { // which gives back what it has when it fails
            set_patience(lane, until);
            return lane;
        }
    }
    return NULL;
}

void backing_take_over(struct backing_lane *lane)
{
    set_patience(lane, 0);
}

void backing_give(struct backing_lane *lane)
{
    set_patience(lane, 0);
    give_others(lane, lane->backing->store_count);
    give_one(lane);
}

static bool one_up(const struct backing *backing, enum backing_class class)
{
    for (uint32_t i = 0; i < backing->lane_count; i++) {
        const struct backing_lane *lane = &backing->lanes[i];
        if (lane->class == class && atomic_load(&lane->up) == 0) {
            return false;
        }
    }
    return true;
}

bool backing_up(const struct backing *backing, enum backing_class class)
{
    bool up = one_up(backing, class);
    for (uint32_t i = 1; i < backing->store_count && up; i++) {
        up = one_up(backing->others[i], class);
    }
    return up;
}

void backing_lane_down(struct backing_lane *lane)
{
    lane->landing.open = false;
    if (atomic_exchange(&lane->up, 0) != 0) {
        atomic_store(&lane->down_since, sync_now());
        (void)atomic_fetch_add(&lane->backing->broken, 1);
        sync_wake(&lane->backing->broken, INT_MAX);
    }
}

void backing_lane_time(struct backing_lane *lane, bool timed)
{
    lane->timed = timed;
    if (timed) {
        lane->times = (struct lane_times){0};
        lane->down_ns = 0;
    }
}

int backing_fate_errno(enum backing_fate fate)
{
    switch (fate) {
    case BACKING_FENCED:
        return -DSM_EFENCED;
    case BACKING_LOST:
        return -DSM_ELOST;
    default:
        return 0;
    }
}

enum backing_fate backing_fate_of(const struct placement *placement, uint64_t page)
{
    return (enum backing_fate)atomic_load(&placement_part(placement, page)->fate);
}
