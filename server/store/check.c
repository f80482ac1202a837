// SPDX-License-Identifier: Apache-2.0
//
// The store's own audit: whatever is kept as a count or a bit is counted again from the index,
// which is the only truth, and compared. It is for tests and for an operator who asks; it stops all
// writing while it runs and costs a walk over every block of index in use.
//
// Locks: all of them, [D], then every segment's [W] in the order of the list, then [A]. No one else
// holds two [W], so the order among them does not matter. It waits for a writer that waits for
// readers, so it must not be called inside a read section.
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "server/store/store_private.h"

struct audit {
    struct store *store;
    struct failure *failure;
    uint32_t *references[SLOT_CLASSES]; // counted anew
    struct slot_user *users[SLOT_CLASSES];
    uint64_t used_bytes, promised_bytes, index_bytes;
};

static unsigned class_number(const struct store *store, const struct slot_class *class)
{
    return (unsigned)(class - store->slots.classes);
}

static int audit_entry(struct audit *audit, const struct store_segment *segment, uint64_t page,
                       uint64_t *stored, uint64_t *none)
{
    const struct store_entry *entry = &segment->entries[page];
    uint64_t word = atomic_load(&entry->word);
    uint64_t version = atomic_load(&entry->version);
    uint32_t slot = entry_slot(word);
    const struct slot_class *class = segment->class;
    if (version > atomic_load(&segment->highest)) {
        return failure_set(audit->failure, -EINVAL,
                           "Segment %" PRIu64 ", page %" PRIu64 ": version %" PRIu64
                           " is above the segment's highest.",
                           segment->record.id, page, version);
    }
    if (slot == SLOT_NONE) {
        *none += word == ENTRY_NONE ? 1 : 0;
        return 0;
    }
    if (slot >= class->end || !bitmap_get(&class->taken, slot)) {
        return failure_set(audit->failure, -EINVAL,
                           "Segment %" PRIu64 ", page %" PRIu64 ": its slot %u is free.",
                           segment->record.id, page, slot);
    }
    unsigned number = class_number(audit->store, class);
    if (audit->references[number][slot]++ == 0) {
        audit->users[number][slot].family = segment_family(segment);
        audit->used_bytes += class->page_bytes;
    } else if (audit->users[number][slot].family != segment_family(segment) ||
               audit->users[number][slot].segment == segment->record.id) {
        return failure_set(audit->failure, -EINVAL,
                           "Segment %" PRIu64 ", page %" PRIu64 ": its slot %u is another page's.",
                           segment->record.id, page, slot);
    }
    audit->users[number][slot].segment = segment->record.id;
    *stored += class->page_bytes;
    return 0;
}

static int audit_segment(struct audit *audit, const struct store_segment *segment)
{
    uint64_t stored = 0;
    uint64_t none = 0;
    uint64_t page_bytes = 0;
    uint64_t index_bytes = 0;
    int error = 0;
    uint64_t block = segment_block_next(segment, 0);
    for (; block != UINT64_MAX; block = segment_block_next(segment, block + 1)) {
        uint64_t page = block * INDEX_BLOCK_ENTRIES;
        for (unsigned i = 0; i < INDEX_BLOCK_ENTRIES && page < segment->pages; i++, page++) {
            error = audit_entry(audit, segment, page, &stored, &none);
            if (error != 0) {
                return error;
            }
        }
    }
    if (stored != atomic_load(&segment->stored_bytes)) {
        return failure_set(audit->failure, -EINVAL,
                           "Segment %" PRIu64 " has %" PRIu64
                           " bytes in slots, counted were %" PRIu64 ".",
                           segment->record.id, stored, atomic_load(&segment->stored_bytes));
    }
    if (none != atomic_load(&segment->none_pages)) {
        return failure_set(audit->failure, -EINVAL,
                           "Segment %" PRIu64 " has %" PRIu64
                           " pages without backing, counted were %" PRIu64 ".",
                           segment->record.id, none, atomic_load(&segment->none_pages));
    }
    segment_promise(segment, &page_bytes, &index_bytes);
    audit->promised_bytes += page_bytes + index_bytes;
    audit->index_bytes += index_bytes;
    return 0;
}

// Every taken slot is in use or in limbo, and in limbo once.
static int audit_class(struct audit *audit, unsigned number, uint64_t *limbo_bytes)
{
    const struct slot_class *class = &audit->store->slots.classes[number];
    uint32_t *counted = audit->references[number];
    for (unsigned list = 0; list < SLOT_EPOCHS; list++) {
        for (uint32_t slot = class->limbo[list]; slot != SLOT_NONE; slot = class->next[slot]) {
            if (class->references[slot] != 0 || counted[slot] != 0) {
                return failure_set(audit->failure, -EINVAL,
                                   "slots-%u: slot %u waits for readers and is in use.",
                                   class->page_bytes, slot);
            }
            counted[slot] = UINT32_MAX;
            *limbo_bytes += class->page_bytes;
        }
    }
    for (uint32_t slot = 0; slot < class->end; slot++) {
        bool taken = bitmap_get(&class->taken, slot);
        uint32_t expected = counted[slot] == UINT32_MAX ? 0 : counted[slot];
        if (taken != (counted[slot] != 0) || class->references[slot] != expected) {
            return failure_set(audit->failure, -EINVAL,
                               "slots-%u: slot %u is %s, has %u references, and %u were found.",
                               class->page_bytes, slot, taken ? "taken" : "free",
                               class->references[slot], expected);
        }
    }
    return 0;
}

static int audit_sums(struct audit *audit, uint64_t limbo_bytes)
{
    const struct slots *slots = &audit->store->slots;
    if (slots->taken_bytes != audit->used_bytes + limbo_bytes ||
        slots->limbo_bytes != limbo_bytes) {
        return failure_set(audit->failure, -EINVAL,
                           "The store counts %" PRIu64 " bytes taken and %" PRIu64
                           " waiting for readers; found were %" PRIu64 " and %" PRIu64 ".",
                           slots->taken_bytes, slots->limbo_bytes, audit->used_bytes + limbo_bytes,
                           limbo_bytes);
    }
    if (slots->promised_bytes != audit->promised_bytes ||
        slots->index_bytes != audit->index_bytes) {
        return failure_set(audit->failure, -EINVAL,
                           "The store counts %" PRIu64 " bytes promised, found were %" PRIu64 ".",
                           slots->promised_bytes, audit->promised_bytes);
    }
    return 0;
}

static int audit_locked(struct audit *audit)
{
    struct slots *slots = &audit->store->slots;
    uint64_t limbo_bytes = 0;
    for (unsigned i = 0; i < SLOT_CLASSES; i++) {
        const struct slot_class *class = &slots->classes[i];
        if (class->page_bytes == 0) {
            continue;
        }
        audit->references[i] = bitmap_memory((uint64_t) class->limit * sizeof(uint32_t));
        audit->users[i] = bitmap_memory((uint64_t) class->limit * sizeof(struct slot_user));
        if (audit->references[i] == NULL || audit->users[i] == NULL) {
            return failure_set(audit->failure, -ENOMEM, "Out of memory.");
        }
    }
    struct store_segment *segment = audit->store->segments;
    int error = 0;
    for (; segment != NULL && error == 0; segment = segment->next) {
        error = audit_segment(audit, segment);
    }
    for (unsigned i = 0; i < SLOT_CLASSES && error == 0; i++) {
        if (slots->classes[i].page_bytes != 0) {
            error = audit_class(audit, i, &limbo_bytes);
        }
    }
    return error != 0 ? error : audit_sums(audit, limbo_bytes);
}

int store_check(struct store *store, struct failure *failure)
{
    struct audit audit = {.store = store, .failure = failure};
    (void)pthread_mutex_lock(&store->lock);
    for (struct store_segment *s = store->segments; s != NULL; s = s->next) {
        (void)pthread_mutex_lock(&s->lock);
    }
    (void)pthread_mutex_lock(&store->slots.lock);
    int error = audit_locked(&audit);
    for (unsigned i = 0; i < SLOT_CLASSES; i++) {
        bitmap_memory_free(audit.references[i],
                           (uint64_t)store->slots.classes[i].limit * sizeof(uint32_t));
        bitmap_memory_free(audit.users[i],
                           (uint64_t)store->slots.classes[i].limit * sizeof(struct slot_user));
    }
    (void)pthread_mutex_unlock(&store->slots.lock);
    for (struct store_segment *s = store->segments; s != NULL; s = s->next) {
        (void)pthread_mutex_unlock(&s->lock);
    }
    (void)pthread_mutex_unlock(&store->lock);
    return error;
}
