// SPDX-License-Identifier: Apache-2.0
//
// What a user would take instead of a remote page: a random read of 4 KiB from the local disk, past the page cache (O_DIRECT), which
// is what the kernel does for a page that it swapped out. From a file made for it, written in full (so that no hole is read) with
// bytes that do not compress, and removed at once: it is gone however dsmperf ends.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/dsmperf.h"

enum { BLOCK = 1 << 20 };

struct perf_disk {
    int fd;
    uint64_t pages, random;
    uint8_t *buffer; // BLOCK, aligned
};

static uint64_t next_random(struct perf_disk *disk) // xorshift64
{
    disk->random ^= disk->random << 13;
    disk->random ^= disk->random >> 7;
    disk->random ^= disk->random << 17;
    return disk->random;
}

static int fill(struct perf_disk *disk, uint64_t bytes)
{
    uint64_t *words = (uint64_t *)(void *)disk->buffer;
    for (uint64_t at = 0; at < bytes; at += BLOCK) {
        for (size_t i = 0; i < BLOCK / sizeof(*words); i++) {
            words[i] = next_random(disk);
        }
        ssize_t put = pwrite(disk->fd, disk->buffer, BLOCK, (off_t)at);
        if (put != BLOCK) {
            return put < 0 ? -errno : -ENOSPC;
        }
    }
    disk->pages = bytes / PERF_PAGE_BYTES;
    return fsync(disk->fd) == 0 ? 0 : -errno;
}

static const char *folder(const struct perf_settings *settings)
{
    const char *temporary = getenv("TMPDIR");
    if (settings->disk != NULL) {
        return settings->disk;
    }
    return temporary != NULL && *temporary != '\0' ? temporary : "/var/tmp";
}

int perf_disk_create(const struct perf_settings *settings, struct perf_disk **created,
                     struct failure *failure)
{
    char path[512];
    struct perf_disk *disk = calloc(1, sizeof(*disk));
    if (disk == NULL || (disk->buffer = aligned_alloc(BLOCK, BLOCK)) == NULL) {
        free(disk);
        return failure_set(failure, -ENOMEM, "There is not enough memory.");
    }
    disk->random = 0x9e3779b97f4a7c15;
    (void)snprintf(path, sizeof(path), "%s/dsmperf-XXXXXX", folder(settings));
    disk->fd = mkostemp(path, O_CLOEXEC);
    int result = disk->fd < 0 ? -errno : 0;
    if (result == 0) {
        (void)unlink(path);
        // Not at its opening: the name is to be gone by then. A file system in memory refuses it.
        result = fcntl(disk->fd, F_SETFL, O_DIRECT) == 0 ? fill(disk, settings->bytes) : -errno;
    }
    if (result != 0) {
        failure_set(failure, result, "no direct reads in %s: %s", folder(settings),
                    strerror(-result));
        perf_disk_destroy(&disk);
        return result;
    }
    *created = disk;
    return 0;
}

int perf_disk_measure(struct perf_disk *disk, uint64_t count, struct perf_samples *samples)
{
    for (uint64_t i = 0; i < count; i++) {
        off_t at = (off_t)((next_random(disk) >> 16) % disk->pages * PERF_PAGE_BYTES);
        double start = perf_now_us();
        ssize_t got = pread(disk->fd, disk->buffer, PERF_PAGE_BYTES, at);
        double taken = perf_now_us() - start;
        int result =
            got == PERF_PAGE_BYTES ? perf_samples_add(samples, taken) : (got < 0 ? -errno : -EIO);
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

void perf_disk_destroy(struct perf_disk **destroyed)
{
    struct perf_disk *disk = *destroyed;
    if (disk == NULL) {
        return;
    }
    if (disk->fd >= 0) {
        close(disk->fd);
    }
    free(disk->buffer);
    free(disk);
    *destroyed = NULL;
}
