// SPDX-License-Identifier: Apache-2.0
//
// A message as sealed records: what every lane, on either end, does between wire.h and its
// transport. Outgoing: a cursor that seals one record at a time straight into the transport's
// buffer. Incoming: how many bytes the next record takes, and the opening of headers. All of it is
// async-signal-safe and allocates nothing.
#ifndef RPC_RECORD_H
#define RPC_RECORD_H

#include <sys/types.h>
#include <sys/uio.h>

#include "rpc/noise.h"
#include "rpc/wire.h"

enum {
    RECORD_SEALED_MAX = LIMIT_RECORD_DATA_BYTES + LIMIT_SEAL_BYTES,
    RECORD_MESSAGE_MAX = // the longest message: a header and a run
    WIRE_HEADER_SEALED_BYTES + LIMIT_RUN_BYTES +
    LIMIT_RUN_BYTES / LIMIT_RECORD_DATA_BYTES * LIMIT_SEAL_BYTES,
};

struct record_source { // a message on its way out; borrows header and pieces until its end
    struct noise_cipher *cipher;
    const struct wire_header *header; // NULL once sealed
    const struct iovec *pieces;
    size_t offset; // into *pieces
    uint32_t left; // payload bytes not yet sealed
};

// -EINVAL when the pieces hold fewer than header->length bytes or that is above LIMIT_RUN_BYTES.
int record_source_start(struct record_source *source, struct noise_cipher *cipher,
                        const struct wire_header *header, const struct iovec *pieces, int count);
// Sealed bytes of the next record; 0 at the end of the message.
size_t record_source_bytes(const struct record_source *source);
// Seals the next record into `to` (room for record_source_bytes). 0 or noise_seal's error.
int record_source_seal(struct record_source *source, uint8_t *to);
// Leaves out the header, which is the next record: it is sealed later, in its place. 0 or -errno.
int record_source_pass_header(struct record_source *source);
int record_header_seal_late(struct noise_cipher *cipher, const struct wire_header *header,
                            uint8_t *to);

// Plain bytes of the next record of a payload of which `left` bytes are to come; 0 at its end.
static inline uint32_t record_plain_bytes(uint32_t left)
{
    return left < LIMIT_RECORD_DATA_BYTES ? left : LIMIT_RECORD_DATA_BYTES;
}

// Opens and decodes WIRE_HEADER_SEALED_BYTES. 0, -EBADMSG, -ENOTCONN. Checking is the caller's.
int record_header_open(struct noise_cipher *cipher, const uint8_t *sealed,
                       struct wire_header *header);

#endif
