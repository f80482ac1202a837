// SPDX-License-Identifier: Apache-2.0
//
// Memory whose pages come and go by a trap, with nothing else around it: what the raw limits are made of. No locks: pages
// are apart, and one page is one thread's at a time. A system call that fails ends the process, for it would be measured as speed.
#ifndef TOOLS_DSMPERF_REGION_H
#define TOOLS_DSMPERF_REGION_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum perf_trap_kind { PERF_TRAP_MPROTECT, PERF_TRAP_UFFD };
enum perf_fill { PERF_FILL_ALIAS, PERF_FILL_PWRITE };

struct perf_region {
    enum perf_trap_kind kind;
    int memfd;
    int uffd;    // -1: by mprotect
    int pagemap; // -1: the kernel cannot tell written pages
    uint8_t *view, *alias;
    size_t page_bytes;
    uint32_t pages;
    int signal; // that a touch of an absent page raises
};

// All pages absent. 0 or -errno: -ENOSYS, -EPERM, -EINVAL, ... where there is no userfaultfd that serves.
int perf_region_create(struct perf_region *region, enum perf_trap_kind kind, uint32_t pages);
void perf_region_destroy(struct perf_region *region);
// In handlers, too:
void perf_region_evict(const struct perf_region *region, uint32_t page);
// From absent to readable, or to readable and writable.
void perf_region_show(const struct perf_region *region, enum perf_fill fill, uint32_t page,
                      const void *from, bool write);
// The page of an address; false: it lies elsewhere.
bool perf_region_page(const struct perf_region *region, const void *address, uint32_t *page);
void perf_must(bool right); // or the end

#endif
