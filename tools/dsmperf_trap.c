// SPDX-License-Identifier: Apache-2.0
//
// The raw cost of a trap in steady state: the cache is full, so each touch of an absent page takes one page out and brings
// one in. No network, no policy, no locks: what libdsm cannot be faster than with that trap.
//
// Two traps, two ways to fill (through a second mapping, or by pwrite) and two places to do the work (the faulting thread
// itself, or another thread that it wakes and waits for by futex). Each trap has a region of its own; all else of it is
// shared, so that measurements in turn find the same state. Pages are touched in random order. With mprotect the page
// table of protections is as splintered as a real cache of that size makes it: about two mappings per cached page.
//
// Stores are told from loads by the measurement, not by the trap: a page that is asked for with a store is opened for
// stores, and its victim was stored to as well.
//
// Threads: one that measures, and one (made on first need) that answers. `asked` and `answered` are counters that
// futexes wait on; everything else belongs to whoever the counters say has the work. One instance in a process,
// because a signal handler has no argument: `active` is the handler's table.
#include "tools/dsmperf.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { REGION_PAGES = 1 << 16, CACHED_PAGES = REGION_PAGES / 8, KINDS = 2 };

struct cache { // of one trap
    struct perf_region region;
    uint32_t ring[CACHED_PAGES]; // cached pages, oldest at `oldest`
    size_t oldest, cached;
    uint8_t in[REGION_PAGES];
    struct sigaction former;
    bool made;
};

struct perf_trap {
    struct cache caches[KINDS];
    struct cache *cache; // that is measured
    uint8_t *source;
    enum perf_fill fill;
    bool handed, write;
    bool running, stop; // the answering thread
    pthread_t thread;
    uint32_t page; // handed over
    _Atomic uint32_t asked, answered;
    uint64_t random;
};

static struct perf_trap *active;

static void futex_wait(_Atomic uint32_t *word, uint32_t seen)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void cycle(struct perf_trap *trap, uint32_t page)
{
    struct cache *cache = trap->cache;
    if (cache->cached == CACHED_PAGES) {
        uint32_t victim = cache->ring[cache->oldest];
        perf_region_evict(&cache->region, victim);
        cache->in[victim] = 0;
    } else {
        cache->cached++;
    }
    perf_region_show(&cache->region, trap->fill, page, trap->source, trap->write);
    cache->in[page] = 1;
    cache->ring[cache->oldest] = page;
    cache->oldest = (cache->oldest + 1) % CACHED_PAGES;
}

static void hand_over(struct perf_trap *trap, uint32_t page)
{
    uint32_t seen = atomic_load_explicit(&trap->answered, memory_order_acquire);
    trap->page = page;
    atomic_fetch_add_explicit(&trap->asked, 1, memory_order_release);
    futex_wake(&trap->asked);
    while (atomic_load_explicit(&trap->answered, memory_order_acquire) == seen) {
        futex_wait(&trap->answered, seen);
    }
}

static void *answer(void *argument)
{
    struct perf_trap *trap = argument;
    uint32_t seen = 0;
    for (;;) {
        while (atomic_load_explicit(&trap->asked, memory_order_acquire) == seen) {
            futex_wait(&trap->asked, seen);
        }
        seen++;
        if (trap->stop) {
            return NULL;
        }
        cycle(trap, trap->page);
        atomic_fetch_add_explicit(&trap->answered, 1, memory_order_release);
        futex_wake(&trap->answered);
    }
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)context;
    struct perf_trap *trap = active;
    int saved = errno;
    uint32_t page;
    if (!perf_region_page(&trap->cache->region, info->si_addr, &page)) {
        signal(number, SIG_DFL); // not ours: let it happen again without us
        return;
    }
    if (trap->handed) {
        hand_over(trap, page);
    } else {
        cycle(trap, page);
    }
    errno = saved;
}

static uint32_t absent_page(struct perf_trap *trap)
{
    uint32_t page;
    do {
        page = (uint32_t)(perf_random(&trap->random) >> 32) % REGION_PAGES;
    } while (trap->cache->in[page] != 0);
    return page;
}

// The fence: the handler changes *trap behind the compiler's back.
static void touch(struct perf_trap *trap, uint32_t page)
{
    volatile uint8_t *at = trap->cache->region.view + page * trap->cache->region.page_bytes;
    if (trap->write) {
        *at = 7;
    } else {
        (void)*at;
    }
    atomic_signal_fence(memory_order_seq_cst);
}

static int make_cache(struct cache *cache, enum perf_trap_kind kind)
{
    if (cache->made) {
        return 0;
    }
    int error = perf_region_create(&cache->region, kind, REGION_PAGES);
    if (error != 0) {
        return error;
    }
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigfillset(&action.sa_mask);
    if (sigaction(cache->region.signal, &action, &cache->former) != 0) {
        error = -errno;
        perf_region_destroy(&cache->region);
        return error;
    }
    cache->made = true;
    return 0;
}

static int start_thread(struct perf_trap *trap)
{
    if (!trap->handed || trap->running) {
        return 0;
    }
    int error = pthread_create(&trap->thread, NULL, answer, trap);
    trap->running = error == 0;
    return -error;
}

// Before a series of stores the victims of the series are stored to. To mprotect a victim is a victim.
static void fill_cache(struct perf_trap *trap, uint32_t count)
{
    struct cache *cache = trap->cache;
    while (cache->cached < CACHED_PAGES) {
        touch(trap, absent_page(trap));
    }
    for (size_t i = 0;
         i < count && i < CACHED_PAGES && trap->write && cache->region.kind == PERF_TRAP_UFFD;
         i++) {
        touch(trap, cache->ring[(cache->oldest + i) % CACHED_PAGES]);
    }
}

int perf_trap_measure(struct perf_trap *trap, const struct perf_question *question,
                      struct perf_samples *samples)
{
    if (question->trap >= KINDS) {
        return -EINVAL;
    }
    trap->fill = (enum perf_fill)question->fill;
    trap->handed = question->handed != 0;
    trap->write = question->write != 0;
    int result = make_cache(&trap->caches[question->trap], (enum perf_trap_kind)question->trap);
    trap->cache = &trap->caches[question->trap];
    if (result == 0) {
        result = start_thread(trap);
    }
    if (result == 0) {
        fill_cache(trap, question->count);
    }
    for (uint32_t i = 0; i < question->count && result == 0; i++) {
        uint32_t page = absent_page(trap);
        double start = perf_now_us();
        touch(trap, page);
        result = perf_samples_add(samples, perf_now_us() - start);
    }
    return result;
}

int perf_trap_create(struct perf_trap **created)
{
    struct perf_trap *trap = calloc(1, sizeof(*trap));
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    if (trap == NULL || (trap->source = malloc(page_bytes)) == NULL) {
        free(trap);
        return -ENOMEM;
    }
    trap->random = 0x9e3779b97f4a7c15;
    memset(trap->source, 0x5a, page_bytes);
    active = trap;
    *created = trap;
    return 0;
}

void perf_trap_destroy(struct perf_trap **destroyed)
{
    struct perf_trap *trap = *destroyed;
    if (trap == NULL) {
        return;
    }
    if (trap->running) {
        trap->stop = true;
        atomic_fetch_add_explicit(&trap->asked, 1, memory_order_release);
        futex_wake(&trap->asked);
        pthread_join(trap->thread, NULL);
    }
    for (size_t kind = 0; kind < KINDS; kind++) {
        if (trap->caches[kind].made) {
            sigaction(trap->caches[kind].region.signal, &trap->caches[kind].former, NULL);
            perf_region_destroy(&trap->caches[kind].region);
        }
    }
    active = NULL;
    free(trap->source);
    free(trap);
    *destroyed = NULL;
}
