// SPDX-License-Identifier: Apache-2.0
//
// A lane without a network, for tests and simulators: both ends in one thread. send() seals a
// request into a queue, as it would into a socket; receive() takes the oldest one out, opens and
// checks it as a front does, calls the answering function, seals its answer, and opens that as any
// lane does. So everything between wire.h and the cipher runs as in the product, and time, threads
// and sockets do not come in: a run is repeated exactly by repeating its calls.
//
// The queue holds LIMIT_LANE_IN_FLIGHT_BYTES, as a server does; beyond it send() is -EAGAIN.
// Deadlines are not looked at: the answer comes within the call. Nothing is allocated after create.
//
// Rejected: a socket pair and a thread. Two threads would bring the scheduler into every test.
#include "rpc/lane.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "rpc/lane_core.h"
#include "rpc/noise_pair.h"

enum { QUEUE_BYTES = LIMIT_LANE_IN_FLIGHT_BYTES + RECORD_MESSAGE_MAX };

struct lane_loop {
    struct lane_core core; // first
    lane_loop_answer *answer;
    void *context;
    struct noise_cipher *server_seal, *server_open;
    size_t queue_start, queue_end; // requests, sealed
    size_t answer_at;              // into `sealed`
    uint8_t queue[QUEUE_BYTES];
    uint8_t sealed[RECORD_MESSAGE_MAX]; // the present answer
    uint8_t payload[LIMIT_RUN_BYTES];
    uint8_t answer_payload[LIMIT_RUN_BYTES];
    uint8_t plain[LIMIT_RECORD_DATA_BYTES];
};

static struct lane_loop *loop_of(struct lane *lane)
{
    return (struct lane_loop *)lane;
}

static int seal_message(struct record_source *source, uint8_t *to, size_t *bytes)
{
    size_t used = 0;
    for (size_t next = record_source_bytes(source); next > 0; next = record_source_bytes(source)) {
        int error = record_source_seal(source, to + used);
        if (error != 0) {
            return error;
        }
        used += next;
    }
    *bytes = used;
    return 0;
}

// Room for a message behind the queue's end, moving what is queued to the front if need be.
static bool queue_has_room(struct lane_loop *loop, size_t bytes)
{
    size_t queued = loop->queue_end - loop->queue_start;
    if (queued + bytes > QUEUE_BYTES) {
        return false;
    }
    if (loop->queue_end + bytes > QUEUE_BYTES) {
        memmove(loop->queue, loop->queue + loop->queue_start, queued);
        loop->queue_start = 0;
        loop->queue_end = queued;
    }
    return true;
}

static int loop_send(struct lane *lane, const struct wire_header *header,
                     const struct iovec *pieces, int count, int64_t deadline)
{
    (void)deadline;
    struct lane_loop *loop = loop_of(lane);
    struct record_source source;
    size_t bytes = 0;
    int error = lane_core_ask(&loop->core, header, pieces, count, &source);
    if (error != 0) {
        return error;
    }
    if (!queue_has_room(loop, WIRE_HEADER_SEALED_BYTES + wire_sealed_bytes(header->length))) {
        return -EAGAIN;
    }
    error = seal_message(&source, loop->queue + loop->queue_end, &bytes);
    if (error != 0) {
        return lane_core_fail(&loop->core, error);
    }
    loop->queue_end += bytes;
    lane_core_asked(&loop->core, header, bytes);
    return 0;
}

// The server's side: the oldest request out of the queue, opened and checked.
static int take_request(struct lane_loop *loop, struct wire_header *request)
{
    const uint8_t *at = loop->queue + loop->queue_start;
    int error = record_header_open(loop->server_open, at, request);
    if (error == 0) {
        error = wire_request_check(request);
    }
    at += WIRE_HEADER_SEALED_BYTES;
    for (uint32_t done = 0; error == 0 && done < request->length;) {
        uint32_t bytes = record_plain_bytes(request->length - done);
        error = noise_open(loop->server_open, at, bytes + LIMIT_SEAL_BYTES, loop->payload + done);
        at += bytes + LIMIT_SEAL_BYTES;
        done += bytes;
    }
    if (error == 0) {
        loop->queue_start = (size_t)(at - loop->queue);
    }
    return error;
}

static int answer_request(struct lane_loop *loop)
{
    struct wire_header request, answer = {0};
    struct record_source source;
    size_t bytes;
    int error = take_request(loop, &request);
    if (error != 0) {
        return error;
    }
    error = loop->answer(loop->context, &request, loop->payload, &answer, loop->answer_payload);
    if (error < 0) {
        return error;
    }
    const struct iovec piece = {loop->answer_payload, sizeof loop->answer_payload};
    error = record_source_start(&source, loop->server_seal, &answer, &piece, 1);
    loop->answer_at = 0;
    return error != 0 ? error : seal_message(&source, loop->sealed, &bytes);
}

static ssize_t loop_receive_data(struct lane *lane, void *to, const void **data, int64_t deadline)
{
    (void)deadline;
    struct lane_loop *loop = loop_of(lane);
    size_t sealed = lane_core_record_bytes(&loop->core);
    int error = lane_core_alive(&loop->core);
    if (error != 0 || sealed == 0) {
        return error;
    }
    void *place = to != NULL ? to : loop->plain;
    ssize_t bytes = lane_core_record(&loop->core, loop->sealed + loop->answer_at, place);
    loop->answer_at += sealed;
    if (bytes > 0) {
        *data = place;
    }
    return bytes;
}

static int loop_receive(struct lane *lane, struct wire_header *header, int64_t deadline)
{
    struct lane_loop *loop = loop_of(lane);
    const void *dropped;
    int error = lane_core_expects(&loop->core);
    while (error == 0 && loop->core.left > 0) {
        ssize_t bytes = loop_receive_data(lane, NULL, &dropped, deadline);
        error = bytes < 0 ? (int)bytes : 0;
    }
    if (error != 0) {
        return error;
    }
    error = answer_request(loop);
    if (error != 0) {
        return lane_core_fail(&loop->core, error);
    }
    loop->answer_at = WIRE_HEADER_SEALED_BYTES;
    return lane_core_answer(&loop->core, loop->sealed, header);
}

static void loop_shut(struct lane *lane)
{
    atomic_store_explicit(&loop_of(lane)->core.shut, true, memory_order_release);
}

static void loop_destroy(struct lane *lane)
{
    struct lane_loop *loop = loop_of(lane);
    lane_core_clear(&loop->core);
    noise_cipher_destroy(&loop->server_seal);
    noise_cipher_destroy(&loop->server_open);
    munmap(loop, sizeof *loop);
}

static const struct lane_ops loop_ops = {
    .send = loop_send,
    .receive = loop_receive,
    .receive_data = loop_receive_data,
    .shut = loop_shut,
    .destroy = loop_destroy,
};

struct lane *lane_loop_create(lane_loop_answer *answer, void *context)
{
    struct noise_pair pair;
    int error = noise_pair_create(&pair, NOISE_CHACHAPOLY);
    if (error != 0) {
        errno = -error;
        return NULL;
    }
    struct lane_loop *loop = mmap(NULL, sizeof *loop, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (loop == MAP_FAILED) {
        noise_pair_destroy(&pair);
        errno = ENOMEM;
        return NULL;
    }
    lane_core_init(&loop->core, &loop_ops, pair.send[0], pair.receive[0]);
    loop->server_seal = pair.send[1];
    loop->server_open = pair.receive[1];
    loop->answer = answer;
    loop->context = context;
    return &loop->core.lane;
}
