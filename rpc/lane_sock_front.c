// SPDX-License-Identifier: Apache-2.0
//
// The front for lanes on plain sockets: a fixed number of threads, each with an epoll set, an
// eventfd and the peers that it was given. A peer stays with its thread for life, so nothing of it
// needs a lock but the two lists that other threads reach into: all peers (add, stop) and those to
// be shut.
//
// A round of a thread: wait for events; pick up shuts and granted payload buffers when the eventfd
// rang; give each peer that can go on one turn; end peers that let a payload buffer wait for too
// long while others need it; free the dead. Peers are freed only there, so an event of the same
// round that still names a dead one finds its memory. Epoll is level-triggered: a peer that is not
// read to the end is reported again.
//
// Locks: the thread's `lock`, then nothing; the pool's lock is never taken under it. Service calls
// are made without any lock.
//
// Rejected: one epoll set for all threads with one-shot events. It balances better, but every
// message costs an epoll_ctl() and the peer's state moves between cores. Newcomers go to the
// thread with the fewest peers instead.
#include "rpc/lane_sock_front.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { ROUND_EVENTS = 64, OVERDUE_CHECK_MS = 100 };

int64_t sock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

// True when the front stops.
static bool thread_wake(struct sock_thread *thread)
{
    eventfd_t rings;
    eventfd_read(thread->queue.wake, &rings);
    for (;;) {
        pthread_mutex_lock(&thread->lock);
        struct sock_peer *peer = TAILQ_FIRST(&thread->shut);
        bool stopping = thread->stopping;
        pthread_mutex_unlock(&thread->lock);
        if (peer == NULL) {
            return stopping;
        }
        sock_peer_end(peer, -ECANCELED); // the reason was set before
    }
}

static void thread_grants(struct sock_thread *thread)
{
    uint8_t *buffer;
    struct lane_waiter *waiter;
    while ((waiter = lane_pool_granted(thread->front->pool, &thread->queue, &buffer)) != NULL) {
        struct sock_peer *peer =
            (struct sock_peer *)((char *)waiter - offsetof(struct sock_peer, waiter));
        sock_peer_granted(peer, buffer);
    }
}

static void thread_turn(struct sock_peers *turns)
{
    struct sock_peer *peer = TAILQ_FIRST(turns);
    TAILQ_REMOVE(turns, peer, turn_link);
    peer->turns = NULL;
    sock_peer_turn(peer);
}

// Those whose requests wait for room for answers have their turns when there is some. It may be over before theirs.
static void thread_room(struct sock_thread *thread)
{
    if (TAILQ_EMPTY(&thread->full)) {
        return;
    }
    lane_unread_relieve();
    struct sock_peer *last = TAILQ_LAST(&thread->full, sock_peers);
    for (struct sock_peer *peer = NULL; peer != last && !lane_unread_full();) {
        peer = TAILQ_FIRST(&thread->full);
        TAILQ_REMOVE(&thread->full, peer, turn_link);
        peer->turns = NULL;
        sock_peer_turn(peer);
    }
}

// A turn for each; of those that move much, for one. Then new events are looked for: so a fault waits for one
// message of somebody's bulk at most, however many there are.
static void thread_turns(struct sock_thread *thread)
{
    struct sock_peer *last = TAILQ_LAST(&thread->turns, sock_peers);
    for (struct sock_peer *peer = NULL; last != NULL && peer != last;) {
        peer = TAILQ_FIRST(&thread->turns);
        thread_turn(&thread->turns);
    }
    if (!TAILQ_EMPTY(&thread->bulk)) {
        thread_turn(&thread->bulk);
    }
}

// One holder for each that stands in line: what it gives back shortens the line at once.
static void thread_cut_overdue(struct sock_thread *thread)
{
    int64_t now = sock_now();
    struct sock_peer *next;
    for (struct sock_peer *peer = TAILQ_FIRST(&thread->holds); peer != NULL; peer = next) {
        next = TAILQ_NEXT(peer, holds_link);
        if (sock_peer_overdue(peer, now) && lane_pool_contended(thread->front->pool)) {
            sock_peer_end(peer, -ETIMEDOUT);
        }
    }
}

static void thread_bury(struct sock_thread *thread)
{
    while (!TAILQ_EMPTY(&thread->dead)) {
        struct sock_peer *peer = TAILQ_FIRST(&thread->dead);
        TAILQ_REMOVE(&thread->dead, peer, link);
        free(peer);
    }
}

static int thread_patience(const struct sock_thread *thread)
{
    if (!TAILQ_EMPTY(&thread->turns) || !TAILQ_EMPTY(&thread->bulk)) {
        return 0;
    }
    if (!TAILQ_EMPTY(&thread->full)) {
        return LANE_UNREAD_TICK_MS;
    }
    return TAILQ_EMPTY(&thread->holds) ? -1 : OVERDUE_CHECK_MS;
}

// Events, after looking for them for a while where that pays.
static int thread_events(struct sock_thread *thread, struct epoll_event *events)
{
    int patience = thread_patience(thread);
    int count = epoll_wait(thread->epoll, events, ROUND_EVENTS, 0);
    if (count != 0 || patience == 0) {
        return count;
    }
    if (spin_begin(&thread->spin)) {
        do {
            count = epoll_wait(thread->epoll, events, ROUND_EVENTS, 0);
        } while (count == 0 && spin_on(&thread->spin));
        spin_done(&thread->spin, count != 0);
    }
    spin_end(&thread->spin); // an idle thread is no waiter
    if (count == 0) {
        spin_sleeps(&thread->spin);
        count = epoll_wait(thread->epoll, events, ROUND_EVENTS, patience);
    }
    return count;
}

static void *thread_run(void *argument)
{
    struct sock_thread *thread = argument;
    for (bool stopping = false; !stopping;) {
        struct epoll_event events[ROUND_EVENTS];
        int count = thread_events(thread, events);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == NULL) {
                stopping = thread_wake(thread);
                thread_grants(thread);
            } else {
                sock_peer_event(events[i].data.ptr, events[i].events);
            }
        }
        thread_room(thread);
        thread_turns(thread);
        if (count < ROUND_EVENTS) {
            thread_cut_overdue(thread);
        }
        thread_bury(thread);
    }
    struct sock_peer *peer;
    while ((peer = TAILQ_FIRST(&thread->peers)) != NULL) { // nobody adds any more
        sock_peer_end(peer, -ECANCELED);
    }
    thread_bury(thread);
    return NULL;
}

static struct sock_thread *thread_choose(struct sock_front *front)
{
    struct sock_thread *best = &front->threads[0];
    for (int i = 1; i < front->thread_count; i++) {
        if (atomic_load(&front->threads[i].peer_count) < atomic_load(&best->peer_count)) {
            best = &front->threads[i];
        }
    }
    return best;
}

static struct sock_peer *peer_create(struct sock_front *front, int fd, struct noise_cipher *send,
                                     struct noise_cipher *receive, void *user)
{
    struct sock_peer *peer = calloc(1, sizeof(*peer));
    if (peer == NULL) {
        noise_cipher_destroy(&send);
        noise_cipher_destroy(&receive);
        return NULL;
    }
    lane_peer_init(&peer->head, &sock_peer_ops, &front->wear, send, receive, user);
    peer->thread = thread_choose(front);
    peer->waiter.queue = &peer->thread->queue;
    peer->fd = fd;
    TAILQ_INIT(&peer->out);
    lane_unread_enter(&peer->head, fd);
    return peer;
}

// *peer is written before the first message can come.
static int front_add(struct lane_front *base, int fd, struct noise_cipher *send,
                     struct noise_cipher *receive, void *user, struct lane_peer **peer)
{
    struct sock_front *front = (struct sock_front *)base;
    struct sock_peer *made = peer_create(front, fd, send, receive, user);
    int error = made == NULL ? -ENOMEM : lane_front_socket_setup(fd);
    if (error != 0) {
        goto out;
    }
    *peer = &made->head;
    struct sock_thread *thread = made->thread;
    pthread_mutex_lock(&thread->lock);
    TAILQ_INSERT_TAIL(&thread->peers, made, link);
    error = sock_peer_watch(made, EPOLLIN); // under the lock: it cannot end before it is counted
    if (error == 0) {
        atomic_fetch_add(&thread->peer_count, 1);
    } else {
        TAILQ_REMOVE(&thread->peers, made, link);
    }
    pthread_mutex_unlock(&thread->lock);
out:
    if (error != 0) {
        if (made != NULL) {
            lane_unread_leave(&made->head);
            lane_peer_clear(&made->head);
            free(made);
        }
        close(fd);
    }
    return error;
}

static void thread_clear(struct sock_thread *thread)
{
    if (thread->epoll >= 0) {
        close(thread->epoll);
    }
    if (thread->queue.wake >= 0) {
        close(thread->queue.wake);
    }
    free(thread->scratch);
    pthread_mutex_destroy(&thread->lock);
}

static int thread_init(struct sock_thread *thread, struct sock_front *front,
                       struct spin_share *spin)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    thread->front = front;
    thread->spin.share = spin;
    pthread_mutex_init(&thread->lock, NULL);
    TAILQ_INIT(&thread->queue.granted);
    TAILQ_INIT(&thread->peers);
    TAILQ_INIT(&thread->shut);
    TAILQ_INIT(&thread->turns);
    TAILQ_INIT(&thread->bulk);
    TAILQ_INIT(&thread->full);
    TAILQ_INIT(&thread->dead);
    TAILQ_INIT(&thread->holds);
    thread->scratch = malloc(SOCK_SCRATCH_BYTES);
    thread->epoll = epoll_create1(EPOLL_CLOEXEC);
    thread->queue.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int error = thread->scratch == NULL ? -ENOMEM : 0;
    if (error == 0 && (thread->epoll < 0 || thread->queue.wake < 0 ||
                       epoll_ctl(thread->epoll, EPOLL_CTL_ADD, thread->queue.wake, &event) != 0)) {
        error = -errno;
    }
    if (error == 0) {
        error = lane_front_thread_start(&thread->thread, thread_run, thread);
    }
    if (error != 0) {
        thread_clear(thread);
    }
    return error;
}

static void front_stop(struct lane_front *base)
{
    struct sock_front *front = (struct sock_front *)base;
    for (int i = 0; i < front->thread_count; i++) {
        struct sock_thread *thread = &front->threads[i];
        pthread_mutex_lock(&thread->lock);
        thread->stopping = true;
        eventfd_write(thread->queue.wake, 1);
        pthread_mutex_unlock(&thread->lock);
    }
    for (int i = 0; i < front->thread_count; i++) {
        pthread_join(front->threads[i].thread, NULL);
    }
    for (int i = 0; i < front->thread_count;
         i++) { // a grant may ring another thread until all ended
        thread_clear(&front->threads[i]);
    }
    lane_pool_destroy(&front->pool);
    free(front->threads);
    free(front);
}

void lane_sock_front_wear(struct lane_front *front, const struct lane_wear *wear)
{
    ((struct sock_front *)front)->wear = *wear;
}

struct lane_front *lane_sock_front_create(const struct lane_service *service, int threads,
                                          struct spin_share *spin)
{
    static const struct lane_front_ops ops = {.add = front_add, .stop = front_stop};
    struct sock_front *front = calloc(1, sizeof(*front));
    int error = front == NULL ? -ENOMEM : 0;
    if (error != 0) {
        goto out;
    }
    front->front.ops = &ops;
    front->service = service;
    front->wear = lane_wear_product;
    front->pool = lane_pool_create(LANE_POOL_BUFFERS);
    front->threads = calloc((size_t)threads, sizeof(front->threads[0]));
    if (front->pool == NULL || front->threads == NULL) {
        error = -ENOMEM;
    }
    while (error == 0 && front->thread_count < threads) {
        error = thread_init(&front->threads[front->thread_count], front, spin);
        front->thread_count += error == 0;
    }
    if (error != 0) {
        front_stop(&front->front);
        front = NULL;
    }
out:
    if (error != 0) {
        errno = -error;
        return NULL;
    }
    return &front->front;
}
