// SPDX-License-Identifier: Apache-2.0
//
// The listener's thread: an epoll set over the listening sockets, an eventfd and the connections
// that are not lanes yet, each in one of a fixed number of places. Nothing is allocated for a
// stranger.
//
// A connection may take LIMIT_HANDSHAKE_MS from accept to lane. All have the same time, so the list
// in order of arrival is also the order of deadlines. When the places or the descriptors run out,
// the oldest connection that is still silent (no complete message 1) makes room; when none is
// silent, the oldest that has proven nothing yet, since message 1 can be replayed; those that have
// shown a key stay. They make room at a limited rate (listener_pace.c), and by a reset, after which
// the kernel has nothing to remember of them. LIMIT_RESERVED_DESCRIPTORS numbers below the limit
// are never kept for connections, so accept(), the store and /metrics always find one; a connection
// that is accepted on one of them moves to the number that was made free for it. Should accept()
// find none all the same, it makes room and goes on; only when nothing can make room it rests for a
// moment instead of spinning.
//
// It must never block: not in a handshake, not while an older lane ends (listener_pending.c), not
// in the log.
//
// A thread per connection and a pool of handshake threads were rejected: an attacker chooses how
// many connections there are, and one thread opens some 5,000 handshakes a second.
//
// Threads: all state is the thread's own once it runs; listener_wake() may come from anywhere.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/embedded.h"
#include "rpc/tcp.h"
#include "server/clock.h"
#include "server/listener_internal.h"
#include "server/probes.h"

enum { EVENTS = 256 };

int pending_watch(struct listener *listener, struct pending *pending, uint32_t interest)
{
    struct epoll_event event = {.events = interest, .data.ptr = pending};
    if (interest == pending->interest) {
        return 0;
    }
    int operation = interest == 0            ? EPOLL_CTL_DEL
                    : pending->interest == 0 ? EPOLL_CTL_ADD
                                             : EPOLL_CTL_MOD;
    if (epoll_ctl(listener->epoll, operation, pending->fd, &event) != 0) {
        return -errno;
    }
    pending->interest = interest;
    return 0;
}

void pending_release(struct listener *listener, struct pending *pending)
{
    handshake_end(pending->handshake);
    service_lane_abandon(&pending->lane);
    listener->waiting -= pending->waiting ? 1U : 0U;
    pending->waiting = false;
    pending->interest = 0;
    pending->fd = -1;
    TAILQ_REMOVE(&listener->busy, pending, link);
    TAILQ_INSERT_HEAD(&listener->free, pending, link);
}

void pending_drop(struct listener *listener, struct pending *pending, int64_t now_ms,
                  enum listener_drop why)
{
    probe_handshake_refuse(pending->refused, (u64)(clock_now_ns() - pending->accepted_ns));
    if (listener_drop_fails(why)) {
        rate_failed(&listener->rate, &pending->address, now_ms);
    }
    listener_dropped(listener, pending->text, why, now_ms);
    int fd = pending->fd;
    if (why == LISTENER_DROP_SILENT || why == LISTENER_DROP_UNPROVEN) {
        tcp_reset_at_close(fd);
    }
    pending_release(listener, pending);
    (void)close(fd);
}

static bool make_room(struct listener *listener, int64_t now_ms)
{
    struct pending *unproven = NULL;
    struct pending *pending;
    TAILQ_FOREACH(pending, &listener->busy, link)
    {
        if (pending->silent) {
            pending_drop(listener, pending, now_ms, LISTENER_DROP_SILENT);
            return true;
        }
        unproven = unproven == NULL && !pending->proven ? pending : unproven;
    }
    if (unproven != NULL) {
        pending_drop(listener, unproven, now_ms, LISTENER_DROP_UNPROVEN);
    }
    return unproven != NULL;
}

static void key_of(const struct sockaddr_storage *from, struct address_key *key,
                   char text[INET6_ADDRSTRLEN])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    const void *in4 = &((const struct sockaddr_in *)(const void *)from)->sin_addr;
    const void *in6 = &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr;
    *key = (struct address_key){0};
    if (from->ss_family == AF_INET6) {
        memcpy(key->bytes, in6, memcmp(in6, mapped, sizeof mapped) == 0 ? 16 : 8);
    } else {
        memcpy(key->bytes, mapped, sizeof mapped);
        memcpy(key->bytes + sizeof mapped, in4, 4);
    }
    if (inet_ntop(from->ss_family, from->ss_family == AF_INET6 ? in6 : in4, text,
                  INET6_ADDRSTRLEN) == NULL) {
        (void)snprintf(text, INET6_ADDRSTRLEN, "?");
    }
}

// The same connection on the lowest number that is free: else the next accept() took that one, and connections would keep
// one reserved number after the other.
static int lowered(int fd)
{
    int low = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (low < 0) {
        return fd;
    }
    (void)close(fd);
    return low;
}

static void admit(struct listener *listener, int fd, const struct sockaddr_storage *from,
                  int64_t now_ms)
{
    struct address_key key;
    char text[INET6_ADDRSTRLEN];
    key_of(from, &key, text);
    if (rate_exceeded(&listener->rate, &key, now_ms)) {
        listener_dropped(listener, text, LISTENER_DROP_FAILURES, now_ms);
        (void)close(fd);
        return;
    }
    bool short_of_places = TAILQ_EMPTY(&listener->free) || fd >= listener->descriptor_limit;
    listener->scarce = short_of_places;
    if (short_of_places && !make_room(listener, now_ms)) {
        listener_dropped(listener, text, LISTENER_DROP_NO_PLACE, now_ms);
        (void)close(fd);
        return;
    }
    struct pending *pending = TAILQ_FIRST(&listener->free);
    TAILQ_REMOVE(&listener->free, pending, link);
    TAILQ_INSERT_TAIL(&listener->busy, pending, link);
    fd = fd >= listener->descriptor_limit ? lowered(fd) : fd;
    pending->fd = fd;
    pending->address = key;
    memcpy(pending->text, text, sizeof text);
    pending->deadline_ms = now_ms + LIMIT_HANDSHAKE_MS;
    pending->accepted_ns = clock_now_ns();
    pending->refused = WIRE_OK;
    pending->silent = true;
    pending->proven = false;
    handshake_start(pending->handshake, fd);
    pending_step(listener, pending, now_ms);
}

static int watch_sockets(struct listener *listener, uint32_t events)
{
    int error = 0;
    for (size_t i = 0; i < listener->socket_count && error == 0; i++) {
        struct epoll_event event = {.events = events, .data.ptr = &listener->sockets[i]};
        error = epoll_ctl(listener->epoll, EPOLL_CTL_MOD, listener->sockets[i], &event);
    }
    return error == 0 ? 0 : -errno;
}

// A message of the embedding program; at its end the socket would be readable for ever.
static int take_connection(struct listener *listener, int control)
{
    uint8_t byte;
    int fd;
    ssize_t got = embedded_receive(control, &byte, sizeof byte, &fd);
    if (got == 0) {
        (void)epoll_ctl(listener->epoll, EPOLL_CTL_DEL, control, NULL);
    }
    if (fd < 0) {
        errno = got == 0 ? EAGAIN : got < 0 ? (int)-got : EPROTO;
        return -1;
    }
    (void)fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
    return fd;
}

static int take_or_accept(struct listener *listener, int fd, struct sockaddr_storage *from)
{
    socklen_t bytes = sizeof *from;
    return listener->embedded
               ? take_connection(listener, fd)
               : accept4(fd, (struct sockaddr *)from, &bytes, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static void pause_for(struct listener *listener, int64_t now_ms, int64_t pause_ms)
{
    int64_t until_ms = now_ms + pause_ms;
    (void)watch_sockets(listener, 0);
    listener->paused_until_ms =
        until_ms > listener->paused_until_ms ? until_ms : listener->paused_until_ms;
}

static void rest(struct listener *listener, int error, int64_t now_ms)
{
    log_hostile(listener->options.log, now_ms, "accept rests: %s", strerror(error));
    pause_for(listener, now_ms, LISTENER_PAUSE_MS);
}

// False: there is nobody left for now, or accept rests.
static bool accept_one(struct listener *listener, int fd, int64_t now_ms)
{
    struct sockaddr_storage from = {0};
    int accepted = take_or_accept(listener, fd, &from);
    int error = accepted >= 0 ? 0 : errno;
    if (error == 0) {
        admit(listener, accepted, &from, now_ms);
    } else if (error == EAGAIN || error == EWOULDBLOCK) {
        return false;
    } else if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM) {
        listener->scarce = true;
        if (!make_room(listener, now_ms) || error != EMFILE) {
            rest(listener, error, now_ms);
            return false;
        }
    } // else that connection is gone already; the next
    return true;
}

static void accept_some(struct listener *listener, const int *socket, int64_t now_ms)
{
    struct pace *pace = &listener->paces[socket - listener->sockets];
    for (int i = 0; i < LISTENER_ACCEPTS; i++) {
        if (listener->scarce && !pace_allows(pace, *socket, now_ms)) {
            pause_for(listener, now_ms, LISTENER_PACE_MS);
            return;
        }
        if (!accept_one(listener, *socket, now_ms)) {
            return;
        }
        if (listener->scarce) {
            pace_made_room(pace);
        }
    }
}

static void step_waiting(struct listener *listener, int64_t now_ms)
{
    struct pending *pending = TAILQ_FIRST(&listener->busy);
    while (pending != NULL && listener->waiting > 0) {
        struct pending *next = TAILQ_NEXT(pending, link);
        if (pending->waiting) {
            pending_step(listener, pending, now_ms);
        }
        pending = next;
    }
}

// What lies in the range of listener->sockets is one of them; the eventfd comes as the listener.
static void dispatch(struct listener *listener, const struct epoll_event *event, int64_t now_ms)
{
    void *source = event->data.ptr;
    int *sockets_end = listener->sockets + LISTENER_SOCKETS;
    if (source == listener) {
        eventfd_t rings;
        (void)eventfd_read(listener->wake, &rings);
        step_waiting(listener, now_ms);
    } else if ((int *)source >= listener->sockets && (int *)source < sockets_end) {
        accept_some(listener, source, now_ms);
    } else {
        struct pending *pending = source;
        if (pending->fd < 0) {
            return; // it was dropped earlier in this round
        }
        if (pending->waiting) {
            pending_drop(listener, pending, now_ms, LISTENER_DROP_GONE);
        } else {
            pending_step(listener, pending, now_ms);
        }
    }
}

// Ends what has had its time. Returns the milliseconds until the next has, at most a second.
static int expire(struct listener *listener, int64_t now_ms)
{
    int64_t wait = 1000;
    struct pending *oldest;
    while ((oldest = TAILQ_FIRST(&listener->busy)) != NULL && oldest->deadline_ms <= now_ms) {
        pending_drop(listener, oldest, now_ms, LISTENER_DROP_LATE);
    }
    if (oldest != NULL && oldest->deadline_ms - now_ms < wait) {
        wait = oldest->deadline_ms - now_ms;
    }
    if (listener->paused_until_ms != 0) {
        if (listener->paused_until_ms <= now_ms) {
            listener->paused_until_ms = 0;
            (void)watch_sockets(listener, EPOLLIN);
        } else if (listener->paused_until_ms - now_ms < wait) {
            wait = listener->paused_until_ms - now_ms;
        }
    }
    return (int)wait;
}

static void *run(void *argument)
{
    struct listener *listener = argument;
    while (!atomic_load(&listener->stopping)) {
        struct epoll_event events[EVENTS];
        int wait = expire(listener, clock_now_ms());
        int count = epoll_wait(listener->epoll, events, EVENTS, wait);
        int64_t now_ms = clock_now_ms();
        // Connections first: places that they give back are free for those that come.
        for (int pass = 0; pass < 2; pass++) {
            for (int i = 0; i < count; i++) {
                int *source = events[i].data.ptr;
                bool listening =
                    source >= listener->sockets && source < listener->sockets + LISTENER_SOCKETS;
                if (listening == (pass == 1)) {
                    dispatch(listener, &events[i], now_ms);
                }
            }
        }
    }
    struct pending *pending;
    while ((pending = TAILQ_FIRST(&listener->busy)) != NULL) {
        pending_drop(listener, pending, clock_now_ms(), LISTENER_DROP_STOPPING);
    }
    return NULL;
}

static int make_places(struct listener *listener)
{
    size_t bytes = (handshake_bytes() + 63) / 64 * 64;
    listener->places = calloc(LISTENER_PENDING, sizeof *listener->places);
    listener->handshakes = calloc(LISTENER_PENDING, bytes);
    listener->slot = handshake_slot_create();
    if (listener->places == NULL || listener->handshakes == NULL || listener->slot == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < LISTENER_PENDING; i++) {
        listener->places[i].handshake = (void *)(listener->handshakes + i * bytes);
        listener->places[i].fd = -1;
        TAILQ_INSERT_TAIL(&listener->free, &listener->places[i], link);
    }
    return 0;
}

static int make_epoll(struct listener *listener)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = listener};
    listener->epoll = epoll_create1(EPOLL_CLOEXEC);
    listener->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (listener->epoll < 0 || listener->wake < 0 ||
        epoll_ctl(listener->epoll, EPOLL_CTL_ADD, listener->wake, &event) != 0) {
        return -errno;
    }
    for (size_t i = 0; i < listener->socket_count; i++) {
        event = (struct epoll_event){.events = EPOLLIN, .data.ptr = &listener->sockets[i]};
        if (epoll_ctl(listener->epoll, EPOLL_CTL_ADD, listener->sockets[i], &event) != 0) {
            return -errno;
        }
    }
    return 0;
}

static struct listener *listener_new(void)
{
    struct listener *made = calloc(1, sizeof *made);
    if (made != NULL) {
        TAILQ_INIT(&made->free);
        TAILQ_INIT(&made->busy);
        made->epoll = -1;
        made->wake = -1;
    }
    return made;
}

// The sockets are there; the rest. Takes over *made, also on failure.
static int listener_complete(struct listener **made, struct listener **listener,
                             struct failure *failure)
{
    int error = make_places(*made);
    error = error == 0 ? make_epoll(*made) : error;
    if (error != 0) {
        listener_destroy(made);
        return failure_set(failure, error, "The listener could not be made: %s.", strerror(-error));
    }
    *listener = *made;
    return 0;
}

int listener_create(char *const *addresses, size_t count, struct listener **listener,
                    struct failure *failure)
{
    struct listener *made = listener_new();
    if (made == NULL) {
        return failure_set(failure, -ENOMEM, "There is no memory for the listener.");
    }
    for (size_t i = 0; i < count; i++) {
        int error = listener_bind(made, addresses[i], failure);
        if (error != 0) {
            listener_destroy(&made);
            return error;
        }
    }
    return listener_complete(&made, listener, failure);
}

int listener_create_embedded(int control, struct listener **listener, struct failure *failure)
{
    struct listener *made = listener_new();
    int own = fcntl(control, F_DUPFD_CLOEXEC, 0);
    if (made == NULL || own < 0) {
        free(made);
        return failure_set(failure, own < 0 ? -errno : -ENOMEM,
                           "There is no memory for the listener.");
    }
    made->embedded = true;
    made->sockets[made->socket_count++] = own;
    return listener_complete(&made, listener, failure);
}

uint16_t listener_port(const struct listener *listener)
{
    return listener->port;
}

int listener_start(struct listener *listener, const struct listener_options *options)
{
    struct rlimit limit = {.rlim_cur = 1024};
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    listener->descriptor_limit =
        limit.rlim_cur > INT32_MAX ? INT32_MAX : (int)limit.rlim_cur - LIMIT_RESERVED_DESCRIPTORS;
    listener->options = *options;
    noise_random(&listener->rate.seed, sizeof listener->rate.seed);
    int error = -pthread_create(&listener->thread, NULL, run, listener);
    listener->running = error == 0;
    return error;
}

void listener_wake(void *listener)
{
    (void)eventfd_write(((struct listener *)listener)->wake, 1);
}

void listener_stop(struct listener *listener)
{
    if (listener->running) {
        atomic_store(&listener->stopping, true);
        listener_wake(listener);
        (void)pthread_join(listener->thread, NULL);
        listener->running = false;
    }
    while (listener->socket_count > 0) {
        (void)close(listener->sockets[--listener->socket_count]);
    }
}

void listener_destroy(struct listener **listener)
{
    struct listener *old = *listener;
    if (old == NULL) {
        return;
    }
    listener_stop(old);
    if (old->epoll >= 0) {
        (void)close(old->epoll);
    }
    if (old->wake >= 0) {
        (void)close(old->wake);
    }
    handshake_slot_destroy(&old->slot);
    free(old->handshakes);
    free(old->places);
    free(old);
    *listener = NULL;
}
