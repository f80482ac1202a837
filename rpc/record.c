// SPDX-License-Identifier: Apache-2.0
//
// Messages to records. A header is always one record of its own, of fixed size, so the receiver
// knows how much to wait for before it knows anything; the payload follows in records of
// LIMIT_RECORD_DATA_BYTES, the last one shorter. The boundaries follow from the header's length
// alone: nothing on the wire says them in plain, so nothing on the wire can lie about them.
//
// The payload comes as pieces (pages of a store, frames of a swap buffer). A record that lies
// within one piece is sealed straight from there: one pass over the data, by the cipher. Only a
// record that spans pieces is gathered first, into the very place where it is then sealed.
//
// This file must never allocate, log or lock: the fault path runs through it, in a signal handler.
//
// Rejected: cutting records at the pieces' boundaries. It would save the gathering, but the
// receiver would have to know the sender's page layout, and small pages would cost eight tags
// instead of one.
#include "rpc/record.h"

#include <errno.h>
#include <string.h>

int record_source_start(struct record_source *source, struct noise_cipher *cipher,
                        const struct wire_header *header, const struct iovec *pieces, int count)
{
    uint64_t held = 0;
    for (int i = 0; i < count && held < header->length; i++) {
        held += pieces[i].iov_len < LIMIT_RUN_BYTES ? pieces[i].iov_len : LIMIT_RUN_BYTES;
    }
    if (held < header->length || header->length > LIMIT_RUN_BYTES) {
        return -EINVAL;
    }
    *source = (struct record_source){
        .cipher = cipher, .header = header, .pieces = pieces, .left = header->length};
    return 0;
}

size_t record_source_bytes(const struct record_source *source)
{
    if (source->header != NULL) {
        return WIRE_HEADER_SEALED_BYTES;
    }
    return source->left == 0 ? 0 : (size_t)record_plain_bytes(source->left) + LIMIT_SEAL_BYTES;
}

// Steps over pieces that are used up. Ends at one that has bytes: `left` > 0 says that there is
// one.
static size_t piece_room(struct record_source *source)
{
    while (source->offset == source->pieces->iov_len) {
        source->pieces++;
        source->offset = 0;
    }
    return source->pieces->iov_len - source->offset;
}

static const uint8_t *piece_take(struct record_source *source, size_t bytes)
{
    const uint8_t *at = (const uint8_t *)source->pieces->iov_base + source->offset;
    source->offset += bytes;
    return at;
}

static const uint8_t *gather(struct record_source *source, uint8_t *to, size_t bytes)
{
    if (piece_room(source) >= bytes) {
        return piece_take(source, bytes);
    }
    for (size_t have = 0; have < bytes;) {
        size_t room = piece_room(source);
        size_t part = room < bytes - have ? room : bytes - have;
        memcpy(to + have, piece_take(source, part), part);
        have += part;
    }
    return to;
}

int record_source_seal(struct record_source *source, uint8_t *to)
{
    if (source->header != NULL) {
        wire_header_encode(source->header, to);
        source->header = NULL;
        return noise_seal(source->cipher, to, WIRE_HEADER_BYTES, to);
    }
    uint32_t bytes = record_plain_bytes(source->left);
    source->left -= bytes;
    return noise_seal(source->cipher, gather(source, to, bytes), bytes, to);
}

int record_source_pass_header(struct record_source *source)
{
    source->header = NULL;
    return noise_reserve(source->cipher);
}

int record_header_seal_late(struct noise_cipher *cipher, const struct wire_header *header,
                            uint8_t *to)
{
    wire_header_encode(header, to);
    return noise_seal_reserved(cipher, to, WIRE_HEADER_BYTES, to);
}

int record_header_open(struct noise_cipher *cipher, const uint8_t *sealed,
                       struct wire_header *header)
{
    uint8_t plain[WIRE_HEADER_BYTES];
    int error = noise_open(cipher, sealed, WIRE_HEADER_SEALED_BYTES, plain);
    return error != 0 ? error : wire_header_decode(plain, header);
}
