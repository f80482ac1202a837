// SPDX-License-Identifier: Apache-2.0
//
// How a thread waits for bytes: it looks again and again for a bounded time, and then sleeps. To wake a thread costs 15 to
// 25 us, a look less than one. Async-signal-safe but for spin_share_init; allocates nothing.
#ifndef RPC_SPIN_H
#define RPC_SPIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum spin_way { SPIN_AUTO, SPIN_OFF, SPIN_ON }; // in the order of the settings' choices

// What the waiters of one end have in common: a session's lanes, a front's threads.
struct spin_share {
    enum spin_way way;          // const
    uint32_t most;              // const: waiters that may spin at the same time
    _Atomic uint32_t waiters;   // that spin, or sleep for an answer
    _Atomic int64_t short_till; // CLOCK_MONOTONIC: somebody who span was put off the processor
    _Atomic uint64_t *spun;     // const: counts waits that ended while somebody looked,
    _Atomic uint64_t *slept;    // const: and those that were slept through
};

// One waiter: a lane, or a thread of a front.
struct spin {
    struct spin_share *share; // NULL: it never spins
    bool counted;             // among the share's waiters
    uint8_t failures;         // spins in a row that came to nothing, and
    uint8_t pass;             // waits that are slept through for them
    int64_t until, looked;
};

// By what this process may run on now. The counters outlive it.
void spin_share_init(struct spin_share *share, enum spin_way way, _Atomic uint64_t *spun,
                     _Atomic uint64_t *slept);

// A wait begins. True: look, then ask spin_on() whether to look again, until that says no or something came.
bool spin_begin(struct spin *spin);
bool spin_on(struct spin *spin);
// After spin_begin() said yes: whether it came.
void spin_done(struct spin *spin, bool came);
// The wait is over, however it was spent.
void spin_end(struct spin *spin);
// It is to be slept through.
static inline void spin_sleeps(const struct spin *spin)
{
    if (spin->share != NULL) {
        atomic_fetch_add_explicit(spin->share->slept, 1, memory_order_relaxed);
    }
}

#endif
