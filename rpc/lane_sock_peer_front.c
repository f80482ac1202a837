// SPDX-License-Identifier: Apache-2.0
//
// One connection of the sock front. Everything here runs on the thread that the peer was given to
// when it came, except sock_shut(), which only rings.
//
//   header --has payload--> buffer wanted --granted--> payload --complete--> message() --> header
//      \--no payload, or all of it read ahead--------------------------------^
//
// Bytes are read into `ahead`, a small array of the peer's own, so that a row of small requests
// costs one system call and what was read too early stays with its peer. A payload that lies in
// `ahead` as a whole is opened there; any other is read straight into a buffer of the pool, record
// by record. When the pool is empty the peer leaves the epoll set and stands in line.
//
// An answer is sealed in portions of SOCK_SCRATCH_BYTES, which stay in the cache until they are
// sent. What the socket does not take is kept in chunks. A peer with more than
// LIMIT_LANE_IN_FLIGHT_BYTES of them is not read until half of that is gone. What is kept for all peers has a
// bound, too (lane_unread_front.c): at it no request is begun, and the peer waits in the thread's list `full`.
//
// A turn ends after SOCK_TURN_MESSAGES or SOCK_TURN_BYTES; then the thread's other peers have
// theirs. Who moves much has shorter turns, and one of these only after all others had theirs.
//
// Must never: allocate from a length that has not been opened and checked; block; touch a peer
// after its end.
#include "rpc/lane_sock_front.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/tcp.h"

enum { FLUSH_PIECES = 16 };

int sock_peer_watch(struct sock_peer *peer, uint32_t interest)
{
    struct epoll_event event = {.events = interest, .data.ptr = peer};
    if (interest == peer->interest) {
        return 0;
    }
    int op = interest == 0 ? EPOLL_CTL_DEL : peer->interest == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    peer->interest = interest;
    return epoll_ctl(peer->thread->epoll, op, peer->fd, &event) == 0 ? 0 : -errno;
}

static void turn_wanted(struct sock_peer *peer)
{
    if (peer->turns == NULL && !peer->dead) {
        peer->turns = peer->bulk ? &peer->thread->bulk : &peer->thread->turns;
        TAILQ_INSERT_TAIL(peer->turns, peer, turn_link);
    }
}

static void buffer_release(struct sock_peer *peer)
{
    if (peer->intake.buffer != NULL) {
        TAILQ_REMOVE(&peer->thread->holds, peer, holds_link);
        lane_pool_give(peer->thread->front->pool, peer->intake.buffer);
        peer->intake.buffer = NULL;
    }
}

static void buffer_taken(struct sock_peer *peer, uint8_t *buffer)
{
    lane_intake_start(&peer->intake, buffer, peer->request.length);
    TAILQ_INSERT_TAIL(&peer->thread->holds, peer, holds_link);
    peer->starved_at = 0;
    peer->starved_ns = 0;
}

void sock_peer_granted(struct sock_peer *peer, uint8_t *buffer)
{
    buffer_taken(peer, buffer);
    turn_wanted(peer);
}

bool sock_peer_overdue(const struct sock_peer *peer, int64_t now)
{
    int64_t starved = peer->starved_ns + (peer->starved_at != 0 ? now - peer->starved_at : 0);
    return starved > LIMIT_HOLD_MS * INT64_C(1000000);
}

static void chunk_drop(struct sock_peer *peer, struct sock_chunk *chunk)
{
    TAILQ_REMOVE(&peer->out, chunk, link);
    free(chunk);
}

static void out_count(struct sock_peer *peer, size_t more, size_t less)
{
    peer->out_bytes += more - less;
    lane_unread_count(&peer->head, more, less);
}

void sock_peer_end(struct sock_peer *peer, int reason)
{
    struct sock_thread *thread = peer->thread;
    lane_peer_doom(&peer->head, reason);
    peer->dead = true;
    if (peer->turns != NULL) {
        TAILQ_REMOVE(peer->turns, peer, turn_link);
        peer->turns = NULL;
    }
    lane_pool_leave(thread->front->pool, &peer->waiter);
    buffer_release(peer);
    out_count(peer, 0, peer->out_bytes);
    while (!TAILQ_EMPTY(&peer->out)) {
        chunk_drop(peer, TAILQ_FIRST(&peer->out));
    }
    sock_peer_watch(peer, 0);
    if (lane_peer_reason(&peer->head) != -ESHUTDOWN) {
        tcp_reset_at_close(peer->fd);
    }
    lane_unread_leave(&peer->head); // asks TCP by fd, whose number is another peer's once closed
    close(peer->fd);
    lane_peer_clear(&peer->head);
    thread->front->service->closed(peer->head.user, lane_peer_reason(&peer->head));
    pthread_mutex_lock(&thread->lock); // after closed() nobody can shut it any more
    TAILQ_REMOVE(&thread->peers, peer, link);
    if (peer->shut_listed) {
        TAILQ_REMOVE(&thread->shut, peer, shut_link);
    }
    pthread_mutex_unlock(&thread->lock);
    atomic_fetch_sub(&thread->peer_count, 1);
    TAILQ_INSERT_TAIL(&thread->dead, peer, link);
}

// Any thread.
static void sock_shut(struct lane_peer *head)
{
    struct sock_peer *peer = (struct sock_peer *)head;
    struct sock_thread *thread = peer->thread;
    pthread_mutex_lock(&thread->lock);
    peer->shut_listed = true;
    TAILQ_INSERT_TAIL(&thread->shut, peer, shut_link);
    eventfd_write(thread->queue.wake, 1);
    pthread_mutex_unlock(&thread->lock);
}

// Sends what is kept. 0 (all of it or as much as the socket takes) or -errno.
static int flush(struct sock_peer *peer)
{
    while (!TAILQ_EMPTY(&peer->out)) {
        struct iovec pieces[FLUSH_PIECES];
        struct msghdr message = {.msg_iov = pieces};
        struct sock_chunk *chunk;
        TAILQ_FOREACH(chunk, &peer->out, link)
        {
            pieces[message.msg_iovlen++] =
                (struct iovec){chunk->data + chunk->sent, chunk->bytes - chunk->sent};
            if (message.msg_iovlen == FLUSH_PIECES) {
                break;
            }
        }
        ssize_t sent = sendmsg(peer->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0) {
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        }
        out_count(peer, 0, (size_t)sent);
        for (size_t left = (size_t)sent; left > 0;) {
            chunk = TAILQ_FIRST(&peer->out);
            size_t part = chunk->bytes - chunk->sent < left ? chunk->bytes - chunk->sent : left;
            chunk->sent += part;
            left -= part;
            if (chunk->sent == chunk->bytes) {
                chunk_drop(peer, chunk);
            }
        }
    }
    return 0;
}

// Keeps the unsent rest of a portion and everything that is still to be sealed of the answer.
static int keep(struct sock_peer *peer, const uint8_t *rest, size_t rest_bytes,
                struct record_source *answer)
{
    size_t left = lane_answer_left(answer);
    size_t sealed;
    struct sock_chunk *chunk = malloc(sizeof(*chunk) + rest_bytes + left);
    if (chunk == NULL) {
        return -ENOMEM;
    }
    chunk->sent = 0;
    chunk->bytes = rest_bytes + left;
    if (rest_bytes > 0) {
        memcpy(chunk->data, rest, rest_bytes);
    }
    int error = lane_peer_seal(&peer->head, answer, chunk->data + rest_bytes, left, &sealed);
    if (error != 0) {
        free(chunk);
        return error;
    }
    TAILQ_INSERT_TAIL(&peer->out, chunk, link);
    out_count(peer, chunk->bytes, 0);
    return 0;
}

static int send_portions(struct sock_peer *peer, struct record_source *answer)
{
    uint8_t *scratch = peer->thread->scratch;
    for (;;) {
        size_t bytes;
        int error = lane_peer_seal(&peer->head, answer, scratch, SOCK_SCRATCH_BYTES, &bytes);
        if (error != 0 || bytes == 0) {
            return error;
        }
        ssize_t sent = send(peer->fd, scratch, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            return -errno;
        }
        size_t taken = sent < 0 ? 0 : (size_t)sent;
        if (taken < bytes) {
            return keep(peer, scratch + taken, bytes - taken, answer);
        }
    }
}

static int sock_answer(struct lane_peer *head, const struct wire_header *header,
                       const struct iovec *pieces, int count)
{
    struct sock_peer *peer = (struct sock_peer *)head;
    struct record_source answer;
    int error = record_source_start(&answer, head->send, header, pieces, count);
    if (error != 0) {
        return error;
    }
    peer->thread->turn_bytes += header->length;
    peer->message_bytes += header->length;
    peer->bulk = peer->message_bytes >= SOCK_BULK_BYTES;
    error = TAILQ_EMPTY(&peer->out) ? send_portions(peer, &answer) : keep(peer, NULL, 0, &answer);
    if (error != 0) {
        lane_peer_doom(head, error == -EPIPE ? -ECONNRESET : error);
        return -ENOTCONN;
    }
    return 0;
}

const struct lane_peer_ops sock_peer_ops = {.answer = sock_answer, .shut = sock_shut};

static bool must_drain(struct sock_peer *peer)
{
    size_t limit = peer->throttled ? LIMIT_LANE_IN_FLIGHT_BYTES / 2 : LIMIT_LANE_IN_FLIGHT_BYTES;
    peer->throttled = peer->out_bytes > (lane_unread_crowded() ? 0 : limit);
    return peer->throttled;
}

// What a step of a peer came to; below zero: -errno, the peer must end.
enum step { STEP_WAIT = 0, STEP_ON = 1, STEP_FULL = 2 }; // FULL: until there is room for answers

// Reads up to `room` bytes. Bytes read, or STEP_WAIT as 0 when there are none, or -errno.
static ssize_t receive(struct sock_peer *peer, uint8_t *to, size_t room)
{
    ssize_t got = recv(peer->fd, to, room, MSG_DONTWAIT);
    if (got > 0) {
        peer->thread->turn_bytes += (size_t)got;
        return got;
    }
    if (got == 0) {
        return -ECONNRESET;
    }
    return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

static size_t ahead_bytes(const struct sock_peer *peer)
{
    return peer->ahead_end - peer->ahead_first;
}

static int read_header(struct sock_peer *peer)
{
    if (ahead_bytes(peer) < WIRE_HEADER_SEALED_BYTES) {
        memmove(peer->ahead, peer->ahead + peer->ahead_first, ahead_bytes(peer));
        peer->ahead_end = ahead_bytes(peer);
        peer->ahead_first = 0;
        ssize_t got =
            receive(peer, peer->ahead + peer->ahead_end, sizeof(peer->ahead) - peer->ahead_end);
        if (got <= 0) {
            return (int)got;
        }
        peer->ahead_end += (size_t)got;
        if (ahead_bytes(peer) < WIRE_HEADER_SEALED_BYTES) {
            return STEP_ON;
        }
    }
    int error = lane_peer_open_header(&peer->head, peer->ahead + peer->ahead_first, &peer->request);
    peer->ahead_first += WIRE_HEADER_SEALED_BYTES;
    peer->request_open = error == 0;
    peer->message_bytes = peer->request.length;
    peer->bulk = peer->bulk || peer->message_bytes >= SOCK_BULK_BYTES;
    return error == 0 ? STEP_ON : error;
}

static int deliver(struct sock_peer *peer, const uint8_t *payload)
{
    peer->request_open = false;
    if (peer->request.op == WIRE_CLOSE) {
        return -ESHUTDOWN;
    }
    peer->thread->front->service->message(peer->head.user, &peer->head, &peer->request, payload);
    buffer_release(peer);
    return STEP_ON;
}

// The whole payload lies in `ahead` (then it is one record): opens it there.
static int deliver_from_ahead(struct sock_peer *peer)
{
    struct lane_intake intake;
    size_t sealed = wire_sealed_bytes(peer->request.length);
    lane_intake_start(&intake, peer->ahead + peer->ahead_first, peer->request.length);
    peer->ahead_first += sealed;
    int error = lane_intake_took(&intake, &peer->head, sealed);
    return error != 0 ? error : deliver(peer, intake.buffer);
}

// Moves on with the present record of the payload: from `ahead` first, then from the socket.
static int read_payload(struct sock_peer *peer)
{
    uint8_t *to;
    size_t want = lane_intake_want(&peer->intake, &to);
    if (want == 0) {
        return deliver(peer, peer->intake.buffer);
    }
    ssize_t got = (ssize_t)(ahead_bytes(peer) < want ? ahead_bytes(peer) : want);
    if (got > 0) {
        memcpy(to, peer->ahead + peer->ahead_first, (size_t)got);
        peer->ahead_first += (size_t)got;
    } else {
        got = receive(peer, to, want);
    }
    if (got <= 0) {
        return (int)got;
    }
    int error = lane_intake_took(&peer->intake, &peer->head, (size_t)got);
    return error != 0 ? error : STEP_ON;
}

static int step(struct sock_peer *peer)
{
    if (lane_peer_reason(&peer->head) != 0) {
        return lane_peer_reason(&peer->head);
    }
    if (!peer->request_open) {
        return must_drain(peer) ? STEP_WAIT : lane_unread_full() ? STEP_FULL : read_header(peer);
    }
    if (peer->request.length == 0) {
        return deliver(peer, peer->ahead);
    }
    if (peer->intake.buffer != NULL) {
        return read_payload(peer);
    }
    if (wire_sealed_bytes(peer->request.length) <= ahead_bytes(peer)) {
        return deliver_from_ahead(peer);
    }
    uint8_t *buffer = NULL;
    if (peer->waiter.state == LANE_WAITER_IDLE) {
        buffer = lane_pool_take(peer->thread->front->pool, &peer->waiter);
    }
    if (buffer == NULL) {
        return STEP_WAIT;
    }
    buffer_taken(peer, buffer);
    return STEP_ON;
}

// For a payload buffer, or for room for its answers: nothing that it sends can bring it on.
static bool stands_in_line(const struct sock_peer *peer)
{
    return (peer->request_open && peer->intake.buffer == NULL) ||
           peer->turns == &peer->thread->full;
}

// Asks epoll for what can bring this peer on.
static int rest(struct sock_peer *peer)
{
    uint32_t interest = peer->throttled || stands_in_line(peer) ? 0 : EPOLLIN;
    if (peer->intake.buffer != NULL) {
        peer->starved_at = sock_now();
    }
    return sock_peer_watch(peer, peer->out_bytes > 0 ? interest | EPOLLOUT : interest);
}

void sock_peer_turn(struct sock_peer *peer)
{
    int result = STEP_ON;
    int messages = 0;
    peer->thread->turn_bytes = 0;
    if (peer->starved_at != 0) {
        peer->starved_ns += sock_now() - peer->starved_at;
        peer->starved_at = 0;
    }
    while (result == STEP_ON && messages < (peer->bulk ? 1 : SOCK_TURN_MESSAGES) &&
           peer->thread->turn_bytes < (peer->bulk ? SOCK_BULK_TURN_BYTES : SOCK_TURN_BYTES)) {
        bool opened = peer->request_open;
        result = step(peer);
        messages += opened && !peer->request_open;
    }
    if (result == STEP_ON) {
        turn_wanted(peer);
        return;
    }
    if (result == STEP_FULL) {
        peer->turns = &peer->thread->full;
        TAILQ_INSERT_TAIL(peer->turns, peer, turn_link);
    }
    if (result >= 0) {
        result = rest(peer);
    }
    if (result < 0) {
        sock_peer_end(peer, result);
    }
}

void sock_peer_event(struct sock_peer *peer, uint32_t events)
{
    if (peer->dead) {
        return;
    }
    int error = peer->out_bytes > 0 ? flush(peer) : 0;
    bool cut = (events & (EPOLLERR | EPOLLHUP)) != 0;
    if (error == 0 && cut && (peer->throttled || stands_in_line(peer))) {
        error = -ECONNRESET; // nobody is left to answer to
    }
    if (error != 0) {
        sock_peer_end(peer, error == -EPIPE ? -ECONNRESET : error);
    } else {
        turn_wanted(peer);
    }
}
