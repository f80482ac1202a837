// SPDX-License-Identifier: Apache-2.0
//
// Faults of every kind, from 8 threads, as many as it is told: first touches of pages without contents and the first stores into
// them, random touches of a segment four times as large as the cache, explicit swap-ins between them. What the library counted of
// them is printed, to be compared with what the kernel counted.
//
//   stat_exact FILE TOUCHES PAGES   prints its pid, waits for FILE, then from each thread TOUCHES cheap touches (two traps each)
//                                   and PAGES random ones; prints "counters", "NAME NUMBER"..., the trap, "end", and waits for FILE.end
//   stat_exact FILE 0 PAGES measure one thread touches PAGES pages that are not in; prints the median of what that took as it saw it
//   stat_exact FILE 0 PAGES idle    the same from 8 threads that have a processor only when nobody else wants it, and somebody does;
//                                   prints how long they all took, and for how long of that they were ready and had no processor
#include <dsm/dsm.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, THREADS = 8, OWN = 64, SHARED = 4096, CACHE = SHARED / 4 + THREADS * OWN };

static dsm *session;
static dsm_segment *scratch, *shared;
static unsigned long touches, pages;
static const char *mode = "";
static _Atomic uint64_t whole_ns, ready_ns; // of the touches of touch_absent()

static void check(int result, const char *what)
{
    if (result != 0) {
        (void)fprintf(stderr, "%s: %s\n", what, dsm_error()->text);
        exit(1);
    }
}

static void touch_cheaply(uint64_t first)
{
    volatile unsigned char *base = dsm_segment_base(scratch);
    for (unsigned long done = 0; done < touches; done += OWN) {
        check(dsm_set_data_state(scratch, (dsm_interval){first, OWN}, DSM_DATA_UNDEFINED),
              "dsm_set_data_state");
        for (uint64_t page = first; page < first + OWN; page++) {
            (void)base[page * PAGE];
            base[page * PAGE] = 1;
        }
    }
}

static void touch_randomly(uint64_t seed)
{
    volatile unsigned char *base = dsm_segment_base(shared);
    for (unsigned long i = 0; i < pages; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        uint64_t page = (seed >> 8) % SHARED;
        if (i % 32 == 31) {
            (void)dsm_swap_in(shared, (dsm_interval){page & ~(uint64_t)7, 8}, 0, DSM_NO_PAGE);
        } else if ((seed & 1) != 0) {
            base[page * PAGE] = (unsigned char)i;
        } else {
            (void)base[page * PAGE];
        }
    }
}

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int by_size(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : (a > b ? 1 : 0);
}

// For how long this thread has been ready without a processor, in its life.
static uint64_t ready_so_far(int schedstat)
{
    char text[64] = "", *end;
    if (pread(schedstat, text, sizeof text - 1, 0) <=
        0) { // how long it ran, how long it waited, how often
        (void)fprintf(stderr, "/proc/thread-self/schedstat cannot be read\n");
        exit(1);
    }
    (void)strtoull(text, &end, 10);
    return strtoull(end, NULL, 10);
}

// Pages that are not in, in no order. Returns the median of the times.
static uint64_t touch_absent(uint64_t seed)
{
    volatile unsigned char *base = dsm_segment_base(shared);
    uint64_t *times = calloc(pages, sizeof *times);
    int schedstat = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    for (unsigned long i = 0; times != NULL && i < pages; i++) {
        dsm_page_info info;
        uint64_t page;
        do {
            seed = seed * 6364136223846793005 + 1442695040888963407;
            page = (seed >> 33) % SHARED;
            check(dsm_page_state(shared, page, &info), "dsm_page_state");
        } while (info.resident);
        uint64_t ready = ready_so_far(schedstat), begun = now_ns();
        (void)base[page * PAGE];
        times[i] = now_ns() - begun;
        whole_ns += times[i];
        ready_ns += ready_so_far(schedstat) - ready;
    }
    (void)close(schedstat);
    uint64_t median = 0;
    if (times != NULL) {
        qsort(times, pages, sizeof *times, by_size);
        median = times[pages / 2];
    }
    free(times);
    return median;
}

static void bind_to_one_processor(void)
{
    cpu_set_t all, one;
    CPU_ZERO(&one);
    (void)sched_getaffinity(0, sizeof all, &all);
    for (size_t i = 0; i < CPU_SETSIZE; i++) {
        if (CPU_ISSET(i, &all)) {
            CPU_SET(i, &one);
            break;
        }
    }
    (void)sched_setaffinity(0, sizeof one, &one);
}

static atomic_bool over;

static void *want_the_processor(void *argument)
{
    bind_to_one_processor();
    while (!atomic_load(&over)) {
    }
    return argument;
}

static void *run(void *argument)
{
    uint64_t number = *(const uint64_t *)argument;
    if (strcmp(mode, "idle") == 0) {
        const struct sched_param none = {0};
        bind_to_one_processor();
        (void)sched_setscheduler(0, SCHED_IDLE, &none);
        (void)touch_absent(number);
        return NULL;
    }
    touch_cheaply(number * OWN);
    touch_randomly(0x9e3779b97f4a7c15 * (number + 1));
    return NULL;
}

static void await(const char *path)
{
    while (access(path, F_OK) != 0) {
        (void)usleep(5000);
    }
}

// Counters of a library at rest: what its threads still had to do is done. One that waits for a processor changes nothing for
// a while, either.
static void print_counters(void)
{
    enum { EQUAL = 4 }; // to the one before
    dsm_statistics before, now = {.size = sizeof now};
    check(dsm_stats(session, &now), "dsm_stats");
    for (int equal = 0; equal < EQUAL;) {
        before = now;
        (void)usleep(100000);
        check(dsm_stats(session, &now), "dsm_stats");
        equal = memcmp(&before, &now, sizeof now) == 0 ? equal + 1 : 0;
    }
    printf("counters\n");
#define DSM_COUNTER(name, ...) printf(#name " %llu\n", (unsigned long long)now.name);
#include <dsm/counters.def>
#undef DSM_COUNTER
    printf("trap: %s\nend\n", dsm_trap(session));
    (void)fflush(stdout);
}

static void run_threads(void)
{
    pthread_t threads[THREADS];
    uint64_t numbers[THREADS];
    for (uint64_t i = 0; i < THREADS; i++) {
        numbers[i] = i;
        check(pthread_create(&threads[i], NULL, run, &numbers[i]), "pthread_create");
    }
    for (size_t i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
}

static void run_idle_threads(void)
{
    pthread_t hog;
    check(pthread_create(&hog, NULL, want_the_processor, NULL), "pthread_create");
    run_threads();
    atomic_store(&over, true);
    (void)pthread_join(hog, NULL);
}

// So that there is something to read.
static void fill(void)
{
    volatile unsigned char *base = dsm_segment_base(shared);
    for (uint64_t page = 0; page < SHARED; page++) {
        base[page * PAGE] = (unsigned char)(page | 1);
    }
    check(dsm_clean(shared, (dsm_interval){0, SHARED}, NULL), "dsm_clean");
}

static void open_segment(const char *kind, uint64_t count, dsm_segment **segment)
{
    char name[64];
    (void)snprintf(name, sizeof name, "stat/%s-%ld", kind, (long)getpid());
    check(dsm_segment_create(session, name, count * PAGE, 0, 0, segment), "dsm_segment_create");
}

int main(int argc, char **argv)
{
    const dsm_options options = {.size = sizeof options, .cache_bytes = (uint64_t)CACHE * PAGE};
    char last[4096];
    if (argc < 4) {
        return 2;
    }
    touches = strtoul(argv[2], NULL, 10);
    pages = strtoul(argv[3], NULL, 10);
    mode = argc > 4 ? argv[4] : "";
    check(dsm_open(&options, &session), "dsm_open");
    open_segment("scratch", (uint64_t)THREADS * OWN, &scratch);
    open_segment("shared", SHARED, &shared);
    if (*mode != '\0') {
        fill();
    }
    printf("pid %ld\n", (long)getpid());
    (void)fflush(stdout);
    await(argv[1]);
    if (strcmp(mode, "measure") == 0) {
        printf("p50_ns %llu\n", (unsigned long long)touch_absent(1));
    } else if (strcmp(mode, "idle") == 0) {
        run_idle_threads();
        printf("whole_ns %llu\nready_ns %llu\n", (unsigned long long)whole_ns,
               (unsigned long long)ready_ns);
    } else {
        run_threads();
    }
    print_counters();
    (void)snprintf(last, sizeof last, "%s.end", argv[1]);
    await(last);
    check(dsm_close(session), "dsm_close");
    return 0;
}
