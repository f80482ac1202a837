// SPDX-License-Identifier: Apache-2.0
//
// What the client's lanes have in common, whatever moves their bytes: the questions that are still
// to be answered, the payload of the present answer, and when a lane is dead. Shared by
// lane_sock.c, lane_loop.c and lane_grpc.c, by nobody else.
#ifndef RPC_LANE_CORE_H
#define RPC_LANE_CORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "rpc/deadline.h"
#include "rpc/lane.h"
#include "rpc/record.h"

enum { LANE_QUESTIONS = 64 }; // sent and not yet answered

struct lane_core {
    struct lane lane; // first: the head of every implementation's struct
    struct noise_cipher *seal, *open;
    struct wire_header questions[LANE_QUESTIONS]; // a ring
    unsigned oldest, asked;
    uint32_t left; // plain bytes of the present answer's payload that are to come
    bool dead;
    atomic_bool shut; // the one field that another thread may write
};

// Now, or 0 when nothing is timed; and what passed since then.
static inline int64_t lane_core_clock(const struct lane_core *core)
{
    return core->lane.times != NULL ? deadline_now() : 0;
}
static inline void lane_core_cipher_time(struct lane_core *core, int64_t begun)
{
    if (begun != 0) {
        core->lane.times->cipher_ns += (uint64_t)(deadline_now() - begun);
    }
}
static inline void lane_core_io_time(struct lane_core *core, int64_t begun)
{
    if (begun != 0) {
        core->lane.times->io_ns += (uint64_t)(deadline_now() - begun);
    }
}

// Takes over the ciphers.
void lane_core_init(struct lane_core *core, const struct lane_ops *ops, struct noise_cipher *seal,
                    struct noise_cipher *open);
void lane_core_clear(struct lane_core *core);

// 0, or -ENOTCONN when the lane is dead or shut.
int lane_core_alive(const struct lane_core *core);
// Kills the lane and returns the error: -ENOTCONN in place of it when the lane was shut.
int lane_core_fail(struct lane_core *core, int error);
// Whether this request may be sent now: 0, -ENOTCONN, -EAGAIN (too many unanswered), or -EINVAL
// (not a request; nothing is sent and the lane lives on). On success `source` is ready to be
// sealed.
int lane_core_ask(struct lane_core *core, const struct wire_header *header,
                  const struct iovec *pieces, int count, struct record_source *source);
// It has been sent, in sealed_bytes.
void lane_core_asked(struct lane_core *core, const struct wire_header *header, size_t sealed_bytes);
// Whether an answer may be waited for: 0, -ENOTCONN, or -EINVAL (nothing was asked; the lane lives
// on).
int lane_core_expects(const struct lane_core *core);
// Opens an answer's header and holds it against the oldest question. Kills the lane on error.
int lane_core_answer(struct lane_core *core, const uint8_t *sealed, struct wire_header *header);
// Sealed bytes of the payload's next record; 0 at its end.
size_t lane_core_record_bytes(const struct lane_core *core);
// Opens that record into `to`; its plain bytes, or an error that killed the lane.
ssize_t lane_core_record(struct lane_core *core, const uint8_t *sealed, void *to);
// The sealed CLOSE into `to` (WIRE_HEADER_SEALED_BYTES): its bytes, or 0 when it must not be said.
size_t lane_core_close(struct lane_core *core, uint8_t *to);

#endif
