// SPDX-License-Identifier: Apache-2.0
//
// The capacity of a store that is made without saying one: half of what is free, since the rest of
// the host wants to live too. Whether a capacity fits is the store's own check; this is a default
// and no promise. A limit of dsmd's memory control group is no bound of the store's check, since the
// group may be given more while dsmd runs; but beyond it the kernel ends dsmd, so it is told at the start.
//
// Used by the main thread only.
#include "server/room.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "rpc/memory.h"

static bool has_entries(const char *directory)
{
    bool found = false;
    DIR *entries = opendir(directory);
    if (entries == NULL) {
        return false;
    }
    for (const struct dirent *entry; (entry = readdir(entries)) != NULL && !found;) {
        found = strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    (void)closedir(entries);
    return found;
}

// Of the directory, or of the one in which it will be made.
static int file_system(const char *directory, struct statfs *facts)
{
    char parent[PATH_MAX];
    if (statfs(directory, facts) == 0) {
        return 0;
    }
    int bytes = snprintf(parent, sizeof parent, "%s", directory);
    while (bytes > 1 && parent[bytes - 1] == '/') {
        parent[--bytes] = '\0';
    }
    char *slash = strrchr(parent, '/');
    if (errno != ENOENT || slash == parent) {
        return statfs("/", facts) == 0 ? 0 : -errno;
    }
    if (slash != NULL) {
        *slash = '\0';
    }
    return statfs(slash != NULL ? parent : ".", facts) == 0 ? 0 : -errno;
}

static uint64_t at_most(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t room_embedded(void)
{
    uint64_t total = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t bytes = at_most(total / 4, memory_available("") / 2);
    return at_most(bytes, memory_cgroup_left("") / 2) >> 20 << 20;
}

int room_default(const char *directory, uint64_t *capacity_bytes, struct failure *failure)
{
    struct statfs facts;
    if (has_entries(directory)) {
        *capacity_bytes = 0;
        return 0;
    }
    int error = file_system(directory, &facts);
    if (error != 0) {
        return failure_set(failure, error, "The store's directory %s cannot be made: %s.",
                           directory, strerror(-error));
    }
    uint64_t free_bytes = (uint64_t)facts.f_bavail * (uint64_t)facts.f_bsize;
    if (facts.f_type == TMPFS_MAGIC) {
        free_bytes = at_most(free_bytes, memory_available(""));
        free_bytes = at_most(free_bytes, memory_cgroup_left(""));
    }
    *capacity_bytes = free_bytes / 2 >> 20 << 20;
    return 0;
}

void room_warn(const char *directory, struct store *store, struct log *log)
{
    struct store_facts facts;
    struct statfs place;
    store_facts(store, &facts);
    uint64_t more = facts.capacity_bytes - facts.stored_bytes + facts.headroom_free_bytes;
    uint64_t left = memory_cgroup_left("");
    if (left < more && statfs(directory, &place) == 0 && place.f_type == TMPFS_MAGIC) {
        log_line(log, LOG_LEVEL_WARNING,
                 "the store may take %" PRIu64 " MiB more, and dsmd's memory control group has "
                 "%" PRIu64 " MiB left: at its limit the kernel ends dsmd",
                 more >> 20, left >> 20);
    }
}
