// SPDX-License-Identifier: Apache-2.0
//
// Opening and closing a store, and its segments as a set.
//
// Open, in this order: directory, lock on the header, header, room, indexes (references are counted
// anew), then the mark "in use" with the next incarnation. Whatever fails before the mark leaves
// the header as it was, so that a refused store is refused again and not taken for a store that was
// stopped well.
//
// What survives what. A process crash: everything, since all of it lies in the kernel's pages of
// the files. A clean stop: everything was synced, then marked. A host that went down without it: on
// a disk, the order in which pages reached the medium is unknown, so the store is refused whole,
// unless the header says that it was last used with durability = power, where each step was synced
// before the next. Opening with durability = power syncs all first, since what was written before
// was written without that promise. On tmpfs the directory is empty after a boot; one that is not
// was copied from somewhere, and the same rule refuses it unless the copy was made after a clean
// stop.
//
// A new store appears with its header; a crash before leaves a directory that counts as empty.
//
// Ids of segments come from a counter in the header, counted before the segment's file appears, so
// none is ever given twice; the end of the addresses ever used is kept with it.
//
// Locks: [D] for header and list; create and remove are serialised by the catalog besides.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "server/store/record.h"
#include "server/store/segment_list.h"
#include "server/store/store_private.h"

enum { THREADS_MOST = 4096 };
// Slots of 4 KiB are numbered with 32 bits.
#define CAPACITY_MOST ((15ULL << 40))

static int options_check(const struct store_options *options, struct failure *failure)
{
    if (options->directory == NULL || options->directory[0] == '\0') {
        return failure_set(failure, -EINVAL, "No directory was given for the store.");
    }
    if (options->threads < 1 || options->threads > THREADS_MOST) {
        return failure_set(failure, -EINVAL, "The store cannot serve %d threads: 1 to %d.",
                           options->threads, THREADS_MOST);
    }
    if (options->capacity_bytes > CAPACITY_MOST) {
        return failure_set(failure, -EINVAL,
                           "A store holds at most %llu TiB, %" PRIu64 " bytes were asked for.",
                           CAPACITY_MOST >> 40, options->capacity_bytes);
    }
    return 0;
}

static int directory_open(struct store *store, const struct store_options *options,
                          struct failure *failure)
{
    struct statfs facts;
    if (options->create && mkdir(options->directory, 0700) != 0 && errno != EEXIST) {
        return failure_set(failure, -errno, "%s cannot be made: %s.", options->directory,
                           strerror(errno));
    }
    store->directory = open(options->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (store->directory < 0) {
        int error = errno == ENOENT ? -EINVAL : -errno;
        return failure_set(failure, error, "There is no store in %s: %s.", options->directory,
                           strerror(errno));
    }
    if (fstatfs(store->directory, &facts) != 0) {
        return failure_set(failure, -errno, "%s cannot be used: %s.", options->directory,
                           strerror(errno));
    }
    store->slots.directory = store->directory;
    store->slots.tmpfs = facts.f_type == TMPFS_MAGIC;
    store->slots.power = options->durability == STORE_DURABILITY_POWER && !store->slots.tmpfs;
    return 0;
}

static int header_open(struct store *store, const struct store_options *options,
                       struct failure *failure)
{
    const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;
    store->header_file = openat(store->directory, "header", flags);
    if (store->header_file < 0 && errno == ENOENT && options->create) {
        if (room_directory_empty(store->directory) != 0) {
            return failure_set(failure, -EINVAL,
                               "%s is not a store and not empty: give another directory.",
                               options->directory);
        }
        store->header_file = openat(store->directory, "header", flags | O_CREAT, 0600);
    }
    if (store->header_file < 0) {
        int error = errno == ENOENT ? -EINVAL : -errno;
        return failure_set(failure, error, "There is no store in %s: header: %s.",
                           options->directory, strerror(errno));
    }
    int error = header_lock(store->header_file);
    if (error != 0) {
        return failure_set(failure, error, "The store in %s %s.", options->directory,
                           error == -EBUSY ? "is in use by another dsmd" : "cannot be locked");
    }
    return failpoint_at(&store->failpoint, FAILPOINT_OPEN_LOCKED);
}

static int header_new(struct store *store, const struct store_options *options,
                      struct failure *failure)
{
    struct store_header *header = &store->header;
    if (!options->create || room_directory_empty(store->directory) != 0) {
        return failure_set(failure, -EINVAL,
                           "The directory %s holds no store: its header is empty.",
                           options->directory);
    }
    if (options->capacity_bytes < LIMIT_PAGE_MAX_BYTES) {
        return failure_set(failure, -EINVAL, "A store needs a capacity of at least %d bytes.",
                           LIMIT_PAGE_MAX_BYTES);
    }
    *header = (struct store_header){
        .capacity_bytes = options->capacity_bytes, .next_segment_id = 1, .clean = true};
    if (getrandom(header->store_id, sizeof header->store_id, 0) !=
        (ssize_t)sizeof header->store_id) {
        return failure_set(failure, -EIO, "The system gives no random numbers.");
    }
    return header_boot_id(header->boot_id);
}

static int header_use(struct store *store, const struct store_options *options,
                      struct failure *failure)
{
    struct store_header *header = &store->header;
    char boot_id[HEADER_BOOT_ID_BYTES];
    int error = header_boot_id(boot_id);
    if (error != 0) {
        return failure_set(failure, error, "The system does not tell its boot id.");
    }
    if (options->capacity_bytes != 0 && options->capacity_bytes < header->capacity_bytes) {
        return failure_set(failure, -EINVAL,
                           "The store in %s was made for %" PRIu64 " bytes and can only grow; "
                           "%" PRIu64 " were asked for.",
                           options->directory, header->capacity_bytes, options->capacity_bytes);
    }
    bool rebooted = memcmp(boot_id, header->boot_id, sizeof boot_id) != 0;
    if (rebooted && !header->clean && header->durability != STORE_DURABILITY_POWER) {
        return failure_set(failure, -ESTALE,
                           "The host of the store in %s went down without a clean stop: pages may "
                           "be lost or torn. Move the directory away; durability = power "
                           "prevents it.",
                           options->directory);
    }
    memcpy(header->boot_id, boot_id, sizeof boot_id);
    if (options->capacity_bytes > header->capacity_bytes) {
        header->capacity_bytes = options->capacity_bytes;
    }
    return 0;
}

static int header_load(struct store *store, const struct store_options *options,
                       struct failure *failure)
{
    int error = header_read(store->header_file, &store->header, failure);
    error = error == -ENOENT ? header_new(store, options, failure)
                             : (error == 0 ? header_use(store, options, failure) : error);
    if (error != 0) {
        return error;
    }
    store->was_clean = store->header.clean;
    store->slots.capacity_bytes = store->header.capacity_bytes;
    if (mkdirat(store->directory, "segments", 0700) != 0 && errno != EEXIST) {
        return failure_set(failure, -errno, "%s/segments cannot be made: %s.", options->directory,
                           strerror(errno));
    }
    store->segments_directory =
        openat(store->directory, "segments", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (store->segments_directory < 0) {
        return failure_set(failure, -errno, "%s/segments cannot be used: %s.", options->directory,
                           strerror(errno));
    }
    return failpoint_at(&store->failpoint, FAILPOINT_OPEN_CREATED);
}

// Everything written so far reaches the medium, whoever wrote it.
static int sync_all(struct store *store)
{
    return store->slots.tmpfs || syncfs(store->directory) == 0 ? 0 : -EIO;
}

static int mark_in_use(struct store *store, const struct store_options *options,
                       struct failure *failure)
{
    int error = store->slots.power ? sync_all(store) : 0;
    store->header.incarnation++;
    store->header.clean = false;
    store->header.durability = (uint32_t)options->durability;
    if (error == 0) {
        error = header_write(store->header_file, &store->header, !store->slots.tmpfs);
    }
    if (error == 0 && store->slots.power && fsync(store->directory) != 0) {
        error = -EIO;
    }
    if (error != 0) {
        return failure_set(failure, error, "The header of the store in %s cannot be written: %s.",
                           options->directory, strerror(-error));
    }
    return failpoint_at(&store->failpoint, FAILPOINT_OPEN_MARKED);
}

static void reader_gone(void *reader)
{
    slots_reader_put(reader);
}

static void store_free(struct store *store)
{
    while (store->segments != NULL) {
        struct store_segment *segment = store->segments;
        store->segments = segment->next;
        segment_close(&segment);
    }
    if (store->slots.readers != NULL) {
        (void)pthread_key_delete(store->thread);
    }
    slots_destroy(&store->slots);
    const int files[] = {store->segments_directory, store->directory, store->header_file};
    for (unsigned i = 0; i < 3; i++) {
        if (files[i] >= 0) {
            (void)close(files[i]); // the lock last
        }
    }
    (void)pthread_mutex_destroy(&store->lock);
    free(store);
}

static int threads_prepare(struct store *store, int threads)
{
    int error = slots_create(&store->slots, threads);
    if (error == 0 && pthread_key_create(&store->thread, reader_gone) != 0) {
        slots_destroy(&store->slots);
        error = -ENOMEM;
    }
    return error;
}

static uint64_t descriptor_limit(void)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? (uint64_t)limit.rlim_cur : 1024;
}

int store_open(const struct store_options *options, struct store **store, struct failure *failure)
{
    int error = options_check(options, failure);
    struct store *made = error == 0 ? calloc(1, sizeof *made) : NULL;
    if (made == NULL) {
        return error != 0 ? error : failure_set(failure, -ENOMEM, "Out of memory.");
    }
    made->directory = made->segments_directory = made->header_file = -1;
    made->slots.failpoint = &made->failpoint;
    made->segment_limit = descriptor_limit() / 2;
    (void)pthread_mutex_init(&made->lock, NULL);
    (void)failure_set(failure, 0, "The store in %s cannot be opened.", options->directory);
    error = failpoint_arm(&made->failpoint, getenv("DSM_FAILPOINT"), failure);
    if (error == 0) {
        error = directory_open(made, options, failure);
    }
    if (error == 0) {
        error = header_open(made, options, failure);
    }
    if (error == 0) {
        error = header_load(made, options, failure);
    }
    if (error == 0) {
        error = room_check(made->directory, made->segments_directory, made->slots.capacity_bytes,
                           made->slots.tmpfs, failure);
    }
    if (error == 0) {
        error = threads_prepare(made, options->threads);
    }
    if (error == 0) {
        error = segment_list_load(made, failure);
    }
    if (error == 0) {
        error = failpoint_at(&made->failpoint, FAILPOINT_OPEN_REBUILT);
    }
    if (error == 0) {
        error = mark_in_use(made, options, failure);
    }
    if (error != 0) {
        store_free(made);
        return error;
    }
    *store = made;
    return failure_set(failure, 0, "%s", "");
}

int store_close(struct store **store)
{
    struct store *gone = *store;
    if (gone == NULL) {
        return 0;
    }
    // The closing thread's own place; others have ended, or use no place any more.
    (void)pthread_setspecific(gone->thread, NULL);
    int error = failpoint_at(&gone->failpoint, FAILPOINT_CLOSE_BEGIN);
    if (error == 0) {
        error = atomic_load(&gone->slots.failed) ? -EIO : sync_all(gone);
    }
    if (error == 0) {
        error = failpoint_at(&gone->failpoint, FAILPOINT_CLOSE_SYNC);
    }
    if (error == 0) {
        gone->header.clean = true;
        error = header_write(gone->header_file, &gone->header, !gone->slots.tmpfs);
        (void)failpoint_at(&gone->failpoint, FAILPOINT_CLOSE_MARK);
    }
    store_free(gone);
    *store = NULL;
    return error;
}

void store_facts(struct store *store, struct store_facts *facts)
{
    struct slots *slots = &store->slots;
    (void)pthread_mutex_lock(&store->lock);
    memcpy(facts->store_id, store->header.store_id, sizeof facts->store_id);
    facts->incarnation = store->header.incarnation;
    facts->capacity_bytes = store->header.capacity_bytes;
    facts->base_end = store->header.base_end;
    facts->clean = store->was_clean;
    (void)pthread_mutex_lock(&slots->lock);
    (void)slots_reclaim_locked(slots);
    facts->reserved_bytes = slots->promised_bytes;
    facts->stored_bytes = slots->taken_bytes - slots->limbo_bytes;
    uint64_t room = slots->capacity_bytes + LIMIT_HEADROOM_BYTES - slots->index_bytes;
    uint64_t left = room > slots->taken_bytes ? room - slots->taken_bytes : 0;
    facts->headroom_free_bytes = left < LIMIT_HEADROOM_BYTES ? left : LIMIT_HEADROOM_BYTES;
    facts->headroom_waits = slots->waits;
    (void)pthread_mutex_unlock(&slots->lock);
    (void)pthread_mutex_unlock(&store->lock);
}

int store_thread_register(struct store *store)
{
    if (pthread_getspecific(store->thread) != NULL) {
        return 0;
    }
    struct slot_reader *reader = slots_reader_get(&store->slots);
    if (reader == NULL) {
        return -ENOMEM;
    }
    if (pthread_setspecific(store->thread, reader) != 0) {
        slots_reader_put(reader);
        return -ENOMEM;
    }
    return 0;
}
