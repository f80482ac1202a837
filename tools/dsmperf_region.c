// SPDX-License-Identifier: Apache-2.0
//
// A memory file mapped twice: where pages are touched (the view) and by another door. Two traps:
//
//   mprotect  the view is closed by its protection; a touch is a SIGSEGV; evicting closes the page, then punches it
//   uffd      the view is open, but nothing is mapped; a touch is a SIGBUS; evicting unmaps the page, asks whether it was
//             written, then punches it
//
// That is the least a trap must do for one page in and one page out, and no more: no policy, no lists, no locks.
#include "tools/dsmperf_region.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tools/dsmperf_uffd.h"

void perf_must(bool right)
{
    static const char text[] = "dsmperf: a system call of a raw limit failed\n";
    if (!right) {
        (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
        _exit(2);
    }
}

static int map_twice(struct perf_region *region)
{
    size_t bytes = region->pages * region->page_bytes;
    int access = region->kind == PERF_TRAP_UFFD ? PROT_READ | PROT_WRITE : PROT_NONE;
    region->memfd = memfd_create("dsmperf", MFD_CLOEXEC);
    if (region->memfd < 0 || ftruncate(region->memfd, (off_t)bytes) != 0) {
        return -errno;
    }
    void *view = mmap(NULL, bytes, access, MAP_SHARED, region->memfd, 0);
    if (view == MAP_FAILED) {
        return -errno;
    }
    region->view = view;
    void *alias = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, region->memfd, 0);
    if (alias == MAP_FAILED) {
        return -errno;
    }
    region->alias = alias;
    return 0;
}

int perf_region_create(struct perf_region *region, enum perf_trap_kind kind, uint32_t pages)
{
    *region = (struct perf_region){.kind = kind,
                                   .memfd = -1,
                                   .uffd = -1,
                                   .pagemap = -1,
                                   .page_bytes = (size_t)sysconf(_SC_PAGESIZE),
                                   .pages = pages,
                                   .signal = kind == PERF_TRAP_UFFD ? SIGBUS : SIGSEGV};
    int error = map_twice(region);
    if (error == 0 && kind == PERF_TRAP_UFFD) {
        region->uffd = perf_uffd_open(region->view, pages * region->page_bytes);
        error = region->uffd < 0 ? region->uffd : 0;
    }
    if (error == 0 && kind == PERF_TRAP_UFFD) {
        region->pagemap = perf_pagemap_open();
    }
    if (error != 0) {
        perf_region_destroy(region);
    }
    return error;
}

void perf_region_destroy(struct perf_region *region)
{
    size_t bytes = region->pages * region->page_bytes;
    if (region->alias != NULL) {
        munmap(region->alias, bytes);
    }
    if (region->view != NULL) {
        munmap(region->view, bytes);
    }
    const int fds[] = {region->memfd, region->uffd, region->pagemap};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    *region = (struct perf_region){.memfd = -1, .uffd = -1, .pagemap = -1};
}

void perf_region_evict(const struct perf_region *region, uint32_t page)
{
    size_t at = page * region->page_bytes;
    if (region->kind == PERF_TRAP_UFFD) {
        perf_must(madvise(region->view + at, region->page_bytes, MADV_DONTNEED) == 0);
        perf_must(region->pagemap < 0 || perf_pagemap_written(region->pagemap, region->view + at,
                                                              region->page_bytes) >= 0);
    } else {
        perf_must(mprotect(region->view + at, region->page_bytes, PROT_NONE) == 0);
    }
    perf_must(fallocate(region->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
                        (off_t)region->page_bytes) == 0);
}

void perf_region_show(const struct perf_region *region, enum perf_fill fill, uint32_t page,
                      const void *from, bool write)
{
    size_t at = page * region->page_bytes;
    if (fill == PERF_FILL_ALIAS) {
        memcpy(region->alias + at, from, region->page_bytes);
    } else {
        perf_must(pwrite(region->memfd, from, region->page_bytes, (off_t)at) ==
                  (ssize_t)region->page_bytes);
    }
    if (region->kind == PERF_TRAP_UFFD) {
        perf_must(perf_uffd_map(region->uffd, region->view + at, region->page_bytes, write) == 0);
    } else {
        int access = write ? PROT_READ | PROT_WRITE : PROT_READ;
        perf_must(mprotect(region->view + at, region->page_bytes, access) == 0);
    }
}

bool perf_region_page(const struct perf_region *region, const void *address, uint32_t *page)
{
    uintptr_t at = (uintptr_t)address - (uintptr_t)region->view;
    if (region->view == NULL || at >= region->pages * region->page_bytes) {
        return false;
    }
    *page = (uint32_t)(at / region->page_bytes);
    return true;
}
