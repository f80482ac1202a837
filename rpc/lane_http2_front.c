// SPDX-License-Identifier: Apache-2.0
//
// What a client may say below its gRPC lane. gRPC speaks HTTP/2 with whoever holds the other end, and can be made to
// grow by it: a call that is begun and reset at once costs a client 140 bytes and the server 5,000, which gRPC keeps for
// as long as it finds more to read. The watchdog compares sums every 10 ms and has to allow for a whole message, which
// is 35 MiB of such calls on each of as many connections as a key may have. So the frames are looked at as they come,
// before gRPC has them: their nine bytes of header tell what they are, and our lanes use very few kinds.
//
// Allowed: a few HEADERS in the life of a connection, each whole in its frame; DATA of the call, without padding, in which
// our messages stand; and of all else, with DATA frames so small that they are a means of attack, a number in proportion
// to the messages that were opened and to what was answered. No CONTINUATION, no PUSH_PROMISE, nothing long but DATA. Who
// does more is cut: his bytes never reach gRPC. Long messages wait for room (lane_http2_room_front.c).
//
// Where gRPC itself ends a connection, for what it takes for an abuse or an error, nobody is told. So the frames by which a
// client ends its call are noted, and TCP's state is asked: what neither explains gRPC has ended. It is asked at the
// moment that gRPC shuts the socket down: a client that sees this end may end, too, before anybody hears of it.
//
// gRPC owns the descriptor, reads it by recvmsg() and ends it by shutdown(). This file defines these functions; the
// program's come before libc's for gRPC's library too. They call the next ones and look at what came, or whether it is
// gRPC's end, when the descriptor is one of a peer's. gRPC has no place for such a look in its C interface; a relay in
// front of it would be another copy and another hand-over of every byte.
//
// The table is the process's, as descriptors are: the one file-scope variable here. An entry stays after its peer, since
// gRPC may still read what is in the socket: it is told that the connection was reset. The kernel's cookie says whether a
// number names another socket by now.
//
// Threads: both are called by any, with locks of gRPC held. G, the table's lock, is a leaf: under it are only atomics
// of the peer, libc's shutdown() and an eventfd.
#include "rpc/lane_http2_front.h"

#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/lane_grpc_front.h"
#include "rpc/tcp.h"

enum {
    FRAME_DATA = 0,
    FRAME_HEADERS = 1,
    FRAME_RST_STREAM = 3,
    FRAME_PUSH_PROMISE = 5,
    FRAME_CONTINUATION = 9
};
enum { FLAG_END_STREAM = 1, FLAG_END_HEADERS = 4, FLAG_PADDED = 8, RST_STREAM_BYTES = 4 };
enum {
    PREFACE_BYTES = 24, // a frame's header stands behind them
    HEADER_BYTES = 9,
    MOST_CALLS = 4,
    MOST_BYTES = 16 << 10, // of a frame that is not DATA
    SMALL_BYTES = 1 << 10,
    FRAMES = 256,
    FRAMES_PER_MESSAGE = 8,
    FRAMES_ANSWERED_SHIFT = 12, // one for each 4 KiB
};

struct guard {              // G
    struct grpc_peer *peer; // NULL: it has ended
    uint64_t cookie;
    uint8_t header[HEADER_BYTES];
    unsigned have;
    size_t rest; // of the frame's payload
    bool data;   // the frame has bytes of the call
    unsigned calls;
    uint32_t call;   // the first one's stream
    bool left;       // the client has ended it
    bool ended_here; // when gRPC shut the socket down, nobody else had ended it
    uint64_t frames; // that are no large DATA
    uint64_t taken;  // bytes of answers that the client had when that last won it time
    struct http2_room room;
};

static pthread_mutex_t guards_lock = PTHREAD_MUTEX_INITIALIZER; // G
static struct guard **guards;                                   // G, by descriptor
static int guards_room;                                         // G
static _Atomic int guards_used;                                 // entries that were ever made

static uint64_t cookie_of(int fd)
{
    uint64_t cookie = 0;
    socklen_t bytes = sizeof cookie;
    return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &bytes) == 0 ? cookie : 0;
}

static int reserve_locked(int fd)
{
    if (fd < guards_room) {
        return 0;
    }
    int room = (fd + 64) / 64 * 2 * 64;
    struct guard **grown = realloc(guards, (size_t)room * sizeof(struct guard *));
    if (grown == NULL) {
        return -ENOMEM;
    }
    memset(grown + guards_room, 0, (size_t)(room - guards_room) * sizeof(struct guard *));
    guards = grown;
    guards_room = room;
    return 0;
}

int lane_http2_add(struct grpc_peer *peer)
{
    struct guard *made = calloc(1, sizeof *made);
    (void)pthread_mutex_lock(&guards_lock);
    int error = made == NULL ? -ENOMEM : reserve_locked(peer->grpc_fd);
    if (error == 0) {
        made->peer = peer;
        made->cookie = peer->cookie;
        made->rest = PREFACE_BYTES;
        made->room.fd = peer->fd;
        made->room.limited = peer->tcp;      // another socket is our own program's
        if (guards[peer->grpc_fd] != NULL) { // of a socket that is closed
            http2_room_leave(&guards[peer->grpc_fd]->room);
            free(guards[peer->grpc_fd]);
        }
        guards[peer->grpc_fd] = made;
        made = NULL;
        (void)atomic_fetch_add(&guards_used, 1);
    }
    (void)pthread_mutex_unlock(&guards_lock);
    free(made);
    return error;
}

// With the lock, which the caller gives back; NULL: the peer has been cut or removed.
static struct guard *guard_of(const struct grpc_peer *peer)
{
    (void)pthread_mutex_lock(&guards_lock);
    struct guard *guard = peer->grpc_fd < guards_room ? guards[peer->grpc_fd] : NULL;
    return guard != NULL && guard->peer == peer ? guard : NULL;
}

// Not the connection's any more; what still comes of it goes nowhere.
static void detach_locked(struct guard *guard)
{
    guard->peer = NULL;
    http2_room_leave(&guard->room);
}

void lane_http2_remove(struct grpc_peer *peer)
{
    struct guard *guard = guard_of(peer);
    if (guard != NULL) {
        detach_locked(guard);
    }
    (void)pthread_mutex_unlock(&guards_lock);
}

void lane_http2_called(struct grpc_peer *peer)
{
    struct guard *guard = guard_of(peer);
    if (guard != NULL) {
        http2_room_called(&guard->room);
    }
    (void)pthread_mutex_unlock(&guards_lock);
}

void lane_http2_taken(struct grpc_peer *peer, size_t bytes)
{
    struct guard *guard = guard_of(peer);
    if (guard != NULL) {
        http2_room_taken(&guard->room, bytes);
    }
    (void)pthread_mutex_unlock(&guards_lock);
}

// TCP_CLOSE: there is no connection any more.
static int tcp_state(int fd)
{
    struct tcp_info info = {0};
    socklen_t bytes = sizeof info;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0 ? info.tcpi_state : TCP_CLOSE;
}

// Whether TCP has not come to an end by the client, by itself, or by the network.
static bool tcp_goes_on(int fd)
{
    int state = tcp_state(fd);
    return state == TCP_ESTABLISHED || state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2;
}

bool lane_http2_ended_here(struct grpc_peer *peer)
{
    const struct guard *guard = guard_of(peer);
    bool ended = guard != NULL && guard->ended_here;
    bool left = guard == NULL || guard->left;
    (void)pthread_mutex_unlock(&guards_lock);
    return ended || (!left && peer->tcp && tcp_goes_on(peer->fd));
}

static uint32_t stream_of(const uint8_t *header)
{
    return ((uint32_t)header[5] << 24 | (uint32_t)header[6] << 16 | (uint32_t)header[7] << 8 |
            header[8]) &
           INT32_MAX;
}

// A frame of each kind that is a matter of its kind; how many there may be is a matter of all.
static bool kind_allowed(struct guard *guard, size_t length)
{
    const uint8_t *header = guard->header;
    unsigned flags = header[4];
    uint32_t stream = stream_of(header);
    bool ours = guard->calls > 0 && stream == guard->call && !guard->left;
    switch (header[3]) {
    case FRAME_DATA:
        guard->data = ours;
        guard->left |= (flags & FLAG_END_STREAM) != 0;
        return ours && (flags & FLAG_PADDED) == 0;
    case FRAME_HEADERS:
        if (guard->calls == 0) {
            guard->call = stream;
        }
        guard->left |= ours && (flags & FLAG_END_STREAM) != 0;
        return guard->calls++ < MOST_CALLS && (flags & FLAG_END_HEADERS) != 0;
    case FRAME_RST_STREAM:
        guard->left |= ours && length == RST_STREAM_BYTES;
        return true;
    default:
        return header[3] != FRAME_PUSH_PROMISE && header[3] != FRAME_CONTINUATION;
    }
}

static bool frame_allowed(struct guard *guard)
{
    const uint8_t *header = guard->header;
    size_t length = (size_t)header[0] << 16 | (size_t)header[1] << 8 | header[2];
    guard->rest = length;
    guard->data = false;
    if (!kind_allowed(guard, length)) {
        return false;
    }
    if (header[3] == FRAME_DATA && length >= SMALL_BYTES) {
        return true;
    }
    uint64_t most = FRAMES + FRAMES_PER_MESSAGE * atomic_load(&guard->peer->messages) +
                    (atomic_load(&guard->peer->answered_bytes) >> FRAMES_ANSWERED_SHIFT);
    return length <= MOST_BYTES && ++guard->frames <= most;
}

static bool bytes_allowed(struct guard *guard, const uint8_t *data, size_t bytes)
{
    while (bytes > 0) {
        bool within = guard->rest > 0;
        size_t want = within ? guard->rest : HEADER_BYTES - guard->have;
        size_t part = want < bytes ? want : bytes;
        if (within) {
            guard->rest -= part;
            if (guard->data && !http2_room_bytes(&guard->room, data, part)) {
                return false;
            }
        } else {
            memcpy(guard->header + guard->have, data, part);
            guard->have += (unsigned)part;
        }
        data += part;
        bytes -= part;
        if (guard->have == HEADER_BYTES) {
            guard->have = 0;
            if (!frame_allowed(guard)) {
                return false;
            }
        }
    }
    return true;
}

static bool message_allowed(struct guard *guard, const struct msghdr *message, size_t bytes)
{
    bool allowed = true;
    for (size_t i = 0; i < message->msg_iovlen && bytes > 0 && allowed; i++) {
        const struct iovec *piece = &message->msg_iov[i];
        size_t part = piece->iov_len < bytes ? piece->iov_len : bytes;
        allowed = bytes_allowed(guard, piece->iov_base, part);
        bytes -= part;
    }
    return allowed;
}

// libc's function of this name, into *function.
static void find_next(const char *name, _Atomic(void *) *found, void *function)
{
    void *symbol = atomic_load(found);
    if (symbol == NULL) {
        symbol = dlsym(RTLD_NEXT, name);
        atomic_store(found, symbol);
    }
    memcpy(function, &symbol, sizeof symbol);
}

typedef ssize_t receive_function(int fd, struct msghdr *message, int flags);

static ssize_t next_recvmsg(int fd, struct msghdr *message, int flags)
{
    static _Atomic(void *) found;
    receive_function *function;
    find_next("recvmsg", &found, &function);
    return function(fd, message, flags);
}

typedef int shutdown_function(int fd, int how);

static int next_shutdown(int fd, int how)
{
    static _Atomic(void *) found;
    shutdown_function *function;
    find_next("shutdown", &found, &function);
    return function(fd, how);
}

// The connection ends here; the watchdog finishes a peer that has no call.
static void cut_locked(struct guard *guard, int reason)
{
    struct grpc_peer *peer = guard->peer;
    detach_locked(guard);
    if (lane_peer_doom(&peer->head, reason)) {
        tcp_reset_at_close(peer->fd);
    }
    (void)next_shutdown(peer->fd, SHUT_RDWR); // ours would want the lock
    (void)eventfd_write(peer->front->wake, 1);
}

// False: what came must not be handed on.
static bool look(int fd, const struct msghdr *message, size_t bytes)
{
    bool good = true;
    (void)pthread_mutex_lock(&guards_lock);
    struct guard *guard = fd >= 0 && fd < guards_room ? guards[fd] : NULL;
    if (guard != NULL && (guard->peer == NULL || !message_allowed(guard, message, bytes)) &&
        guard->cookie == cookie_of(fd)) {
        good = false;
        if (guard->peer != NULL) {
            cut_locked(guard, -EPROTO);
        }
    }
    (void)pthread_mutex_unlock(&guards_lock);
    return good;
}

static struct guard *guard_of_room(struct http2_room *room)
{
    return (struct guard *)((char *)room - offsetof(struct guard, room));
}

static bool takes_answers_locked(struct guard *guard)
{
    uint64_t taken = lane_front_socket_taken(guard->peer->fd);
    bool takes = taken - guard->taken >= (uint64_t)LIMIT_HOLD_MS * LANE_SLOWEST_BYTES_PER_MS;
    guard->taken = takes ? taken : guard->taken;
    return takes;
}

// Whose time is over: whether it is the client that keeps the others waiting.
static bool is_to_blame_locked(struct guard *guard)
{
    if (guard->peer->throttled) {
        return !takes_answers_locked(guard);
    }
    return guard->room.whole == 0; // else we are slow
}

bool lane_http2_check(int64_t now)
{
    (void)pthread_mutex_lock(&guards_lock);
    struct http2_room *before = NULL;
    struct http2_room *room;
    while ((room = http2_room_overdue(before, now)) != NULL) {
        struct guard *guard = guard_of_room(room);
        if (is_to_blame_locked(guard)) {
            cut_locked(guard, -ETIMEDOUT);
        } else {
            http2_room_again(room);
            before = room;
        }
    }
    bool crowded = http2_room_crowded();
    (void)pthread_mutex_unlock(&guards_lock);
    return crowded;
}

static bool must_wait(int fd)
{
    (void)pthread_mutex_lock(&guards_lock);
    const struct guard *guard = fd >= 0 && fd < guards_room ? guards[fd] : NULL;
    bool waits = guard != NULL && guard->peer != NULL && http2_room_waits(&guard->room) &&
                 lane_peer_reason(&guard->peer->head) == 0 && guard->cookie == cookie_of(fd);
    (void)pthread_mutex_unlock(&guards_lock);
    return waits;
}

// gRPC is about to end a socket.
static void note_end(int fd)
{
    (void)pthread_mutex_lock(&guards_lock);
    struct guard *guard = fd >= 0 && fd < guards_room ? guards[fd] : NULL;
    if (guard != NULL && guard->peer != NULL && !guard->left && guard->peer->tcp &&
        guard->cookie == cookie_of(fd)) {
        guard->ended_here |= tcp_goes_on(fd);
    }
    (void)pthread_mutex_unlock(&guards_lock);
}

// This and the next are libc's, for the whole program.
__attribute__((visibility("default"))) ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    bool guarded = atomic_load_explicit(&guards_used, memory_order_relaxed) > 0 &&
                   (flags & (MSG_ERRQUEUE | MSG_PEEK)) == 0;
    if (guarded && must_wait(fd)) {
        // A reset wakes gRPC once; no other edge would follow it.
        errno = tcp_state(fd) == TCP_CLOSE ? ECONNRESET : EAGAIN;
        return -1;
    }
    ssize_t got = next_recvmsg(fd, message, flags);
    if (guarded && got > 0 && !look(fd, message, (size_t)got)) {
        errno = ECONNRESET;
        return -1;
    }
    return got;
}

__attribute__((visibility("default"))) int shutdown(int fd, int how)
{
    if (how == SHUT_RDWR && atomic_load_explicit(&guards_used, memory_order_relaxed) > 0) {
        note_end(fd);
    }
    return next_shutdown(fd, how);
}
