// SPDX-License-Identifier: Apache-2.0
//
// Segments come, go and are found again. The order of a create: space is promised, the id counted
// in the header, the file made under another name, renamed, and only then the segment is in the
// list. A removal goes the other way round: out of the directory, then out of the list, then its
// slots into limbo, then the promise. So at any crash a segment is there with its record or not
// there at all, and no id is given twice.
//
// At open a promise beyond the capacity is accepted: it can only come from a promise that was in
// order when it was made (an index block of a thin segment that a crash left half charged), and
// refusing would lose pages.
//
// Each segment keeps a descriptor, so segments may take half of those that the process may have: a
// client that makes many must not leave none for connections, nor a store that cannot be opened.
//
// Locks: [D]; store_segment_next takes it, so the catalog may list while another thread writes
// pages.
#include "server/store/segment_list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "server/store/record.h"

void segment_list_add(struct store *store, struct store_segment *segment)
{
    segment->next = store->segments;
    store->segments = segment;
    store->segment_count++;
}

static bool name_is_id(const char *name)
{
    return strlen(name) == 16 && strspn(name, "0123456789abcdef") == 16;
}

static int list_load_one(struct store *store, const char *name, struct failure *failure)
{
    struct store_segment *segment = NULL;
    uint64_t page_bytes = 0;
    uint64_t index_bytes = 0;
    if (strncmp(name, "new-", 4) == 0) {
        return unlinkat(store->segments_directory, name, 0) == 0
                   ? 0
                   : failure_set(failure, -errno, "segments/%s cannot be removed: %s.", name,
                                 strerror(errno));
    }
    if (!name_is_id(name)) {
        return failure_set(failure, -EINVAL, "segments/%s is no file of a store.", name);
    }
    int error = segment_open(&store->slots, store->segments_directory, name, &segment, failure);
    if (error != 0) {
        return error;
    }
    segment_list_add(store, segment);
    segment_promise(segment, &page_bytes, &index_bytes);
    store->slots.promised_bytes += page_bytes + index_bytes;
    store->slots.index_bytes += index_bytes;
    if (segment->record.id >= store->header.next_segment_id) {
        return failure_set(failure, -EINVAL,
                           "segments/%s is newer than the header of the store: files of two "
                           "stores were mixed.",
                           name);
    }
    return 0;
}

int segment_list_load(struct store *store, struct failure *failure)
{
    int fd = openat(store->segments_directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL) {
        int error =
            failure_set(failure, -errno, "segments/ cannot be listed: %s.", strerror(errno));
        if (fd >= 0) {
            (void)close(fd);
        }
        return error;
    }
    int error = 0;
    struct dirent *entry = NULL;
    errno = 0;
    while (error == 0 && (entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            error = list_load_one(store, entry->d_name, failure);
        }
        errno = 0;
    }
    if (error == 0 && errno != 0) {
        error = failure_set(failure, -EIO, "segments/ cannot be read: %s.", strerror(errno));
    }
    (void)closedir(directory);
    slots_adopted(&store->slots);
    return error;
}

int segment_list_use_id(struct store *store, struct store_segment_record *record)
{
    struct store_header header = store->header;
    if (record->id != 0 && record->id < header.next_segment_id) {
        return -EEXIST;
    }
    record->id = record->id == 0 ? header.next_segment_id : record->id;
    if (record_check(record) != 0 || record->base > UINT64_MAX - record->bytes) {
        return -EINVAL;
    }
    header.next_segment_id = record->id + 1;
    if (record->base + record->bytes > header.base_end) {
        header.base_end = record->base + record->bytes;
    }
    int error = header_write(store->header_file, &header, store->slots.power);
    if (error == 0) {
        store->header = header;
        error = failpoint_at(&store->failpoint, FAILPOINT_CREATE_ID);
    }
    return error;
}

int store_segment_create(struct store *store, const struct store_segment_record *record,
                         struct store_segment **segment)
{
    struct store_segment_record fresh = *record;
    struct store_segment *made = NULL;
    fresh.id = record->id == 0 ? 1 : record->id;
    if (record_check(&fresh) != 0) {
        return -EINVAL;
    }
    fresh.id = record->id;
    bool thin = (fresh.flags & STORE_SEGMENT_NORESERVE) != 0;
    uint64_t promise = thin ? 0 : record_pages(&fresh) * fresh.page_bytes;
    if (!slots_promise(&store->slots, promise, 0)) {
        return -ENOSPC;
    }
    (void)pthread_mutex_lock(&store->lock);
    int error = atomic_load(&store->slots.failed)              ? -EIO
                : store->segment_count >= store->segment_limit ? -EMFILE
                                                               : segment_list_use_id(store, &fresh);
    if (error == 0) {
        error = segment_create(&store->slots, store->segments_directory, &fresh, NULL, &made);
    }
    if (error == 0) {
        segment_list_add(store, made);
        *segment = made;
    }
    (void)pthread_mutex_unlock(&store->lock);
    if (error != 0) {
        slots_unpromise(&store->slots, promise, 0);
    }
    return error;
}

int store_segment_remove(struct store *store, struct store_segment *segment)
{
    uint64_t page_bytes = 0;
    uint64_t index_bytes = 0;
    (void)pthread_mutex_lock(&store->lock);
    int error = failpoint_at(&store->failpoint, FAILPOINT_REMOVE_BEGIN);
    if (error == 0) {
        error = segment_unlink(segment);
    }
    if (error == 0) {
        (void)failpoint_at(&store->failpoint, FAILPOINT_REMOVE_UNLINK);
        struct store_segment **at = &store->segments;
        while (*at != segment) {
            at = &(*at)->next;
        }
        *at = segment->next;
        store->segment_count--;
    }
    (void)pthread_mutex_unlock(&store->lock);
    if (error != 0) {
        return error;
    }
    (void)pthread_mutex_lock(&segment->lock); // a write that was under way ends first
    segment_free_slots(segment);
    segment_promise(segment, &page_bytes, &index_bytes);
    (void)pthread_mutex_unlock(&segment->lock);
    slots_unpromise(&store->slots, page_bytes, index_bytes);
    segment_close(&segment);
    (void)failpoint_at(&store->failpoint, FAILPOINT_REMOVE_FREE);
    return 0;
}

int store_segment_update(struct store *store, struct store_segment *segment,
                         const struct store_segment_record *record)
{
    (void)pthread_mutex_lock(&segment->lock);
    struct store_segment_record next = segment->record;
    next.epoch = record->epoch;
    memcpy(next.writer, record->writer, sizeof next.writer);
    memcpy(next.writer_name, record->writer_name, sizeof next.writer_name);
    next.had_readers = record->had_readers;
    memcpy(next.principal, record->principal, sizeof next.principal);
    next.moves = record->moves;
    next.sealed = record->sealed;
    int error = record_check(&next);
    if (error == 0) {
        error = failpoint_at(&store->failpoint, FAILPOINT_UPDATE_BEGIN);
    }
    if (error == 0) {
        error = segment_record_write(segment, &next);
    }
    if (error == 0) {
        segment->record.epoch = next.epoch;
        memcpy(segment->record.writer, next.writer, sizeof next.writer);
        memcpy(segment->record.writer_name, next.writer_name, sizeof next.writer_name);
        segment->record.had_readers = next.had_readers;
        memcpy(segment->record.principal, next.principal, sizeof next.principal);
        segment->record.moves = next.moves;
        segment->record.sealed = next.sealed;
        (void)failpoint_at(&store->failpoint, FAILPOINT_UPDATE_RECORD);
    }
    (void)pthread_mutex_unlock(&segment->lock);
    return error;
}

const struct store_segment_record *store_segment_record(const struct store_segment *segment)
{
    return &segment->record;
}

uint64_t store_segment_highest(const struct store_segment *segment)
{
    return atomic_load(&segment->highest);
}

uint64_t store_segment_stored_bytes(const struct store_segment *segment)
{
    return atomic_load(&segment->stored_bytes);
}

uint64_t store_segment_thin_bytes(const struct store_segment *segment)
{
    uint64_t page_bytes;
    uint64_t index_bytes;
    if (!segment_thin(segment)) {
        return 0;
    }
    segment_promise(segment, &page_bytes, &index_bytes);
    return page_bytes + index_bytes;
}

uint64_t store_segment_index_growth(const struct store_segment *segment, uint64_t page,
                                    uint32_t count)
{
    uint64_t bytes = 0;
    if (!segment_thin(segment) || count == 0) {
        return 0;
    }
    uint64_t last = (page + count - 1) / INDEX_BLOCK_ENTRIES;
    for (uint64_t block = page / INDEX_BLOCK_ENTRIES; block <= last; block++) {
        bytes += segment_block_has_room(segment, block) ? 0 : INDEX_BLOCK_BYTES;
    }
    return bytes;
}

struct store_segment *store_segment_next(struct store *store, struct store_segment *after)
{
    (void)pthread_mutex_lock(&store->lock);
    struct store_segment *next = after == NULL ? store->segments : after->next;
    (void)pthread_mutex_unlock(&store->lock);
    return next;
}
