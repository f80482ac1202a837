// SPDX-License-Identifier: Apache-2.0
//
// A segment that begins with the pages of another one. Its index names the same slots, whose reference counts rise; no page is
// copied. A write of either puts its page into a fresh slot, as every write does, so copy-on-write needs no code of its own:
// the old slot stays for the other, until that one gives it up too.
//
// Space: a clone is promised for all that it could come to take, as a segment that is made empty is, since each of its
// pages may be written; a thin one is promised for what it names. So a write into a clone never fails for room, and the sum of all
// promises is at least what is taken.
//
// Order: promise, entries with their references (in memory), entries and record in the file under its temporary name, rename. A
// crash before leaves a temporary file, which names nothing; after it, both indexes are there, and opening counts the references
// anew. Only segments of one family may name the same slot (the id of the first of them is in the record of each clone): a slot that is
// named twice otherwise is damage, for it would show one tenant the other's page.
//
// Versions are kept, so that a late write of a lower one stays refused, in the clone as in the source.
//
// Locks: [D] for the whole call; the source's [W], so that no entry changes while it is copied; the clone is not known yet.
#include <errno.h>

#include "server/store/segment_list.h"
#include "server/store/store_private.h"

static uint32_t block_copy(struct store_segment *clone, const struct store_segment *source,
                           uint64_t first, uint32_t count, uint64_t (*entries)[2], uint32_t *slots)
{
    uint32_t shared = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t word = atomic_load(&source->entries[first + i].word);
        entries[i][0] = atomic_load(&source->entries[first + i].version);
        entries[i][1] = word;
        if (entry_slot(word) != SLOT_NONE) {
            slots[shared++] = entry_slot(word);
        }
        atomic_store(&clone->entries[first + i].word, word);
        atomic_store(&clone->entries[first + i].version, entries[i][0]);
        (void)atomic_fetch_add(&clone->none_pages, word == ENTRY_NONE ? 1 : 0);
    }
    (void)atomic_fetch_add(&clone->stored_bytes, (uint64_t)shared * clone->class->page_bytes);
    return shared;
}

int segment_copy(struct store_segment *clone, struct store_segment *source)
{
    uint64_t highest = atomic_load(&source->highest);
    uint64_t block = segment_block_next(source, 0);
    for (; block != UINT64_MAX; block = segment_block_next(source, block + 1)) {
        uint64_t entries[INDEX_BLOCK_ENTRIES][2];
        uint32_t slots[INDEX_BLOCK_ENTRIES];
        uint64_t first = block * INDEX_BLOCK_ENTRIES;
        uint64_t left = source->pages - first;
        uint32_t count = left < INDEX_BLOCK_ENTRIES ? (uint32_t)left : INDEX_BLOCK_ENTRIES;
        int error = segment_prepare(clone, first);
        if (error != 0) {
            return error;
        }
        uint32_t shared = block_copy(clone, source, first, count, entries, slots);
        slots_share(clone->class, shared, slots);
        if (!clone->slots->tmpfs) {
            error = segment_commit(clone, first, (const uint64_t(*)[2])entries, count, highest);
        }
        if (error != 0) {
            return error;
        }
    }
    segment_highest_set(clone, highest);
    return failpoint_at(clone->slots->failpoint, FAILPOINT_CLONE_COPIED);
}

// What a clone of it is promised, the index of a thin one apart, which is promised block by block.
static uint64_t promise_bytes(const struct store_segment *source,
                              const struct store_segment_record *record)
{
    uint64_t page_bytes = record->page_bytes;
    return (record->flags & STORE_SEGMENT_NORESERVE) != 0
               ? atomic_load(&source->stored_bytes)
               : record->bytes - atomic_load(&source->none_pages) * page_bytes;
}

uint64_t store_segment_clone_bytes(const struct store_segment *source,
                                   const struct store_segment_record *record)
{
    bool thin = (record->flags & STORE_SEGMENT_NORESERVE) != 0;
    return promise_bytes(source, record) +
           (thin ? atomic_load(&source->block_count) * INDEX_BLOCK_BYTES : 0);
}

static int clone_locked(struct store *store, struct store_segment *source,
                        struct store_segment_record *record, struct store_segment **clone)
{
    uint64_t promise = promise_bytes(source, record);
    if (!slots_promise(&store->slots, promise, 0)) {
        return -ENOSPC;
    }
    int error = segment_list_use_id(store, record);
    if (error == 0) {
        error = segment_create(&store->slots, store->segments_directory, record, source, clone);
    }
    if (error != 0) {
        slots_unpromise(&store->slots, promise, 0);
        return error;
    }
    segment_list_add(store, *clone);
    return 0;
}

int store_segment_clone(struct store *store, struct store_segment *source,
                        const struct store_segment_record *record, struct store_segment **clone)
{
    struct store_segment_record fresh = *record;
    if (fresh.page_bytes != source->record.page_bytes || fresh.id != 0 ||
        fresh.bytes < source->pages * fresh.page_bytes || fresh.bytes % fresh.page_bytes != 0) {
        return -EINVAL;
    }
    fresh.family = segment_family(source);
    (void)pthread_mutex_lock(&store->lock);
    (void)pthread_mutex_lock(&source->lock);
    int error = atomic_load(&store->slots.failed)              ? -EIO
                : store->segment_count >= store->segment_limit ? -EMFILE
                                                               : 0;
    if (error == 0) {
        error = clone_locked(store, source, &fresh, clone);
    }
    (void)pthread_mutex_unlock(&source->lock);
    (void)pthread_mutex_unlock(&store->lock);
    return error;
}
