// SPDX-License-Identifier: Apache-2.0
//
// The statistics page: a process's live counters where dsmstat can read them, without a word to the process. A memory file
// named STAT_PAGE_NAME that its process keeps open: /proc/PID/fd shows it to the same user and to root, and it is
// gone with the process, however that ends. The library adds to the counters in place.
//
// The layout is read by programs of other versions: fields are only added, at the end; counters are found by name.
#ifndef LIBDSM_STAT_STAT_PAGE_H
#define LIBDSM_STAT_STAT_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "libdsm/stat/stat.h"
#include "rpc/latency.h"

#define STAT_PAGE_NAME "dsm-stat"
#define STAT_PAGE_MAGIC 0x746174732d6d7364ULL // "dsm-stat"
enum { STAT_PAGE_VERSION = 1, STAT_PAGE_MOST_BYTES = 256 << 10, STAT_PAGE_MOST_COUNTERS = 1024 };
enum { STAT_PAGE_SEGMENTS = 256, STAT_PAGE_NAME_BYTES = 256 };

enum stat_trap { STAT_TRAP_UNKNOWN, STAT_TRAP_MPROTECT, STAT_TRAP_UFFD, STAT_TRAP_UFFD_SYNC };

struct stat_page_header {
    _Atomic uint64_t magic; // written last
    uint32_t version;
    uint32_t bytes; // of all
    int32_t pid;    // as the process itself knows it; a forked child may have the page open, too
    uint32_t counters;
    uint32_t counters_offset; // of an array of 64-bit numbers
    uint32_t names_offset;    // of as many names, each ended by NUL
    uint32_t names_bytes;
    uint32_t reserved;
    uint64_t start_ticks; // of the process, as /proc/PID/stat says
    uint64_t opened_ns;   // CLOCK_MONOTONIC when the session was opened
    uint64_t cache_bytes;
    char program[64];
    char server[280];
    uint32_t fault_latency_offset; // of a struct latency; 0: a page of an older library, without
    uint32_t latency_buckets;
    uint32_t
        segments_offset; // of an array of struct stat_page_segment; 0: a page of an older library, without
    uint32_t segments;      // places in it
    uint32_t segment_bytes; // of one: what a reader does not know stands at the end
    uint32_t trap; // how touches are noticed: enum stat_trap; 0 in a page of an older library
};

struct stat_page_segment {   // an open segment
    _Atomic uint32_t number; // as probes name it; 0: the place is free
    uint32_t page_bytes;
    uint64_t base, pages;
    uint64_t id; // at its server
    char name[STAT_PAGE_NAME_BYTES];
    _Atomic uint32_t
        again; // the number once more, written before it: who reads another one here reads a place that changes
    uint32_t reserved;
};

struct stat_page {
    struct counters *counters;
    struct latency *fault_latency;
    struct stat_page_segment *segments;
    void *base;
    size_t bytes;
    int fd; // -1: nobody sees it
    dev_t device;
    ino_t inode;
};

struct stat_page_facts {
    uint64_t cache_bytes;
    const char *server;
    enum stat_trap trap;
};

// A page with zeros. Where it cannot be shown, or shall not (shown false), the counters lie in memory of the process
// alone: counting goes on, and nobody sees it. 0 or -ENOMEM.
int stat_page_create(struct stat_page *page, const struct stat_page_facts *facts, bool shown);
void stat_page_destroy(struct stat_page *page);
// A segment was opened, with this number; and closed. Any thread.
void stat_page_opened(struct stat_page *page, const struct stat_page_segment *segment);
void stat_page_closed(struct stat_page *page, uint32_t number);
// In a forked child: lets go of the file, which tells of its parent. Async-signal-safe.
void stat_page_leave(struct stat_page *page);

// When process `pid` (0: this one) was started, in ticks of the clock since the system was. 0 or -errno.
int stat_process_start(pid_t pid, uint64_t *ticks);

#endif
