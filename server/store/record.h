// SPDX-License-Identifier: Apache-2.0
//
// One copy of a segment's record as bytes. The first page of a segment's index file holds two of
// them.
#ifndef SERVER_STORE_RECORD_H
#define SERVER_STORE_RECORD_H

#include "server/store/store.h"

// RECORD_FORMAT_PLAIN is RECORD_FORMAT with nothing said after had_readers: what earlier releases read.
enum { RECORD_FORMAT_PLAIN = 1, RECORD_FORMAT = 2, RECORD_COPY_BYTES = 1024 };

void record_encode(const struct store_segment_record *record, uint64_t sequence,
                   uint8_t copy[RECORD_COPY_BYTES]);
// 0; -EPROTO: another format; -EINVAL: damaged, or fields out of their range.
int record_decode(const uint8_t copy[RECORD_COPY_BYTES], struct store_segment_record *record,
                  uint64_t *sequence);
// 0, or -EINVAL: sizes, types and names that no segment can have.
int record_check(const struct store_segment_record *record);
uint64_t record_pages(const struct store_segment_record *record);

#endif
