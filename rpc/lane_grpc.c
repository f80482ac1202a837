// SPDX-License-Identifier: Apache-2.0
//
// A lane as a gRPC bidi stream over an authenticated socket: one gRPC message per message of
// wire.h, holding the same sealed records that lane_sock sends. It has no threads of its own: the
// owner drives the call's completion queue from within send and receive, by its deadlines.
//
// Four batches may be in flight, one of each kind, since gRPC allows no more: START   send initial
// metadata           STATUS  initial metadata and status: the end of the call SEND    one message;
// its buffer lives until the tag is back, so the next send waits for it first RECEIVE one message
// send() returns once its message is handed over; what the socket did not take at once goes out
// while a later call drives the queue. destroy says CLOSE, waits shortly for the server to end the
// call (a cancellation would overtake the CLOSE), cancels, takes back every tag, and only then
// shuts the queue: gRPC aborts on work after that. The tag of a message that the socket does not take
// comes back only with the socket's end, so destroy shuts that before, by a descriptor of its own.
//
// gRPC allocates per message and knows nothing of signals: no handler may come here. shut() from
// another thread cancels the call, which gRPC allows at any time; every tag comes back, and the
// owner wakes.
//
// What arrives lies in slices of gRPC's choice. A record within one slice is opened from there;
// only one that spans slices is copied together first.
//
// Rejected: a thread that drives all queues. One more hand-over for each message, for nothing.
#include <errno.h>
#include <fcntl.h>
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/deadline.h"
#include "rpc/lane_core.h"

enum batch { START, STATUS, SEND, RECEIVE, BATCHES };
enum {
    CLOSE_WAIT_MS = 200,
    LOOKAHEAD_BYTES = LIMIT_LANE_IN_FLIGHT_BYTES, // what a server may send ahead of our reading
    READ_CHUNK_BYTES = 64 << 10,
};

struct lane_grpc {
    struct lane_core core; // first
    grpc_channel *channel;
    grpc_completion_queue *queue;
    grpc_call *call;
    int wire; // the same socket
    bool pending[BATCHES];
    bool good[BATCHES]; // of the last one that came back
    grpc_byte_buffer *sending;
    grpc_byte_buffer *received;
    grpc_byte_buffer_reader reader; // over received; valid while `reading`
    bool reading;
    grpc_slice *slice; // the present one; lies in `received`
    size_t slice_at;
    grpc_metadata_array initial, trailing;
    grpc_status_code status;
    grpc_slice status_details;
    uint8_t sealed[RECORD_SEALED_MAX]; // a record that spans slices
    uint8_t plain[LIMIT_RECORD_DATA_BYTES];
};

static struct lane_grpc *grpc_of(struct lane *lane)
{
    return (struct lane_grpc *)lane;
}

static gpr_timespec timespec_of(int64_t deadline)
{
    if (deadline == LANE_NO_DEADLINE) {
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    }
    return (gpr_timespec){.tv_sec = deadline / DEADLINE_NS_PER_S,
                          .tv_nsec = (int32_t)(deadline % DEADLINE_NS_PER_S),
                          .clock_type = GPR_CLOCK_MONOTONIC};
}

static int start(struct lane_grpc *lane, enum batch batch, const grpc_op *ops, size_t count)
{
    void *tag = &lane->pending[batch];
    if (grpc_call_start_batch(lane->call, ops, count, tag, NULL) != GRPC_CALL_OK) {
        return -ECONNRESET;
    }
    lane->pending[batch] = true;
    return 0;
}

static void batch_done(struct lane_grpc *lane, const grpc_event *event)
{
    enum batch batch = (enum batch)((bool *)event->tag - lane->pending);
    lane->pending[batch] = false;
    lane->good[batch] = event->success != 0;
    if (batch == SEND) {
        grpc_byte_buffer_destroy(lane->sending);
        lane->sending = NULL;
    }
}

// Drives the queue until this batch has come back.
static int drive(struct lane_grpc *lane, enum batch batch, int64_t deadline)
{
    while (lane->pending[batch]) {
        grpc_event event = grpc_completion_queue_next(lane->queue, timespec_of(deadline), NULL);
        if (event.type != GRPC_OP_COMPLETE) {
            return -ETIMEDOUT;
        }
        batch_done(lane, &event);
    }
    return 0;
}

// The whole message, sealed, in one slice.
static int seal_message(struct lane_grpc *lane, struct record_source *source, size_t bytes)
{
    grpc_slice slice = grpc_slice_malloc(bytes);
    uint8_t *at = GRPC_SLICE_START_PTR(slice);
    int error = 0;
    for (size_t next; error == 0 && (next = record_source_bytes(source)) > 0; at += next) {
        error = record_source_seal(source, at);
    }
    if (error == 0) {
        lane->sending = grpc_raw_byte_buffer_create(&slice, 1);
    }
    grpc_slice_unref(slice);
    return error;
}

static int start_send(struct lane_grpc *lane)
{
    const grpc_op op = {.op = GRPC_OP_SEND_MESSAGE,
                        .flags = GRPC_WRITE_NO_COMPRESS,
                        .data.send_message.send_message = lane->sending};
    int error = start(lane, SEND, &op, 1);
    if (error != 0) {
        grpc_byte_buffer_destroy(lane->sending);
        lane->sending = NULL;
    }
    return error;
}

static int lane_grpc_send(struct lane *base, const struct wire_header *header,
                          const struct iovec *pieces, int count, int64_t deadline)
{
    struct lane_grpc *lane = grpc_of(base);
    struct record_source source;
    size_t bytes = WIRE_HEADER_SEALED_BYTES + wire_sealed_bytes(header->length);
    int error = lane_core_ask(&lane->core, header, pieces, count, &source);
    if (error != 0) {
        return error;
    }
    error = drive(lane, SEND, deadline); // the one before
    if (error == 0 && !lane->good[SEND]) {
        error = -ECONNRESET;
    }
    int64_t begun = lane_core_clock(&lane->core);
    if (error == 0) {
        error = seal_message(lane, &source, bytes);
    }
    lane_core_cipher_time(&lane->core, begun);
    begun = lane_core_clock(&lane->core);
    if (error == 0) {
        error = start_send(lane);
    }
    lane_core_io_time(&lane->core, begun);
    if (error != 0) {
        return lane_core_fail(&lane->core, error);
    }
    lane_core_asked(&lane->core, header, bytes);
    return 0;
}

static void message_end(struct lane_grpc *lane)
{
    if (lane->reading) {
        grpc_byte_buffer_reader_destroy(&lane->reader);
        lane->reading = false;
    }
    if (lane->received != NULL) {
        grpc_byte_buffer_destroy(lane->received);
        lane->received = NULL;
    }
    lane->slice = NULL;
}

// The next `bytes` of the message in one place, valid until the next call; NULL when it is shorter.
static const uint8_t *message_take(struct lane_grpc *lane, size_t bytes)
{
    for (size_t have = 0;;) {
        size_t room = lane->slice == NULL ? 0 : GRPC_SLICE_LENGTH(*lane->slice) - lane->slice_at;
        if (room == 0) {
            lane->slice_at = 0;
            if (!grpc_byte_buffer_reader_peek(&lane->reader, &lane->slice)) {
                lane->slice = NULL;
                return NULL;
            }
            continue;
        }
        const uint8_t *at = GRPC_SLICE_START_PTR(*lane->slice) + lane->slice_at;
        size_t part = room < bytes - have ? room : bytes - have;
        lane->slice_at += part;
        if (part == bytes) {
            return at;
        }
        memcpy(lane->sealed + have, at, part);
        have += part;
        if (have == bytes) {
            return lane->sealed;
        }
    }
}

// Waits for the next gRPC message.
static int message_begin(struct lane_grpc *lane, int64_t deadline)
{
    message_end(lane);
    if (!lane->pending[RECEIVE]) {
        const grpc_op op = {.op = GRPC_OP_RECV_MESSAGE,
                            .data.recv_message.recv_message = &lane->received};
        int error = start(lane, RECEIVE, &op, 1);
        if (error != 0) {
            return error;
        }
    }
    int error = drive(lane, RECEIVE, deadline);
    if (error != 0) {
        return error;
    }
    if (!lane->good[RECEIVE] || lane->received == NULL) {
        return -ECONNRESET;
    }
    if (!grpc_byte_buffer_reader_init(&lane->reader, lane->received)) {
        return -EBADMSG;
    }
    lane->reading = true;
    return 0;
}

static int lane_grpc_receive(struct lane *base, struct wire_header *header, int64_t deadline)
{
    struct lane_grpc *lane = grpc_of(base);
    int error = lane_core_expects(&lane->core);
    const void *dropped;
    while (error == 0 && lane->core.left > 0) { // opened all the same: the nonces count
        ssize_t bytes = base->ops->receive_data(base, NULL, &dropped, deadline);
        error = bytes < 0 ? (int)bytes : 0;
    }
    if (error != 0) {
        return error;
    }
    int64_t begun = lane_core_clock(&lane->core);
    error = message_begin(lane, deadline);
    lane_core_io_time(&lane->core, begun);
    if (error != 0) {
        return lane_core_fail(&lane->core, error);
    }
    size_t length = grpc_byte_buffer_length(lane->received);
    const uint8_t *sealed = message_take(lane, WIRE_HEADER_SEALED_BYTES);
    if (sealed == NULL) {
        return lane_core_fail(&lane->core, -EBADMSG);
    }
    error = lane_core_answer(&lane->core, sealed, header);
    if (error == 0 && length != WIRE_HEADER_SEALED_BYTES + wire_sealed_bytes(header->length)) {
        error = lane_core_fail(&lane->core, -EBADMSG);
    }
    return error;
}

static ssize_t lane_grpc_receive_data(struct lane *base, void *to, const void **data,
                                      int64_t deadline)
{
    (void)deadline; // a gRPC message arrives as a whole
    struct lane_grpc *lane = grpc_of(base);
    size_t need = lane_core_record_bytes(&lane->core);
    int error = lane_core_alive(&lane->core);
    if (error != 0 || need == 0) {
        return error;
    }
    const uint8_t *sealed = message_take(lane, need);
    if (sealed == NULL) {
        return lane_core_fail(&lane->core, -EBADMSG);
    }
    void *place = to != NULL ? to : lane->plain;
    ssize_t bytes = lane_core_record(&lane->core, sealed, place);
    if (bytes > 0) {
        *data = place;
    }
    return bytes;
}

static void lane_grpc_shut(struct lane *base)
{
    struct lane_grpc *lane = grpc_of(base);
    atomic_store_explicit(&lane->core.shut, true, memory_order_release);
    (void)grpc_call_cancel(lane->call, NULL);
}

static void say_close(struct lane_grpc *lane)
{
    int64_t deadline = deadline_after_ms(CLOSE_WAIT_MS);
    uint8_t sealed[WIRE_HEADER_SEALED_BYTES];
    if (drive(lane, SEND, deadline) != 0 || !lane->good[SEND]) {
        return;
    }
    size_t bytes = lane_core_close(&lane->core, sealed);
    if (bytes == 0) {
        return;
    }
    grpc_slice slice = grpc_slice_from_copied_buffer((const char *)sealed, bytes);
    lane->sending = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    const grpc_op ops[] = {
        {.op = GRPC_OP_SEND_MESSAGE,
         .flags = GRPC_WRITE_NO_COMPRESS,
         .data.send_message.send_message = lane->sending},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
    };
    if (start(lane, SEND, ops, 2) == 0) {
        (void)drive(lane, STATUS, deadline);
    }
}

static void lane_grpc_free(struct lane_grpc *lane)
{
    if (lane->call != NULL) {
        (void)grpc_call_cancel(lane->call, NULL);
        (void)shutdown(lane->wire, SHUT_RDWR);
        for (int batch = 0; batch < BATCHES; batch++) {
            (void)drive(lane, (enum batch)batch, LANE_NO_DEADLINE);
        }
        message_end(lane);
        grpc_call_unref(lane->call);
    }
    if (lane->sending != NULL) {
        grpc_byte_buffer_destroy(lane->sending);
    }
    (void)close(lane->wire);
    grpc_channel_destroy(lane->channel);
    grpc_completion_queue_shutdown(lane->queue);
    while (grpc_completion_queue_next(lane->queue, timespec_of(LANE_NO_DEADLINE), NULL).type !=
           GRPC_QUEUE_SHUTDOWN) {
    }
    grpc_completion_queue_destroy(lane->queue);
    grpc_metadata_array_destroy(&lane->initial);
    grpc_metadata_array_destroy(&lane->trailing);
    grpc_slice_unref(lane->status_details);
    lane_core_clear(&lane->core);
    noise_wipe(lane->plain, sizeof lane->plain);
    free(lane);
}

static void lane_grpc_destroy(struct lane *base)
{
    struct lane_grpc *lane = grpc_of(base);
    if (lane_core_alive(&lane->core) == 0) {
        say_close(lane);
    }
    lane_grpc_free(lane);
}

static const struct lane_ops lane_grpc_ops = {
    .send = lane_grpc_send,
    .receive = lane_grpc_receive,
    .receive_data = lane_grpc_receive_data,
    .shut = lane_grpc_shut,
    .destroy = lane_grpc_destroy,
};

// gRPC sets none of these on a descriptor that it is handed.
static int socket_set_up(int fd)
{
    const int on = 1, unacknowledged_ms = LIMIT_FAILOVER_MS;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacknowledged_ms,
                     sizeof unacknowledged_ms);
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ? -errno : 0;
}

static grpc_arg integer(const char *key, int value)
{
    return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)key, .value.integer = value};
}

static grpc_channel *channel_create(int fd)
{
    grpc_arg arguments[] = {
        integer(GRPC_ARG_ENABLE_RETRIES, 0),
        integer(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, RECORD_MESSAGE_MAX),
        integer(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, RECORD_MESSAGE_MAX),
        integer(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1),
        integer(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, LOOKAHEAD_BYTES),
        integer(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, LIMIT_RUN_BYTES),
        integer(GRPC_ARG_TCP_READ_CHUNK_SIZE, READ_CHUNK_BYTES),
        integer(GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, LIMIT_RUN_BYTES),
    };
    const grpc_channel_args all = {sizeof arguments / sizeof *arguments, arguments};
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    grpc_channel *channel = grpc_channel_create_from_fd("dsm", fd, credentials, &all);
    grpc_channel_credentials_release(credentials);
    return channel;
}

static int call_begin(struct lane_grpc *lane)
{
    lane->call = grpc_channel_create_call(lane->channel, NULL, GRPC_PROPAGATE_DEFAULTS, lane->queue,
                                          grpc_slice_from_static_string("/dsm.Lane/Stream"), NULL,
                                          gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    if (lane->call == NULL) {
        return -ENOMEM;
    }
    const grpc_op first = {.op = GRPC_OP_SEND_INITIAL_METADATA};
    const grpc_op last[] = {
        {.op = GRPC_OP_RECV_INITIAL_METADATA,
         .data.recv_initial_metadata.recv_initial_metadata = &lane->initial},
        {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
         .data.recv_status_on_client = {.trailing_metadata = &lane->trailing,
                                        .status = &lane->status,
                                        .status_details = &lane->status_details}},
    };
    int error = start(lane, START, &first, 1);
    return error != 0 ? error : start(lane, STATUS, last, 2);
}

struct lane *lane_grpc_create(int fd, struct noise_cipher *send, struct noise_cipher *receive)
{
    struct lane_grpc *lane = calloc(1, sizeof *lane);
    int wire = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    int error = lane == NULL ? -ENOMEM : wire < 0 ? -errno : socket_set_up(fd);
    if (error != 0) {
        noise_cipher_destroy(&send);
        noise_cipher_destroy(&receive);
        free(lane);
        close(fd);
        if (wire >= 0) {
            close(wire);
        }
        errno = -error;
        return NULL;
    }
    lane->wire = wire;
    lane_core_init(&lane->core, &lane_grpc_ops, send, receive);
    lane->good[SEND] = true; // nothing has failed yet
    lane->status_details = grpc_empty_slice();
    grpc_metadata_array_init(&lane->initial);
    grpc_metadata_array_init(&lane->trailing);
    lane->queue = grpc_completion_queue_create_for_next(NULL);
    lane->channel = channel_create(fd); // the descriptor is gRPC's now
    error = call_begin(lane);
    if (error != 0) {
        lane_grpc_free(lane);
        errno = -error;
        return NULL;
    }
    return &lane->core.lane;
}
