// SPDX-License-Identifier: Apache-2.0
//
// What dsm_alloc() has given out, and where the rest is. One in each session; alloc.c owns what is in it.
#ifndef LIBDSM_ALLOC_H
#define LIBDSM_ALLOC_H

#include <pthread.h>
#include <stdint.h>

struct arena;

struct allocations {
    pthread_mutex_t lock;
    struct arena *arenas; // with the lock
    uint64_t made;        // arenas so far: numbers their names
};

void allocations_init(struct allocations *allocations);
// After the session's segments have been closed: frees the book-keeping.
void allocations_clear(struct allocations *allocations);

#endif
