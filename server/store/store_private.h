// SPDX-License-Identifier: Apache-2.0
//
// What the files that work on a whole store share.
#ifndef SERVER_STORE_STORE_PRIVATE_H
#define SERVER_STORE_STORE_PRIVATE_H

#include <pthread.h>

#include "server/store/failpoint.h"
#include "server/store/header.h"
#include "server/store/segment.h"
#include "server/store/slots.h"
#include "server/store/store.h"

// Locks, in this order: [D] store.lock, [W] segment.lock (several only in store_check), [A]
// slots.lock.
struct store {
    int directory;          // [c]
    int segments_directory; // [c]
    int header_file;        // [c] with the lock on it
    bool was_clean;         // [c]
    pthread_key_t thread;   // [c] each thread's struct slot_reader
    struct failpoint failpoint;
    pthread_mutex_t lock;           // [D]
    struct store_header header;     // [D]
    struct store_segment *segments; // [D]
    uint64_t segment_count;         // [D]
    uint64_t segment_limit;         // [c] that may be made; found ones are kept, however many
    struct slots slots;
};

// What the directory should be able to hold: -ENOSPC or -ENOMEM with a sentence with figures. Room
// that the store's files have already counts as free.
int room_check(int directory, int segments_directory, uint64_t capacity_bytes, bool tmpfs,
               struct failure *failure);
// 0 or -EINVAL: something is in the directory that is not of an unfinished new store.
int room_directory_empty(int directory);

#endif
