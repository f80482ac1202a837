// SPDX-License-Identifier: Apache-2.0
//
// The raw cost of a trap in steady state: the cache is full, so each touch of an absent page takes one page
// out (mprotect(PROT_NONE), punch) and brings one in (fill, mprotect(PROT_READ)). No network, no policy, no
// locks: what libdsm cannot be faster than with SIGSEGV and mprotect over a memfd.
//
// Two ways to fill (through a second mapping, or by pwrite) and two places to do the work (the faulting thread
// itself, or another thread that it wakes and waits for by futex) work on one and the same region, so that
// measurements in turn find the same state. Pages are touched in random order. The page table of protections
// is as splintered as a real cache of that size makes it: about two mappings per cached page.
//
// Threads: one that measures, and one (made on first need) that answers. `asked` and `answered` are counters that
// futexes wait on; everything else belongs to whoever the counters say has the work. One instance in a process,
// because a signal handler has no argument: `active` is the handler's table.
#include "tools/dsmperf.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { REGION_PAGES = 1 << 16, CACHED_PAGES = REGION_PAGES / 8 };

struct perf_trap {
    int memfd;
    uint8_t *view, *alias; // the program's, protected; ours
    size_t page_bytes;
    uint32_t ring[CACHED_PAGES]; // cached pages, oldest at `oldest`
    size_t oldest, cached;
    uint8_t in[REGION_PAGES];
    uint8_t *source;
    enum perf_fill fill;
    bool handed;
    bool running, stop; // the answering thread
    pthread_t thread;
    uint32_t page; // handed over
    _Atomic uint32_t asked, answered;
    uint64_t random;
    struct sigaction former;
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

// A failure in here would be measured as speed: end the worker instead, its reader sees the end.
static void must(bool right)
{
    static const char text[] = "dsmperf: a system call of the trap's cycle failed\n";
    if (!right) {
        (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
        _exit(2);
    }
}

static void evict(struct perf_trap *trap, uint32_t page)
{
    size_t at = page * trap->page_bytes;
    must(mprotect(trap->view + at, trap->page_bytes, PROT_NONE) == 0);
    must(fallocate(trap->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
                   (off_t)trap->page_bytes) == 0);
    trap->in[page] = 0;
}

static void cycle(struct perf_trap *trap, uint32_t page)
{
    size_t at = page * trap->page_bytes;
    if (trap->cached == CACHED_PAGES) {
        evict(trap, trap->ring[trap->oldest]);
    } else {
        trap->cached++;
    }
    if (trap->fill == PERF_FILL_ALIAS) {
        memcpy(trap->alias + at, trap->source, trap->page_bytes);
    } else {
        must(pwrite(trap->memfd, trap->source, trap->page_bytes, (off_t)at) ==
             (ssize_t)trap->page_bytes);
    }
    must(mprotect(trap->view + at, trap->page_bytes, PROT_READ) == 0);
    trap->in[page] = 1;
    trap->ring[trap->oldest] = page;
    trap->oldest = (trap->oldest + 1) % CACHED_PAGES;
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
    uintptr_t at = (uintptr_t)info->si_addr - (uintptr_t)trap->view;
    if (at >= REGION_PAGES * trap->page_bytes) {
        sigaction(number, &trap->former, NULL); // not ours: let it happen again without us
        return;
    }
    uint32_t page = (uint32_t)(at / trap->page_bytes);
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
    do { // xorshift64
        trap->random ^= trap->random << 13;
        trap->random ^= trap->random >> 7;
        trap->random ^= trap->random << 17;
        page = (uint32_t)(trap->random >> 32) % REGION_PAGES;
    } while (trap->in[page] != 0);
    return page;
}

// The fence: the handler changes *trap behind the compiler's back.
static void touch(struct perf_trap *trap, uint32_t page)
{
    (void)*(volatile uint8_t *)(trap->view + page * trap->page_bytes);
    atomic_signal_fence(memory_order_seq_cst);
}

int perf_trap_measure(struct perf_trap *trap, const struct perf_question *question,
                      struct perf_samples *samples)
{
    trap->fill = (enum perf_fill)question->fill;
    trap->handed = question->handed != 0;
    if (trap->handed && !trap->running) {
        int error = pthread_create(&trap->thread, NULL, answer, trap);
        if (error != 0) {
            return -error;
        }
        trap->running = true;
    }
    while (trap->cached < CACHED_PAGES) {
        touch(trap, absent_page(trap));
    }
    for (uint32_t i = 0; i < question->count; i++) {
        uint32_t page = absent_page(trap);
        double start = perf_now_us();
        touch(trap, page);
        int result = perf_samples_add(samples, perf_now_us() - start);
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

static int map_region(struct perf_trap *trap)
{
    size_t bytes = REGION_PAGES * trap->page_bytes;
    trap->memfd = memfd_create("dsmperf", MFD_CLOEXEC);
    if (trap->memfd < 0 || ftruncate(trap->memfd, (off_t)bytes) != 0) {
        return -errno;
    }
    void *view = mmap(NULL, bytes, PROT_NONE, MAP_SHARED, trap->memfd, 0);
    if (view == MAP_FAILED) {
        return -errno;
    }
    trap->view = view;
    void *alias = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, trap->memfd, 0);
    if (alias == MAP_FAILED) {
        return -errno;
    }
    trap->alias = alias;
    return 0;
}

int perf_trap_create(struct perf_trap **created)
{
    struct perf_trap *trap = calloc(1, sizeof(*trap));
    if (trap == NULL) {
        return -ENOMEM;
    }
    trap->memfd = -1;
    trap->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    trap->random = 0x9e3779b97f4a7c15;
    trap->source = malloc(trap->page_bytes);
    int result = trap->source == NULL ? -ENOMEM : map_region(trap);
    if (result != 0) {
        goto fail;
    }
    memset(trap->source, 0x5a, trap->page_bytes);
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigfillset(&action.sa_mask);
    active = trap;
    if (sigaction(SIGSEGV, &action, &trap->former) != 0) {
        result = -errno;
        goto fail;
    }
    *created = trap;
    return 0;
fail:
    active = NULL;
    perf_trap_destroy(&trap);
    return result;
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
    if (active == trap) {
        sigaction(SIGSEGV, &trap->former, NULL);
        active = NULL;
    }
    if (trap->alias != NULL) {
        munmap(trap->alias, REGION_PAGES * trap->page_bytes);
    }
    if (trap->view != NULL) {
        munmap(trap->view, REGION_PAGES * trap->page_bytes);
    }
    if (trap->memfd >= 0) {
        close(trap->memfd);
    }
    free(trap->source);
    free(trap);
    *destroyed = NULL;
}
