// SPDX-License-Identifier: Apache-2.0
//
// The store's header file: who this store is, how often it was started, and how it was stopped. Two
// alternating copies with sequence numbers, so that a crash while writing leaves the older one.
#ifndef SERVER_STORE_HEADER_H
#define SERVER_STORE_HEADER_H

#include <stdbool.h>
#include <stdint.h>

#include "rpc/failure.h"
#include "rpc/wire.h"

enum { HEADER_FORMAT = 1, HEADER_BOOT_ID_BYTES = 36 };

struct store_header {
    uint64_t sequence; // of the copy; header_write counts it
    uint8_t store_id[WIRE_ID_BYTES];
    char boot_id[HEADER_BOOT_ID_BYTES]; // of the host at the last start
    uint64_t incarnation;
    uint64_t capacity_bytes;
    uint64_t next_segment_id; // every id below was used
    uint64_t base_end;        // above every address that a segment ever had
    uint32_t durability;      // of the last start
    bool clean;
};

// Takes the OFD write lock: 0, -EBUSY, or another -errno.
int header_lock(int fd);
// 0; -ENOENT: nothing was ever written; -EPROTO: another format; -EINVAL: damaged; -EIO. Sentences
// for all but -ENOENT.
int header_read(int fd, struct store_header *header, struct failure *failure);
// Replaces the older copy; with `sync` it is on the medium before the return.
int header_write(int fd, struct store_header *header, bool sync);
int header_boot_id(char boot_id[HEADER_BOOT_ID_BYTES]); // this boot's

#endif
