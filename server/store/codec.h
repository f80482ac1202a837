// SPDX-License-Identifier: Apache-2.0
//
// Little-endian bytes of the store's files: a cursor that writes or reads one field after another,
// and the checksum over them. No struct is ever cast to bytes. The caller provides room for the sum
// of its fields.
#ifndef SERVER_STORE_CODEC_H
#define SERVER_STORE_CODEC_H

#include <stddef.h>
#include <stdint.h>

void codec_put_u32(uint8_t **to, uint32_t value);
void codec_put_u64(uint8_t **to, uint64_t value);
void codec_put_bytes(uint8_t **to, const void *bytes, size_t size);
uint32_t codec_get_u32(const uint8_t **from);
uint64_t codec_get_u64(const uint8_t **from);
void codec_get_bytes(const uint8_t **from, void *bytes, size_t size);

// CRC-64 with the polynomial of ECMA-182, reflected.
uint64_t codec_checksum(const uint8_t *bytes, size_t size);

#endif
