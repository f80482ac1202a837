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

static uint64_t memory_line(const char *label)
{
    char line[128];
    uint64_t kib = 0;
    FILE *file = fopen("/proc/meminfo", "re");
    if (file == NULL) {
        return UINT64_MAX;
    }
    while (kib == 0 && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, label, strlen(label)) == 0) {
            kib = strtoull(line + strlen(label), NULL, 10);
        }
    }
    (void)fclose(file);
    return kib != 0 ? kib << 10 : UINT64_MAX;
}

static uint64_t available_memory(void)
{
    return memory_line("MemAvailable:");
}

static uint64_t at_most(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

// UINT64_MAX where there is no such file, or it says "max".
static uint64_t cgroup_number(const char *group, const char *name)
{
    char path[PATH_MAX];
    unsigned long long number;
    (void)snprintf(path, sizeof path, "/sys/fs/cgroup%s/%s", group, name);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return UINT64_MAX;
    }
    bool found = fscanf(file, "%llu", &number) == 1;
    (void)fclose(file);
    return found ? number : UINT64_MAX;
}

// Limits of all the groups from this process' to the root count.
static uint64_t cgroup_left(void)
{
    char group[PATH_MAX - 64] = "";
    uint64_t left = UINT64_MAX;
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file != NULL && fgets(group, sizeof group, file) != NULL &&
           strncmp(group, "0::/", 4) != 0) {
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    if (strncmp(group, "0::/", 4) != 0) {
        return left;
    }
    group[strcspn(group, "\n")] = '\0';
    for (char *slash; (slash = strrchr(group, '/')) != NULL; *slash = '\0') {
        uint64_t most = cgroup_number(group + 3, "memory.max");
        uint64_t used = cgroup_number(group + 3, "memory.current");
        if (most != UINT64_MAX && used != UINT64_MAX) {
            left = at_most(left, most > used ? most - used : 0);
        }
    }
    return left;
}

uint64_t room_embedded(void)
{
    uint64_t bytes = at_most(memory_line("MemTotal:") / 4, available_memory() / 2);
    return at_most(bytes, cgroup_left() / 2) >> 20 << 20;
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
