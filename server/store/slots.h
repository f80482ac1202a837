// SPDX-License-Identifier: Apache-2.0
//
// Slots: places of one page in the data files, one file for each page size, all within one
// capacity. This room knows no segments: it hands out slots, counts what was promised, and takes
// slots back when no reader can be using them.
#ifndef SERVER_STORE_SLOTS_H
#define SERVER_STORE_SLOTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "rpc/failure.h"
#include "server/store/bitmap.h"
#include "server/store/failpoint.h"

enum { SLOT_CLASSES = 9, SLOT_EPOCHS = 3 }; // 4 KiB to 1 MiB
#define SLOT_NONE UINT32_MAX

// Locks. [A] slots.lock, the innermost. [S] slot_class.sync. [c] constant once made. [a] atomic.
// [t] its thread's.
struct slot_reader {
    _Alignas(64) _Atomic uint64_t epoch; // [a] 0: not reading
    _Atomic bool used;                   // [a] a thread has this place
    uint8_t *buffer;                     // [t] LIMIT_RUN_BYTES, on a disk only
    uint64_t buffer_used;                // [t]
};

struct
    slot_user { // a segment that names a slot; all that do are of one family, and each does it once
    uint64_t family, segment;
};

struct slot_class {
    struct slots *owner;         // [c]
    uint32_t page_bytes;         // [c] 0: no such file yet
    uint32_t limit;              // [c] slots that there may ever be
    int fd;                      // [c]
    const uint8_t *map;          // [c] of the whole file to come; NULL on a disk
    pthread_mutex_t sync;        // a failed sync must be seen by all who count on it
    struct bitmap taken;         // [A] in use, in flight or in limbo
    uint64_t *backed;            // [A] bit: has blocks in the file
    uint32_t *references;        // [A]
    struct slot_user *users;     // [A] while the store is opened
    uint32_t *next;              // [A] limbo list
    uint32_t limbo[SLOT_EPOCHS]; // [A] heads
    uint32_t idle_count;         // [A] backed but not taken
    uint32_t end;                // [A] above every slot that ever had blocks
    uint32_t punch_at;           // [A] word where the last one was punched
};

struct slots {
    int directory;               // [c]
    bool tmpfs, power;           // [c]
    uint64_t capacity_bytes;     // [c]
    struct failpoint *failpoint; // [c]
    struct slot_reader *readers; // [c]
    int reader_count;            // [c]
    _Atomic uint64_t epoch;      // [a], written under [A]
    _Atomic uint32_t waiting;    // [a] writers that wait for limbo to drain
    _Atomic bool failed;         // [a] the medium failed: nothing is written any more
    pthread_mutex_t lock;        // [A]
    pthread_cond_t drained;
    uint64_t promised_bytes; // [A] to segments: pages, and index blocks of thin ones
    uint64_t index_bytes;    // [A] the index blocks in it
    uint64_t taken_bytes, limbo_bytes, backed_bytes, waits; // [A]
    struct slot_class classes[SLOT_CLASSES];
};

int slots_create(struct slots *slots, int threads);
void slots_destroy(struct slots *slots);
// The class of a page size, its file made or opened. Serialised by the caller.
int slots_class_get(struct slots *slots, uint32_t page_bytes, struct slot_class **class);
// At open, one segment after the other: a page of this one refers to this slot. -EINVAL: beyond the file; -EEXIST: another page of it
// or of another family does too; -ENOMEM. Ends with slots_adopted().
int slots_adopt(struct slot_class *class, uint32_t slot, const struct slot_user *user);
void slots_adopted(struct slots *slots);

bool slots_promise(struct slots *slots, uint64_t page_bytes, uint64_t index_bytes);
void slots_unpromise(struct slots *slots, uint64_t page_bytes, uint64_t index_bytes);

// `count` ascending slots with one reference each; waits for limbo to drain where needed. 0 or -EIO
// (medium failed).
int slots_take(struct slot_class *class, uint32_t count, uint32_t *taken);
// One reference more of each; they have one that cannot go meanwhile.
void slots_share(struct slot_class *class, uint32_t count, const uint32_t *shared);
// Slots that nobody ever saw.
void slots_give_back(struct slot_class *class, uint32_t count, const uint32_t *given);
// Slots that the index no longer names: free when every reader of now has passed.
void slots_retire(struct slot_class *class, uint32_t count, const uint32_t *retired);
int slots_sync(struct slot_class *class); // the data file; 0 or -EIO

// reclaim.c
struct slot_reader *
slots_reader_get(struct slots *slots); // NULL: all places are taken, or no memory
void slots_reader_put(struct slot_reader *reader);
void slots_read_begin(struct slots *slots, struct slot_reader *reader);
void slots_read_end(struct slots *slots, struct slot_reader *reader);
bool slots_reclaim_locked(struct slots *slots); // true: something became free
void slots_free_locked(struct slot_class *class, uint32_t slot);

#endif
