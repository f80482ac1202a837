// SPDX-License-Identifier: Apache-2.0
//
// What is believed of an index file at open.
#ifndef SERVER_STORE_SEGMENT_SCAN_H
#define SERVER_STORE_SEGMENT_SCAN_H

#include "server/store/segment.h"

// The newer good copy of the record, checked against the file's name and size. -EINVAL, -EPROTO,
// -EIO with a sentence.
int segment_record_read(int fd, const char *name, struct store_segment_record *record,
                        uint64_t *sequence, struct failure *failure);
// Adopts every slot that the index names, and finds the highest version and the blocks in use.
// -EINVAL, -EIO with a sentence that names file and page.
int segment_scan(struct store_segment *segment, const char *name, struct failure *failure);

#endif
