// SPDX-License-Identifier: Apache-2.0
//
// Why the store's header and records are encoded by hand: they outlive the compiler that laid out a
// struct, and a damaged one must be told from a good one before a single field is believed. The
// checksum guards against a torn or rotten block, not against somebody who may write the directory
// anyway, so a CRC is enough; it is computed bit by bit because a record is half a kilobyte and
// written at open, create and change of owner only. (A keyed hash would drag libsodium into a
// second file.)
//
// Threads: pure functions.
#include "server/store/codec.h"

#include <string.h>

void codec_put_u32(uint8_t **to, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++) {
        *(*to)++ = (uint8_t)(value >> (8 * i));
    }
}

void codec_put_u64(uint8_t **to, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++) {
        *(*to)++ = (uint8_t)(value >> (8 * i));
    }
}

void codec_put_bytes(uint8_t **to, const void *bytes, size_t size)
{
    memcpy(*to, bytes, size);
    *to += size;
}

uint32_t codec_get_u32(const uint8_t **from)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < 4; i++) {
        value |= (uint32_t) * (*from)++ << (8 * i);
    }
    return value;
}

uint64_t codec_get_u64(const uint8_t **from)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < 8; i++) {
        value |= (uint64_t) * (*from)++ << (8 * i);
    }
    return value;
}

void codec_get_bytes(const uint8_t **from, void *bytes, size_t size)
{
    memcpy(bytes, *from, size);
    *from += size;
}

uint64_t codec_checksum(const uint8_t *bytes, size_t size)
{
    uint64_t sum = ~0ULL;
    for (size_t i = 0; i < size; i++) {
        sum ^= bytes[i];
        for (unsigned bit = 0; bit < 8; bit++) {
            sum = (sum >> 1) ^ ((sum & 1) != 0 ? 0xC96C5795D7870F42ULL : 0);
        }
    }
    return ~sum;
}
