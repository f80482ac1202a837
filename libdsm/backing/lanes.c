// SPDX-License-Identifier: Apache-2.0
//
// Who has which lane, and whether it is up. Two words for each: `owned` (compare-and-swap, a futex for its class) and
// `up` (the number of its connection; 0 while the keeper connects it again). An owner that meets an error says down
// and touches the lane no more until it is up again; the keeper touches it only while it is down. So the pointer to the
// connection needs no lock.
#include <errno.h>
#include <limits.h>

#include "dsm/dsm.h"
#include "libdsm/backing/backing.h"
#include "libdsm/sync/futex.h"

struct backing_lane *backing_try(struct backing *backing, enum backing_class class)
{
    for (uint32_t i = 0; i < backing->lane_count; i++) {
        struct backing_lane *lane = &backing->lanes[i];
        uint32_t free_word = 0;
        if (lane->class == class &&
            atomic_compare_exchange_strong_explicit(&lane->owned, &free_word, 1,
                                                    memory_order_acquire, memory_order_relaxed)) {
            return lane;
        }
    }
    return NULL;
}

struct backing_lane *backing_take(struct backing *backing, enum backing_class class,
                                  int64_t deadline)
{
    for (;;) {
        uint32_t given = atomic_load(&backing->given[class]);
        struct backing_lane *lane = backing_try(backing, class);
        if (lane != NULL) {
            return lane;
        }
        if (atomic_load(&backing->stopping) != 0 ||
            sync_wait(&backing->given[class], given, deadline) == -ETIMEDOUT) {
            return NULL;
        }
    }
}

void backing_give(struct backing_lane *lane)
{
    struct backing *backing = lane->backing;
    enum backing_class class = lane->class;
    atomic_store_explicit(&lane->owned, 0, memory_order_release);
    (void)atomic_fetch_add(&backing->given[class], 1);
    sync_wake(&backing->given[class], 1);
}

void backing_lane_down(struct backing_lane *lane)
{
    if (atomic_exchange(&lane->up, 0) != 0) {
        (void)atomic_fetch_add(&lane->backing->broken, 1);
        sync_wake(&lane->backing->broken, INT_MAX);
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
