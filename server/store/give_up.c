// SPDX-License-Identifier: Apache-2.0
//
// Pages without backing. A page that is given up loses its slot, and the segment the space that was promised for it; to have
// backing again it is promised anew, which may fail. What a page is stands in its index entry, like everything that is true of
// pages: so the promise of a segment is counted at open, not kept, and a crash in between leaves each page one or the other.
//
// Both carry a version as writes do, in the same order (slot word, version word, highest version, acknowledgement), so that one
// that comes late or twice changes nothing. Allocating passes over pages that have backing, and is all or nothing in what it
// promises: the whole is promised under one hold of the segment, before the first entry changes.
//
// Rejected: to let a write allocate what it meets. Then a client that was told "no room" would have to be told again by
// each clean, with a page that it cannot put anywhere.
//
// Locks: [W] for a whole call.
#include <errno.h>

#include "server/store/store_private.h"

struct change {
    struct store_segment *segment;
    uint64_t version;
    bool allocate; // else: give up
};

static bool concerns(const struct change *change, uint64_t page)
{
    const struct store_segment *segment = change->segment;
    return segment_version(segment, page) < change->version &&
           (!change->allocate || segment_word(segment, page) == ENTRY_NONE);
}

static uint64_t word_after(const struct change *change)
{
    return change->allocate ? 0 : ENTRY_NONE;
}

// Room in the index for the entries of a run. 0, or the error of the first page without, *count then its offset.
static int make_room(const struct change *change, uint64_t first, uint32_t *count)
{
    for (uint32_t i = 0; i < *count; i++) {
        int error = concerns(change, first + i) ? segment_prepare(change->segment, first + i) : 0;
        if (error != 0) {
            *count = i;
            return error;
        }
    }
    return 0;
}

static int commit(const struct change *change, uint64_t first, uint32_t count)
{
    uint64_t entries[LIMIT_RUN_PAGES][2];
    struct store_segment *segment = change->segment;
    if (count == 0 || segment->slots->tmpfs) {
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        bool changes = concerns(change, first + i);
        entries[i][0] =
            changes ? change->version : atomic_load(&segment->entries[first + i].version);
        entries[i][1] =
            changes ? word_after(change) : atomic_load(&segment->entries[first + i].word);
    }
    return segment_commit(segment, first, (const uint64_t(*)[2])entries, count, change->version);
}

// One page's entry. Its slot, or SLOT_NONE, is to be retired once the entry is told.
static uint32_t publish_page(const struct change *change, uint64_t page, uint64_t *promise_bytes)
{
    struct store_segment *segment = change->segment;
    struct failpoint *failpoint = segment->slots->failpoint;
    struct store_entry *entry = &segment->entries[page];
    uint64_t before = atomic_load(&entry->word);
    uint64_t page_bytes = segment->record.page_bytes;
    atomic_store(&entry->word, word_after(change));
    (void)failpoint_at(failpoint, FAILPOINT_WRITE_ENTRY);
    atomic_store(&entry->version, change->version);
    (void)failpoint_at(failpoint, FAILPOINT_WRITE_VERSION);
    segment_highest_set(segment, change->version);
    if (entry_slot(before) != SLOT_NONE) {
        (void)atomic_fetch_sub(&segment->stored_bytes, page_bytes);
    }
    if (change->allocate) {
        (void)atomic_fetch_sub(&segment->none_pages, 1);
    } else if (before != ENTRY_NONE) {
        (void)atomic_fetch_add(&segment->none_pages, 1);
        // Of a thin segment only what is stored is promised.
        *promise_bytes +=
            !segment_thin(segment) || entry_slot(before) != SLOT_NONE ? page_bytes : 0;
    }
    return entry_slot(before);
}

static void publish(const struct change *change, uint64_t first, uint32_t count)
{
    struct store_segment *segment = change->segment;
    uint32_t old[LIMIT_RUN_PAGES];
    uint32_t old_count = 0;
    uint64_t promise_bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (concerns(change, first + i)) {
            uint32_t slot = publish_page(change, first + i, &promise_bytes);
            if (slot != SLOT_NONE) {
                old[old_count++] = slot;
            }
        }
    }
    (void)failpoint_at(segment->slots->failpoint, FAILPOINT_WRITE_HIGHEST);
    if (old_count > 0) {
        slots_retire(segment->class, old_count, old);
    }
    if (promise_bytes > 0) {
        slots_unpromise(segment->slots, promise_bytes, 0);
    }
    (void)failpoint_at(segment->slots->failpoint, FAILPOINT_WRITE_FREE);
}

static int run(const struct change *change, uint64_t first, uint32_t count, uint32_t *done)
{
    struct slots *slots = change->segment->slots;
    int error = failpoint_at(slots->failpoint, FAILPOINT_WRITE_BEGIN);
    error = error == 0 && atomic_load(&slots->failed) ? -EIO : error;
    if (error != 0) {
        return error;
    }
    int no_room = make_room(change, first, &count);
    error = commit(change, first, count);
    if (error != 0) {
        return error;
    }
    publish(change, first, count);
    *done += count;
    return no_room;
}

static int all_runs(const struct change *change, uint64_t page, uint32_t count, uint32_t *done)
{
    int error = 0;
    *done = 0;
    while (*done < count && error == 0) {
        uint32_t left = count - *done;
        error = run(change, page + *done, left < LIMIT_RUN_PAGES ? left : LIMIT_RUN_PAGES, done);
    }
    return error;
}

static bool change_valid(const struct store_segment *segment, uint64_t page, uint32_t count,
                         uint64_t version)
{
    return version > 0 && count > 0 && page < segment->pages && count <= segment->pages - page;
}

int store_give_up(struct store *store, struct store_segment *segment, uint64_t page, uint32_t count,
                  uint64_t version, uint32_t *done)
{
    (void)store;
    *done = 0;
    if (!change_valid(segment, page, count, version)) {
        return -EINVAL;
    }
    const struct change change = {.segment = segment, .version = version};
    (void)pthread_mutex_lock(&segment->lock);
    int error = all_runs(&change, page, count, done);
    (void)pthread_mutex_unlock(&segment->lock);
    return error;
}

static uint64_t none_among(const struct change *change, uint64_t page, uint32_t count)
{
    uint64_t none = 0;
    for (uint32_t i = 0; i < count; i++) {
        none += concerns(change, page + i) ? 1 : 0;
    }
    return none;
}

int store_allocate(struct store *store, struct store_segment *segment, uint64_t page,
                   uint32_t count, uint64_t version, uint32_t *done)
{
    (void)store;
    *done = 0;
    if (!change_valid(segment, page, count, version)) {
        return -EINVAL;
    }
    const struct change change = {.segment = segment, .version = version, .allocate = true};
    struct slots *slots = segment->slots;
    uint64_t page_bytes = segment_thin(segment) ? 0 : segment->record.page_bytes;
    (void)pthread_mutex_lock(&segment->lock);
    uint64_t bytes = none_among(&change, page, count) * page_bytes;
    int error = bytes == 0 || slots_promise(slots, bytes, 0) ? 0 : -ENOSPC;
    if (error == 0) {
        error = all_runs(&change, page, count, done);
        if (error != 0 && bytes > 0) {
            slots_unpromise(slots, none_among(&change, page, count) * page_bytes, 0);
        }
    }
    (void)pthread_mutex_unlock(&segment->lock);
    return error;
}

uint64_t store_segment_none_pages(const struct store_segment *segment)
{
    return atomic_load(&segment->none_pages);
}

uint64_t store_segment_none_bytes(const struct store_segment *segment)
{
    return segment_thin(segment) ? 0
                                 : atomic_load(&segment->none_pages) * segment->record.page_bytes;
}

uint64_t store_segment_none_among(const struct store_segment *segment, uint64_t page,
                                  uint32_t count)
{
    uint64_t none = 0;
    for (uint32_t i = 0; i < count; i++) {
        none += segment_word(segment, page + i) == ENTRY_NONE ? 1 : 0;
    }
    return none;
}

bool store_segment_next_none(const struct store_segment *segment, uint64_t from, uint64_t *page,
                             uint64_t *count)
{
    for (uint64_t at = from; at < segment->pages; at++) {
        uint64_t block = at / INDEX_BLOCK_ENTRIES;
        if (!segment_block_has_room(segment, block)) {
            block = segment_block_next(segment, block);
            if (block == UINT64_MAX) {
                return false;
            }
            at = block * INDEX_BLOCK_ENTRIES;
        }
        if (segment_word(segment, at) == ENTRY_NONE) {
            uint64_t end = at + 1;
            while (end < segment->pages && segment_word(segment, end) == ENTRY_NONE) {
                end++;
            }
            *page = at;
            *count = end - at;
            return true;
        }
    }
    return false;
}
