// SPDX-License-Identifier: Apache-2.0
//
// Faults where no memory can be had: from under malloc's lock, from a signal handler that interrupts malloc, and with the
// heap and the address space used up. Over direct lanes only: gRPC allocates for each message.
//
// malloc and its kin are the test's own, around glibc's: they hold one lock, which every thread of the process needs, and
// touch managed memory under it when the test says so. So a fault on whose way anything is allocated never ends.
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/e2e/hold_rig.h"

enum { CACHE = 2 * MIB, PAGES = 8 * CACHE / PAGE, TURNS = 20000, THREADS = 4 };

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *at, size_t bytes);
void *__libc_memalign(size_t boundary, size_t bytes);
void __libc_free(void *at);

static pthread_mutex_t heap_lock = PTHREAD_MUTEX_INITIALIZER;
static dsm_segment *segment;
enum kind { NO_TOUCH, LOADS, LOADS_AND_STORES };
static __thread enum kind touches;
static __thread uint64_t seed;
static _Atomic uint64_t touched;

// Each page's first word counts the stores into it, its second word says which page it is.
static void touch(uint64_t random, bool store)
{
    uint64_t page = (random >> 8) % PAGES;
    _Atomic uint64_t *words = hold_at(segment, page);
    CHECK(atomic_load(&words[1]) == page + 1, "page %lu holds %lu", (unsigned long)page,
          (unsigned long)atomic_load(&words[1]));
    if (store) {
        (void)atomic_fetch_add(&words[0], 1);
    }
}

static void lock_heap(void)
{
    (void)pthread_mutex_lock(&heap_lock);
    if (touches != NO_TOUCH) {
        uint64_t random = hold_random(&seed);
        touch(random, touches == LOADS_AND_STORES && random % 2 == 0);
        (void)atomic_fetch_add(&touched, 1);
    }
}

static void *unlock_heap(void *result)
{
    (void)pthread_mutex_unlock(&heap_lock);
    return result;
}

#pragma GCC visibility push(default) // instead of glibc's, for every library

void *malloc(size_t bytes)
{
    lock_heap();
    return unlock_heap(__libc_malloc(bytes));
}

void *calloc(size_t count, size_t bytes)
{
    lock_heap();
    return unlock_heap(__libc_calloc(count, bytes));
}

void *realloc(void *at, size_t bytes)
{
    lock_heap();
    return unlock_heap(__libc_realloc(at, bytes));
}

void *memalign(size_t boundary, size_t bytes)
{
    lock_heap();
    return unlock_heap(__libc_memalign(boundary, bytes));
}

void *aligned_alloc(size_t boundary, size_t bytes)
{
    return memalign(boundary, bytes);
}

int posix_memalign(void **at, size_t boundary, size_t bytes)
{
    void *result = memalign(boundary, bytes);
    if (result == NULL) {
        return ENOMEM;
    }
    *at = result;
    return 0;
}

void free(void *at)
{
    lock_heap();
    __libc_free(at);
    (void)unlock_heap(NULL);
}

#pragma GCC visibility pop

static dsm *begin(void)
{
    dsm *session = hold_open(CACHE);
    segment = hold_create(session, "heap", PAGES, PAGE);
    for (uint64_t page = 0; page < PAGES; page++) {
        ((volatile uint64_t *)hold_at(segment, page))[1] = page + 1;
    }
    return session;
}

static void end(dsm *session)
{
    dsm_statistics statistics = hold_stats(session);
    printf("%lu touches, %lu pages read, %lu laundered\n", (unsigned long)touched,
           (unsigned long)statistics.swap_in_reads, (unsigned long)statistics.laundered_pages);
    CHECK(statistics.swap_in_reads >= TURNS / 4, "nothing was tested");
    hold_close(session);
}

// ---- under malloc's lock ----

static enum kind how;

static void *allocate(void *number)
{
    seed = (uintptr_t)number + 1;
    for (int i = 0; i < TURNS / THREADS; i++) {
        touches = how;
        void *at = malloc(100 + (size_t)i % 1000);
        touches = NO_TOUCH;
        CHECK(at != NULL);
        free(at);
    }
    return NULL;
}

static void run_under_lock(enum kind what)
{
    dsm *session = begin();
    pthread_t threads[THREADS];
    how = what;
    for (uintptr_t i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, allocate, (void *)i) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    CHECK(touched == TURNS / THREADS * THREADS);
    end(session);
}

static void run_loads(void)
{
    run_under_lock(LOADS);
}

static void run_stores(void)
{
    run_under_lock(LOADS_AND_STORES);
}

// ---- from a handler that interrupts malloc ----

static volatile sig_atomic_t in_malloc;
static _Atomic uint64_t met_in_malloc;

static void on_alarm(int number)
{
    (void)number;
    uint64_t random = hold_random(&seed);
    touch(random, random % 2 == 0);
    (void)atomic_fetch_add(&touched, 1);
    (void)atomic_fetch_add(&met_in_malloc, in_malloc != 0);
}

static void run_handler(void)
{
    dsm *session = begin();
    seed = 5;
    CHECK(signal(SIGALRM, on_alarm) != SIG_ERR);
    struct itimerval timer = {{0, 200}, {0, 200}};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    int64_t stop = hold_now_ms() + 60000;
    while (touched < TURNS && hold_now_ms() < stop) {
        in_malloc = 1;
        void *at = malloc(1000);
        free(at);
        in_malloc = 0;
        CHECK(at != NULL);
    }
    timer = (struct itimerval){{0, 0}, {0, 0}};
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    printf("%lu of them interrupted malloc\n", (unsigned long)met_in_malloc);
    CHECK(met_in_malloc > 100, "nothing was tested");
    end(session);
}

// ---- without memory ----

static void use_up_the_heap(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    char line[128];
    CHECK(file != NULL && fgets(line, sizeof line, file) != NULL);
    (void)fclose(file);
    unsigned long pages = strtoul(line, NULL, 10);
    const struct rlimit limit = {pages * PAGE, pages * PAGE};
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    uint64_t bytes = 0;
    for (size_t size = MIB; size >= 16; size /= 2) {
        while (malloc(size) != NULL) {
            bytes += size;
        }
    }
    CHECK(malloc(16) == NULL);
    printf("%lu bytes used up the heap\n", (unsigned long)bytes);
}

static void run_exhausted(void)
{
    dsm *session = begin();
    printf("begun\n"); // the stream has its buffer
    dsm_statistics before = hold_stats(session);
    use_up_the_heap();
    seed = 9;
    for (int i = 0; i < TURNS; i++) {
        uint64_t random = hold_random(&seed);
        touch(random, random % 2 == 0);
    }
    hold_pause_ms(7000); // the session has something to do now and then
    for (int i = 0; i < TURNS; i++) {
        uint64_t random = hold_random(&seed);
        touch(random, random % 2 == 0);
    }
    dsm_statistics after = hold_stats(session);
    printf("%lu pages read, %lu written\n",
           (unsigned long)(after.swap_in_reads - before.swap_in_reads),
           (unsigned long)(after.bytes_written - before.bytes_written) / PAGE);
    CHECK(after.swap_in_reads - before.swap_in_reads > TURNS, "nothing was tested");
    CHECK(after.bytes_written - before.bytes_written > (uint64_t)TURNS / 4 * PAGE,
          "no dirty page was evicted");
    printf("exhausted: held\n");
    (void)fflush(stdout);
    _exit(0); // closing the session is a control operation: it may need memory
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"loads", run_loads},
        {"stores", run_stores},
        {"handler", run_handler},
        {"exhausted", run_exhausted},
    };
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
