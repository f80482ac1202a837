// SPDX-License-Identifier: Apache-2.0
//
// Faults of every kind, from 8 threads, as many as it is told: first touches of pages without contents and the first stores into
// them, random touches of a segment four times as large as the cache, explicit swap-ins between them. What the library counted of
// them is printed, to be compared with what the kernel counted.
//
//   stat_exact FILE TOUCHES PAGES   prints its pid, waits for FILE, then from each thread TOUCHES cheap touches (two traps each)
//                                   and PAGES random ones; prints "counters", "NAME NUMBER"..., "end", and waits for FILE.end
#include <dsm/dsm.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAGE = 4096, THREADS = 8, OWN = 64, SHARED = 4096, CACHE = SHARED / 4 + THREADS * OWN };

static dsm *session;
static dsm_segment *scratch, *shared;
static unsigned long touches, pages;

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

static void *run(void *argument)
{
    uint64_t number = *(const uint64_t *)argument;
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

// Counters of a library at rest: what its threads still had to do is done.
static void print_counters(void)
{
    dsm_statistics before, now = {.size = sizeof now};
    check(dsm_stats(session, &now), "dsm_stats");
    do {
        before = now;
        (void)usleep(100000);
        check(dsm_stats(session, &now), "dsm_stats");
    } while (memcmp(&before, &now, sizeof now) != 0);
    printf("counters\n");
#define DSM_COUNTER(name, ...) printf(#name " %llu\n", (unsigned long long)now.name);
#include <dsm/counters.def>
#undef DSM_COUNTER
    printf("end\n");
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
    check(dsm_open(&options, &session), "dsm_open");
    open_segment("scratch", (uint64_t)THREADS * OWN, &scratch);
    open_segment("shared", SHARED, &shared);
    printf("pid %ld\n", (long)getpid());
    (void)fflush(stdout);
    await(argv[1]);
    run_threads();
    print_counters();
    (void)snprintf(last, sizeof last, "%s.end", argv[1]);
    await(last);
    check(dsm_close(session), "dsm_close");
    return 0;
}
