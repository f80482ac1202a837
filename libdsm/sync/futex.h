// SPDX-License-Identifier: Apache-2.0
//
// The lowest room: time, futexes and signal masks by raw system calls, so that everything built on them may run
// in the handler of a fault. Nothing here touches errno.
#ifndef LIBDSM_SYNC_FUTEX_H
#define LIBDSM_SYNC_FUTEX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SYNC_FOR_EVER INT64_MAX

// A system call without errno: the result, or -errno.
long sync_call(long number, long a, long b, long c, long d, long e, long f);

int64_t sync_now(void); // CLOCK_MONOTONIC, ns
static inline int64_t sync_later(int64_t now, int64_t ms)
{
    return ms < (SYNC_FOR_EVER - now) / 1000000 ? now + ms * 1000000 : SYNC_FOR_EVER;
}
static inline int64_t sync_after_ms(int64_t ms)
{
    return sync_later(sync_now(), ms);
}

// Sleeps while *word == value, until woken or the deadline (CLOCK_MONOTONIC ns). 0 (also for no reason) or -ETIMEDOUT
// or -EINTR.
int sync_wait(_Atomic uint32_t *word, uint32_t value, int64_t deadline);
void sync_wake(_Atomic uint32_t *word, int count);

// For a thread that serves until *stopping: false when that is so. Else *seen is what it may wait for *word to change from, once it
// has found no work. The word is read before anything is looked at: who gives work, or stops, says so first and changes the word then.
static inline bool sync_goes_on(const _Atomic uint32_t *stopping, const _Atomic uint32_t *word,
                                uint32_t *seen)
{
    *seen = atomic_load(word);
    return atomic_load(stopping) == 0;
}

// The kernel's signal mask, 64 signals. sync_block_signals blocks every one but the four that a program's own
// mistake raises on the spot (SIGILL, SIGFPE, SIGSEGV, SIGBUS stay as they are).
typedef uint64_t sync_mask;
sync_mask sync_block_signals(void);
void sync_restore_signals(sync_mask mask);

#endif
