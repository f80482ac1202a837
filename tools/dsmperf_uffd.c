// SPDX-License-Identifier: Apache-2.0
//
// userfaultfd in SIGBUS mode over a memory file, as a raw limit: a touch of a page that is not mapped raises SIGBUS in the
// thread that touched it, which maps what the file has there, write-protected, by one call. Stores are tracked by the kernel
// (asynchronous write-protection) and asked for by PAGEMAP_SCAN. USER_MODE_ONLY, so no privilege is needed.
//
// The structures are of the kernel's interface and fixed; they are written down here since the build's headers may not know the later ones.
#include "tools/dsmperf_uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    USER_MODE_ONLY = 1,
    FEATURE_MISSING_SHMEM = 1 << 5,
    FEATURE_SIGBUS = 1 << 7,
    FEATURE_MINOR_SHMEM = 1 << 10,
    FEATURE_WP_SHMEM = 1 << 12,
    FEATURE_WP_UNPOPULATED = 1 << 13,
    FEATURE_WP_ASYNC = 1 << 15,
    REGISTER_MISSING = 1 << 0,
    REGISTER_WP = 1 << 1,
    REGISTER_MINOR = 1 << 2,
    CONTINUE_WP = 1 << 1,
    PAGE_IS_WRITTEN = 1 << 1,
};
struct continue_argument {
    uint64_t start, bytes, mode;
    int64_t mapped;
};
#define CONTINUE_REQUEST _IOWR(0xAA, 0x07, struct continue_argument)

struct scan_argument {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted,
        category_mask, category_anyof_mask, return_mask;
};
struct scan_region {
    uint64_t start, end, categories;
};
#define SCAN_REQUEST _IOWR('f', 16, struct scan_argument)

int perf_uffd_open(void *view, size_t bytes)
{
    int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY);
    if (uffd < 0) {
        return -errno;
    }
    struct uffdio_api api = {.api = UFFD_API,
                             .features = FEATURE_SIGBUS | FEATURE_MISSING_SHMEM |
                                         FEATURE_MINOR_SHMEM | FEATURE_WP_SHMEM |
                                         FEATURE_WP_UNPOPULATED | FEATURE_WP_ASYNC};
    struct uffdio_register range = {.range = {(uintptr_t)view, bytes},
                                    .mode = REGISTER_MISSING | REGISTER_WP | REGISTER_MINOR};
    if (ioctl(uffd, UFFDIO_API, &api) != 0 || ioctl(uffd, UFFDIO_REGISTER, &range) != 0) {
        int error = -errno;
        close(uffd);
        return error;
    }
    return uffd;
}

int perf_uffd_map(int uffd, void *at, size_t bytes, int write)
{
    struct continue_argument argument = {
        .start = (uintptr_t)at, .bytes = bytes, .mode = write ? 0 : CONTINUE_WP};
    return ioctl(uffd, CONTINUE_REQUEST, &argument) == 0 ? 0 : -errno;
}

int perf_pagemap_open(void)
{
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    struct scan_argument nothing = {.size = sizeof(nothing), .category_mask = PAGE_IS_WRITTEN};
    if (fd >= 0 && ioctl(fd, SCAN_REQUEST, &nothing) < 0 && errno == ENOTTY) {
        close(fd);
        return -ENOTTY;
    }
    return fd < 0 ? -errno : fd;
}

int perf_pagemap_written(int pagemap, void *at, size_t bytes)
{
    struct scan_region region = {0};
    struct scan_argument argument = {.size = sizeof(argument),
                                     .start = (uintptr_t)at,
                                     .end = (uintptr_t)at + bytes,
                                     .vec = (uintptr_t)&region,
                                     .vec_len = 1,
                                     .category_mask = PAGE_IS_WRITTEN,
                                     .return_mask = PAGE_IS_WRITTEN};
    int found = ioctl(pagemap, SCAN_REQUEST, &argument);
    return found < 0 ? -errno : found;
}
