// SPDX-License-Identifier: Apache-2.0
//
// What a user would take instead of a remote page: a random read of 4 KiB from the local disk, past the page cache (O_DIRECT), which
// is what the kernel does for a page that it swapped out. From a file that is there, or a device, which are read only; or from a file
// made for it, written in full (so that no hole is read) with bytes that do not compress, and removed at once: it is gone however dsmperf ends.
//
// A small file is in a disk's own cache, or in its controller's, and its reads say nothing of a disk that is swapped to. So the file is
// large by default, and larger where it is asked for. What the host of a virtual machine has in memory cannot be known from
// inside: the row says where was read, and the reader knows what that is.
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "tools/dsmperf.h"

enum { BLOCK = 1 << 20, DEFAULT_BYTES = 1 << 30 };

struct perf_disk {
    int fd;
    uint64_t pages, random;
    uint8_t *buffer; // BLOCK, aligned
    char where[64];
};

static int fill(struct perf_disk *disk, uint64_t bytes)
{
    uint64_t *words = (uint64_t *)(void *)disk->buffer;
    for (uint64_t at = 0; at < bytes; at += BLOCK) {
        for (size_t i = 0; i < BLOCK / sizeof(*words); i++) {
            words[i] = perf_random(&disk->random);
        }
        ssize_t put = pwrite(disk->fd, disk->buffer, BLOCK, (off_t)at);
        if (put != BLOCK) {
            return put < 0 ? -errno : -ENOSPC;
        }
    }
    return fsync(disk->fd) == 0 ? 0 : -errno;
}

static const char *place(const struct perf_settings *settings)
{
    const char *temporary = getenv("TMPDIR");
    if (settings->disk != NULL) {
        return settings->disk;
    }
    return temporary != NULL && *temporary != '\0' ? temporary : "/var/tmp";
}

// "ext4 on vda, 1024 MiB": of the mount that the file's device number names; what is not known is left out.
static void describe(struct perf_disk *disk, const struct stat *status)
{
    char line[1024], number[32], found[32], type[32], source[256];
    dev_t device = S_ISBLK(status->st_mode) ? status->st_rdev : status->st_dev;
    unsigned long long mib = disk->pages * PERF_PAGE_BYTES >> 20;
    FILE *mounts = S_ISBLK(status->st_mode) ? NULL : fopen("/proc/self/mountinfo", "re");
    (void)snprintf(number, sizeof(number), "%u:%u", major(device), minor(device));
    (void)snprintf(disk->where, sizeof(disk->where), "device %s, %llu MiB", number, mib);
    while (mounts != NULL && fgets(line, sizeof(line), mounts) != NULL) {
        const char *rest = strstr(line, " - ");
        if (rest != NULL && sscanf(line, "%*s %*s %31s", found) == 1 &&
            strcmp(found, number) == 0 && sscanf(rest, " - %31s %255s", type, source) == 2) {
            const char *name = strrchr(source, '/');
            (void)snprintf(disk->where, sizeof(disk->where), "%.16s on %.16s, %llu MiB", type,
                           name != NULL ? name + 1 : source, mib);
            break;
        }
    }
    if (mounts != NULL) {
        (void)fclose(mounts);
    }
}

static int make_file(struct perf_disk *disk, const char *folder, uint64_t bytes)
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/dsmperf-XXXXXX", folder);
    disk->fd = mkostemp(path, O_CLOEXEC);
    if (disk->fd < 0) {
        return -errno;
    }
    (void)unlink(path);
    // Not at its opening: the name is to be gone by then. A file system in memory refuses it.
    return fcntl(disk->fd, F_SETFL, O_DIRECT) == 0 ? fill(disk, bytes) : -errno;
}

static int open_file(struct perf_disk *disk, const char *path)
{
    disk->fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    return disk->fd < 0 ? -errno : 0;
}

static int learn_size(struct perf_disk *disk)
{
    struct stat status;
    uint64_t bytes = 0;
    if (fstat(disk->fd, &status) != 0) {
        return -errno;
    }
    if (S_ISBLK(status.st_mode)) {
        if (ioctl(disk->fd, BLKGETSIZE64, &bytes) != 0) {
            return -errno;
        }
    } else if (S_ISREG(status.st_mode)) {
        bytes = (uint64_t)status.st_size;
        if ((uint64_t)status.st_blocks * 512 < bytes) { // a hole is not read from the disk
            return -EINVAL;
        }
    }
    disk->pages = bytes / PERF_PAGE_BYTES;
    describe(disk, &status);
    return disk->pages > 0 ? 0 : -EINVAL;
}

int perf_disk_create(const struct perf_settings *settings, struct perf_disk **created,
                     struct failure *failure)
{
    struct stat status;
    const char *path = place(settings);
    uint64_t bytes = settings->disk_bytes > 0 ? settings->disk_bytes : DEFAULT_BYTES;
    struct perf_disk *disk = calloc(1, sizeof(*disk));
    if (disk == NULL || (disk->buffer = aligned_alloc(BLOCK, BLOCK)) == NULL) {
        free(disk);
        return failure_set(failure, -ENOMEM, "There is not enough memory.");
    }
    disk->random = 0x9e3779b97f4a7c15;
    disk->fd = -1;
    int result = stat(path, &status) != 0  ? -errno
                 : S_ISDIR(status.st_mode) ? make_file(disk, path, bytes)
                                           : open_file(disk, path);
    if (result == 0) {
        result = learn_size(disk);
    }
    if (result != 0) {
        failure_set(failure, result, "no direct reads of %s: %s", path, strerror(-result));
        perf_disk_destroy(&disk);
        return result;
    }
    *created = disk;
    return 0;
}

const char *perf_disk_where(const struct perf_disk *disk)
{
    return disk->where;
}

int perf_disk_measure(struct perf_disk *disk, uint64_t count, struct perf_samples *samples)
{
    for (uint64_t i = 0; i < count; i++) {
        off_t at = (off_t)((perf_random(&disk->random) >> 16) % disk->pages * PERF_PAGE_BYTES);
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
