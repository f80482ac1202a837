// SPDX-License-Identifier: Apache-2.0
//
// Why slots are counted twice, as promised and as taken. Promised bytes decide whether a segment
// may be made or a thin one may grow: at most the capacity. Taken slots (in use, being written, or
// in limbo until the last reader has passed) are what the medium really holds: at most capacity +
// headroom. So a write into promised space can be delayed by limbo but never refused. Index blocks
// of thin segments are promised like pages, else a thin segment of zeros would take memory that
// nobody counted.
//
// Free slots keep their blocks in the file, for reuse. Only when the blocks of all files would
// exceed capacity + headroom are free ones punched out, whichever page size they belong to. Files
// have no length set ahead: a write beyond the end extends them, so an index entry that points
// beyond the end is known to be damage.
//
// Data is written with pwrite, never through the mapping: shortage is then an errno and not a
// SIGBUS. The mapping is made once for all slots that the class may ever have; pages beyond the end
// of the file are never touched.
//
// Sync errors are reported to one caller only by the kernel, so syncs of a file are serialised and
// the first failure stops all writing to the store ("failed"): no acknowledgement may rest on
// another's lost data.
//
// Locks: [A] innermost, short, no I/O under it but punching. slots_take sleeps on a condition of
// [A] and may be called with a segment's lock held, but never inside a read section, or it would
// wait for itself.
#include "server/store/slots.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rpc/limits.h"

static uint64_t limit_bytes(const struct slots *slots)
{
    return slots->capacity_bytes + LIMIT_HEADROOM_BYTES;
}

int slots_create(struct slots *slots, int threads)
{
    slots->readers =
        aligned_alloc(_Alignof(struct slot_reader), (size_t)threads * sizeof *slots->readers);
    if (slots->readers == NULL) {
        return -ENOMEM;
    }
    for (int i = 0; i < threads; i++) {
        slots->readers[i] = (struct slot_reader){.buffer = NULL};
    }
    slots->reader_count = threads;
    atomic_init(&slots->epoch, 1);
    (void)pthread_mutex_init(&slots->lock, NULL);
    (void)pthread_cond_init(&slots->drained, NULL);
    return 0;
}

static void class_close(struct slot_class *class)
{
    uint64_t limit = class->limit;
    if (class->map != NULL) {
        (void)munmap((void *)(uintptr_t) class->map, limit * class->page_bytes);
    }
    bitmap_destroy(&class->taken);
    bitmap_memory_free(class->backed, (limit + 63) / 64 * sizeof *class->backed);
    bitmap_memory_free(class->references, limit * sizeof *class->references);
    bitmap_memory_free(class->users, limit * sizeof *class->users);
    bitmap_memory_free(class->next, limit * sizeof *class->next);
    (void)pthread_mutex_destroy(&class->sync);
    (void)close(class->fd);
    *class = (struct slot_class){.page_bytes = 0};
}

void slots_destroy(struct slots *slots)
{
    if (slots->readers == NULL) {
        return;
    }
    for (unsigned i = 0; i < SLOT_CLASSES; i++) {
        if (slots->classes[i].page_bytes != 0) {
            class_close(&slots->classes[i]);
        }
    }
    for (int i = 0; i < slots->reader_count; i++) {
        bitmap_memory_free(slots->readers[i].buffer, LIMIT_RUN_BYTES);
    }
    free(slots->readers);
    slots->readers = NULL;
    (void)pthread_mutex_destroy(&slots->lock);
    (void)pthread_cond_destroy(&slots->drained);
}

static bool backed_get(const struct slot_class *class, uint32_t slot)
{
    return ((class->backed[slot / 64] >> (slot % 64)) & 1) != 0;
}

static void backed_set(struct slot_class *class, uint32_t slot, bool backed)
{
    uint64_t bit = 1ULL << (slot % 64);
    if (backed_get(class, slot) == backed) {
        return;
    }
    class->backed[slot / 64] ^= bit;
    uint32_t idle = bitmap_get(&class->taken, slot) ? 0 : 1;
    if (backed) {
        class->idle_count += idle;
        class->owner->backed_bytes += class->page_bytes;
        class->end = slot >= class->end ? slot + 1 : class->end;
    } else {
        class->idle_count -= idle;
        class->owner->backed_bytes -= class->page_bytes;
    }
}

// Which slots the file has blocks for; all of the file where the file system cannot tell.
static int backed_find(struct slot_class *class, uint64_t file_bytes)
{
    uint64_t at = 0;
    while (at < file_bytes) {
        off_t data = lseek(class->fd, (off_t)at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) {
            return 0;
        }
        off_t hole = data < 0 ? -1 : lseek(class->fd, data, SEEK_HOLE);
        if (hole < 0) {
            return -EIO;
        }
        uint64_t last = ((uint64_t)hole - 1) / class->page_bytes;
        for (uint64_t slot = (uint64_t)data / class->page_bytes; slot <= last; slot++) {
            backed_set(class, (uint32_t)slot, true);
        }
        at = (uint64_t)hole;
    }
    return 0;
}

static int class_memory(struct slot_class *class)
{
    uint64_t limit = class->limit;
    class->backed = bitmap_memory((limit + 63) / 64 * sizeof *class->backed);
    class->references = bitmap_memory(limit * sizeof *class->references);
    class->next = bitmap_memory(limit * sizeof *class->next);
    if (class->backed == NULL || class->references == NULL || class->next == NULL) {
        return -ENOMEM;
    }
    if (class->owner->tmpfs) {
        void *map = mmap(NULL, limit * class->page_bytes, PROT_READ, MAP_SHARED, class->fd, 0);
        class->map = map == MAP_FAILED ? NULL : map;
        if (class->map == NULL) {
            return -errno;
        }
    }
    return bitmap_create(&class->taken, class->limit);
}

static int class_open(struct slots *slots, struct slot_class *class, uint32_t page_bytes)
{
    char name[32];
    struct stat facts;
    (void)snprintf(name, sizeof name, "slots-%u", page_bytes);
    int fd = openat(slots->directory, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return -errno;
    }
    *class = (struct slot_class){.owner = slots,
                                 .page_bytes = page_bytes,
                                 .limit = (uint32_t)(limit_bytes(slots) / page_bytes),
                                 .fd = fd,
                                 .limbo = {SLOT_NONE, SLOT_NONE, SLOT_NONE}};
    (void)pthread_mutex_init(&class->sync, NULL);
    int error = fstat(fd, &facts) == 0 ? class_memory(class) : -errno;
    if (error == 0 && (uint64_t)facts.st_size > (uint64_t) class->limit * page_bytes) {
        error = -EINVAL;
    }
    if (error == 0) {
        error = backed_find(class, (uint64_t)facts.st_size);
        class->end = (uint32_t)(((uint64_t)facts.st_size + page_bytes - 1) / page_bytes);
    }
    if (error == 0 && slots->power && fsync(slots->directory) != 0) {
        error = -EIO;
    }
    if (error != 0) {
        class_close(class);
    }
    return error;
}

int slots_class_get(struct slots *slots, uint32_t page_bytes, struct slot_class **class)
{
    struct slot_class *found = &slots->classes[__builtin_ctz(page_bytes / LIMIT_PAGE_MIN_BYTES)];
    int error = found->page_bytes == 0 ? class_open(slots, found, page_bytes) : 0;
    if (error == 0) {
        *class = found;
    }
    return error;
}

static void taken_set_locked(struct slot_class *class, uint32_t slot)
{
    bitmap_set(&class->taken, slot);
    class->references[slot] = 1;
    class->idle_count -= backed_get(class, slot) ? 1 : 0;
    class->owner->taken_bytes += class->page_bytes;
}

int slots_adopt(struct slot_class *class, uint32_t slot, const struct slot_user *user)
{
    if (slot >= class->end) {
        return -EINVAL;
    }
    if (class->users == NULL) {
        class->users = bitmap_memory((uint64_t) class->limit * sizeof *class->users);
        if (class->users == NULL) {
            return -ENOMEM;
        }
    }
    int error = 0;
    (void)pthread_mutex_lock(&class->owner->lock);
    if (!bitmap_get(&class->taken, slot)) {
        class->users[slot] = *user;
        taken_set_locked(class, slot);
        backed_set(class, slot, true);
    } else if (class->users[slot].family == user->family &&
               class->users[slot].segment != user->segment) {
        class->users[slot].segment = user->segment;
        class->references[slot]++;
    } else {
        error = -EEXIST;
    }
    (void)pthread_mutex_unlock(&class->owner->lock);
    return error;
}

void slots_adopted(struct slots *slots)
{
    for (unsigned i = 0; i < SLOT_CLASSES; i++) {
        struct slot_class *class = &slots->classes[i];
        bitmap_memory_free(class->users, (uint64_t) class->limit * sizeof *class->users);
        class->users = NULL;
    }
}

void slots_share(struct slot_class *class, uint32_t count, const uint32_t *shared)
{
    (void)pthread_mutex_lock(&class->owner->lock);
    for (uint32_t i = 0; i < count; i++) {
        assert(class->references[shared[i]] > 0); // the clones of a store are fewer than 2^32
        class->references[shared[i]]++;
    }
    (void)pthread_mutex_unlock(&class->owner->lock);
}

bool slots_promise(struct slots *slots, uint64_t page_bytes, uint64_t index_bytes)
{
    (void)pthread_mutex_lock(&slots->lock);
    uint64_t free_bytes = slots->promised_bytes < slots->capacity_bytes
                              ? slots->capacity_bytes - slots->promised_bytes
                              : 0;
    bool room = page_bytes <= free_bytes && index_bytes <= free_bytes - page_bytes;
    if (room) {
        slots->promised_bytes += page_bytes + index_bytes;
        slots->index_bytes += index_bytes;
    }
    (void)pthread_mutex_unlock(&slots->lock);
    return room;
}

void slots_unpromise(struct slots *slots, uint64_t page_bytes, uint64_t index_bytes)
{
    (void)pthread_mutex_lock(&slots->lock);
    assert(slots->promised_bytes >= page_bytes + index_bytes);
    slots->promised_bytes -= page_bytes + index_bytes;
    slots->index_bytes -= index_bytes;
    (void)pthread_mutex_unlock(&slots->lock);
}

// Gives back the blocks of one run of free slots; false when the class has none.
static bool punch_locked(struct slot_class *class)
{
    uint32_t free_words = (class->end + 63) / 64;
    for (uint32_t i = 0; i < free_words; i++) {
        uint32_t word = (class->punch_at + i) % free_words;
        uint64_t bits = class->backed[word] & ~class->taken.words[0][word];
        if (bits == 0) {
            continue;
        }
        uint32_t first = word * 64 + (uint32_t)__builtin_ctzll(bits);
        uint32_t end = first;
        while (end < class->limit && end - first < 64 && backed_get(class, end) &&
               !bitmap_get(&class->taken, end)) {
            backed_set(class, end++, false);
        }
        class->punch_at = word;
        // Where punching is not supported the blocks stay; shortage is then an errno of the next
        // write.
        (void)fallocate(class->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                        (off_t)first * class->page_bytes, (off_t)(end - first) * class->page_bytes);
        (void)failpoint_at(class->owner->failpoint, FAILPOINT_SLOT_PUNCH);
        return true;
    }
    return false;
}

static void punch_until_room_locked(struct slots *slots, uint32_t page_bytes)
{
    uint64_t most = limit_bytes(slots) - slots->index_bytes;
    for (unsigned i = 0; i < SLOT_CLASSES; i++) {
        struct slot_class *class = &slots->classes[i];
        while (class->idle_count > 0 && slots->backed_bytes + page_bytes > most &&
               punch_locked(class)) {
        }
    }
}

static uint32_t take_one_locked(struct slot_class *class)
{
    uint32_t slot = bitmap_lowest_clear(&class->taken);
    assert(slot < class->limit); // the byte limits of slots_take see to it
    taken_set_locked(class, slot);
    if (!backed_get(class, slot)) {
        punch_until_room_locked(class->owner, class->page_bytes);
        backed_set(class, slot, true);
    }
    return slot;
}

static bool room_locked(const struct slots *slots, uint64_t bytes)
{
    return slots->taken_bytes + slots->index_bytes + bytes <= limit_bytes(slots);
}

int slots_take(struct slot_class *class, uint32_t count, uint32_t *taken)
{
    struct slots *slots = class->owner;
    uint64_t bytes = (uint64_t)count * class->page_bytes;
    (void)pthread_mutex_lock(&slots->lock);
    if (!room_locked(slots, bytes)) {
        atomic_fetch_add(&slots->waiting,
                         1); // before the readers are looked at: see slots_read_end
        bool counted = false;
        while (!room_locked(slots, bytes)) {
            if (!slots_reclaim_locked(slots)) {
                slots->waits += counted ? 0 : 1;
                counted = true;
                (void)pthread_cond_wait(&slots->drained, &slots->lock);
            }
        }
        atomic_fetch_sub(&slots->waiting, 1);
    }
    bool failed = atomic_load(&slots->failed);
    for (uint32_t i = 0; i < count && !failed; i++) {
        taken[i] = take_one_locked(class);
    }
    (void)pthread_mutex_unlock(&slots->lock);
    return failed ? -EIO : 0;
}

void slots_free_locked(struct slot_class *class, uint32_t slot)
{
    class->references[slot] = 0;
    bitmap_clear(&class->taken, slot);
    class->idle_count += backed_get(class, slot) ? 1 : 0;
    class->owner->taken_bytes -= class->page_bytes;
}

void slots_give_back(struct slot_class *class, uint32_t count, const uint32_t *given)
{
    struct slots *slots = class->owner;
    (void)pthread_mutex_lock(&slots->lock);
    for (uint32_t i = 0; i < count; i++) {
        slots_free_locked(class, given[i]);
    }
    if (atomic_load(&slots->waiting) != 0) {
        (void)pthread_cond_broadcast(&slots->drained);
    }
    (void)pthread_mutex_unlock(&slots->lock);
}

int slots_sync(struct slot_class *class)
{
    (void)pthread_mutex_lock(&class->sync);
    if (fdatasync(class->fd) != 0) {
        atomic_store(&class->owner->failed, true);
    }
    bool failed = atomic_load(&class->owner->failed);
    (void)pthread_mutex_unlock(&class->sync);
    return failed ? -EIO : 0;
}
