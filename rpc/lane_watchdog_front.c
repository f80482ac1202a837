// SPDX-License-Identifier: Apache-2.0
//
// The watchdog of the gRPC front. What runs between TCP and our records is HTTP/2, and a client
// can make gRPC grow with frames that never become a record (security.md). So the bytes that TCP
// has received for a connection are compared with the bytes of its opened records; what is left
// unexplained beyond the allowance ends the peer.
//
// Allowance: LIMIT_UNEXPLAINED_BYTES; one message and HTTP/2's lookahead, which may be on their
// way; frame headers in proportion to what was opened and how many messages it took; window
// updates in proportion to what was answered.
//
// It sleeps in an epoll set of its own that holds a duplicate of every peer's socket,
// edge-triggered, so idle connections cost nothing. A peer with traffic is looked at within
// LIMIT_WATCHDOG_MS; since an edge is not told for a socket that is neither readable nor writable
// at that moment, every tick also looks at some of all peers, in turn, as long as there was
// traffic in the last second.
//
// It also ends who keeps others from the room for messages (lane_http2_room_front.c), and peers
// that have no call, whose connection went away or that were shut: gRPC tells nobody of those. And
// it has the messages that wait for room for their answers (lane_unread_front.c).
//
// Locks: the front's. Peers leave the front's list and the epoll set under it; events name a peer
// by descriptor and serial number, so one that is gone is not found.
//
// Rejected: looking at every peer in every tick: 16,384 getsockopt() calls each 10 ms are more
// than a core.
#include "rpc/lane_grpc_front.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "rpc/deadline.h"

#define WAKE_NAME UINT64_MAX // no peer: descriptors are not negative

enum {
    TICK_RESUMES = 64,
    TICK_EVENTS = 256,
    TICK_SWEEP_PEERS = 256,
    BUSY_TICKS = 1000 / LIMIT_WATCHDOG_MS, // ticks go on for so long after the last event
};

// Bytes that TCP has received on the socket since it was made; 0 for other sockets.
static uint64_t tcp_received(int fd)
{
    struct tcp_info info = {0};
    socklen_t bytes = sizeof(info);
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0 ? info.tcpi_bytes_received : 0;
}

int64_t lane_watchdog_unexplained(struct grpc_peer *peer)
{
    // In this order: what is opened in between only helps the peer.
    uint64_t received = tcp_received(peer->fd) - peer->received_before;
    return (int64_t)(received - atomic_load(&peer->head.opened_bytes));
}

int64_t lane_watchdog_allowance(struct grpc_peer *peer)
{
    uint64_t proportional = (atomic_load(&peer->head.opened_bytes) >> WATCHDOG_OPENED_SHIFT) +
                            (atomic_load(&peer->answered_bytes) >> WATCHDOG_SEALED_SHIFT) +
                            atomic_load(&peer->messages) * WATCHDOG_MESSAGE_BYTES;
    return (int64_t)(LIMIT_UNEXPLAINED_BYTES + RECORD_MESSAGE_MAX + GRPC_LOOKAHEAD_BYTES +
                     proportional);
}

static void check(struct grpc_peer *peer)
{
    if (peer->tcp && lane_peer_reason(&peer->head) == 0 &&
        lane_watchdog_unexplained(peer) > lane_watchdog_allowance(peer)) {
        grpc_peer_cut(peer, -EPROTO);
    }
}

int lane_watchdog_add(struct grpc_peer *peer)
{
    struct epoll_event event = {
        .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
        .data.u64 = (uint64_t)peer->serial << 32 | (uint32_t)peer->grpc_fd,
    };
    if (peer->tcp) {
        peer->received_before = tcp_received(peer->fd);
    }
    return epoll_ctl(peer->front->epoll, EPOLL_CTL_ADD, peer->fd, &event) == 0 ? 0 : -errno;
}

void lane_watchdog_remove(struct grpc_peer *peer)
{
    epoll_ctl(peer->front->epoll, EPOLL_CTL_DEL, peer->fd, NULL);
}

static struct grpc_peer *peer_of_event_locked(struct grpc_front *front, uint64_t name)
{
    uint32_t fd = (uint32_t)name;
    struct grpc_peer *peer = fd < (uint32_t)front->by_fd_count ? front->by_fd[fd] : NULL;
    return peer != NULL && peer->serial == name >> 32 ? peer : NULL;
}

static void event_locked(struct grpc_front *front, const struct epoll_event *event)
{
    struct grpc_peer *peer = peer_of_event_locked(front, event->data.u64);
    if (peer == NULL) {
        return;
    }
    check(peer);
    if ((event->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
        grpc_peer_gone(peer);
    }
}

static void sweep_locked(struct grpc_front *front)
{
    for (int i = 0; i < TICK_SWEEP_PEERS && i < front->peer_count; i++) {
        if (front->cursor == NULL) {
            front->cursor = TAILQ_FIRST(&front->peers);
        }
        check(front->cursor);
        front->cursor = TAILQ_NEXT(front->cursor, link);
    }
}

// Ends the peers that are doomed and have no call.
static void finish_callless(struct grpc_front *front)
{
    struct grpc_peers claimed = TAILQ_HEAD_INITIALIZER(claimed);
    struct grpc_peer *peer;
    pthread_mutex_lock(&front->lock);
    TAILQ_FOREACH(peer, &front->peers, link)
    {
        if (lane_peer_reason(&peer->head) != 0 && grpc_peer_claim_callless(peer)) {
            TAILQ_INSERT_TAIL(&claimed, peer, claimed);
        }
    }
    pthread_mutex_unlock(&front->lock);
    while ((peer = TAILQ_FIRST(&claimed)) != NULL) {
        TAILQ_REMOVE(&claimed, peer, claimed);
        grpc_peer_finish(peer);
    }
}

static void tick(struct grpc_front *front, const struct epoll_event *events, int count)
{
    bool woken = false;
    pthread_mutex_lock(&front->lock);
    for (int i = 0; i < count; i++) {
        woken |= events[i].data.u64 == WAKE_NAME;
        event_locked(front, &events[i]);
    }
    sweep_locked(front);
    pthread_mutex_unlock(&front->lock);
    if (woken) {
        eventfd_t rings;
        eventfd_read(front->wake, &rings);
        finish_callless(front);
    }
}

static bool watchdog_ends(struct grpc_front *front)
{
    pthread_mutex_lock(&front->lock);
    bool ends = front->watchdog_ends;
    pthread_mutex_unlock(&front->lock);
    return ends;
}

void lane_watchdog_park(struct grpc_peer *peer)
{
    struct grpc_front *front = peer->front;
    pthread_mutex_lock(&front->lock);
    if (TAILQ_EMPTY(&front->parked)) {
        eventfd_write(front->wake, 1);
    }
    TAILQ_INSERT_TAIL(&front->parked, peer, parked);
    pthread_mutex_unlock(&front->lock);
}

// Those that may go on, and all that are at their end. True: somebody waits still.
static bool resume_parked(struct grpc_front *front)
{
    pthread_mutex_lock(&front->lock);
    bool waits = !TAILQ_EMPTY(&front->parked);
    pthread_mutex_unlock(&front->lock);
    if (!waits) {
        return false;
    }
    lane_unread_relieve();
    pthread_mutex_lock(&front->lock);
    struct grpc_peer *next;
    int resumed = 0;
    for (struct grpc_peer *peer = TAILQ_FIRST(&front->parked); peer != NULL; peer = next) {
        next = TAILQ_NEXT(peer, parked);
        bool room = resumed < TICK_RESUMES && !lane_unread_full();
        if (room || lane_peer_reason(&peer->head) != 0) {
            TAILQ_REMOVE(&front->parked, peer, parked);
            grpc_peer_resume(peer);
            resumed++;
        }
    }
    waits = !TAILQ_EMPTY(&front->parked);
    pthread_mutex_unlock(&front->lock);
    return waits;
}

static void *watchdog_run(void *argument)
{
    static const struct timespec pause = {.tv_nsec = LIMIT_WATCHDOG_MS * 1000000L};
    struct grpc_front *front = argument;
    for (int busy = 0; !watchdog_ends(front);) {
        struct epoll_event events[TICK_EVENTS];
        bool crowded = lane_http2_check(deadline_now());
        crowded |= resume_parked(front);
        int count = epoll_wait(front->epoll, events, TICK_EVENTS,
                               busy > 0 || crowded ? LIMIT_WATCHDOG_MS : -1);
        tick(front, events, count);
        busy = count > 0 ? BUSY_TICKS : busy - 1;
        if (count > 0 && count < TICK_EVENTS) {
            clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
        }
    }
    return NULL;
}

static void descriptors_close(struct grpc_front *front)
{
    if (front->epoll >= 0) {
        close(front->epoll);
    }
    if (front->wake >= 0) {
        close(front->wake);
    }
}

int lane_watchdog_start(struct grpc_front *front)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = WAKE_NAME};
    int error = 0;
    front->epoll = epoll_create1(EPOLL_CLOEXEC);
    front->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (front->epoll < 0 || front->wake < 0 ||
        epoll_ctl(front->epoll, EPOLL_CTL_ADD, front->wake, &event) != 0) {
        error = -errno;
    }
    if (error == 0) {
        error = lane_front_thread_start(&front->watchdog, watchdog_run, front);
    }
    if (error != 0) {
        descriptors_close(front);
    }
    front->watching = error == 0;
    return error;
}

void lane_watchdog_stop(struct grpc_front *front)
{
    pthread_mutex_lock(&front->lock);
    front->watchdog_ends = true;
    eventfd_write(front->wake, 1);
    pthread_mutex_unlock(&front->lock);
    pthread_join(front->watchdog, NULL);
    descriptors_close(front);
}
