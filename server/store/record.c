// SPDX-License-Identifier: Apache-2.0
//
// Why a record is checked in full when it is read, although its checksum is good: the store's
// sizes, addresses and mappings are computed from it, and a file may have been made by a program
// with other limits. What passes here can be computed with: pages times entry size does not
// overflow, names end with NUL, the page size has a slot class.
//
// A record that says nothing which earlier releases do not know has their format, so that they can go on with the store; one that
// does has a format which they refuse, since a segment that belongs to a capsule must not be opened by who does not know of capsules.
//
// Layout: magic, format, sequence, fields in the order of the struct, zeros, checksum in the last
// eight bytes. The format number is looked at before the checksum, as in the header.
//
// Threads: pure functions.
#include "server/store/record.h"

#include <errno.h>
#include <string.h>

#include "server/store/codec.h"

enum {
    MAGIC_BYTES = 8,
    FIELDS_BYTES = MAGIC_BYTES + 4 + 8 + 8 + LIMIT_SEGMENT_NAME_BYTES + WIRE_ID_BYTES + 8 + 4 * 4 +
                   8 + LIMIT_PRINCIPAL_NAME_BYTES + 8 + WIRE_ID_BYTES + LIMIT_HOLDER_NAME_BYTES +
                   4 + 8 + WIRE_DIGEST_BYTES + 8 + 4,
    SUM_AT = RECORD_COPY_BYTES - 8,
};
_Static_assert(FIELDS_BYTES <= SUM_AT, "a record's fields fit into its copy");
static const uint8_t magic[MAGIC_BYTES] = {'D', 'S', 'M', 'S', 'E', 'G', 'M', 'T'};

uint64_t record_pages(const struct store_segment_record *record)
{
    return record->bytes / record->page_bytes + (record->bytes % record->page_bytes != 0 ? 1 : 0);
}

int record_check(const struct store_segment_record *record)
{
    uint32_t page = record->page_bytes;
    bool size = page >= LIMIT_PAGE_MIN_BYTES && page <= LIMIT_PAGE_MAX_BYTES &&
                (page & (page - 1)) == 0 && record->bytes > 0 &&
                record->bytes <= LIMIT_SEGMENT_BYTES;
    bool names = memchr(record->name, 0, sizeof record->name) != NULL &&
                 memchr(record->principal, 0, sizeof record->principal) != NULL &&
                 memchr(record->writer_name, 0, sizeof record->writer_name) != NULL;
    return size && names && record->id != 0 && record->id != UINT64_MAX ? 0 : -EINVAL;
}

static uint32_t format_of(const struct store_segment_record *record)
{
    static const uint8_t none[WIRE_DIGEST_BYTES];
    bool plain = record->family == 0 && record->moves == 0 && !record->sealed &&
                 record->type == 0 && memcmp(record->identity, none, sizeof none) == 0;
    return plain ? RECORD_FORMAT_PLAIN : RECORD_FORMAT;
}

void record_encode(const struct store_segment_record *record, uint64_t sequence,
                   uint8_t copy[RECORD_COPY_BYTES])
{
    uint8_t *at = copy;
    memset(copy, 0, RECORD_COPY_BYTES);
    codec_put_bytes(&at, magic, MAGIC_BYTES);
    codec_put_u32(&at, format_of(record));
    codec_put_u64(&at, sequence);
    codec_put_u64(&at, record->id);
    codec_put_bytes(&at, record->name, sizeof record->name);
    codec_put_bytes(&at, record->operation, sizeof record->operation);
    codec_put_u64(&at, record->bytes);
    codec_put_u32(&at, record->page_bytes);
    codec_put_u32(&at, record->type);
    codec_put_u32(&at, record->flags);
    codec_put_u32(&at, record->replicas);
    codec_put_u64(&at, record->base);
    codec_put_bytes(&at, record->principal, sizeof record->principal);
    codec_put_u64(&at, record->epoch);
    codec_put_bytes(&at, record->writer, sizeof record->writer);
    codec_put_bytes(&at, record->writer_name, sizeof record->writer_name);
    codec_put_u32(&at, record->had_readers);
    codec_put_u64(&at, record->family);
    codec_put_bytes(&at, record->identity, sizeof record->identity);
    codec_put_u64(&at, record->moves);
    codec_put_u32(&at, record->sealed ? 1 : 0);
    at = copy + SUM_AT;
    codec_put_u64(&at, codec_checksum(copy, SUM_AT));
}

int record_decode(const uint8_t copy[RECORD_COPY_BYTES], struct store_segment_record *record,
                  uint64_t *sequence)
{
    const uint8_t *sum = copy + SUM_AT;
    const uint8_t *at = copy + MAGIC_BYTES;
    struct store_segment_record found = {0};
    if (memcmp(copy, magic, MAGIC_BYTES) != 0) {
        return -EINVAL;
    }
    uint32_t format = codec_get_u32(&at);
    if (format != RECORD_FORMAT && format != RECORD_FORMAT_PLAIN) {
        return -EPROTO;
    }
    if (codec_get_u64(&sum) != codec_checksum(copy, SUM_AT)) {
        return -EINVAL;
    }
    uint64_t number = codec_get_u64(&at);
    found.id = codec_get_u64(&at);
    codec_get_bytes(&at, found.name, sizeof found.name);
    codec_get_bytes(&at, found.operation, sizeof found.operation);
    found.bytes = codec_get_u64(&at);
    found.page_bytes = codec_get_u32(&at);
    found.type = codec_get_u32(&at);
    found.flags = codec_get_u32(&at);
    found.replicas = codec_get_u32(&at);
    found.base = codec_get_u64(&at);
    codec_get_bytes(&at, found.principal, sizeof found.principal);
    found.epoch = codec_get_u64(&at);
    codec_get_bytes(&at, found.writer, sizeof found.writer);
    codec_get_bytes(&at, found.writer_name, sizeof found.writer_name);
    found.had_readers = codec_get_u32(&at);
    found.family = codec_get_u64(&at); // zeros in the plain format, as all that follows
    codec_get_bytes(&at, found.identity, sizeof found.identity);
    found.moves = codec_get_u64(&at);
    found.sealed = codec_get_u32(&at) != 0;
    if (record_check(&found) != 0) {
        return -EINVAL;
    }
    *record = found;
    *sequence = number;
    return 0;
}
