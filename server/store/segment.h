// SPDX-License-Identifier: Apache-2.0
//
// A segment's index file, segments/<id in hex>: its record in the first 4 KiB, then 16 bytes for
// each page. The index is the only truth about which page lies in which slot.
#ifndef SERVER_STORE_SEGMENT_H
#define SERVER_STORE_SEGMENT_H

#include <pthread.h>
#include <stdatomic.h>

#include "server/store/slots.h"
#include "server/store/store.h"

enum {
    INDEX_BLOCK_BYTES = 4096,        // the record's place, and the step in which the file gets room
    INDEX_RECORD_APART_BYTES = 1024, // between the two copies of the record
    INDEX_HIGHEST_AT = 4088,         // highest applied version, 64 bits
    INDEX_BLOCK_ENTRIES = INDEX_BLOCK_BYTES / 16,
};

struct store_entry { // in the file as in memory: little-endian
    _Atomic uint64_t version;
    _Atomic uint64_t word; // 0: zeros; ENTRY_NONE: given up; else slot << 8 | ENTRY_SLOT
};
enum { ENTRY_SLOT = 1 };
#define ENTRY_NONE (0x4e4f4e45ULL << 8 | 2) // "NONE": no number that damage is likely to leave
_Static_assert(sizeof(struct store_entry) == 16, "an index entry has 16 bytes");

static inline uint64_t entry_word(uint32_t slot)
{
    return slot == SLOT_NONE ? 0 : (uint64_t)slot << 8 | ENTRY_SLOT;
}
static inline uint32_t entry_slot(uint64_t word)
{
    return (word & ENTRY_SLOT) != 0 ? (uint32_t)(word >> 8) : SLOT_NONE;
}

// Locks: [W] segment.lock, before [A]. [D] store.lock. [c] constant. [a] atomic. Entries: written
// under [W], read by all.
struct store_segment {
    struct store_segment *next;  // [D]
    struct slot_class *class;    // [c]
    struct slots *slots;         // [c]
    int directory;               // [c] the store's segments/
    int fd;                      // [c]
    uint64_t pages;              // [c]
    uint8_t *map;                // [c] the file itself on tmpfs, else its copy in memory
    uint64_t map_bytes;          // [c]
    struct store_entry *entries; // [c] in map
    pthread_mutex_t lock;        // [W]
    _Atomic uint64_t *blocks; // [a] bit: this block of entries has room in the file; set under [W]
    _Atomic uint64_t block_count; // [a] set bits; written under [W]
    uint64_t sequence;            // [W] of the newest copy of the record
    struct store_segment_record
        record; // [c] but for its changing part: [W]; read under the catalog's lock
    _Atomic uint64_t highest, stored_bytes, none_pages; // [a], written under [W]
};

static inline bool segment_thin(const struct store_segment *segment)
{
    return (segment->record.flags & STORE_SEGMENT_NORESERVE) != 0;
}

static inline uint64_t segment_family(const struct store_segment *segment)
{
    return segment->record.family != 0 ? segment->record.family : segment->record.id;
}

// source: NULL, or the segment whose pages it begins with, under its [W].
int segment_create(struct slots *slots, int directory, const struct store_segment_record *record,
                   struct store_segment *source, struct store_segment **segment);
// clone.c: the entries of another one, and a reference more to each of its slots. What was copied before an error is copied.
int segment_copy(struct store_segment *clone, struct store_segment *source);
int segment_open(struct slots *slots, int directory, const char *name,
                 struct store_segment **segment, struct failure *failure);
void segment_close(struct store_segment **segment); // forgets it; the file stays
int segment_unlink(struct store_segment *segment);
void segment_free_slots(struct store_segment *segment); // after unlink
// To the file only, over the older copy.
int segment_record_write(struct store_segment *segment, const struct store_segment_record *record);

// Room in the file for a page's entry: 0, -ENOSPC, -EIO. Under [W].
int segment_prepare(struct store_segment *segment, uint64_t page);
// On a disk: entries and the highest version into the file, before they are published. 0 or -EIO.
// Under [W].
int segment_commit(struct store_segment *segment, uint64_t first, const uint64_t (*entries)[2],
                   uint32_t count, uint64_t highest);
void segment_highest_set(struct store_segment *segment, uint64_t version); // under [W]
// What it takes of the capacity. Under [W] or alone with it; else it may be a moment old.
void segment_promise(const struct store_segment *segment, uint64_t *page_bytes,
                     uint64_t *index_bytes);
// An entry in a block without room is zeros, and must not be looked at: a load from a hole of a
// file on tmpfs takes a page of memory that nobody counted.
static inline bool segment_block_has_room(const struct store_segment *segment, uint64_t block)
{
    return (atomic_load(&segment->blocks[block / 64]) >> (block % 64) & 1) != 0;
}
static inline uint64_t segment_word(const struct store_segment *segment, uint64_t page)
{
    return segment_block_has_room(segment, page / INDEX_BLOCK_ENTRIES)
               ? atomic_load(&segment->entries[page].word)
               : 0;
}
static inline uint64_t segment_version(const struct store_segment *segment, uint64_t page)
{
    return segment_block_has_room(segment, page / INDEX_BLOCK_ENTRIES)
               ? atomic_load(&segment->entries[page].version)
               : 0;
}
// The first block of entries at or above `block` that has room; UINT64_MAX: none.
uint64_t segment_block_next(const struct store_segment *segment, uint64_t block);

#endif
