// SPDX-License-Identifier: Apache-2.0
//
// Shared by the two ends of the handshake and by nobody else: how long its messages are, and its
// sealed header-and-record pairs.
#ifndef RPC_HANDSHAKE_WIRE_H
#define RPC_HANDSHAKE_WIRE_H

#include <errno.h>

#include "rpc/record.h"

enum {
    HANDSHAKE_MESSAGE_1_BYTES = 96, // e, es, s, ss, tag of the empty payload
    HANDSHAKE_MESSAGE_2_BYTES = 48, // e, ee, se, psk, tag
    HANDSHAKE_HELLO_1_BYTES = WIRE_HELLO_BYTES + HANDSHAKE_MESSAGE_1_BYTES,
    HANDSHAKE_ATTACH_SEALED_BYTES = WIRE_ATTACH_BYTES + LIMIT_SEAL_BYTES,
    HANDSHAKE_ATTACHED_SEALED_BYTES = WIRE_ATTACHED_BYTES + LIMIT_SEAL_BYTES,
    HANDSHAKE_VERDICT_BYTES = HANDSHAKE_MESSAGE_2_BYTES + WIRE_HEADER_SEALED_BYTES,
};

// As Noise has them: one key of NOISE_KEY_BYTES, zeros for who has none (NULL).
static inline const uint8_t (*handshake_psks(const uint8_t *psk))[NOISE_KEY_BYTES]
{
    static const uint8_t none[NOISE_KEY_BYTES];
    return (const uint8_t(*)[NOISE_KEY_BYTES])(psk != NULL ? psk : none);
}

// Seals a header of this op, status and length, and then `length` bytes as one record (NULL: length
// must be 0).
static inline int handshake_seal(struct noise_cipher *cipher, unsigned op, enum wire_status status,
                                 const uint8_t *record, uint32_t length, uint8_t *to)
{
    struct wire_header header = {.op = (uint16_t)op, .status = (uint16_t)status, .length = length};
    wire_header_encode(&header, to);
    int error = noise_seal(cipher, to, WIRE_HEADER_BYTES, to);
    if (error == 0 && length > 0) {
        error = noise_seal(cipher, record, length, to + WIRE_HEADER_SEALED_BYTES);
    }
    return error;
}

// Opens a header; -EBADMSG unless it is of this op, all else but status and length being zero.
static inline int handshake_header_open(struct noise_cipher *cipher, const uint8_t *sealed,
                                        unsigned op, struct wire_header *header)
{
    int error = record_header_open(cipher, sealed, header);
    if (error != 0) {
        return error;
    }
    uint8_t plain[WIRE_HEADER_BYTES];
    uint8_t rest = 0;
    wire_header_encode(header, plain);
    for (unsigned i = 8; i < sizeof plain; i++) { // behind op, status and length
        rest |= plain[i];
    }
    return header->op == op && rest == 0 ? 0 : -EBADMSG;
}

#endif
