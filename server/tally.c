// SPDX-License-Identifier: Apache-2.0
//
// Why shards: a counter that all threads add to is a line of memory that travels between processors at every request, which
// on many of them costs more than a page's read. Each thread takes a shard when it counts for the first time and keeps it;
// with more threads than shards some share one, which is slower, not wrong. The threads of the fronts are fixed in number.
//
// Counts are read while others add: each is right, and together they may miss what is added meanwhile. The number of a
// request's answers and of its times may differ for the moment between the two.
//
// Threads: any.
#include "server/tally.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { TALLY_SHARDS = 16, TALLY_LINE_BYTES = 64 };

struct shard {
    _Alignas(TALLY_LINE_BYTES) _Atomic uint64_t answers[TALLY_OPS][WIRE_STATUS_COUNT];
    _Atomic uint64_t received_bytes[TALLY_OPS], sent_bytes[TALLY_OPS];
    struct latency latency[TALLY_OPS];
};

struct tally {
    struct shard shards[TALLY_SHARDS];
};

static const char *const op_names[TALLY_OPS] = {
    [0] = "other",
    [WIRE_ATTACH] = "attach",
    [WIRE_READ] = "read",
    [WIRE_WRITE] = "write",
    [WIRE_DISCARD] = "discard",
    [WIRE_CONTROL] = "control",
    [WIRE_PING] = "ping",
    [WIRE_CLOSE] = "close",
    [WIRE_GIVE_UP] = "give_up",
    [WIRE_ALLOCATE] = "allocate",
};

static const char *const status_names[WIRE_STATUS_COUNT] = {
    [WIRE_OK] = "ok",
    [WIRE_FENCED] = "fenced",
    [WIRE_NO_SEGMENT] = "no_segment",
    [WIRE_NOT_OPEN] = "not_open",
    [WIRE_BOUNDS] = "bounds",
    [WIRE_NO_SPACE] = "no_space",
    [WIRE_OVER_QUOTA] = "over_quota",
    [WIRE_NOT_ALLOWED] = "not_allowed",
    [WIRE_STORE_ERROR] = "store_error",
    [WIRE_BUSY] = "busy",
    [WIRE_EXISTS] = "exists",
    [WIRE_INVALID] = "invalid",
    [WIRE_TOO_MANY] = "too_many",
    [WIRE_DRAINING] = "draining",
    [WIRE_UNAUTHORIZED] = "unauthorized",
    [WIRE_WRONG_CLUSTER] = "wrong_cluster",
    [WIRE_WRONG_SERVER] = "wrong_server",
    [WIRE_OLD_VERSION] = "old_version",
    [WIRE_STALE_GENERATION] = "stale_generation",
    [WIRE_EXPIRED] = "expired",
    [WIRE_USED] = "used",
};

const char *tally_op_name(unsigned op)
{
    return op < TALLY_OPS && op_names[op] != NULL ? op_names[op] : op_names[0];
}

const char *tally_status_name(unsigned status)
{
    return status < WIRE_STATUS_COUNT && status_names[status] != NULL ? status_names[status]
                                                                      : "other";
}

struct tally *tally_create(void)
{
    struct tally *made = aligned_alloc(TALLY_LINE_BYTES, sizeof *made);
    if (made != NULL) {
        memset(made, 0, sizeof *made);
    }
    return made;
}

void tally_destroy(struct tally **tally)
{
    free(*tally);
    *tally = NULL;
}

static struct shard *own_shard(struct tally *tally)
{
    static _Atomic unsigned threads;
    static _Thread_local unsigned number; // from 1; 0: none yet
    if (number == 0) {
        number = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) + 1;
    }
    return &tally->shards[number % TALLY_SHARDS];
}

static unsigned op_of(const struct wire_header *request)
{
    return request->op < TALLY_OPS ? request->op : 0;
}

static void add(_Atomic uint64_t *counter, uint64_t count)
{
    (void)atomic_fetch_add_explicit(counter, count, memory_order_relaxed);
}

void tally_request(struct tally *tally, const struct wire_header *request,
                   const struct wire_header *answer)
{
    struct shard *shard = own_shard(tally);
    unsigned op = op_of(request);
    if (answer->status < WIRE_STATUS_COUNT) {
        add(&shard->answers[op][answer->status], 1);
    }
    add(&shard->received_bytes[op], request->length);
    add(&shard->sent_bytes[op], answer->length);
}

void tally_duration(struct tally *tally, const struct wire_header *request, uint64_t ns)
{
    latency_add(&own_shard(tally)->latency[op_of(request)], (int64_t)ns);
}

static void sum(uint64_t *to, const _Atomic uint64_t *from, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        to[i] += atomic_load_explicit(&from[i], memory_order_relaxed);
    }
}

void tally_read(const struct tally *tally, struct tally_sums *sums)
{
    memset(sums, 0, sizeof *sums);
    for (size_t i = 0; i < TALLY_SHARDS; i++) {
        const struct shard *shard = &tally->shards[i];
        sum(sums->received_bytes, shard->received_bytes, TALLY_OPS);
        sum(sums->sent_bytes, shard->sent_bytes, TALLY_OPS);
        for (size_t op = 0; op < TALLY_OPS; op++) {
            sum(sums->answers[op], shard->answers[op], WIRE_STATUS_COUNT);
            sum(sums->latency[op], shard->latency[op].buckets, LATENCY_BUCKETS);
            sum(&sums->latency_ns[op], &shard->latency[op].total_ns, 1);
        }
    }
}
