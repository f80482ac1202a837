// SPDX-License-Identifier: Apache-2.0
//
// Between the two files of the sock front: lane_sock_front.c has the threads,
// lane_sock_peer_front.c a connection.
#ifndef RPC_LANE_SOCK_FRONT_H
#define RPC_LANE_SOCK_FRONT_H

#include "rpc/lane_peer.h"
#include "rpc/spin.h"

enum {
    SOCK_AHEAD_BYTES = 16 * WIRE_HEADER_SEALED_BYTES, // read ahead of the header in work
    SOCK_SCRATCH_BYTES = 256 << 10,                   // sealed at once, then sent
    SOCK_TURN_MESSAGES = 8,                           // of one peer, then the next peer
    SOCK_TURN_BYTES = 1 << 20,                        // in and out, of one peer
    SOCK_BULK_BYTES = 64 << 10,       // a message of so many, with its answer, is bulk:
    SOCK_BULK_TURN_BYTES = 256 << 10, // its peer has shorter turns, after all others
};

struct sock_front {
    struct lane_front front;
    const struct lane_service *service; // const
    struct lane_wear wear;              // before the first add
    struct lane_pool *pool;             // const
    int thread_count;                   // const
    struct sock_thread *threads;        // const
};

struct sock_chunk { // sealed bytes that the socket did not take yet
    TAILQ_ENTRY(sock_chunk) link;
    size_t sent;
    size_t bytes;
    uint8_t data[];
};

// T: its thread only; L: under the thread's lock; P: the pool's.
TAILQ_HEAD(sock_peers, sock_peer);
struct sock_peer {
    struct lane_peer head;
    struct sock_thread *thread;        // const
    int fd;                            // const
    uint32_t interest;                 // T: epoll events asked for; 0: not in the set
    struct sock_peers *turns;          // T: turns, bulk or full of its thread, or NULL
    bool bulk;                         // T: its present message, or the one before
    size_t message_bytes;              // T: of the present message and its answer
    bool throttled;                    // T: not read before its answers drained
    bool dead;                         // T: closed() was called
    bool request_open;                 // T: a header was opened, its payload is awaited
    bool shut_listed;                  // L
    TAILQ_ENTRY(sock_peer) link;       // L: all peers of the thread; T: its dead ones
    TAILQ_ENTRY(sock_peer) turn_link;  // T
    TAILQ_ENTRY(sock_peer) shut_link;  // L
    TAILQ_ENTRY(sock_peer) holds_link; // T
    TAILQ_HEAD(, sock_chunk) out;      // T
    size_t out_bytes;                  // T
    struct lane_waiter waiter;         // P
    struct lane_intake intake;         // T; buffer != NULL: holds one of the pool's
    int64_t starved_at;                // T: since when it has had nothing to read; 0: not so
    int64_t starved_ns;                // T: sum for the present buffer
    struct wire_header request;        // T
    size_t ahead_first;                // T
    size_t ahead_end;                  // T
    uint8_t ahead[SOCK_AHEAD_BYTES];   // T
};

struct sock_thread {
    struct sock_front *front;     // const
    pthread_t thread;             // const
    int epoll;                    // const
    struct lane_pool_queue queue; // its wake is the thread's
    _Atomic int peer_count;
    pthread_mutex_t lock;    // L
    struct sock_peers peers; // L
    struct sock_peers shut;  // L
    bool stopping;           // L
    struct sock_peers turns; // T: peers that can go on,
    struct sock_peers bulk;  // T: and those of them that move much
    struct sock_peers full;  // T: peers whose requests wait until there is room for answers
    struct sock_peers dead;  // T: freed at the end of the round
    struct sock_peers holds; // T: peers that hold a payload buffer
    struct spin spin;        // T
    size_t turn_bytes;       // T: moved in the present turn
    uint8_t *scratch;        // T
};

int64_t sock_now(void); // CLOCK_MONOTONIC ns

extern const struct lane_peer_ops sock_peer_ops;
// Events of epoll for this peer.
void sock_peer_event(struct sock_peer *peer, uint32_t events);
// Handles what there is, within the bounds of a turn.
void sock_peer_turn(struct sock_peer *peer);
// A payload buffer is the peer's now.
void sock_peer_granted(struct sock_peer *peer, uint8_t *buffer);
// Calls closed() and lets go of everything but the peer's own memory. Not from within message().
void sock_peer_end(struct sock_peer *peer, int reason);
int sock_peer_watch(struct sock_peer *peer, uint32_t interest);
bool sock_peer_overdue(const struct sock_peer *peer, int64_t now);

#endif
