// SPDX-License-Identifier: Apache-2.0
//
// See the header. The kernel refuses without saying what was in the way; its list of mappings does. The list is read after the
// refusal, so what was there may be gone: then the sentence says only that. What the library itself keeps free for segments has no
// access and no name, and is passed by.
#include "libdsm/addresses.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "libdsm/trap/arena.h"

struct mapping {
    unsigned long long from, to;
    char access[8];
    char name[256];
};

static bool read_mapping(FILE *maps, struct mapping *mapping)
{
    char line[512];
    if (fgets(line, sizeof line, maps) == NULL) {
        return false;
    }
    mapping->name[0] = 0;
    // FROM-TO ACCESS OFFSET DEVICE INODE NAME
    // NOLINTNEXTLINE(cert-err34-c): the kernel's text
    (void)sscanf(line, "%llx-%llx %7s %*s %*s %*s %255[^\n]", &mapping->from, &mapping->to,
                 mapping->access, mapping->name);
    return true;
}

static bool in_the_way(const struct mapping *mapping, uint64_t base, uint64_t bytes)
{
    bool kept_free = mapping->name[0] == 0 && strcmp(mapping->access, "---p") == 0;
    return mapping->from < base + bytes && base < mapping->to && !kept_free;
}

// Why nothing was kept free, perhaps.
static const char *not_kept(void)
{
    struct rlimit limit;
    bool limited = getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
    return limited && !arena_kept()
               ? " Under its limit of addresses (RLIMIT_AS, ulimit -v) this process could not "
                 "keep them free for segments."
               : "";
}

int addresses_in_use(const char *segment, uint64_t base, uint64_t bytes, struct failure *failure)
{
    struct mapping mapping = {.from = 0};
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps != NULL && !found && read_mapping(maps, &mapping)) {
        found = in_the_way(&mapping, base, bytes);
    }
    if (maps != NULL) {
        (void)fclose(maps);
    }
    const unsigned long long from = base, to = base + bytes;
    if (!found) {
        return failure_set(failure, -EADDRINUSE,
                           "The addresses of segment %s (%#llx to %#llx) are in use in this "
                           "process.%s",
                           segment, from, to, not_kept());
    }
    return failure_set(failure, -EADDRINUSE,
                       "The addresses of segment %s (%#llx to %#llx) are in use in this process: "
                       "%s lies at %#llx.%s",
                       segment, from, to, mapping.name[0] != 0 ? mapping.name : "memory",
                       mapping.from, not_kept());
}
