// SPDX-License-Identifier: Apache-2.0
//
// The life of an index file. It is made under a temporary name and renamed, so that a segment and
// its record appear together, and it vanishes with one unlink. A change of the record goes to the
// older of two copies.
//
// On tmpfs the file is mapped and is itself the working copy: a page is published by two atomic
// stores, and nothing needs to be written back. On a disk a read error would reach such a mapping
// as a signal, and write-back would know nothing of the order of data and index; there the working
// copy is anonymous memory, filled at open, and each change is written to the file before it is
// published.
//
// The file is sparse: an empty 1 TiB segment takes 4 KiB. Blocks of entries get room (fallocate)
// before they are stored to, so that shortage is an errno and not a SIGBUS. For a thin segment each
// block is taken from the capacity; for others they are within the 1 % that the start check adds.
//
// Failure: once the file may say something else than memory (a commit or sync that failed), the
// store is `failed` and takes no slot any more, so nothing that the file may still name is ever
// overwritten.
//
// Locks: [W], but for create and open, when nobody else knows the segment.
#include "server/store/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "server/store/record.h"
#include "server/store/segment_scan.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "index entries are mapped as they are");

enum { NAME_BYTES = 32 };

static uint64_t block_total(const struct store_segment *segment)
{
    return (segment->pages + INDEX_BLOCK_ENTRIES - 1) / INDEX_BLOCK_ENTRIES;
}

static uint64_t blocks_bytes(const struct store_segment *segment)
{
    return (block_total(segment) + 63) / 64 * sizeof(uint64_t);
}

static int write_whole(int fd, const void *bytes, size_t size, uint64_t offset)
{
    const uint8_t *at = bytes;
    while (size > 0) {
        ssize_t put = pwrite(fd, at, size, (off_t)offset);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return put < 0 ? -errno : -EIO;
        }
        at += put;
        offset += (uint64_t)put;
        size -= (size_t)put;
    }
    return 0;
}

static int sync_fd(struct slots *slots, int fd)
{
    if (slots->power && fdatasync(fd) != 0) {
        atomic_store(&slots->failed, true);
        return -EIO;
    }
    return 0;
}

int segment_record_write(struct store_segment *segment, const struct store_segment_record *record)
{
    uint8_t copy[RECORD_COPY_BYTES];
    uint64_t sequence = segment->sequence + 1;
    record_encode(record, sequence, copy);
    int error =
        write_whole(segment->fd, copy, sizeof copy, sequence % 2 * INDEX_RECORD_APART_BYTES);
    if (error == 0) {
        error = sync_fd(segment->slots, segment->fd);
    }
    if (error == 0) {
        segment->sequence = sequence;
    }
    return error;
}

static int segment_make(struct slots *slots, int directory,
                        const struct store_segment_record *record, struct store_segment **made)
{
    struct store_segment *segment = calloc(1, sizeof *segment);
    if (segment == NULL) {
        return -ENOMEM;
    }
    segment->slots = slots;
    segment->directory = directory;
    segment->fd = -1;
    segment->record = *record;
    segment->pages = record_pages(record);
    segment->map_bytes = INDEX_BLOCK_BYTES + segment->pages * sizeof(struct store_entry);
    (void)pthread_mutex_init(&segment->lock, NULL);
    segment->blocks = bitmap_memory(blocks_bytes(segment));
    int error = segment->blocks == NULL
                    ? -ENOMEM
                    : slots_class_get(slots, record->page_bytes, &segment->class);
    if (error != 0) {
        segment_close(&segment);
        return error;
    }
    *made = segment;
    return 0;
}

static int segment_map(struct store_segment *segment)
{
    void *map = MAP_FAILED;
    if (segment->slots->tmpfs) {
        map = mmap(NULL, segment->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                   segment->fd, 0);
    } else {
        map = bitmap_memory(segment->map_bytes);
        map = map == NULL ? MAP_FAILED : map;
    }
    if (map == MAP_FAILED) {
        return -ENOMEM;
    }
    segment->map = map;
    segment->entries = (struct store_entry *)(segment->map + INDEX_BLOCK_BYTES);
    return 0;
}

void segment_close(struct store_segment **segment)
{
    struct store_segment *gone = *segment;
    if (gone == NULL) {
        return;
    }
    bitmap_memory_free(gone->map, gone->map_bytes);
    bitmap_memory_free((void *)gone->blocks, blocks_bytes(gone));
    if (gone->fd >= 0) {
        (void)close(gone->fd);
    }
    (void)pthread_mutex_destroy(&gone->lock);
    free(gone);
    *segment = NULL;
}

static void segment_name(uint64_t id, const char *prefix, char name[NAME_BYTES])
{
    (void)snprintf(name, NAME_BYTES, "%s%016" PRIx64, prefix, id);
}

// A whole file under the temporary name.
static int file_make(struct store_segment *segment, const char *name, struct store_segment *source)
{
    struct failpoint *failpoint = segment->slots->failpoint;
    segment->fd =
        openat(segment->directory, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (segment->fd < 0 || ftruncate(segment->fd, (off_t)segment->map_bytes) != 0) {
        return -errno;
    }
    int error = failpoint_at(failpoint, FAILPOINT_CREATE_FILE);
    if (error == 0) {
        // Room for the whole first block: the highest version is stored through the mapping.
        static const uint8_t zeros[INDEX_BLOCK_BYTES];
        error = write_whole(segment->fd, zeros, sizeof zeros, 0);
    }
    if (error == 0) {
        error = segment_record_write(segment, &segment->record);
    }
    if (error == 0) {
        error = segment_map(segment);
    }
    if (error == 0 && source != NULL) {
        error = segment_copy(segment, source);
    }
    return error != 0 ? error : failpoint_at(failpoint, FAILPOINT_CREATE_RECORD);
}

// It was made in part, or has no name after all: gives back what a clone's pages took.
static void unmake(struct store_segment **segment)
{
    struct store_segment *made = *segment;
    if (made->entries != NULL) {
        segment_free_slots(made);
        if (segment_thin(made)) {
            slots_unpromise(made->slots, 0, atomic_load(&made->block_count) * INDEX_BLOCK_BYTES);
        }
    }
    segment_close(segment);
}

int segment_create(struct slots *slots, int directory, const struct store_segment_record *record,
                   struct store_segment *source, struct store_segment **segment)
{
    struct store_segment *made = NULL;
    char temporary[NAME_BYTES];
    char name[NAME_BYTES];
    int error = segment_make(slots, directory, record, &made);
    if (error != 0) {
        return error;
    }
    segment_name(record->id, "new-", temporary);
    segment_name(record->id, "", name);
    error = file_make(made, temporary, source);
    if (error == 0 && renameat(directory, temporary, directory, name) != 0) {
        error = -errno;
    }
    if (error != 0) {
        (void)unlinkat(directory, temporary, 0);
        goto out;
    }
    (void)failpoint_at(slots->failpoint, FAILPOINT_CREATE_RENAME);
    if (slots->power && fsync(directory) != 0) {
        atomic_store(&slots->failed, true);
        (void)unlinkat(directory, name, 0);
        error = -EIO;
        goto out;
    }
    *segment = made;
    return 0;
out:
    unmake(&made);
    return error;
}

int segment_open(struct slots *slots, int directory, const char *name,
                 struct store_segment **segment, struct failure *failure)
{
    struct store_segment_record record;
    struct store_segment *made = NULL;
    uint64_t sequence = 0;
    int fd = openat(directory, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return failure_set(failure, -errno, "segments/%s cannot be opened: %s.", name,
                           strerror(errno));
    }
    int error = segment_record_read(fd, name, &record, &sequence, failure);
    if (error != 0) {
        (void)close(fd);
        return error;
    }
    error = segment_make(slots, directory, &record, &made);
    if (error != 0) {
        (void)close(fd);
        return failure_set(failure, error, "segments/%s: slots-%u cannot be used: %s.", name,
                           record.page_bytes, strerror(-error));
    }
    made->fd = fd;
    made->sequence = sequence;
    error = segment_map(made);
    if (error != 0) {
        (void)failure_set(failure, error, "segments/%s cannot be mapped: out of address space.",
                          name);
    } else {
        error = segment_scan(made, name, failure);
    }
    if (error != 0) {
        segment_close(&made);
        return error;
    }
    *segment = made;
    return 0;
}

int segment_unlink(struct store_segment *segment)
{
    char name[NAME_BYTES];
    segment_name(segment->record.id, "", name);
    if (unlinkat(segment->directory, name, 0) != 0) {
        return -errno;
    }
    if (segment->slots->power && fsync(segment->directory) != 0) {
        // It may come back after a power loss, so its slots must stay as they are: nothing is
        // written any more.
        atomic_store(&segment->slots->failed, true);
    }
    return 0;
}

uint64_t segment_block_next(const struct store_segment *segment, uint64_t block)
{
    uint64_t total = block_total(segment);
    while (block < total) {
        uint64_t word = atomic_load(&segment->blocks[block / 64]) >> (block % 64);
        if (word != 0) {
            return block + (unsigned)__builtin_ctzll(word);
        }
        block = (block / 64 + 1) * 64;
    }
    return UINT64_MAX;
}

void segment_free_slots(struct store_segment *segment)
{
    uint64_t block = segment_block_next(segment, 0);
    for (; block != UINT64_MAX; block = segment_block_next(segment, block + 1)) {
        uint32_t freed[INDEX_BLOCK_ENTRIES];
        uint32_t count = 0;
        uint64_t page = block * INDEX_BLOCK_ENTRIES;
        for (unsigned i = 0; i < INDEX_BLOCK_ENTRIES && page < segment->pages; i++, page++) {
            uint32_t slot = entry_slot(atomic_load(&segment->entries[page].word));
            if (slot != SLOT_NONE) {
                freed[count++] = slot;
            }
        }
        slots_retire(segment->class, count, freed);
    }
}

int segment_prepare(struct store_segment *segment, uint64_t page)
{
    uint64_t block = page / INDEX_BLOCK_ENTRIES;
    uint64_t bit = 1ULL << (block % 64);
    uint64_t charge = segment_thin(segment) ? INDEX_BLOCK_BYTES : 0;
    if (segment_block_has_room(segment, block)) {
        return 0;
    }
    if (charge != 0 && !slots_promise(segment->slots, 0, charge)) {
        return -ENOSPC;
    }
    uint64_t offset = (block + 1) * INDEX_BLOCK_BYTES;
    uint64_t bytes = segment->map_bytes - offset < INDEX_BLOCK_BYTES ? segment->map_bytes - offset
                                                                     : INDEX_BLOCK_BYTES;
    int error = fallocate(segment->fd, 0, (off_t)offset, (off_t)bytes) == 0 ? 0 : -errno;
    if (error == -EOPNOTSUPP && !segment->slots->tmpfs) {
        error = 0; // shortage is then found by the commit
    }
    if (error != 0) {
        slots_unpromise(segment->slots, 0, charge);
        return error == -ENOSPC && segment_thin(segment) ? -ENOSPC : -EIO;
    }
    atomic_fetch_or(&segment->blocks[block / 64], bit);
    atomic_fetch_add(&segment->block_count, 1);
    return 0;
}

int segment_commit(struct store_segment *segment, uint64_t first, const uint64_t (*entries)[2],
                   uint32_t count, uint64_t highest)
{
    struct slots *slots = segment->slots;
    int error = write_whole(segment->fd, entries, (size_t)count * sizeof *entries,
                            INDEX_BLOCK_BYTES + first * sizeof(struct store_entry));
    if (error == 0 && highest > atomic_load(&segment->highest)) {
        error = write_whole(segment->fd, &highest, sizeof highest, INDEX_HIGHEST_AT);
    }
    (void)failpoint_at(slots->failpoint, FAILPOINT_WRITE_COMMIT);
    if (error != 0) {
        atomic_store(&slots->failed, true);
        return -EIO;
    }
    return sync_fd(slots, segment->fd);
}

void segment_highest_set(struct store_segment *segment, uint64_t version)
{
    if (version <= atomic_load(&segment->highest)) {
        return;
    }
    if (segment->slots->tmpfs) {
        atomic_store((_Atomic uint64_t *)(void *)(segment->map + INDEX_HIGHEST_AT), version);
    }
    atomic_store(&segment->highest, version);
}

void segment_promise(const struct store_segment *segment, uint64_t *page_bytes,
                     uint64_t *index_bytes)
{
    bool thin = segment_thin(segment);
    *page_bytes =
        thin ? atomic_load(&segment->stored_bytes)
             : (segment->pages - atomic_load(&segment->none_pages)) * segment->record.page_bytes;
    *index_bytes = thin ? atomic_load(&segment->block_count) * INDEX_BLOCK_BYTES : 0;
}
