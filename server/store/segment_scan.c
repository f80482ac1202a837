// SPDX-License-Identifier: Apache-2.0
//
// Reading an index file at open, when nothing in it is believed yet. The index is the only truth
// about slots: there is no free list on the medium that could disagree with it. So every entry is
// visited once, but only where the file has data (SEEK_DATA): a 1 TiB segment with one page opens
// as fast as a small one.
//
// Damage ends the open with a sentence. To go on with the rest was rejected: a page that silently
// became zeros is the one thing that the store must never do, and a slot named twice would show one
// tenant the other's page. What a crash leaves behind is not damage: a version that lags behind its
// slot, a highest version that lags behind the entries (it is computed anew), blocks with no entry.
//
// Threads: only the thread that opens the store.
#include "server/store/segment_scan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/store/record.h"

static int read_whole(int fd, void *to, size_t size, uint64_t offset)
{
    uint8_t *at = to;
    while (size > 0) {
        ssize_t got = pread(fd, at, size, (off_t)offset);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return -EIO;
        }
        at += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return 0;
}

int segment_record_read(int fd, const char *name, struct store_segment_record *record,
                        uint64_t *sequence, struct failure *failure)
{
    uint8_t copies[2][RECORD_COPY_BYTES];
    struct store_segment_record found[2];
    uint64_t sequences[2] = {0, 0};
    int states[2];
    struct stat facts;
    if (fstat(fd, &facts) != 0 || facts.st_size < INDEX_BLOCK_BYTES) {
        return failure_set(failure, -EINVAL, "segments/%s is damaged: too short for a record.",
                           name);
    }
    for (unsigned i = 0; i < 2; i++) {
        if (read_whole(fd, copies[i], RECORD_COPY_BYTES, (uint64_t)i * INDEX_RECORD_APART_BYTES) !=
            0) {
            return failure_set(failure, -EIO, "segments/%s cannot be read.", name);
        }
        states[i] = record_decode(copies[i], &found[i], &sequences[i]);
    }
    if (states[0] == -EPROTO || states[1] == -EPROTO) {
        return failure_set(failure, -EPROTO,
                           "segments/%s has a format that this version does not know.", name);
    }
    if (states[0] != 0 && states[1] != 0) {
        return failure_set(failure, -EINVAL,
                           "segments/%s is damaged: neither copy of its record is good.", name);
    }
    unsigned best = states[1] == 0 && (states[0] != 0 || sequences[1] > sequences[0]) ? 1 : 0;
    char expected[32];
    (void)snprintf(expected, sizeof expected, "%016" PRIx64, found[best].id);
    uint64_t bytes = INDEX_BLOCK_BYTES + record_pages(&found[best]) * sizeof(struct store_entry);
    if (strcmp(expected, name) != 0 || (uint64_t)facts.st_size != bytes) {
        return failure_set(failure, -EINVAL,
                           "segments/%s is damaged: its record is for %s with %" PRIu64
                           " bytes of index, the file has %" PRIu64 ".",
                           name, expected, bytes, (uint64_t)facts.st_size);
    }
    *record = found[best];
    *sequence = sequences[best];
    return 0;
}

static int entry_scan(struct store_segment *segment, uint64_t page, const char *name,
                      uint64_t *highest, struct failure *failure)
{
    uint64_t version = atomic_load_explicit(&segment->entries[page].version, memory_order_relaxed);
    uint64_t word = atomic_load_explicit(&segment->entries[page].word, memory_order_relaxed);
    if ((version | word) == 0) {
        return 0;
    }
    uint64_t block = page / INDEX_BLOCK_ENTRIES;
    if (!segment_block_has_room(segment, block)) {
        atomic_fetch_or(&segment->blocks[block / 64], 1ULL << (block % 64));
        atomic_fetch_add(&segment->block_count, 1);
    }
    *highest = version > *highest ? version : *highest;
    if (word == 0) {
        return 0;
    }
    if (word == ENTRY_NONE) {
        (void)atomic_fetch_add(&segment->none_pages, 1);
        return 0;
    }
    if ((word & 0xff) != ENTRY_SLOT || word >> 8 >= SLOT_NONE) {
        return failure_set(failure, -EINVAL,
                           "segments/%s is damaged: the entry of page %" PRIu64
                           " is none (%#" PRIx64 ").",
                           name, page, word);
    }
    const struct slot_user user = {segment_family(segment), segment->record.id};
    int error = slots_adopt(segment->class, entry_slot(word), &user);
    if (error != 0) {
        return failure_set(failure, -EINVAL,
                           "segments/%s is damaged: page %" PRIu64 " says slot %u of slots-%u, "
                           "which is %s.",
                           name, page, entry_slot(word), segment->record.page_bytes,
                           error == -EEXIST ? "another page's" : "beyond the end of that file");
    }
    atomic_fetch_add(&segment->stored_bytes, segment->record.page_bytes);
    return 0;
}

// Entries of file offsets [from, end), which are whole entries.
static int range_scan(struct store_segment *segment, uint64_t from, uint64_t end, const char *name,
                      uint64_t *highest, struct failure *failure)
{
    if (!segment->slots->tmpfs &&
        read_whole(segment->fd, segment->map + from, end - from, from) != 0) {
        return failure_set(failure, -EIO, "segments/%s cannot be read.", name);
    }
    uint64_t page = (from - INDEX_BLOCK_BYTES) / sizeof(struct store_entry);
    uint64_t last = (end - INDEX_BLOCK_BYTES) / sizeof(struct store_entry);
    int error = 0;
    for (; page < last && error == 0; page++) {
        error = entry_scan(segment, page, name, highest, failure);
    }
    return error;
}

int segment_scan(struct store_segment *segment, const char *name, struct failure *failure)
{
    uint64_t highest = 0;
    uint64_t at = INDEX_BLOCK_BYTES;
    int error = read_whole(segment->fd, &highest, sizeof highest, INDEX_HIGHEST_AT);
    if (error != 0) {
        return failure_set(failure, -EIO, "segments/%s cannot be read.", name);
    }
    while (error == 0 && at < segment->map_bytes) {
        off_t data = lseek(segment->fd, (off_t)at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) {
            break;
        }
        off_t hole = data < 0 ? -1 : lseek(segment->fd, data, SEEK_HOLE);
        if (hole < 0) {
            error = failure_set(failure, -EIO, "segments/%s cannot be searched: %s.", name,
                                strerror(errno));
            break;
        }
        // A file system may answer in steps that are not multiples of an entry.
        uint64_t from = (uint64_t)data & ~15ULL;
        at = ((uint64_t)hole + 15) & ~15ULL;
        at = at > segment->map_bytes ? segment->map_bytes : at;
        error = range_scan(segment, from, at, name, &highest, failure);
    }
    atomic_store(&segment->highest, highest);
    return error;
}
