// SPDX-License-Identifier: Apache-2.0
//
// Shared by the fronts and by nobody else: the head of a peer, opening of requests and sealing of
// answers, the pool of payload buffers, and how a front's threads and sockets are set up.
#ifndef RPC_LANE_PEER_H
#define RPC_LANE_PEER_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/queue.h>

#include "rpc/lane_server.h"
#include "rpc/record.h"

enum {
    LANE_MESSAGE_RECORDS = 1 + LIMIT_RUN_BYTES / LIMIT_RECORD_DATA_BYTES,
    // A payload is opened record by record, each over its own place: the tag of the last one needs
    // room.
    LANE_PAYLOAD_BUFFER_BYTES = LIMIT_RUN_BYTES + LIMIT_SEAL_BYTES,
    LANE_POOL_BUFFERS = 16,
    LANE_UNREAD_TICK_MS = 10, // how often a request that waits for room is looked at
    // Who keeps others waiting wins more time with what it moves, a message or its answers, if that
    // is no slower.
    LANE_SLOWEST_BYTES_PER_MS = 256,
};

struct lane_peer_ops {
    int (*answer)(struct lane_peer *peer, const struct wire_header *header,
                  const struct iovec *pieces, int count);
    void (*shut)(struct lane_peer *peer); // the reason is set already
};

struct lane_wear { // what a connection may carry before it must be replaced
    uint64_t records;
    uint64_t bytes;
    int64_t age_ns;
};
extern const struct lane_wear lane_wear_product;

// Of a peer: its answers that the socket has not taken (lane_unread_front.c). U: under the lock of all of these.
struct lane_unread {
    TAILQ_ENTRY(lane_peer) link; // U
    int fd;                      // const
    bool limited;                // const: it is somebody else's socket
    _Atomic size_t bytes;
    int64_t since;  // U: when it was seen to hold some; 0: it holds none
    uint64_t acked; // U: what TCP had brought over by then
};

// The head of every front's peer. M: only the thread that handles the peer's message.
struct lane_peer {
    const struct lane_peer_ops *ops;
    struct noise_cipher *send;     // M
    struct noise_cipher *receive;  // M
    void *user;                    // const
    struct lane_wear wear;         // const
    int64_t born;                  // const: CLOCK_MONOTONIC
    _Atomic uint64_t opened_bytes; // sealed bytes of requests that opened
    uint64_t sealed_bytes;         // M
    int64_t arrived;               // M: CLOCK_MONOTONIC when the present request was there
    uint32_t cipher_ns;            // M: of the present answer
    _Atomic int reason;            // 0 while the peer lives; set once
    struct lane_unread unread;
};

// Takes over the ciphers.
void lane_peer_init(struct lane_peer *peer, const struct lane_peer_ops *ops,
                    const struct lane_wear *wear, struct noise_cipher *send,
                    struct noise_cipher *receive, void *user);
void lane_peer_clear(struct lane_peer *peer);
// Sets the reason unless one is set; true when it was set by this call.
bool lane_peer_doom(struct lane_peer *peer, int reason);
static inline int lane_peer_reason(struct lane_peer *peer)
{
    return atomic_load_explicit(&peer->reason, memory_order_acquire);
}

// Opens and checks a sealed header. 0, -EBADMSG, or -ESTALE when the connection is worn out: the
// message and its answer would no longer fit into what it may carry.
int lane_peer_open_header(struct lane_peer *peer, const uint8_t *sealed,
                          struct wire_header *request);

// A payload on its way from the wire into its buffer, one record at a time, so that only what has
// been verified stays there.
struct lane_intake {
    uint8_t *buffer; // LANE_PAYLOAD_BUFFER_BYTES, or room for length + LIMIT_SEAL_BYTES
    size_t length;   // plain bytes of the whole payload
    size_t opened;   // plain bytes opened so far
    size_t have;     // sealed bytes of the present record
};
void lane_intake_start(struct lane_intake *intake, uint8_t *buffer, size_t length);
// How many sealed bytes of the present record are missing (0: the payload is complete), and where
// they go.
size_t lane_intake_want(const struct lane_intake *intake, uint8_t **to);
// `bytes` of them have arrived. Opens the record when it is complete. 0 or -EBADMSG.
int lane_intake_took(struct lane_intake *intake, struct lane_peer *peer, size_t bytes);

// Seals as many whole records of the answer as fit into `to`; *bytes is 0 when none is left or
// fits. 0 or -errno.
int lane_peer_seal(struct lane_peer *peer, struct record_source *answer, uint8_t *to,
                   size_t capacity, size_t *bytes);
// Sealed bytes of the answer that are still to come.
size_t lane_answer_left(const struct record_source *answer);

// A bounded pool of payload buffers. Who finds none waits in line; a buffer that comes back is
// granted to the first in line, and the queue it belongs to (one per thread) is woken by its
// eventfd.
struct lane_pool;
struct lane_waiter {
    TAILQ_ENTRY(lane_waiter) link;
    struct lane_pool_queue *queue;
    uint8_t *granted;
    enum { LANE_WAITER_IDLE, LANE_WAITER_IN_LINE, LANE_WAITER_GRANTED } state;
};
TAILQ_HEAD(lane_waiters, lane_waiter);
struct lane_pool_queue { // guarded by the pool's lock but for wake
    struct lane_waiters granted;
    int wake;
};
struct lane_pool *lane_pool_create(int buffers); // NULL: no memory
void lane_pool_destroy(struct lane_pool **pool); // every buffer has been given back
// NULL: the waiter stands in line now.
uint8_t *lane_pool_take(struct lane_pool *pool, struct lane_waiter *waiter);
void lane_pool_give(struct lane_pool *pool, uint8_t *buffer);
// The next waiter of this queue that was granted a buffer (now *buffer is its), or NULL.
struct lane_waiter *lane_pool_granted(struct lane_pool *pool, struct lane_pool_queue *queue,
                                      uint8_t **buffer);
void lane_pool_leave(struct lane_pool *pool, struct lane_waiter *waiter);
bool lane_pool_contended(struct lane_pool *pool); // somebody stands in line

// Answers that wait for their clients, of all fronts together. A peer enters and leaves with no lock held; when it has left, nobody
// shuts it for them any more.
void lane_unread_enter(struct lane_peer *peer, int fd);
void lane_unread_leave(struct lane_peer *peer);
void lane_unread_count(struct lane_peer *peer, size_t more, size_t less);
bool lane_unread_crowded(void); // only peers that have no answers waiting are read
bool lane_unread_full(void);    // no request is begun
// For a front in which a request waits for room, every LANE_UNREAD_TICK_MS, with no lock held: ends those who take nothing.
void lane_unread_relieve(void);

// A thread that blocks every signal but those that tell of its own faults.
int lane_front_thread_start(pthread_t *thread, void *(*run)(void *), void *argument);
// The caller's mask as such a thread has it; the former one goes to *before.
void lane_front_signals_block(sigset_t *before);
// Non-blocking; TCP sockets get no-delay, keep-alive and a bound on unacknowledged data. 0 or
// -errno.
int lane_front_socket_setup(int fd);
bool lane_front_socket_is_tcp(int fd);
// Bytes that the other end of TCP has, of all that were sent.
uint64_t lane_front_socket_taken(int fd);

// For tests: peers added from now on wear out sooner.
void lane_sock_front_wear(struct lane_front *front, const struct lane_wear *wear);
void lane_grpc_front_wear(struct lane_front *front, const struct lane_wear *wear);

#endif
