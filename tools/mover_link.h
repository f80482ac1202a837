// SPDX-License-Identifier: Apache-2.0
//
// What "dsmctl migrate" and "dsmctl agent" say to each other: messages over the sealed connection that rpc/handshake.h makes, with the
// role of a mover, so that it cannot be taken for a memory server's.
//
//     migrate  OFFER      build id, name of the task          agent  READY, the capsule's key; or REFUSED, why
//     migrate  CAPSULE... END                                 agent  TAKEN; or REFUSED, why
//
// One thread at a time; blocking, with a deadline for each message.
#ifndef TOOLS_MOVER_LINK_H
#define TOOLS_MOVER_LINK_H

#include <stddef.h>
#include <stdint.h>

#include "rpc/failure.h"
#include "rpc/limits.h"
#include "rpc/noise.h"

enum {
    MOVER_PORT = 7415,
    MOVER_VERSION = 1,
    MOVER_MOST_BYTES = LIMIT_RECORD_DATA_BYTES,                                    // of one message
    MOVER_CAPSULE_BYTES = LIMIT_CAPSULE_BYTES + LIMIT_CAPSULE_BYTES / 1024 + 4096, // when sealed
};

enum mover_message {
    MOVER_OFFER = 1,
    MOVER_READY,
    MOVER_CAPSULE,
    MOVER_END,
    MOVER_TAKEN,
    MOVER_REFUSED,
    MOVER_LAST = MOVER_REFUSED,
};

struct mover_link {
    int fd; // not blocking
    struct noise_cipher *send, *receive;
};

struct mover_offer {
    uint8_t build_id[LIMIT_BUILD_ID_BYTES];
    uint32_t build_id_bytes;
    char name[LIMIT_SEGMENT_NAME_BYTES]; // of the task
};

void mover_link_end(struct mover_link *link); // closes, wipes
// 0 or -errno; bytes <= MOVER_MOST_BYTES.
int mover_say(struct mover_link *link, enum mover_message message, const void *bytes, size_t count);
// 0, or -ENODATA (the other end is gone), -ETIMEDOUT, -EBADMSG, -errno. `to` has room for MOVER_MOST_BYTES and a NUL, which is put behind.
int mover_hear(struct mover_link *link, int64_t deadline, enum mover_message *message, uint8_t *to,
               size_t *count);

size_t mover_offer_encode(const struct mover_offer *offer, uint8_t *to); // MOVER_MOST_BYTES
int mover_offer_decode(const uint8_t *from, size_t count, struct mover_offer *offer); // -EBADMSG

// "HOST", "HOST:PORT" or "[V6]:PORT". 0 or -EINVAL.
int mover_split(const char *address, char host[256], char port[8]);

#endif
