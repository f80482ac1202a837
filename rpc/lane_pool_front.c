// SPDX-License-Identifier: Apache-2.0
//
// The pool of payload buffers of a front: what bounds the memory that requests in flight can take,
// however many peers there are. Buffers are made at the start (their pages come when first used)
// and handed out last in, first out, so the warm ones are used first.
//
// Fairness: a buffer that comes back goes to whoever has stood in line longest, never past the
// line. It is granted at that moment, under the lock; the thread of the waiter is woken through
// its queue's eventfd and picks the grant up. A waiter that dies leaves the line or hands its
// grant on.
//
// States of a waiter: idle -> in line -> granted -> idle. One lock, no calls out while it is held
// but the write to an eventfd.
//
// Rejected: a condition variable per buffer; a front's threads sleep in epoll and nowhere else.
#include "rpc/lane_peer.h"

#include <stdlib.h>
#include <sys/eventfd.h>

struct lane_pool {
    pthread_mutex_t lock;
    struct lane_waiters line; // P: in the order of arrival
    int free_count;           // P
    int count;
    uint8_t **free; // P: a stack
    uint8_t *memory;
};

enum { POOL_ALIGN_BYTES = 64 };

static size_t buffer_bytes(void)
{
    return ((size_t)LANE_PAYLOAD_BUFFER_BYTES + POOL_ALIGN_BYTES - 1) / POOL_ALIGN_BYTES *
           POOL_ALIGN_BYTES;
}

struct lane_pool *lane_pool_create(int buffers)
{
    struct lane_pool *pool = calloc(1, sizeof(*pool));
    if (pool == NULL) {
        return NULL;
    }
    pthread_mutex_init(&pool->lock, NULL);
    TAILQ_INIT(&pool->line);
    pool->free = calloc((size_t)buffers, sizeof(pool->free[0]));
    pool->memory = aligned_alloc(POOL_ALIGN_BYTES, (size_t)buffers * buffer_bytes());
    if (pool->free == NULL || pool->memory == NULL) {
        lane_pool_destroy(&pool);
        return NULL;
    }
    for (int i = 0; i < buffers; i++) {
        pool->free[i] = pool->memory + (size_t)(buffers - 1 - i) * buffer_bytes();
    }
    pool->free_count = buffers;
    pool->count = buffers;
    return pool;
}

void lane_pool_destroy(struct lane_pool **pool)
{
    if (*pool != NULL) {
        pthread_mutex_destroy(&(*pool)->lock);
        free((*pool)->free);
        free((*pool)->memory);
        free(*pool);
        *pool = NULL;
    }
}

uint8_t *lane_pool_take(struct lane_pool *pool, struct lane_waiter *waiter)
{
    uint8_t *buffer = NULL;
    pthread_mutex_lock(&pool->lock);
    if (pool->free_count > 0) { // then nobody stands in line
        buffer = pool->free[--pool->free_count];
    } else {
        waiter->state = LANE_WAITER_IN_LINE;
        TAILQ_INSERT_TAIL(&pool->line, waiter, link);
    }
    pthread_mutex_unlock(&pool->lock);
    return buffer;
}

static void give_locked(struct lane_pool *pool, uint8_t *buffer)
{
    struct lane_waiter *first = TAILQ_FIRST(&pool->line);
    if (first == NULL) {
        pool->free[pool->free_count++] = buffer;
        return;
    }
    TAILQ_REMOVE(&pool->line, first, link);
    first->state = LANE_WAITER_GRANTED;
    first->granted = buffer;
    TAILQ_INSERT_TAIL(&first->queue->granted, first, link);
    eventfd_write(first->queue->wake, 1);
}

void lane_pool_give(struct lane_pool *pool, uint8_t *buffer)
{
    pthread_mutex_lock(&pool->lock);
    give_locked(pool, buffer);
    pthread_mutex_unlock(&pool->lock);
}

struct lane_waiter *lane_pool_granted(struct lane_pool *pool, struct lane_pool_queue *queue,
                                      uint8_t **buffer)
{
    pthread_mutex_lock(&pool->lock);
    struct lane_waiter *waiter = TAILQ_FIRST(&queue->granted);
    if (waiter != NULL) {
        TAILQ_REMOVE(&queue->granted, waiter, link);
        waiter->state = LANE_WAITER_IDLE;
        *buffer = waiter->granted;
    }
    pthread_mutex_unlock(&pool->lock);
    return waiter;
}

void lane_pool_leave(struct lane_pool *pool, struct lane_waiter *waiter)
{
    pthread_mutex_lock(&pool->lock);
    if (waiter->state == LANE_WAITER_IN_LINE) {
        TAILQ_REMOVE(&pool->line, waiter, link);
    } else if (waiter->state == LANE_WAITER_GRANTED) {
        TAILQ_REMOVE(&waiter->queue->granted, waiter, link);
        give_locked(pool, waiter->granted);
    }
    waiter->state = LANE_WAITER_IDLE;
    pthread_mutex_unlock(&pool->lock);
}

bool lane_pool_contended(struct lane_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    bool contended = !TAILQ_EMPTY(&pool->line);
    pthread_mutex_unlock(&pool->lock);
    return contended;
}
