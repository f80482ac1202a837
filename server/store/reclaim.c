// SPDX-License-Identifier: Apache-2.0
//
// When a slot that no index names any more may be used again: when every reader that might have
// found it before has passed. Otherwise a reader that is sealing from the slot would send somebody
// else's page.
//
// Epochs. A reader notes the epoch when it begins; a retired slot goes into limbo under the epoch
// of its retirement; the epoch moves on only when every reader at work noted the present one. So a
// reader that noted r holds the epoch at r + 1 at most, and what was retired in epoch e is free
// when the epoch becomes e + 2: three lists suffice.
//
// Why that is enough: a slot is out of the index before it is retired, both in sequentially
// consistent order with the notes. If moving the epoch on does not see a reader's note, then that
// reader looks at the index later, and does not find the slot there. A reader that notes an epoch
// already gone only delays.
//
// Reference counting by readers was rejected: two atomic writes to shared lines for every page
// read. A lock for readers was rejected: sealing takes microseconds per page.
//
// Threads: notes are atomics of the readers' own cache lines; lists and epoch are under [A]. A
// writer that waits for limbo counts itself in `waiting` before it looks at the notes, and a reader
// clears its note before it looks at `waiting`: one of them sees the other.
#include <assert.h>
#include <stddef.h>

#include "rpc/limits.h"
#include "server/store/slots.h"

struct slot_reader *slots_reader_get(struct slots *slots)
{
    for (int i = 0; i < slots->reader_count; i++) {
        struct slot_reader *reader = &slots->readers[i];
        bool used = false;
        if (!atomic_compare_exchange_strong(&reader->used, &used, true)) {
            continue;
        }
        if (!slots->tmpfs && reader->buffer == NULL) {
            reader->buffer = bitmap_memory(LIMIT_RUN_BYTES);
            if (reader->buffer == NULL) {
                atomic_store(&reader->used, false);
                return NULL;
            }
        }
        return reader;
    }
    return NULL;
}

void slots_reader_put(struct slot_reader *reader)
{
    assert(atomic_load(&reader->epoch) == 0); // a thread ended inside a read section
    atomic_store(&reader->used, false);
}

void slots_read_begin(struct slots *slots, struct slot_reader *reader)
{
    assert(atomic_load(&reader->epoch) == 0); // sections do not nest
    reader->buffer_used = 0;
    atomic_store(&reader->epoch, atomic_load(&slots->epoch));
}

void slots_read_end(struct slots *slots, struct slot_reader *reader)
{
    assert(atomic_load(&reader->epoch) != 0);
    atomic_store(&reader->epoch, 0);
    if (atomic_load(&slots->waiting) != 0) {
        (void)pthread_mutex_lock(&slots->lock);
        (void)pthread_cond_broadcast(&slots->drained);
        (void)pthread_mutex_unlock(&slots->lock);
    }
}

static bool list_free_locked(struct slot_class *class, unsigned list)
{
    uint32_t slot = class->limbo[list];
    bool any = slot != SLOT_NONE;
    while (slot != SLOT_NONE) {
        uint32_t next = class->next[slot];
        slots_free_locked(class, slot);
        class->owner->limbo_bytes -= class->page_bytes;
        slot = next;
    }
    class->limbo[list] = SLOT_NONE;
    return any;
}

// false: a reader of an older epoch is still at work.
static bool epoch_advance_locked(struct slots *slots, bool *freed)
{
    uint64_t epoch = atomic_load(&slots->epoch);
    for (int i = 0; i < slots->reader_count; i++) {
        uint64_t noted = atomic_load(&slots->readers[i].epoch);
        if (noted != 0 && noted != epoch) {
            return false;
        }
    }
    atomic_store(&slots->epoch, epoch + 1);
    for (unsigned i = 0; i < SLOT_CLASSES; i++) {
        if (slots->classes[i].page_bytes != 0 &&
            list_free_locked(&slots->classes[i], (unsigned)((epoch - 1) % SLOT_EPOCHS))) {
            *freed = true;
        }
    }
    return true;
}

bool slots_reclaim_locked(struct slots *slots)
{
    bool freed = false;
    for (unsigned i = 0; i < SLOT_EPOCHS && slots->limbo_bytes != 0; i++) {
        if (!epoch_advance_locked(slots, &freed)) {
            break;
        }
    }
    return freed;
}

void slots_retire(struct slot_class *class, uint32_t count, const uint32_t *retired)
{
    struct slots *slots = class->owner;
    if (count == 0) {
        return;
    }
    (void)pthread_mutex_lock(&slots->lock);
    uint32_t *list = &class->limbo[atomic_load(&slots->epoch) % SLOT_EPOCHS];
    for (uint32_t i = 0; i < count; i++) {
        assert(class->references[retired[i]] > 0);
        class->references[retired[i]]--;
        if (class->references[retired[i]] == 0) {
            class->next[retired[i]] = *list;
            *list = retired[i];
            slots->limbo_bytes += class->page_bytes;
        }
    }
    if (slots_reclaim_locked(slots) && atomic_load(&slots->waiting) != 0) {
        (void)pthread_cond_broadcast(&slots->drained);
    }
    (void)pthread_mutex_unlock(&slots->lock);
}
