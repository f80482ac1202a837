// SPDX-License-Identifier: Apache-2.0
//
// A mutual exclusion that a fault's handler may take. Held briefly, with asynchronous signals blocked, without I/O
// or waiting, and without touching managed memory; so nobody waits for it who could keep its holder from running.
#ifndef LIBDSM_SYNC_LOCK_H
#define LIBDSM_SYNC_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct lock {
    _Atomic uint32_t word; // 0 free, 1 held, 2 held and somebody sleeps
};

void lock_acquire(struct lock *lock); // with asynchronous signals blocked
void lock_release(struct lock *lock);
static inline bool lock_held(const struct lock *lock) // by somebody: what can be asserted
{
    return atomic_load_explicit(&lock->word, memory_order_relaxed) != 0;
}

#endif
