// SPDX-License-Identifier: Apache-2.0
//
// MemAvailable, and what the memory control group has left. Both kinds of control groups are read, since a system may have
// the second version mounted for systemd and memory under the first; the nearest limit counts.
//
// /proc/self/cgroup names the group from the root of its hierarchy, /proc/self/mountinfo says which part of the hierarchy is
// mounted where. In a container the mounted part need not hold the path that is named (it is the host's); then the mount
// itself stands for our group, as it does inside of containers. Limits of the groups above count as well, up to the mount.
//
// The page cache is counted as used by the group, but goes first when memory is short: the inactive files are
// taken off. memory.high is a limit like memory.max: beyond it the group is slowed down to a crawl.
//
// All of it is a look at one moment, for choosing a default; nothing is reserved. What cannot be read or understood
// is no bound. No state; any thread.
#include "rpc/memory.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MEMORY_LINE_BYTES = 2560,
    MEMORY_PATH_BYTES = 1024
}; // on the stack; what is longer is no bound
// Version 1 says "no limit" by a number near the largest; no machine has so much.
#define MEMORY_NO_LIMIT (UINT64_C(1) << 60)

struct kind { // of control groups
    bool second;
    const char *limit, *soft_limit, *usage, *inactive;
};
static const struct kind kinds[] = {
    {true, "memory.max", "memory.high", "memory.current", "inactive_file "},
    {false, "memory.limit_in_bytes", NULL, "memory.usage_in_bytes", "total_inactive_file "},
};

static FILE *open_in(const char *folder, const char *name)
{
    char path[2 * MEMORY_PATH_BYTES + 64];
    int bytes = snprintf(path, sizeof path, "%s/%s", folder, name);
    return bytes > 0 && (size_t)bytes < sizeof path ? fopen(path, "re") : NULL;
}

// The number behind the label in a file of lines "LABEL NUMBER"; with an empty label, the file's only number.
static uint64_t read_number(const char *folder, const char *name, const char *label,
                            uint64_t absent)
{
    char line[256];
    uint64_t number = absent;
    size_t length = strlen(label);
    FILE *file = open_in(folder, name);
    if (file == NULL) {
        return absent;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, label, length) == 0) {
            char *end; // "max" is none
            unsigned long long value = strtoull(line + length, &end, 10);
            number = end != line + length ? value : absent;
            break;
        }
    }
    (void)fclose(file);
    return number;
}

uint64_t memory_available(const char *root)
{
    uint64_t kib = read_number(root, "proc/meminfo", "MemAvailable:", UINT64_MAX);
    return kib > UINT64_MAX / 1024 ? UINT64_MAX : kib * 1024;
}

static uint64_t folder_left(const struct kind *kind, const char *folder)
{
    uint64_t limit = read_number(folder, kind->limit, "", UINT64_MAX);
    if (kind->soft_limit != NULL) {
        uint64_t soft = read_number(folder, kind->soft_limit, "", UINT64_MAX);
        limit = soft < limit ? soft : limit;
    }
    if (limit >= MEMORY_NO_LIMIT) {
        return UINT64_MAX;
    }
    uint64_t used = read_number(folder, kind->usage, "", 0);
    uint64_t inactive = read_number(folder, "memory.stat", kind->inactive, 0);
    used = inactive < used ? used - inactive : 0;
    return used < limit ? limit - used : 0;
}

// From our group's folder up to the mount; both without a slash at their end.
static uint64_t path_left(const struct kind *kind, const char *mount, char *folder)
{
    uint64_t left = UINT64_MAX;
    size_t end = strlen(mount);
    for (;;) {
        uint64_t here = folder_left(kind, folder);
        left = here < left ? here : left;
        char *slash = strrchr(folder, '/');
        if (slash == NULL || (size_t)(slash - folder) < end) {
            return left;
        }
        *slash = '\0';
    }
}

// Our group's path in the hierarchy that has memory, from a line "N:CONTROLLERS:PATH".
static bool own_path(const struct kind *kind, const char *root, char path[MEMORY_PATH_BYTES])
{
    char line[MEMORY_LINE_BYTES];
    bool found = false;
    FILE *file = open_in(root, "proc/self/cgroup");
    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *at = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (at == NULL || strlen(at + 1) >= MEMORY_PATH_BYTES) {
            continue;
        }
        *controllers = ',';
        *at = ',';
        const char *memory = strstr(controllers, ",memory,");
        found = kind->second ? at == controllers + 1 : memory != NULL && memory < at;
        if (found) {
            (void)snprintf(path, MEMORY_PATH_BYTES, "%s", at + 1);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return found;
}

// Which part of the hierarchy is mounted, and where: "ID PARENT DEVICE PART WHERE OPTIONS ... - TYPE SOURCE OPTIONS".
static bool find_mount(const struct kind *kind, const char *root, char part[MEMORY_PATH_BYTES],
                       char where[MEMORY_PATH_BYTES])
{
    char line[MEMORY_LINE_BYTES];
    char type[64];
    char options[512];
    bool found = false;
    FILE *file = open_in(root, "proc/self/mountinfo");
    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL) {
        const char *rest = strstr(line, " - ");
        if (rest == NULL || sscanf(rest, " - %63s %*s %511s", type, options) != 2 ||
            sscanf(line, "%*s %*s %*s %1023s %1023s", part, where) != 2) {
            continue;
        }
        found = kind->second ? strcmp(type, "cgroup2") == 0
                             : strcmp(type, "cgroup") == 0 && strstr(options, "memory") != NULL;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return found;
}

static uint64_t kind_left(const struct kind *kind, const char *root)
{
    char path[MEMORY_PATH_BYTES];
    char part[MEMORY_PATH_BYTES];
    char where[MEMORY_PATH_BYTES];
    char mount[MEMORY_PATH_BYTES];
    char folder[2 * MEMORY_PATH_BYTES];
    if (!own_path(kind, root, path) || !find_mount(kind, root, part, where)) {
        return UINT64_MAX;
    }
    size_t length = strcmp(part, "/") == 0 ? 0 : strlen(part);
    bool inside = strncmp(path, part, length) == 0 && strstr(path, "/..") == NULL &&
                  (path[length] == '/' || path[length] == '\0');
    const char *below = inside && strcmp(path + length, "/") != 0 ? path + length : "";
    int bytes = snprintf(mount, sizeof mount, "%s%s", root, where);
    if (bytes < 0 || (size_t)bytes >= sizeof mount) {
        return UINT64_MAX;
    }
    (void)snprintf(folder, sizeof folder, "%s%s", mount, below);
    return path_left(kind, mount, folder);
}

uint64_t memory_cgroup_left(const char *root)
{
    uint64_t left = UINT64_MAX;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        uint64_t here = kind_left(&kinds[i], root);
        left = here < left ? here : left;
    }
    return left;
}
