// SPDX-License-Identifier: Apache-2.0
//
// A futex lock of three states. A short spin first: the holder is in a few hundred instructions and at most one system
// call. Then it sleeps, and never spins without end: on one processor a waiter of higher priority would keep the holder
// from running for ever.
#include "libdsm/sync/lock.h"

#include "libdsm/sync/futex.h"
#include "libdsm/sync/invariant.h"

enum { LOCK_SPINS = 100 };

static bool take(struct lock *lock, uint32_t to)
{
    uint32_t expected = 0;
    return atomic_compare_exchange_strong_explicit(&lock->word, &expected, to, memory_order_acquire,
                                                   memory_order_relaxed);
}

void lock_acquire(struct lock *lock)
{
    for (int i = 0; i < LOCK_SPINS; i++) {
        if (take(lock, 1)) {
            return;
        }
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    while (atomic_exchange_explicit(&lock->word, 2, memory_order_acquire) != 0) {
        (void)sync_wait(&lock->word, 2, SYNC_FOR_EVER);
    }
}

void lock_release(struct lock *lock)
{
    uint32_t was = atomic_exchange_explicit(&lock->word, 0, memory_order_release);
    INVARIANT(was != 0);
    if (was == 2) {
        sync_wake(&lock->word, 1);
    }
}
