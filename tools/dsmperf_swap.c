// SPDX-License-Identifier: Apache-2.0
//
// A memory control group (of the second version where it has memory, else of the first) and a swap file, made for one run. A file
// that is swapped to cannot be removed, and goes on being swapped to, until somebody says swapoff: a keeper does, as soon as this
// process has ended, however it did. It is there before the file has its size.
//
// The swap file is of the whole machine, but only a group whose limit is reached has anything to put there, as long as the machine
// has memory.
#include "tools/dsmperf_swap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <time.h>
#include <unistd.h>

#include "tools/dsmperf_keeper.h"

enum { BLOCK = 1 << 20, SIGNATURE_BYTES = 10, INFO_AT = 1024, REMOVE_STEPS = 200 };

struct perf_swap {
    char file[512], group[256];
    const char *limit_name, *peak_name;
    struct perf_keeper *keeper;
};

static int write_text(const char *folder, const char *name, const char *text)
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    ssize_t put = write(fd, text, strlen(text));
    int error = put < 0 ? -errno : 0;
    close(fd);
    return error;
}

static bool names_memory(const char *path)
{
    char text[512] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool found = fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && strstr(text, "memory") != NULL;
    if (fd >= 0) {
        close(fd);
    }
    return found;
}

// The limit's, and the peak's: older kernels have that in groups of the first version only.
static int check_files(const struct perf_swap *swap)
{
    char limit[320], peak[320];
    (void)snprintf(limit, sizeof(limit), "%s/%s", swap->group, swap->limit_name);
    (void)snprintf(peak, sizeof(peak), "%s/%s", swap->group, swap->peak_name);
    return access(limit, W_OK) == 0 && access(peak, R_OK) == 0 ? 0 : -errno;
}

static int make_group(struct perf_swap *swap, struct failure *failure)
{
    static const char second[] = "/sys/fs/cgroup";
    static const char first[] = "/sys/fs/cgroup/memory";
    const char *parent = first;
    swap->limit_name = "memory.limit_in_bytes";
    swap->peak_name = "memory.max_usage_in_bytes";
    if (names_memory("/sys/fs/cgroup/cgroup.controllers")) {
        parent = second;
        swap->limit_name = "memory.max";
        swap->peak_name = "memory.peak";
        if (!names_memory("/sys/fs/cgroup/cgroup.subtree_control")) {
            (void)write_text(second, "cgroup.subtree_control", "+memory");
        }
    }
    (void)snprintf(swap->group, sizeof(swap->group), "%s/dsmperf-%ld", parent, (long)getpid());
    int error = mkdir(swap->group, 0755) == 0 ? 0 : -errno;
    if (error == 0 && (error = check_files(swap)) != 0) {
        (void)rmdir(swap->group);
    }
    if (error != 0) {
        return failure_set(failure, error, "no memory control group: %s", strerror(-error));
    }
    return 0;
}

// As mkswap(8) writes it: version 1, the last page, no bad ones, and a name at the end of the first page.
static int write_header(int fd, uint64_t bytes)
{
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t page[65536] = {0};
    const uint32_t info[3] = {1, (uint32_t)(bytes / page_bytes) - 1, 0};
    if (page_bytes > sizeof(page)) {
        return -ENOTSUP;
    }
    memcpy(page + INFO_AT, info, sizeof(info));
    memcpy(page + page_bytes - SIGNATURE_BYTES, "SWAPSPACE2", SIGNATURE_BYTES);
    return pwrite(fd, page, page_bytes, 0) == (ssize_t)page_bytes && fsync(fd) == 0 ? 0 : -EIO;
}

static int write_zeros(int fd, uint64_t bytes) // a swap file has no holes
{
    uint8_t *zeros = calloc(1, BLOCK);
    int error = zeros == NULL ? -ENOMEM : 0;
    for (uint64_t at = 0; at < bytes && error == 0; at += BLOCK) {
        ssize_t put = pwrite(fd, zeros, BLOCK, (off_t)at);
        error = put == BLOCK ? 0 : put < 0 ? -errno : -ENOSPC;
    }
    free(zeros);
    return error;
}

static void take_away(const void *context)
{
    static const struct timespec step = {.tv_nsec = 50 * 1000000L};
    const struct perf_swap *swap = context;
    (void)swapoff(swap->file);
    (void)unlink(swap->file);
    for (int i = 0; i < REMOVE_STEPS && rmdir(swap->group) != 0 && errno == EBUSY; i++) {
        nanosleep(&step, NULL);
    }
}

static int start_swapping(const struct perf_settings *settings, struct perf_swap *swap,
                          uint64_t bytes, struct failure *failure)
{
    const char *folder = settings->disk != NULL ? settings->disk : "/var/tmp";
    bytes = (bytes + BLOCK - 1) / BLOCK * BLOCK;
    (void)snprintf(swap->file, sizeof(swap->file), "%s/dsmperf-swap-XXXXXX", folder);
    int fd = mkostemp(swap->file, O_CLOEXEC); // mode 0600
    int error = fd < 0 ? -errno : 0;
    if (error != 0) {
        (void)rmdir(swap->group);
        return failure_set(failure, error, "no file in %s: %s", folder, strerror(-error));
    }
    error = perf_keeper_start(take_away, swap, &swap->keeper, failure);
    if (error != 0) {
        take_away(swap);
        close(fd);
        return error;
    }
    error = write_zeros(fd, bytes);
    if (error == 0) {
        error = write_header(fd, bytes);
    }
    close(fd);
    if (error == 0 && swapon(swap->file, 0) != 0) {
        error = -errno;
    }
    return error == 0 ? 0
                      : failure_set(failure, error, "no swapping to a file in %s: %s", folder,
                                    strerror(-error));
}

int perf_swap_create(const struct perf_settings *settings, uint64_t swap_bytes,
                     struct perf_swap **created, struct failure *failure)
{
    if (geteuid() != 0) {
        return failure_set(failure, -EPERM, "only root may make a swap file");
    }
    struct perf_swap *swap = calloc(1, sizeof(*swap));
    if (swap == NULL) {
        return failure_set(failure, -ENOMEM, "there is not enough memory");
    }
    int error = make_group(swap, failure);
    if (error == 0) {
        error = start_swapping(settings, swap, swap_bytes, failure);
    }
    if (error != 0) {
        perf_swap_destroy(&swap);
        return error;
    }
    *created = swap;
    return 0;
}

int perf_swap_renew(const struct perf_swap *swap, uint64_t limit_bytes)
{
    char text[32];
    if (rmdir(swap->group) != 0 || mkdir(swap->group, 0755) != 0) {
        return -errno;
    }
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)limit_bytes);
    return limit_bytes == 0 ? 0 : write_text(swap->group, swap->limit_name, text);
}

int perf_swap_peak(const struct perf_swap *swap, uint64_t *bytes)
{
    char path[320];
    char text[32] = "";
    (void)snprintf(path, sizeof(path), "%s/%s", swap->group, swap->peak_name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    ssize_t got = read(fd, text, sizeof(text) - 1);
    close(fd);
    *bytes = got > 0 ? strtoull(text, NULL, 10) : 0;
    return *bytes > 0 ? 0 : -EIO;
}

int perf_swap_enter(const struct perf_swap *swap)
{
    return write_text(swap->group, "cgroup.procs", "0");
}

void perf_swap_destroy(struct perf_swap **destroyed)
{
    struct perf_swap *swap = *destroyed;
    if (swap == NULL) {
        return;
    }
    perf_keeper_stop(&swap->keeper);
    free(swap);
    *destroyed = NULL;
}
