// SPDX-License-Identifier: Apache-2.0
//
// One connection of the gRPC front, from the moment its only call appears until closed().
//
//   added --call--> receiving --message--> in work --answered--> receiving ...
//     \--cut---------------\----------------\--> over --nothing pending--> closed
//
// Each answer: queued -> sending -> freed.
//
// One message is received at a time: the next receive is asked for when the service has answered
// and the peer's answers are below their limit, so HTTP/2's own flow control holds back a client
// that does not read. When the answers of all are at their bound (lane_unread_front.c), a message
// waits with the watchdog. One answer is sent at a time; its buffer lives until the tag of the send
// comes back.
//
// Threads: any worker may bring any tag, so what the tags share stands under the peer's lock.
// `pending` counts batches in flight and a message in work; the worker that brings it to zero ends
// the peer. A peer without a call is ended by the watchdog. Lock order: front's, peer's; closed()
// and message() are called without either.
//
// The batch that waits for the call's end is always pending, so a call that gRPC gives up is
// noticed at once. A cut shuts the socket down, too: gRPC's transport dies with it, whatever else
// the client has opened on it.
#include "rpc/lane_grpc_front.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/slice.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/tcp.h"

struct grpc_peer *grpc_peer_create(struct grpc_front *front, int fd, struct noise_cipher *send,
                                   struct noise_cipher *receive, void *user)
{
    struct grpc_peer *peer = calloc(1, sizeof(*peer));
    if (peer == NULL) {
        noise_cipher_destroy(&send);
        noise_cipher_destroy(&receive);
        return NULL;
    }
    lane_peer_init(&peer->head, &grpc_peer_ops, &front->wear, send, receive, user);
    pthread_mutex_init(&peer->lock, NULL);
    TAILQ_INIT(&peer->answers);
    peer->front = front;
    peer->grpc_fd = fd;
    peer->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    peer->tcp = lane_front_socket_is_tcp(fd);
    lane_unread_enter(&peer->head, peer->fd);
    return peer;
}

static void out_count_locked(struct grpc_peer *peer, size_t more, size_t less)
{
    peer->out_bytes += more - less;
    lane_unread_count(&peer->head, more, less);
}

static void answer_free(struct grpc_answer *answer)
{
    grpc_byte_buffer_destroy(answer->buffer);
    free(answer);
}

void grpc_peer_free(struct grpc_peer *peer)
{
    while (!TAILQ_EMPTY(&peer->answers)) {
        struct grpc_answer *answer = TAILQ_FIRST(&peer->answers);
        TAILQ_REMOVE(&peer->answers, answer, link);
        answer_free(answer);
    }
    lane_unread_count(&peer->head, 0, peer->out_bytes);
    lane_unread_leave(&peer->head);
    if (peer->fd >= 0) {
        close(peer->fd);
    }
    lane_peer_clear(&peer->head);
    pthread_mutex_destroy(&peer->lock);
    free(peer);
}

void grpc_peer_finish(struct grpc_peer *peer)
{
    struct grpc_front *front = peer->front;
    if (peer->call != NULL) {
        grpc_call_unref(peer->call);
    }
    front->service->closed(peer->head.user, lane_peer_reason(&peer->head));
    pthread_mutex_lock(&front->lock);
    lane_watchdog_remove(peer);
    if (front->by_fd[peer->grpc_fd] == peer) {
        front->by_fd[peer->grpc_fd] = NULL;
    }
    if (front->cursor == peer) {
        front->cursor = TAILQ_NEXT(peer, link);
    }
    TAILQ_REMOVE(&front->peers, peer, link);
    front->peer_count--;
    pthread_cond_broadcast(&front->idle);
    pthread_mutex_unlock(&front->lock);
    lane_http2_remove(peer);
    grpc_peer_free(peer);
}

bool grpc_peer_claim_callless(struct grpc_peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    bool claimed = peer->call == NULL && !peer->final;
    peer->final |= claimed;
    pthread_mutex_unlock(&peer->lock);
    return claimed;
}

static void cut_locked(struct grpc_peer *peer)
{
    if (lane_peer_reason(&peer->head) != -ESHUTDOWN) {
        tcp_reset_at_close(peer->fd);
    }
    shutdown(peer->fd, SHUT_RDWR);
    if (peer->call != NULL) {
        grpc_call_cancel(peer->call, NULL);
    } else {
        eventfd_write(peer->front->wake, 1);
    }
}

static void cut(struct grpc_peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    if (!peer->final) {
        cut_locked(peer);
    }
    pthread_mutex_unlock(&peer->lock);
}

void grpc_peer_cut(struct grpc_peer *peer, int reason)
{
    lane_peer_doom(&peer->head, reason);
    cut(peer);
}

static void grpc_shut(struct lane_peer *head)
{
    cut((struct grpc_peer *)head);
}

// One batch or message less. The last one out ends the peer.
static void settle(struct grpc_peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    bool last = --peer->pending == 0;
    peer->final |= last;
    pthread_mutex_unlock(&peer->lock);
    if (last) {
        grpc_peer_finish(peer);
    }
}

static void batch_locked(struct grpc_peer *peer, const grpc_op *ops, size_t count,
                         struct grpc_tag *tag, enum grpc_tag_kind kind)
{
    grpc_call_error error =
        grpc_call_start_batch(peer->call, ops, count, grpc_tag_hand(tag, kind, peer), NULL);
    assert(error == GRPC_CALL_OK); // anything else is our own mistake
    peer->pending += error == GRPC_CALL_OK;
}

static void receive_locked(struct grpc_peer *peer)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &peer->received};
    batch_locked(peer, &op, 1, &peer->on_received, GRPC_TAG_RECEIVED);
}

// Who has ended a call or a connection that is over.
static int over_reason(struct grpc_peer *peer)
{
    return lane_http2_ended_here(peer) ? -EPROTO : -ECONNRESET;
}

void grpc_peer_gone(struct grpc_peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    if (peer->call == NULL && !peer->final) {
        lane_peer_doom(&peer->head, over_reason(peer));
        cut_locked(peer);
    }
    pthread_mutex_unlock(&peer->lock);
}

bool grpc_peer_attach(struct grpc_peer *peer, grpc_call *call)
{
    grpc_op first[2] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
         .data.recv_close_on_server.cancelled = &peer->cancelled},
    };
    pthread_mutex_lock(&peer->lock);
    bool free_for_it = peer->call == NULL && !peer->final;
    if (free_for_it) {
        peer->call = call;
        batch_locked(peer, first, 2, &peer->on_over, GRPC_TAG_OVER);
        receive_locked(peer);
        if (lane_peer_reason(&peer->head) != 0) {
            cut_locked(peer);
        }
    }
    pthread_mutex_unlock(&peer->lock);
    if (free_for_it) {
        lane_http2_called(peer);
    }
    return free_for_it;
}

// Where a received message is read from: slices of whatever size gRPC made them.
struct cursor {
    grpc_byte_buffer_reader reader;
    grpc_slice *slice;
    size_t offset;
};

static bool cursor_take(struct cursor *cursor, uint8_t *to, size_t bytes)
{
    while (bytes > 0) {
        if (cursor->slice == NULL || cursor->offset == GRPC_SLICE_LENGTH(*cursor->slice)) {
            cursor->offset = 0;
            if (!grpc_byte_buffer_reader_peek(&cursor->reader, &cursor->slice)) {
                return false;
            }
        }
        size_t part = GRPC_SLICE_LENGTH(*cursor->slice) - cursor->offset;
        part = part < bytes ? part : bytes;
        memcpy(to, GRPC_SLICE_START_PTR(*cursor->slice) + cursor->offset, part);
        to += part;
        cursor->offset += part;
        bytes -= part;
    }
    return true;
}

static int open_message(struct grpc_peer *peer, struct cursor *cursor, size_t bytes,
                        uint8_t *payload, struct wire_header *request)
{
    uint8_t header[WIRE_HEADER_SEALED_BYTES];
    struct lane_intake intake;
    if (!cursor_take(cursor, header, sizeof(header))) {
        return -EBADMSG;
    }
    int error = lane_peer_open_header(&peer->head, header, request);
    if (error != 0) {
        return error;
    }
    if (bytes != sizeof(header) + wire_sealed_bytes(request->length)) {
        return -EBADMSG;
    }
    lane_intake_start(&intake, payload, request->length);
    uint8_t *to;
    size_t want;
    while (error == 0 && (want = lane_intake_want(&intake, &to)) > 0) {
        error =
            cursor_take(cursor, to, want) ? lane_intake_took(&intake, &peer->head, want) : -EBADMSG;
    }
    return error;
}

static int handle(struct grpc_peer *peer, struct grpc_worker *worker, grpc_byte_buffer *buffer)
{
    struct cursor cursor = {.slice = NULL};
    struct wire_header request;
    if (!grpc_byte_buffer_reader_init(&cursor.reader, buffer)) {
        return -EBADMSG;
    }
    int error =
        open_message(peer, &cursor, grpc_byte_buffer_length(buffer), worker->payload, &request);
    grpc_byte_buffer_reader_destroy(&cursor.reader);
    if (error != 0) {
        return error;
    }
    atomic_fetch_add(&peer->messages, 1);
    if (request.op == WIRE_CLOSE) {
        return -ESHUTDOWN;
    }
    peer->front->service->message(peer->head.user, &peer->head, &request, worker->payload);
    return lane_peer_reason(&peer->head);
}

// Whether the peer's answers must drain before it is read again.
static bool must_drain_locked(struct grpc_peer *peer)
{
    size_t limit = peer->throttled ? LIMIT_LANE_IN_FLIGHT_BYTES / 2 : LIMIT_LANE_IN_FLIGHT_BYTES;
    bool must = peer->out_bytes > (lane_unread_crowded() ? 0 : limit);
    peer->throttled = must;
    return must;
}

static grpc_byte_buffer *received_take(struct grpc_peer *peer)
{
    pthread_mutex_lock(&peer->lock); // orders this message after the one before it
    grpc_byte_buffer *buffer = peer->received;
    peer->received = NULL;
    pthread_mutex_unlock(&peer->lock);
    return buffer;
}

// A batch of nothing, whose tag comes back at once; the one that brought the message is pending still.
void grpc_peer_resume(struct grpc_peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    batch_locked(peer, NULL, 0, &peer->on_received, GRPC_TAG_RECEIVED);
    peer->pending--;
    pthread_mutex_unlock(&peer->lock);
}

// The receive counts as pending until its message is dealt with.
void grpc_peer_received(struct grpc_peer *peer, struct grpc_worker *worker, bool good)
{
    if (good && lane_unread_full() && lane_peer_reason(&peer->head) == 0) {
        lane_watchdog_park(peer);
        return;
    }
    grpc_byte_buffer *buffer = received_take(peer);
    int error = good && buffer != NULL ? lane_peer_reason(&peer->head) : over_reason(peer);
    if (error == 0) {
        error = handle(peer, worker, buffer);
    }
    if (buffer != NULL) {
        size_t bytes = grpc_byte_buffer_length(buffer);
        grpc_byte_buffer_destroy(buffer);
        lane_http2_taken(peer, bytes);
    }
    if (error != 0) {
        grpc_peer_cut(peer, error);
    } else {
        pthread_mutex_lock(&peer->lock);
        if (!must_drain_locked(peer)) {
            receive_locked(peer);
        }
        pthread_mutex_unlock(&peer->lock);
    }
    settle(peer);
}

static void send_next_locked(struct grpc_peer *peer)
{
    struct grpc_answer *answer = TAILQ_FIRST(&peer->answers);
    if (peer->sending == NULL && answer != NULL) {
        grpc_op op = {.op = GRPC_OP_SEND_MESSAGE,
                      .flags = GRPC_WRITE_NO_COMPRESS,
                      .data.send_message.send_message = answer->buffer};
        TAILQ_REMOVE(&peer->answers, answer, link);
        peer->sending = answer;
        batch_locked(peer, &op, 1, &peer->on_sent, GRPC_TAG_SENT);
    }
}

void grpc_peer_sent(struct grpc_peer *peer, bool good)
{
    pthread_mutex_lock(&peer->lock);
    struct grpc_answer *answer = peer->sending;
    peer->sending = NULL;
    out_count_locked(peer, 0, answer->bytes);
    bool alive = good && lane_peer_reason(&peer->head) == 0;
    if (alive) {
        send_next_locked(peer);
        if (peer->throttled && !must_drain_locked(peer)) {
            receive_locked(peer);
        }
    }
    pthread_mutex_unlock(&peer->lock);
    answer_free(answer);
    if (!alive) {
        grpc_peer_cut(peer, over_reason(peer));
    }
    settle(peer);
}

void grpc_peer_over(struct grpc_peer *peer)
{
    grpc_peer_cut(peer, over_reason(peer));
    settle(peer);
}

// Seals the whole answer into one slice. NULL and *error on failure.
static struct grpc_answer *answer_seal(struct grpc_peer *peer, struct record_source *source,
                                       int *error)
{
    size_t bytes = lane_answer_left(source);
    struct grpc_answer *answer = calloc(1, sizeof(*answer));
    if (answer == NULL) {
        *error = -ENOMEM;
        return NULL;
    }
    grpc_slice slice = grpc_slice_malloc_large(bytes);
    *error =
        lane_peer_seal(&peer->head, source, GRPC_SLICE_START_PTR(slice), bytes, &answer->bytes);
    if (*error == 0) {
        answer->buffer = grpc_raw_byte_buffer_create(&slice, 1);
    }
    grpc_slice_unref(slice);
    if (*error != 0) {
        free(answer);
        return NULL;
    }
    return answer;
}

static int grpc_answer_message(struct lane_peer *head, const struct wire_header *header,
                               const struct iovec *pieces, int count)
{
    struct grpc_peer *peer = (struct grpc_peer *)head;
    struct record_source source;
    int error = record_source_start(&source, head->send, header, pieces, count);
    if (error != 0) {
        return error;
    }
    struct grpc_answer *answer = answer_seal(peer, &source, &error);
    if (answer == NULL) {
        lane_peer_doom(head, error);
        return -ENOTCONN;
    }
    atomic_fetch_add(&peer->answered_bytes, answer->bytes);
    pthread_mutex_lock(&peer->lock);
    out_count_locked(peer, answer->bytes, 0);
    TAILQ_INSERT_TAIL(&peer->answers, answer, link);
    send_next_locked(peer);
    pthread_mutex_unlock(&peer->lock);
    return 0;
}

const struct lane_peer_ops grpc_peer_ops = {.answer = grpc_answer_message, .shut = grpc_shut};
