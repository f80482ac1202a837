// SPDX-License-Identifier: Apache-2.0
//
// What userfaultfd(2) and PAGEMAP_SCAN need, by the numbers of the kernel's interface: the headers of Debian 12 are older.
#ifndef TOOLS_DSMPERF_UFFD_H
#define TOOLS_DSMPERF_UFFD_H

#include <stddef.h>
#include <stdint.h>

// A descriptor that reports touches of [view, view + bytes) of a memory file by SIGBUS, without privileges. -errno.
int perf_uffd_open(void *view, size_t bytes);
int perf_uffd_map(int uffd, void *at, size_t bytes, int write); // what the file has there
int perf_pagemap_open(void);                                    // -ENOTTY: pages cannot be scanned
int perf_pagemap_written(int pagemap, void *at, size_t bytes);

#endif
