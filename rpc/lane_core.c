// SPDX-License-Identifier: Apache-2.0
//
// The part of a client's lane that is the same on every transport. It owns the ring of questions: a
// server answers in the order in which it was asked, so an answer is held against the oldest one,
// and whatever does not fit it (another request id, more pages than asked, a length that no page
// size explains) kills the lane. A server that is wrong about the order is wrong about which page
// it sends.
//
// alive --any error but -EAGAIN and -EINVAL--> dead      shut (any thread): dead at the owner's
// next step
//
// A dead lane stays dead: a record that failed to open, or a send that stopped halfway, leaves the
// two ends at different places in the stream, and no later byte can be trusted to be what it seems.
//
// It must never allocate, lock or log: lane_sock calls it in a signal handler. The owner alone uses
// it, but for `shut`.
#include "rpc/lane_core.h"

#include <errno.h>

void lane_core_init(struct lane_core *core, const struct lane_ops *ops, struct noise_cipher *seal,
                    struct noise_cipher *open)
{
    core->lane.ops = ops;
    core->lane.counts = (struct lane_counts){0};
    core->lane.ahead = 0;
    core->lane.times = NULL;
    core->lane.spin = (struct spin){0};
    core->lane.patience = LANE_NO_DEADLINE;
    core->seal = seal;
    core->open = open;
    core->oldest = 0;
    core->asked = 0;
    core->left = 0;
    core->dead = false;
    atomic_init(&core->shut, false);
}

void lane_core_clear(struct lane_core *core)
{
    noise_cipher_destroy(&core->seal);
    noise_cipher_destroy(&core->open);
}

int lane_core_alive(const struct lane_core *core)
{
    return core->dead || atomic_load_explicit(&core->shut, memory_order_acquire) ? -ENOTCONN : 0;
}

int lane_core_fail(struct lane_core *core, int error)
{
    core->dead = true;
    return atomic_load_explicit(&core->shut, memory_order_acquire) ? -ENOTCONN : error;
}

int lane_core_ask(struct lane_core *core, const struct wire_header *header,
                  const struct iovec *pieces, int count, struct record_source *source)
{
    if (lane_core_alive(core) != 0) {
        return -ENOTCONN;
    }
    if (wire_request_check(header) != 0 || header->op == WIRE_CLOSE) {
        return -EINVAL;
    }
    if (core->asked == LANE_QUESTIONS) {
        return -EAGAIN;
    }
    return record_source_start(source, core->seal, header, pieces, count);
}

void lane_core_asked(struct lane_core *core, const struct wire_header *header, size_t sealed_bytes)
{
    core->questions[(core->oldest + core->asked) % LANE_QUESTIONS] = *header;
    core->asked++;
    core->lane.counts.requests++;
    core->lane.counts.sent_bytes += sealed_bytes;
}

int lane_core_expects(const struct lane_core *core)
{
    if (lane_core_alive(core) != 0) {
        return -ENOTCONN;
    }
    return core->asked == 0 ? -EINVAL : 0;
}

static bool says_close(const struct wire_header *header)
{
    return (header->op & ~(unsigned)WIRE_ANSWER) == WIRE_CLOSE && header->length == 0;
}

int lane_core_answer(struct lane_core *core, const uint8_t *sealed, struct wire_header *header)
{
    struct wire_header answer;
    int64_t begun = lane_core_clock(core);
    int error = record_header_open(core->open, sealed, &answer);
    if (error == 0 && says_close(&answer)) {
        error = -ESHUTDOWN;
    }
    if (error == 0) {
        error = wire_answer_check(&answer, &core->questions[core->oldest]);
    }
    if (error != 0) {
        return lane_core_fail(core, error);
    }
    core->oldest = (core->oldest + 1) % LANE_QUESTIONS;
    core->asked--;
    core->left = answer.length;
    core->lane.counts.received_bytes += WIRE_HEADER_SEALED_BYTES;
    lane_core_cipher_time(core, begun);
    if (core->lane.times != NULL) {
        core->lane.times->server_ns += answer.server_ns;
        core->lane.times->server_cipher_ns += answer.cipher_ns;
    }
    *header = answer;
    return 0;
}

size_t lane_core_record_bytes(const struct lane_core *core)
{
    return core->left == 0 ? 0 : (size_t)record_plain_bytes(core->left) + LIMIT_SEAL_BYTES;
}

ssize_t lane_core_record(struct lane_core *core, const uint8_t *sealed, void *to)
{
    uint32_t bytes = record_plain_bytes(core->left);
    int64_t begun = lane_core_clock(core);
    int error = noise_open(core->open, sealed, (size_t)bytes + LIMIT_SEAL_BYTES, to);
    if (error != 0) {
        return lane_core_fail(core, error);
    }
    core->left -= bytes;
    core->lane.counts.received_bytes += (uint64_t)bytes + LIMIT_SEAL_BYTES;
    lane_core_cipher_time(core, begun);
    if (core->lane.times != NULL) {
        core->lane.times->data_bytes += bytes;
    }
    return (ssize_t)bytes;
}

size_t lane_core_close(struct lane_core *core, uint8_t *to)
{
    const struct wire_header header = {.op = WIRE_CLOSE};
    struct record_source source;
    if (lane_core_alive(core) != 0 ||
        record_source_start(&source, core->seal, &header, NULL, 0) != 0 ||
        record_source_seal(&source, to) != 0) {
        return 0;
    }
    return WIRE_HEADER_SEALED_BYTES;
}
