// SPDX-License-Identifier: Apache-2.0
//
// Whether the place where a store lies can hold what the store promises. A tmpfs that is larger
// than the free memory, or a disk that others fill, would turn a promise into an error of a later
// write, so it is looked at when the store opens, while somebody is there to read the sentence. It
// is a look at one moment: nothing is reserved by it, because filling a file system ahead would
// take memory that a sparse store may never need.
//
// Needed: capacity, headroom, and 1 % for index and counts. What the store's files hold already is
// not needed again. On tmpfs the same must be available as memory (MemAvailable); a limit of the
// memory cgroup is not looked at.
//
// Threads: only the thread that opens the store.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "server/store/store_private.h"

// Calls visit for each name in the directory until it returns an error.
static int directory_walk(int directory, int (*visit)(void *context, int directory, const char *),
                          void *context)
{
    int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = fd < 0 ? NULL : fdopendir(fd);
    if (entries == NULL) {
        int error = -errno;
        if (fd >= 0) {
            (void)close(fd);
        }
        return error;
    }
    int error = 0;
    struct dirent *entry = NULL;
    while (error == 0 && (entry = readdir(entries)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            error = visit(context, directory, entry->d_name);
        }
    }
    (void)closedir(entries);
    return error;
}

static int visit_blocks(void *context, int directory, const char *name)
{
    struct stat facts;
    if (fstatat(directory, name, &facts, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(facts.st_mode)) {
        *(uint64_t *)context += (uint64_t)facts.st_blocks * 512;
    }
    return 0;
}

static int visit_nothing(void *context, int directory, const char *name)
{
    (void)context;
    (void)directory;
    (void)name;
    return -ENOTEMPTY;
}

static int visit_new(void *context, int directory, const char *name)
{
    (void)context;
    if (strcmp(name, "header") == 0 || strcmp(name, "lost+found") == 0) {
        return 0;
    }
    int inner = strcmp(name, "segments") == 0
                    ? openat(directory, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                    : -1;
    if (inner < 0) {
        return -ENOTEMPTY;
    }
    int error = directory_walk(inner, visit_nothing, NULL);
    (void)close(inner);
    return error;
}

int room_directory_empty(int directory)
{
    return directory_walk(directory, visit_new, NULL) == 0 ? 0 : -EINVAL;
}

static uint64_t memory_available(void)
{
    FILE *file = fopen("/proc/meminfo", "re");
    uint64_t kilobytes = UINT64_MAX / 1024;
    char line[128];
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "MemAvailable:", 13) == 0) {
            kilobytes = strtoull(line + 13, NULL, 10);
            break;
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return kilobytes * 1024;
}

int room_check(int directory, int segments_directory, uint64_t capacity_bytes, bool tmpfs,
               struct failure *failure)
{
    uint64_t held = 0;
    struct statfs facts;
    uint64_t need = capacity_bytes + LIMIT_HEADROOM_BYTES + capacity_bytes / 100;
    (void)directory_walk(directory, visit_blocks, &held);
    (void)directory_walk(segments_directory, visit_blocks, &held);
    if (fstatfs(directory, &facts) != 0) {
        return failure_set(failure, -errno, "The store's file system cannot be asked: %s.",
                           strerror(errno));
    }
    uint64_t more = need > held ? need - held : 0;
    uint64_t room = (uint64_t)facts.f_bavail * (uint64_t)facts.f_bsize;
    if (facts.f_blocks != 0 && room < more) {
        return failure_set(failure, -ENOSPC,
                           "The store needs %" PRIu64
                           " MiB (capacity, headroom and 1 %% index), its "
                           "file system has %" PRIu64 " MiB free and the store holds %" PRIu64
                           " MiB of it: lower the capacity or make room.",
                           need >> 20, room >> 20, held >> 20);
    }
    uint64_t memory = tmpfs ? memory_available() : UINT64_MAX;
    if (memory < more) {
        return failure_set(failure, -ENOMEM,
                           "The store needs %" PRIu64 " MiB of memory (capacity, headroom and 1 %% "
                           "index), %" PRIu64 " MiB are available and the store holds %" PRIu64
                           " MiB: lower the capacity.",
                           need >> 20, memory >> 20, held >> 20);
    }
    return 0;
}
