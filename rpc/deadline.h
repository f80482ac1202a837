// SPDX-License-Identifier: Apache-2.0
//
// Deadlines as the lanes count them: CLOCK_MONOTONIC nanoseconds, INT64_MAX for none.
// Async-signal-safe.
#ifndef RPC_DEADLINE_H
#define RPC_DEADLINE_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

enum { DEADLINE_NS_PER_S = 1000000000, DEADLINE_NS_PER_MS = 1000000 };

static inline int64_t deadline_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * DEADLINE_NS_PER_S + now.tv_nsec;
}

static inline int64_t deadline_after_ms(int64_t ms)
{
    return deadline_now() + ms * DEADLINE_NS_PER_MS;
}

// Time left until the deadline; false when it has passed.
static inline bool deadline_left(int64_t deadline, struct timespec *left)
{
    int64_t now = deadline_now();
    if (deadline <= now) {
        return false;
    }
    left->tv_sec = (time_t)((deadline - now) / DEADLINE_NS_PER_S);
    left->tv_nsec = (long)((deadline - now) % DEADLINE_NS_PER_S);
    return true;
}

#endif
