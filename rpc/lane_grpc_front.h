// SPDX-License-Identifier: Apache-2.0
//
// Between the files of the gRPC front: lane_grpc_front.c has the server and its threads,
// lane_grpc_peer_front.c a connection, lane_watchdog_front.c the watchdog. gRPC's types are only
// named here; who uses them includes its headers. lane_http2_front.c looks at frames, with
// lane_http2_room_front.c for what is not whole yet.
#ifndef RPC_LANE_GRPC_FRONT_H
#define RPC_LANE_GRPC_FRONT_H

#include "rpc/lane_peer.h"

#define LANE_GRPC_METHOD "/dsm.Lane/Stream"

enum {
    GRPC_ARMED_CALLS = 4,            // requests for a new call that are kept open
    GRPC_LOOKAHEAD_BYTES = 64 << 10, // what HTTP/2 lets a client send beyond the message in work
    GRPC_METADATA_BYTES = 4096,
    GRPC_READ_BYTES = 16 << 10, // most that an idle connection keeps to read into
    // The watchdog's allowance: what an honest client sends beside its sealed records.
    WATCHDOG_MESSAGE_BYTES = 96, // per message: prefix, frame headers, acknowledgements (seen: 40)
    WATCHDOG_OPENED_SHIFT = 8,   // 1/256 of what was opened: frame headers (seen: 1/1700)
    WATCHDOG_SEALED_SHIFT = 10,  // 1/1024 of what was answered: window updates (seen: 1/26000)
};

enum grpc_tag_kind {
    GRPC_TAG_CALL,
    GRPC_TAG_RECEIVED,
    GRPC_TAG_SENT,
    GRPC_TAG_OVER,
    GRPC_TAG_STRAY,
    GRPC_TAG_SHUTDOWN
};

// What comes back from the completion queue is the address of one of these. The kind is stored with
// release order when the tag is handed to gRPC and loaded with acquire order when it comes back, so
// whoever takes the tag sees what was written before, whatever gRPC does in between.
struct grpc_tag {
    _Atomic int kind; // of enum grpc_tag_kind
    void *owner;
};
static inline struct grpc_tag *grpc_tag_hand(struct grpc_tag *tag, enum grpc_tag_kind kind,
                                             void *owner)
{
    tag->owner = owner;
    atomic_store_explicit(&tag->kind, (int)kind, memory_order_release);
    return tag;
}

struct grpc_answer { // sealed, waits for its turn to be sent
    TAILQ_ENTRY(grpc_answer) link;
    struct grpc_byte_buffer *buffer;
    size_t bytes;
};

// F: under the front's lock; R: under the peer's lock; M: the thread that handles its message.
struct grpc_peer {
    struct lane_peer head;
    struct grpc_front *front;          // const
    int fd;                            // const: a duplicate, for shutdown() and TCP_INFO
    int grpc_fd;                       // const: the number that gRPC knows; index into by_fd
    uint64_t cookie;                   // const: the kernel's name of the socket
    uint32_t serial;                   // const: tells peers of one grpc_fd apart
    bool tcp;                          // const
    uint64_t received_before;          // const: bytes that TCP had received when it came here
    _Atomic uint64_t answered_bytes;   // for the watchdog
    _Atomic uint64_t messages;         // for the watchdog
    TAILQ_ENTRY(grpc_peer) link;       // F
    TAILQ_ENTRY(grpc_peer) claimed;    // the watchdog's, once it has claimed the peer
    TAILQ_ENTRY(grpc_peer) parked;     // F
    pthread_mutex_t lock;              // R
    struct grpc_call *call;            // R
    bool final;                        // R: will be closed; takes no call any more
    int pending;                       // R: batches in flight, and a message in work
    _Atomic bool throttled;            // set under R: its answers must drain before it is read
    struct grpc_answer *sending;       // R
    TAILQ_HEAD(, grpc_answer) answers; // R
    size_t out_bytes;                  // R: of sending and answers
    struct grpc_byte_buffer *received; // while the receive batch is out: gRPC's; then M
    int cancelled;                     // gRPC's
    struct grpc_tag on_received;
    struct grpc_tag on_sent;
    struct grpc_tag on_over;
};
TAILQ_HEAD(grpc_peers, grpc_peer);

struct grpc_worker {
    struct grpc_front *front;
    pthread_t thread;
    uint8_t *payload; // the message in work
};

struct grpc_arm; // one open request for a new call

struct grpc_front {
    struct lane_front front;
    const struct lane_service *service; // const
    struct lane_wear wear;              // before the first add
    bool library;                       // const: gRPC was started for this front
    struct grpc_server *server;
    struct grpc_server_credentials *credentials;
    struct grpc_completion_queue *queue;
    pthread_mutex_t lock;     // F
    pthread_cond_t idle;      // F: with `lock`: peers, arms and strays have come to an end
    struct grpc_peers peers;  // F
    struct grpc_peers parked; // F: whose messages wait until there is room for answers
    struct grpc_peer **by_fd; // F
    int by_fd_count;          // F
    uint32_t next_serial;     // F
    int peer_count;           // F
    int calls;                // F: open requests for calls, and strays
    bool stopping;            // F
    bool shut_down;           // F: the server's shutdown tag came back
    int epoll;                // const: the watchdog's
    int wake;                 // const: eventfd
    bool watching;            // const: the watchdog runs
    bool watchdog_ends;       // F
    pthread_t watchdog;
    struct grpc_peer *cursor; // F: where the watchdog's sweep goes on; NULL: at the start
    int worker_count;         // const
    struct grpc_worker *workers;
    struct grpc_arm *arms; // GRPC_ARMED_CALLS of them
    struct grpc_tag on_shutdown;
};

extern const struct lane_peer_ops grpc_peer_ops;
struct grpc_peer *grpc_peer_create(struct grpc_front *front, int fd, struct noise_cipher *send,
                                   struct noise_cipher *receive, void *user);
void grpc_peer_free(struct grpc_peer *peer);
// Gives a new call to the peer; false when it has one or is at its end (the call stays the
// caller's).
bool grpc_peer_attach(struct grpc_peer *peer, struct grpc_call *call);
void grpc_peer_received(struct grpc_peer *peer, struct grpc_worker *worker, bool good);
void grpc_peer_sent(struct grpc_peer *peer, bool good);
void grpc_peer_over(struct grpc_peer *peer);
// Dooms the peer and cuts its connection; its end follows from the completion queue or the
// watchdog.
void grpc_peer_cut(struct grpc_peer *peer, int reason);
// For the watchdog, under the front's lock: takes up the message of a peer that was parked.
void grpc_peer_resume(struct grpc_peer *peer);
// For the watchdog, under the front's lock: the connection went away; dooms a peer that has no
// call.
void grpc_peer_gone(struct grpc_peer *peer);
// For the watchdog, under the front's lock: true when the peer has no call and is the caller's to
// finish.
bool grpc_peer_claim_callless(struct grpc_peer *peer);
// Calls closed() and frees. No lock held.
void grpc_peer_finish(struct grpc_peer *peer);

// What a client may say below its gRPC lane, looked at before gRPC has it. add: before gRPC reads. 0 or -ENOMEM.
int lane_http2_add(struct grpc_peer *peer);
void lane_http2_remove(struct grpc_peer *peer);              // its bytes go nowhere from now on
void lane_http2_called(struct grpc_peer *peer);              // it has a call that takes messages
void lane_http2_taken(struct grpc_peer *peer, size_t bytes); // a message of so many is dealt with
// The call or the connection is over: by gRPC here, for what the client has sent?
bool lane_http2_ended_here(struct grpc_peer *peer);
// For the watchdog: ends those whose message does not come while others wait for its room. True: somebody waits.
bool lane_http2_check(int64_t now);

int lane_watchdog_start(struct grpc_front *front);
void lane_watchdog_stop(struct grpc_front *front);
// Until there is room for answers, or the peer is at its end. No lock held.
void lane_watchdog_park(struct grpc_peer *peer);
// Under the front's lock.
int64_t lane_watchdog_unexplained(struct grpc_peer *peer); // bytes, so far
int64_t lane_watchdog_allowance(struct grpc_peer *peer);
int lane_watchdog_add(struct grpc_peer *peer);
void lane_watchdog_remove(struct grpc_peer *peer);

#endif
