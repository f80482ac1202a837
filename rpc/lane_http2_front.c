// SPDX-License-Identifier: Apache-2.0
//
// What a client may say below its gRPC lane. gRPC speaks HTTP/2 with whoever holds the other end, and can be made to
// grow by it: a call that is begun and reset at once costs a client 140 bytes and the server 5,000, which gRPC keeps for
// as long as it finds more to read. The watchdog compares sums every 10 ms and has to allow for a whole message, which
// is 35 MiB of such calls on each of as many connections as a key may have. So the frames are looked at as they come,
// before gRPC has them: their nine bytes of header tell what they are, and our lanes use very few kinds.
//
// Allowed: a few HEADERS in the life of a connection; DATA; and of all else, with DATA frames so small that they are a
// means of attack, a number in proportion to the messages that were opened and to what was answered. No CONTINUATION, no
// PUSH_PROMISE, nothing long but DATA. Who does more is cut: his bytes never reach gRPC.
//
// gRPC owns the descriptor and reads it by recvmsg(). This file defines that function; the program's comes before libc's
// for gRPC's library too. It calls the next one and looks at what came, when the descriptor is one of a peer's. gRPC has
// no place for such a look in its C interface; a relay in front of it would be another copy and another hand-over of
// every byte.
//
// The table is the process's, as descriptors are: the one file-scope variable here. An entry stays after its peer, since
// gRPC may still read what is in the socket: it is told that the connection was reset. The kernel's cookie says whether a
// number names another socket by now.
//
// Threads: recvmsg() is called by any, with locks of gRPC held. G, the table's lock, is a leaf: under it are only atomics
// of the peer, shutdown() and an eventfd.
#include "rpc/lane_grpc_front.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FRAME_DATA = 0, FRAME_HEADERS = 1, FRAME_PUSH_PROMISE = 5, FRAME_CONTINUATION = 9 };
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
    size_t skip; // of the frame's payload
    unsigned calls;
    uint64_t frames; // that are no large DATA
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
        made->skip = PREFACE_BYTES;
        free(guards[peer->grpc_fd]);
        guards[peer->grpc_fd] = made;
        made = NULL;
        (void)atomic_fetch_add(&guards_used, 1);
    }
    (void)pthread_mutex_unlock(&guards_lock);
    free(made);
    return error;
}

void lane_http2_remove(struct grpc_peer *peer)
{
    (void)pthread_mutex_lock(&guards_lock);
    struct guard *guard = peer->grpc_fd < guards_room ? guards[peer->grpc_fd] : NULL;
    if (guard != NULL && guard->peer == peer) {
        guard->peer = NULL;
    }
    (void)pthread_mutex_unlock(&guards_lock);
}

static bool frame_allowed(struct guard *guard)
{
    const uint8_t *header = guard->header;
    size_t length = (size_t)header[0] << 16 | (size_t)header[1] << 8 | header[2];
    guard->skip = length;
    switch (header[3]) {
    case FRAME_DATA:
        if (length >= SMALL_BYTES) {
            return true;
        }
        break;
    case FRAME_HEADERS:
        if (guard->calls++ == MOST_CALLS) {
            return false;
        }
        break;
    case FRAME_PUSH_PROMISE:
    case FRAME_CONTINUATION:
        return false;
    default:
        break;
    }
    uint64_t most = FRAMES + FRAMES_PER_MESSAGE * atomic_load(&guard->peer->messages) +
                    (atomic_load(&guard->peer->answered_bytes) >> FRAMES_ANSWERED_SHIFT);
    return length <= MOST_BYTES && ++guard->frames <= most;
}

static bool bytes_allowed(struct guard *guard, const uint8_t *data, size_t bytes)
{
    while (bytes > 0) {
        bool within = guard->skip > 0;
        size_t want = within ? guard->skip : HEADER_BYTES - guard->have;
        size_t part = want < bytes ? want : bytes;
        if (within) {
            guard->skip -= part;
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

// The connection ends here; the watchdog finishes a peer that has no call.
static void cut_locked(struct guard *guard)
{
    struct grpc_peer *peer = guard->peer;
    guard->peer = NULL;
    if (lane_peer_doom(&peer->head, -EPROTO)) {
        lane_front_socket_abort(peer->fd);
    }
    (void)shutdown(peer->fd, SHUT_RDWR);
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
            cut_locked(guard);
        }
    }
    (void)pthread_mutex_unlock(&guards_lock);
    return good;
}

typedef ssize_t receive_function(int fd, struct msghdr *message, int flags);

static receive_function *next_recvmsg(void)
{
    static _Atomic(receive_function *) found;
    receive_function *function = atomic_load(&found);
    if (function == NULL) {
        void *symbol = dlsym(RTLD_NEXT, "recvmsg");
        memcpy(&function, &symbol, sizeof function);
        atomic_store(&found, function);
    }
    return function;
}

// libc's, for the whole program.
__attribute__((visibility("default"))) ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    ssize_t got = next_recvmsg()(fd, message, flags);
    if (got > 0 && atomic_load_explicit(&guards_used, memory_order_relaxed) > 0 &&
        (flags & (MSG_ERRQUEUE | MSG_PEEK)) == 0 && !look(fd, message, (size_t)got)) {
        errno = ECONNRESET;
        return -1;
    }
    return got;
}
