// SPDX-License-Identifier: Apache-2.0
//
// When to spin. Never more than SPIN_NS for a wait. Three things end it before, so that where it does not pay it costs next to
// nothing:
//
//   what came of it: after the n-th spin in a row in vain, 2^n - 1 waits are slept through, at most 63. A link of 200 us,
//   or a program that computes for a millisecond between two touches, so loses less than a microsecond a wait.
//   who waits: with more waiters than processors less one (which is the other end's, or the program's), all of them sleep.
//   who wants the processor: between two looks lie microseconds. More than that means that the kernel gave the processor
//   to somebody else, who was kept waiting: then nobody spins for SHORT_NS.
//
// The share's words are hints: they are read and written without order, and a stale one costs a spin or a sleep.
//
// Rejected: a mean of past waits. Asleep at both ends a wait takes twice what it takes awake, so the mean of a pair that
// sleeps says that spinning does not pay, for ever. Also rejected: sched_yield() between looks. Where others want the
// processor the kernel gives it back too late, where nobody does it costs as much as a look.
#include "rpc/spin.h"

#include <sched.h>

#include "rpc/deadline.h"

enum { SPIN_NS = 50 * 1000, GAP_NS = 200 * 1000, SHORT_NS = 10 * 1000 * 1000, MOST_FAILURES = 6 };

void spin_share_init(struct spin_share *share, enum spin_way way, _Atomic uint64_t *spun,
                     _Atomic uint64_t *slept)
{
    cpu_set_t set;
    int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    share->way = way;
    share->most = cores > 1 ? (uint32_t)cores - 1 : 0;
    atomic_init(&share->waiters, 0);
    atomic_init(&share->short_till, 0);
    share->spun = spun;
    share->slept = slept;
}

static bool pays(struct spin *spin, uint32_t waiters)
{
    if (spin->pass > 0) {
        spin->pass--;
        return false;
    }
    return waiters <= spin->share->most;
}

bool spin_begin(struct spin *spin)
{
    struct spin_share *share = spin->share;
    if (share == NULL || share->way == SPIN_OFF) {
        return false;
    }
    uint32_t waiters = atomic_fetch_add_explicit(&share->waiters, 1, memory_order_relaxed) + 1;
    spin->counted = true;
    if (share->way == SPIN_AUTO && !pays(spin, waiters)) {
        return false;
    }
    spin->looked = deadline_now();
    spin->until = spin->looked + SPIN_NS;
    return share->way == SPIN_ON ||
           spin->looked >= atomic_load_explicit(&share->short_till, memory_order_relaxed);
}

bool spin_on(struct spin *spin)
{
    int64_t now = deadline_now();
    int64_t gap = now - spin->looked;
    spin->looked = now;
    if (spin->share->way == SPIN_AUTO && gap > GAP_NS) {
        atomic_store_explicit(&spin->share->short_till, now + SHORT_NS, memory_order_relaxed);
        return false;
    }
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
    return now < spin->until;
}

void spin_done(struct spin *spin, bool came)
{
    if (came) {
        spin->failures = 0;
        atomic_fetch_add_explicit(spin->share->spun, 1, memory_order_relaxed);
    } else {
        spin->failures = (uint8_t)(spin->failures + (spin->failures < MOST_FAILURES));
        spin->pass = (uint8_t)((1U << spin->failures) - 1);
    }
}

void spin_end(struct spin *spin)
{
    if (spin->counted) {
        spin->counted = false;
        (void)atomic_fetch_sub_explicit(&spin->share->waiters, 1, memory_order_relaxed);
    }
}
