// SPDX-License-Identifier: Apache-2.0
//
// Reading, writing and discarding pages. A write is a plan: which pages of the run are newer than
// what is there, which of them are zeros, and then one step after another for all of the plan:
// promise room, take slots, write data in runs, sync (durability = power), and then page by page
// publish: slot word, version word, highest version. Only then are the old slots retired. A crash
// between any two steps leaves each page either old or new: nothing that the index names is ever
// written to.
//
// When a step fails for one page, the plan is cut there: earlier pages go on to be published, later
// ones give back what they took. So `done` is exact.
//
// Zeros are found here too, not only in the map: a client that does not look costs time, not room.
//
// A version that lags behind its slot after a crash (killed between the two words) makes a retry
// write the same page once more, which is harmless; the other order would make a retry believe that
// the page was there.
//
// A reader looks at an entry once, without a lock; between begin and end the slot it found is not
// used for anything else (reclaim.c). On a disk pages are read into the thread's buffer, which has
// room for one run between begin and end.
//
// Locks: [W] for the whole of a run; it may be held while waiting for limbo to drain, which only
// readers do, who take no lock.
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "server/store/store_private.h"

struct planned {
    uint32_t offset; // from the run's first page
    uint32_t slot;   // SLOT_NONE: zeros
    bool grows;      // a thin segment gets a slot more by it
    const uint8_t *data;
};

struct plan {
    struct store_segment *segment;
    uint64_t first;
    uint64_t version;
    uint32_t stop; // pages of the run before the first one that is not in the plan
    uint32_t count;
    struct planned pages[LIMIT_RUN_PAGES];
};

static bool all_zeros(const uint8_t *data, size_t size)
{
    // Equal to itself one step on, and the first step zeros: all zeros. memcmp is the fastest loop
    // there is.
    static const uint8_t zeros[64];
    return memcmp(data, zeros, sizeof zeros) == 0 &&
           memcmp(data, data + sizeof zeros, size - sizeof zeros) == 0;
}

static struct store_entry *plan_entry(const struct plan *plan, uint32_t i)
{
    return &plan->segment->entries[plan->first + plan->pages[i].offset];
}

// Drops pages[from..]: nothing of them was published.
static void plan_cut(struct plan *plan, uint32_t from)
{
    uint64_t page_bytes = plan->segment->record.page_bytes;
    if (from >= plan->count) {
        return;
    }
    plan->stop = plan->pages[from].offset;
    for (uint32_t i = from; i < plan->count; i++) {
        if (plan->pages[i].grows) {
            slots_unpromise(plan->segment->slots, page_bytes, 0);
        }
        if (plan->pages[i].slot != SLOT_NONE) {
            slots_give_back(plan->segment->class, 1, &plan->pages[i].slot);
        }
    }
    plan->count = from;
}

static uint32_t plan_first_data(const struct plan *plan)
{
    uint32_t i = 0;
    while (i < plan->count && plan->pages[i].data == NULL) {
        i++;
    }
    return i;
}

// Room in the index and in the capacity for one page more.
static int plan_add(struct plan *plan, uint32_t offset, const uint8_t *data)
{
    struct store_segment *segment = plan->segment;
    uint64_t page = plan->first + offset;
    uint64_t word = segment_word(segment, page);
    if (word == ENTRY_NONE) {
        return -EFAULT;
    }
    bool has_slot = entry_slot(word) != SLOT_NONE;
    bool grows = segment_thin(segment) && data != NULL && !has_slot;
    int error = segment_prepare(segment, page);
    if (error == 0 && grows && !slots_promise(segment->slots, segment->record.page_bytes, 0)) {
        error = -ENOSPC;
    }
    if (error == 0) {
        plan->pages[plan->count++] =
            (struct planned){.offset = offset, .slot = SLOT_NONE, .grows = grows, .data = data};
    }
    return error;
}

static int plan_make(struct plan *plan, uint32_t count, const uint8_t *map, const uint8_t *data)
{
    struct store_segment *segment = plan->segment;
    uint32_t page_bytes = segment->record.page_bytes;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *bytes = NULL;
        if (map != NULL && wire_map_get(map, i)) {
            bytes = data;
            data += page_bytes;
        }
        if (segment_version(segment, plan->first + i) < plan->version) {
            bytes = bytes != NULL && !all_zeros(bytes, page_bytes) ? bytes : NULL;
            int error = plan_add(plan, i, bytes);
            if (error != 0) {
                plan->stop = i;
                return error;
            }
        }
    }
    plan->stop = count;
    return 0;
}

static int plan_take_slots(struct plan *plan)
{
    uint32_t slots[LIMIT_RUN_PAGES];
    uint32_t need = 0;
    for (uint32_t i = 0; i < plan->count; i++) {
        need += plan->pages[i].data != NULL ? 1 : 0;
    }
    int error = need == 0 ? 0 : slots_take(plan->segment->class, need, slots);
    if (error != 0) {
        plan_cut(plan, plan_first_data(plan));
        return error;
    }
    for (uint32_t i = 0, next = 0; i < plan->count; i++) {
        if (plan->pages[i].data != NULL) {
            plan->pages[i].slot = slots[next++];
        }
    }
    return 0;
}

static int slots_write(const struct slot_class *class, uint32_t slot, struct iovec *pieces,
                       int count)
{
    off_t offset = (off_t)slot * class->page_bytes;
    while (count > 0) {
        ssize_t put = pwritev(class->fd, pieces, count, offset);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return put < 0 ? -errno : -EIO;
        }
        offset += put;
        for (; count > 0 && (size_t)put >= pieces->iov_len; pieces++, count--) {
            put -= (ssize_t)pieces->iov_len;
        }
        if (count > 0 && put > 0) {
            pieces->iov_base = (uint8_t *)pieces->iov_base + put;
            pieces->iov_len -= (size_t)put;
        }
    }
    return 0;
}

// Writes the data of pages[i..], as far as their slots are neighbours. Sets the end of what was
// written.
static int plan_write_some(const struct plan *plan, uint32_t i, uint32_t *end)
{
    struct iovec pieces[LIMIT_RUN_PAGES];
    const struct slot_class *class = plan->segment->class;
    const uint32_t first = plan->pages[i].slot;
    uint32_t slots = 0;
    int count = 0;
    for (; i < plan->count; i++) {
        const struct planned *page = &plan->pages[i];
        if (page->data == NULL) {
            continue;
        }
        if (page->slot != first + slots) {
            break;
        }
        slots++;
        struct iovec *last = count > 0 ? &pieces[count - 1] : NULL;
        if (last != NULL && (uint8_t *)last->iov_base + last->iov_len == page->data) {
            last->iov_len += class->page_bytes;
        } else {
            pieces[count++] = (struct iovec){.iov_base = (void *)(uintptr_t)page->data,
                                             .iov_len = class->page_bytes};
        }
    }
    *end = i;
    return slots_write(class, first, pieces, count);
}

static int plan_write_data(struct plan *plan)
{
    struct slots *slots = plan->segment->slots;
    uint32_t start = plan_first_data(plan);
    bool any = start < plan->count;
    for (uint32_t i = start; i < plan->count;) {
        uint32_t end = i + 1;
        if (plan->pages[i].data == NULL) {
            i++;
            continue;
        }
        int error = plan_write_some(plan, i, &end);
        if (error == 0) {
            error = failpoint_at(slots->failpoint, FAILPOINT_WRITE_DATA);
        }
        if (error != 0) {
            plan_cut(plan, i);
            bool thin = segment_thin(plan->segment);
            return error == -ENOSPC && thin ? -ENOSPC : -EIO;
        }
        i = end;
    }
    int error = any && slots->power ? slots_sync(plan->segment->class) : 0;
    if (error == 0) {
        error = failpoint_at(slots->failpoint, FAILPOINT_WRITE_SYNC);
    }
    if (error != 0) {
        plan_cut(plan, start);
    }
    return error;
}

// On a disk: the entries of all pages from the plan's first to its last, as they will be.
static int plan_commit(struct plan *plan)
{
    uint64_t entries[LIMIT_RUN_PAGES][2];
    struct store_segment *segment = plan->segment;
    if (plan->count == 0 || segment->slots->tmpfs) {
        return 0;
    }
    uint64_t first = plan->first + plan->pages[0].offset;
    uint32_t count = plan->pages[plan->count - 1].offset - plan->pages[0].offset + 1;
    for (uint32_t i = 0; i < count; i++) {
        entries[i][0] = atomic_load(&segment->entries[first + i].version);
        entries[i][1] = atomic_load(&segment->entries[first + i].word);
    }
    for (uint32_t i = 0; i < plan->count; i++) {
        uint64_t *entry = entries[plan->pages[i].offset - plan->pages[0].offset];
        entry[0] = plan->version;
        entry[1] = entry_word(plan->pages[i].slot);
    }
    int error = segment_commit(segment, first, (const uint64_t(*)[2])entries, count, plan->version);
    if (error != 0) {
        plan_cut(plan, 0);
    }
    return error;
}

static void plan_publish(struct plan *plan)
{
    struct store_segment *segment = plan->segment;
    struct slots *slots = segment->slots;
    uint64_t page_bytes = segment->record.page_bytes;
    uint32_t old[LIMIT_RUN_PAGES];
    uint32_t old_count = 0;
    uint64_t shrunk = 0;
    for (uint32_t i = 0; i < plan->count; i++) {
        struct store_entry *entry = plan_entry(plan, i);
        uint32_t before = entry_slot(atomic_load(&entry->word));
        atomic_store(&entry->word, entry_word(plan->pages[i].slot));
        (void)failpoint_at(slots->failpoint, FAILPOINT_WRITE_ENTRY);
        atomic_store(&entry->version, plan->version);
        (void)failpoint_at(slots->failpoint, FAILPOINT_WRITE_VERSION);
        segment_highest_set(segment, plan->version);
        if (before != SLOT_NONE) {
            old[old_count++] = before;
            shrunk += plan->pages[i].slot == SLOT_NONE ? page_bytes : 0;
        }
        if (before == SLOT_NONE && plan->pages[i].slot != SLOT_NONE) {
            atomic_fetch_add(&segment->stored_bytes, page_bytes);
        }
    }
    (void)failpoint_at(slots->failpoint, FAILPOINT_WRITE_HIGHEST);
    atomic_fetch_sub(&segment->stored_bytes, shrunk);
    slots_retire(segment->class, old_count, old);
    if (segment_thin(segment) && shrunk != 0) {
        slots_unpromise(slots, shrunk, 0);
    }
    (void)failpoint_at(slots->failpoint, FAILPOINT_WRITE_FREE);
}

// One run of at most LIMIT_RUN_PAGES pages; map NULL: all zeros.
static int run_write(struct store_segment *segment, uint64_t page, uint32_t count, uint64_t version,
                     const uint8_t *map, const uint8_t *data, uint32_t *done)
{
    struct plan plan;
    plan.segment = segment;
    plan.first = page;
    plan.version = version;
    plan.stop = 0;
    plan.count = 0;
    struct failpoint *failpoint = segment->slots->failpoint;
    (void)pthread_mutex_lock(&segment->lock);
    int error = failpoint_at(failpoint, FAILPOINT_WRITE_BEGIN);
    if (error == 0 && atomic_load(&segment->slots->failed)) {
        error = -EIO;
    }
    if (error != 0) {
        goto out;
    }
    int first_error = plan_make(&plan, count, map, data);
    error = failpoint_at(failpoint, FAILPOINT_WRITE_ROOM);
    if (error == 0) {
        error = plan_take_slots(&plan);
    }
    if (error == 0) {
        error = failpoint_at(failpoint, FAILPOINT_WRITE_SLOT);
    }
    if (error != 0) {
        plan_cut(&plan, plan_first_data(&plan));
    } else {
        error = plan_write_data(&plan);
    }
    int committed = plan_commit(&plan);
    plan_publish(&plan);
    error = committed != 0 ? committed : error != 0 ? error : first_error;
out:
    (void)pthread_mutex_unlock(&segment->lock);
    *done = error == 0 ? count : plan.stop;
    return error;
}

static bool interval_valid(const struct store_segment *segment, uint64_t page, uint64_t count)
{
    return count > 0 && count <= segment->pages && page <= segment->pages - count;
}

static bool run_valid(const struct store_segment *segment, uint64_t page, uint32_t count)
{
    return interval_valid(segment, page, count) &&
           count <= LIMIT_RUN_BYTES / segment->record.page_bytes;
}

int store_write(struct store *store, struct store_segment *segment, uint64_t page, uint32_t count,
                uint64_t version, const uint8_t *map, const uint8_t *data, uint32_t *done)
{
    const struct slot_reader *reader = pthread_getspecific(store->thread);
    assert(reader == NULL || atomic_load(&reader->epoch) == 0); // it might wait for itself
    (void)reader;
    *done = 0;
    if (!run_valid(segment, page, count) || version == 0) {
        return -EINVAL;
    }
    return run_write(segment, page, count, version, map, data, done);
}

int store_discard(struct store *store, struct store_segment *segment, uint64_t page, uint64_t count,
                  uint64_t version)
{
    (void)store;
    if (!interval_valid(segment, page, count) || version == 0) {
        return -EINVAL;
    }
    int error = 0;
    while (count > 0 && error == 0) {
        uint32_t run = count < LIMIT_RUN_PAGES ? (uint32_t)count : LIMIT_RUN_PAGES;
        uint32_t done = 0;
        error = run_write(segment, page, run, version, NULL, NULL, &done);
        page += run;
        count -= run;
    }
    return error;
}

void store_read_begin(struct store *store)
{
    struct slot_reader *reader = pthread_getspecific(store->thread);
    assert(reader != NULL); // store_thread_register was not called
    slots_read_begin(&store->slots, reader);
}

void store_read_end(struct store *store)
{
    struct slot_reader *reader = pthread_getspecific(store->thread);
    assert(reader != NULL);
    slots_read_end(&store->slots, reader);
}

// From the file into the thread's buffer.
static const uint8_t *slot_fetch(const struct slot_class *class, uint32_t slot,
                                 struct slot_reader *reader)
{
    uint64_t size = class->page_bytes;
    uint64_t got = 0;
    if (size > LIMIT_RUN_BYTES - reader->buffer_used) {
        return NULL;
    }
    uint8_t *to = reader->buffer + reader->buffer_used;
    while (got < size) {
        ssize_t some = pread(class->fd, to + got, size - got, (off_t)(slot * size + got));
        if (some < 0 && errno == EINTR) {
            continue;
        }
        if (some <= 0) {
            return NULL;
        }
        got += (uint64_t)some;
    }
    reader->buffer_used += size;
    return to;
}

int store_read(struct store *store, struct store_segment *segment, uint64_t page, uint32_t count,
               uint8_t map[WIRE_MAP_BYTES], struct iovec *pieces, uint32_t *done)
{
    struct slot_reader *reader = pthread_getspecific(store->thread);
    const struct slot_class *class = segment->class;
    uint32_t found = 0;
    assert(reader != NULL && atomic_load(&reader->epoch) != 0);
    *done = 0;
    memset(map, 0, WIRE_MAP_BYTES);
    if (!run_valid(segment, page, count)) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t word = segment_word(segment, page + i);
        uint32_t slot = entry_slot(word);
        if (word == ENTRY_NONE) {
            *done = i;
            return -EFAULT;
        }
        if (slot == SLOT_NONE) {
            continue;
        }
        const uint8_t *bytes = class->map != NULL ? class->map + (uint64_t)slot * class->page_bytes
                                                  : slot_fetch(class, slot, reader);
        if (bytes == NULL) {
            *done = i;
            return -EIO;
        }
        wire_map_set(map, i);
        pieces[found++] =
            (struct iovec){.iov_base = (void *)(uintptr_t)bytes, .iov_len = class->page_bytes};
    }
    *done = count;
    return 0;
}
