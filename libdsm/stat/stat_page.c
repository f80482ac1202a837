// SPDX-License-Identifier: Apache-2.0
//
// Why a memory file that is found through /proc/PID/fd, and not a file in /dev/shm: it has no name that could be left behind by
// kill -9 or taken by somebody else beforehand, no place that could be missing or full of other things, and the
// kernel's own rule for /proc (same user, or root) is the rule that is wanted. The price is one descriptor, which is
// closed on exec; a program that closes all descriptors it does not know is merely no longer seen. Since such a
// program may have got the number again for a file of its own, the descriptor is closed only while it is still ours.
//
// What may read it may not change it: after our own mapping the file is sealed against writing, growing and shrinking.
// Its memory is taken at once, so that adding to a counter in the handler can never end in SIGBUS.
//
// Statistics must not keep a program from running: whatever fails here ends in a page that nobody sees.
//
// Threads: create and destroy are the session's; in between everybody adds, atomically.
#include "libdsm/stat/stat_page.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

static const char names[] =
#define DSM_COUNTER(name, ...) #name "\0"
#include <dsm/counters.def>
#undef DSM_COUNTER
    ;

enum { COUNTERS = sizeof(struct counters) / sizeof(uint64_t), LINE_BYTES = 64 };
enum {
    COUNTERS_OFFSET = (sizeof(struct stat_page_header) + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES,
    NAMES_OFFSET = COUNTERS_OFFSET + sizeof(struct counters),
    LATENCY_OFFSET = (NAMES_OFFSET + sizeof names + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES,
    SEGMENTS_OFFSET =
        (LATENCY_OFFSET + sizeof(struct latency) + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES,
    PAGE_BYTES = SEGMENTS_OFFSET + STAT_PAGE_SEGMENTS * sizeof(struct stat_page_segment),
};
_Static_assert(sizeof(_Atomic uint64_t) == sizeof(uint64_t), "a counter is its number alone");
_Static_assert((int)PAGE_BYTES <= (int)STAT_PAGE_MOST_BYTES, "readers expect no more");
_Static_assert((int)COUNTERS <= (int)STAT_PAGE_MOST_COUNTERS, "readers expect no more");

int stat_process_start(pid_t pid, uint64_t *ticks)
{
    enum { FIELDS_BEFORE = 20 }; // between the name's ")" and the start
    char path[32] = "/proc/self/stat";
    char text[1024];
    if (pid != 0) {
        (void)snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    ssize_t got = read(fd, text, sizeof text - 1);
    int error = got < 0 ? -errno : 0;
    (void)close(fd);
    if (error != 0) {
        return error;
    }
    text[got] = '\0';
    const char *at = strrchr(text, ')');
    for (int i = 0; i < FIELDS_BEFORE && at != NULL; i++) {
        at = strchr(at + 1, ' ');
    }
    if (at == NULL) {
        return -EBADMSG;
    }
    *ticks = strtoull(at, NULL, 10);
    return 0;
}

// The file, with its memory. -1: there is none to be had.
static int make_file(struct stat_page *page)
{
    struct stat facts;
    int fd = memfd_create(STAT_PAGE_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) {
        fd = memfd_create(STAT_PAGE_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    }
    if (fd < 0) {
        return -1;
    }
    if (fchmod(fd, 0600) != 0 || fallocate(fd, 0, 0, (off_t)page->bytes) != 0 ||
        fstat(fd, &facts) != 0) {
        (void)close(fd);
        return -1;
    }
    page->device = facts.st_dev;
    page->inode = facts.st_ino;
    return fd;
}

static void map_file(struct stat_page *page)
{
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
    int fd = make_file(page);
    if (fd < 0) {
        return;
    }
    void *base = mmap(NULL, page->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (base == MAP_FAILED) {
        (void)close(fd);
        return;
    }
    if (fcntl(fd, F_ADD_SEALS, seals) != 0) { // nobody believes a page without them
        (void)munmap(base, page->bytes);
        (void)close(fd);
        return;
    }
    page->base = base;
    page->fd = fd;
}

static void copy_text(char *to, size_t bytes, const char *from)
{
    (void)snprintf(to, bytes, "%s", from);
}

static void describe(struct stat_page *page, const struct stat_page_facts *facts)
{
    struct stat_page_header *header = page->base;
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    header->version = STAT_PAGE_VERSION;
    header->bytes = PAGE_BYTES;
    header->pid = (int32_t)getpid();
    header->counters = COUNTERS;
    header->counters_offset = COUNTERS_OFFSET;
    header->names_offset = NAMES_OFFSET;
    header->names_bytes = sizeof names;
    header->fault_latency_offset = LATENCY_OFFSET;
    header->latency_buckets = LATENCY_BUCKETS;
    header->segments_offset = SEGMENTS_OFFSET;
    header->segments = STAT_PAGE_SEGMENTS;
    header->segment_bytes = sizeof(struct stat_page_segment);
    (void)stat_process_start(0, &header->start_ticks);
    header->opened_ns = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
    header->cache_bytes = facts->cache_bytes;
    copy_text(header->program, sizeof header->program, program_invocation_short_name);
    header->trap = facts->trap;
    copy_text(header->server, sizeof header->server, facts->server);
    memcpy((char *)page->base + NAMES_OFFSET, names, sizeof names);
    atomic_store_explicit(&header->magic, STAT_PAGE_MAGIC, memory_order_release);
}

int stat_page_create(struct stat_page *page, const struct stat_page_facts *facts, bool shown)
{
    size_t unit = (size_t)sysconf(_SC_PAGESIZE);
    *page = (struct stat_page){.bytes = (PAGE_BYTES + unit - 1) / unit * unit, .fd = -1};
    if (shown) {
        map_file(page);
    }
    if (page->base == NULL) {
        void *base =
            mmap(NULL, page->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base == MAP_FAILED) {
            return -ENOMEM;
        }
        page->base = base;
    }
    page->counters = (struct counters *)(void *)((char *)page->base + COUNTERS_OFFSET);
    page->fault_latency = (struct latency *)(void *)((char *)page->base + LATENCY_OFFSET);
    page->segments = (struct stat_page_segment *)(void *)((char *)page->base + SEGMENTS_OFFSET);
    describe(page, facts);
    return 0;
}

void stat_page_opened(struct stat_page *page, const struct stat_page_segment *segment)
{
    const uint32_t taken = UINT32_MAX;
    for (size_t i = 0; i < STAT_PAGE_SEGMENTS; i++) {
        struct stat_page_segment *place = &page->segments[i];
        uint32_t unused = 0;
        if (atomic_compare_exchange_strong(&place->number, &unused, taken)) {
            place->page_bytes = segment->page_bytes;
            place->base = segment->base;
            place->pages = segment->pages;
            place->id = segment->id;
            copy_text(place->name, sizeof place->name, segment->name);
            atomic_store(&place->again, segment->number);
            atomic_store(&place->number, segment->number);
            return;
        }
    } // a session has no more segments than that
}

void stat_page_closed(struct stat_page *page, uint32_t number)
{
    for (size_t i = 0; i < STAT_PAGE_SEGMENTS; i++) {
        struct stat_page_segment *place = &page->segments[i];
        if (atomic_load(&place->number) == number) {
            atomic_store(&place->again, 0);
            atomic_store(&place->number, 0);
            return;
        }
    }
}

void stat_page_leave(struct stat_page *page)
{
    struct stat facts;
    if (page->fd >= 0 && fstat(page->fd, &facts) == 0 && facts.st_dev == page->device &&
        facts.st_ino == page->inode) {
        (void)close(page->fd);
    }
    page->fd = -1;
}

void stat_page_destroy(struct stat_page *page)
{
    stat_page_leave(page);
    if (page->base != NULL) {
        (void)munmap(page->base, page->bytes);
    }
    *page = (struct stat_page){.fd = -1};
}
