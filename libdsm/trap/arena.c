// SPDX-License-Identifier: Apache-2.0
//
// See the header. Mappings without access cost the kernel one record each and no memory; they are no longer anybody's to be dealt
// out by mmap(NULL, ...). Segments are mapped over them in one step, so that there is no moment in which another thread could
// come in between, and leave them behind when they go.
//
// `unused` lists what is reserved and has no segment on it: what lies wholly in one of its ranges may be mapped over. Anything else is
// asked of the kernel, which refuses where something is (MAP_FIXED_NOREPLACE): another segment, or what was there before
// the session. When the list is full the smaller part is given back and is as any other address.
//
// Raw system calls for the reservation itself: sanitizers would note, or clear, what they keep for each byte of it.
#include "libdsm/trap/arena.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "libdsm/sync/futex.h"

enum { RANGES = 2048 };
static const uint64_t least_bytes = 1ULL << 30; // reserved at a time where something is in the way

struct range {
    uintptr_t from, to;
};

static struct {
    pthread_mutex_t lock;
    struct range whole;
    struct range unused[RANGES]; // in no order
    uint32_t count;
} arena = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void add(uintptr_t from, uintptr_t to)
{
    for (uint32_t i = 0; i < arena.count;) { // joined with its neighbours
        const struct range other = arena.unused[i];
        if (other.to == from || other.from == to) {
            from = other.from < from ? other.from : from;
            to = other.to > to ? other.to : to;
            arena.unused[i] = arena.unused[--arena.count];
        } else {
            i++;
        }
    }
    if (arena.count < RANGES) {
        arena.unused[arena.count++] = (struct range){from, to};
    } else {
        (void)sync_call(SYS_munmap, (long)from, (long)(to - from), 0, 0, 0, 0);
    }
}

static bool reserve_one(uintptr_t from, uint64_t bytes)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    long at = sync_call(SYS_mmap, (long)from, (long)bytes, PROT_NONE, flags, -1, 0);
    if (at < 0 && at > -4096) {
        return false;
    }
    if ((uintptr_t)at != from) { // a kernel that does not know the flag
        (void)sync_call(SYS_munmap, at, (long)bytes, 0, 0, 0, 0);
        return false;
    }
    // Neither a core nor a child is to know of it.
    (void)sync_call(SYS_madvise, at, (long)bytes, MADV_DONTDUMP, 0, 0, 0);
    (void)sync_call(SYS_madvise, at, (long)bytes, MADV_DONTFORK, 0, 0, 0);
    add(from, from + bytes);
    return true;
}

// Halves, until what is in the way is passed by. Not deeper than the size has bits.
static uint64_t reserve(uintptr_t from, uint64_t bytes) // NOLINT(misc-no-recursion)
{
    if (bytes == 0 || reserve_one(from, bytes)) {
        return bytes;
    }
    uint64_t half = bytes / 2 / least_bytes * least_bytes;
    return half == 0 ? 0 : reserve(from, half) + reserve(from + half, bytes - half);
}

// Whether so many addresses may be had at all: with a limit of the process' size each half would fail, too.
static bool allowed(uint64_t bytes)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    long at = sync_call(SYS_mmap, 0, (long)bytes, PROT_NONE, flags, -1, 0);
    if (at < 0 && at > -4096) {
        return false;
    }
    (void)sync_call(SYS_munmap, at, (long)bytes, 0, 0, 0, 0);
    return true;
}

uint64_t arena_get(uintptr_t from, uint64_t bytes)
{
    uint64_t reserved = 0;
    bytes = bytes / least_bytes * least_bytes;
    (void)pthread_mutex_lock(&arena.lock);
    if (bytes > 0 && arena.whole.to == 0 && allowed(bytes)) {
        arena.whole = (struct range){from, from + bytes};
        reserved = reserve(from, bytes);
    }
    (void)pthread_mutex_unlock(&arena.lock);
    return reserved;
}

void arena_put(void)
{
    (void)pthread_mutex_lock(&arena.lock);
    for (uint32_t i = 0; i < arena.count; i++) {
        const struct range *range = &arena.unused[i];
        (void)sync_call(SYS_munmap, (long)range->from, (long)(range->to - range->from), 0, 0, 0, 0);
    }
    arena.count = 0;
    arena.whole = (struct range){0, 0};
    (void)pthread_mutex_unlock(&arena.lock);
}

bool arena_kept(void)
{
    (void)pthread_mutex_lock(&arena.lock);
    bool kept = arena.whole.to != 0;
    (void)pthread_mutex_unlock(&arena.lock);
    return kept;
}

// The reserved range in which all of this lies, or NULL.
static struct range *range_of(uintptr_t from, uintptr_t to)
{
    for (uint32_t i = 0; i < arena.count; i++) {
        if (arena.unused[i].from <= from && to <= arena.unused[i].to) {
            return &arena.unused[i];
        }
    }
    return NULL;
}

static int map_at(void *base, uint64_t bytes, int access, int fd, int how)
{
    void *at = mmap(base, bytes, access, MAP_SHARED | MAP_NORESERVE | how, fd, 0);
    if (at == MAP_FAILED) {
        return errno == EEXIST ? -EADDRINUSE : -errno;
    }
    if (at != base) {
        (void)munmap(at, bytes);
        return -EADDRINUSE;
    }
    return 0;
}

static int map_reserved(struct range *range, void *base, uint64_t bytes, int access, int fd)
{
    const uintptr_t from = (uintptr_t)base, to = from + bytes;
    const struct range rest = *range;
    int error = map_at(base, bytes, access, fd, MAP_FIXED);
    if (error == 0) {
        *range = arena.unused[--arena.count];
        if (rest.from < from) {
            add(rest.from, from);
        }
        if (to < rest.to) {
            add(to, rest.to);
        }
    }
    return error;
}

// Of the reserved ranges: gives back what this would lie over.
static void give_back(uintptr_t from, uintptr_t to)
{
    for (uint32_t i = 0; i < arena.count;) {
        const struct range range = arena.unused[i];
        uintptr_t begin = range.from > from ? range.from : from;
        uintptr_t end = range.to < to ? range.to : to;
        if (begin >= end) {
            i++;
            continue;
        }
        (void)sync_call(SYS_munmap, (long)begin, (long)(end - begin), 0, 0, 0, 0);
        arena.unused[i] = arena.unused[--arena.count];
        if (range.from < begin) {
            add(range.from, begin);
        }
        if (end < range.to) {
            add(end, range.to);
        }
        i = 0;
    }
}

static void take_again(uintptr_t from, uintptr_t to)
{
    from = from > arena.whole.from ? from : arena.whole.from;
    to = to < arena.whole.to ? to : arena.whole.to;
    if (from < to) {
        (void)reserve(from, to - from);
    }
}

int arena_map(void *base, uint64_t bytes, int access, int fd)
{
    const uintptr_t from = (uintptr_t)base, to = from + bytes;
    (void)pthread_mutex_lock(&arena.lock);
    struct range *range = range_of(from, to);
    int error;
    if (range != NULL) {
        error = map_reserved(range, base, bytes, access, fd);
    } else {
        give_back(from, to);
        error = map_at(base, bytes, access, fd, MAP_FIXED_NOREPLACE);
        if (error != 0) {
            take_again(from, to);
        }
    }
    (void)pthread_mutex_unlock(&arena.lock);
    return error;
}

void arena_unmap(void *base, uint64_t bytes)
{
    const uintptr_t from = (uintptr_t)base, to = from + bytes;
    (void)pthread_mutex_lock(&arena.lock);
    bool inside = from >= arena.whole.from && to <= arena.whole.to;
    if (inside && mmap(base, bytes, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == base) {
        (void)madvise(base, bytes, MADV_DONTDUMP);
        (void)madvise(base, bytes, MADV_DONTFORK);
        add(from, to);
    } else {
        (void)munmap(base, bytes);
    }
    (void)pthread_mutex_unlock(&arena.lock);
}
