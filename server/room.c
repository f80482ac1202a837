// SPDX-License-Identifier: Apache-2.0
//
// The capacity of a store that is made without saying one: half of what is free, since the rest of
// the host wants to live too. Whether a capacity fits is the store's own check; this is a default
// and no promise.
//
// Used by the main thread only.
#include "server/room.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

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

static uint64_t available_memory(void)
{
    static const char label[] = "MemAvailable:";
    char line[128];
    uint64_t kib = 0;
    FILE *file = fopen("/proc/meminfo", "re");
    if (file == NULL) {
        return UINT64_MAX;
    }
    while (kib == 0 && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, label, sizeof label - 1) == 0) {
            kib = strtoull(line + sizeof label - 1, NULL, 10);
        }
    }
    (void)fclose(file);
    return kib != 0 ? kib << 10 : UINT64_MAX;
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
    if (facts.f_type == TMPFS_MAGIC && available_memory() < free_bytes) {
        free_bytes = available_memory();
    }
    *capacity_bytes = free_bytes / 2 >> 20 << 20;
    return 0;
}
