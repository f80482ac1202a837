// SPDX-License-Identifier: Apache-2.0
//
// How much memory pages take, and how many requests it takes to bring them in.
//
// bound: the kernel's own figure for the memory file behind a segment, looked at as fast as one thread can while eight
// others read and write, never exceeds the cache. One segment only: the figures of two files cannot be read at the
// same instant.
// scan, random: the requests and pages counted by the library, over segments that no page of is in memory at first.
#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/e2e/hold_rig.h"

enum { THREADS = 8, BOUND_CACHE = 4 * MIB, BOUND_PAGES = 8 * BOUND_CACHE / PAGE, TURNS = 12000 };

struct bound {
    dsm_segment *segment;
    atomic_bool stop;
    uint64_t most;
    uint64_t looks;
};

static uint64_t memory_of_segments(void)
{
    uint64_t bytes = 0;
    DIR *folder = opendir("/proc/self/fd");
    CHECK(folder != NULL);
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char path[300];
        char target[64] = "";
        (void)snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
        struct stat facts;
        if (readlink(path, target, sizeof target - 1) > 0 &&
            strstr(target, "memfd:dsm-frames") != NULL && stat(path, &facts) == 0) {
            bytes += (uint64_t)facts.st_blocks * 512;
        }
    }
    (void)closedir(folder);
    return bytes;
}

static void *sample(void *argument)
{
    struct bound *bound = argument;
    while (!atomic_load(&bound->stop)) {
        uint64_t now = memory_of_segments();
        bound->most = now > bound->most ? now : bound->most;
        bound->looks++;
        hold_pause_ms(1);
    }
    return NULL;
}

struct walker {
    struct bound *bound;
    uint64_t seed;
};

// Half of the turns at random, half in a row; a third are stores.
static void *walk(void *argument)
{
    struct walker *walker = argument;
    uint64_t row = 0;
    for (int i = 0; i < TURNS; i++) {
        uint64_t random = hold_random(&walker->seed) >> 8;
        if (i % 1000 == 0) {
            row = random % BOUND_PAGES;
        }
        uint64_t page = (i / 500) % 2 == 0 ? random % BOUND_PAGES : row++ % BOUND_PAGES;
        _Atomic uint64_t *word = hold_at(walker->bound->segment, page);
        if (i % 3 == 0) {
            (void)atomic_fetch_add(word, 1);
        } else {
            (void)atomic_load(word);
        }
    }
    return NULL;
}

static void run_bound(void)
{
    dsm *session = hold_open(BOUND_CACHE);
    struct bound bound = {.segment = hold_create(session, "bound", BOUND_PAGES, PAGE)};
    hold_fill_all(bound.segment, 1);
    pthread_t sampler;
    pthread_t threads[THREADS];
    struct walker walkers[THREADS];
    CHECK(pthread_create(&sampler, NULL, sample, &bound) == 0);
    for (int i = 0; i < THREADS; i++) {
        walkers[i] = (struct walker){&bound, (uint64_t)i + 1};
        CHECK(pthread_create(&threads[i], NULL, walk, &walkers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    atomic_store(&bound.stop, true);
    CHECK(pthread_join(sampler, NULL) == 0);
    dsm_statistics statistics = hold_stats(session);
    printf("most %lu, resident_peak %lu of %d bytes, %lu looks\n", (unsigned long)bound.most,
           (unsigned long)statistics.resident_peak_bytes, BOUND_CACHE, (unsigned long)bound.looks);
    CHECK(bound.most <= BOUND_CACHE);
    CHECK(statistics.resident_peak_bytes <= BOUND_CACHE);
    CHECK(bound.most >= BOUND_CACHE / 2 && bound.looks >= 50, "nothing was tested");
    hold_close(session);
}

static void run_scan(void)
{
    enum { PAGES = 256 * MIB / PAGE };
    dsm *session = hold_open(32 * MIB);
    dsm_segment *segment = hold_create(session, "scan", PAGES, PAGE);
    for (uint64_t page = 0; page < PAGES; page++) {
        *(volatile uint64_t *)hold_at(segment, page) = page + 1;
    }
    OK(dsm_segment_close(segment));
    segment = hold_segment(session, "scan", DSM_READ_ONLY);
    dsm_statistics before = hold_stats(session);
    for (uint64_t page = 0; page < PAGES; page++) {
        CHECK(*(const volatile uint64_t *)hold_at(segment, page) == page + 1);
    }
    dsm_statistics after = hold_stats(session);
    uint64_t requests = after.read_requests - before.read_requests;
    printf("%lu requests for %d pages\n", (unsigned long)requests, PAGES);
    CHECK(requests <= PAGES / 32);
    CHECK(after.bytes_read - before.bytes_read >= (uint64_t)PAGES * PAGE, "pages were in memory");
    hold_close(session);
}

static void run_random(void)
{
    enum { PAGES = 64 * MIB / PAGE, TOUCHES = 4000 };
    dsm *session = hold_open(8 * MIB);
    dsm_segment *segment = hold_create(session, "random", PAGES, PAGE);
    for (uint64_t page = 0; page < PAGES; page++) {
        *(volatile uint64_t *)hold_at(segment, page) = page + 1;
    }
    OK(dsm_segment_close(segment));
    segment = hold_segment(session, "random", DSM_READ_ONLY);
    dsm_statistics before = hold_stats(session);
    uint64_t seed = 42;
    for (int i = 0; i < TOUCHES; i++) {
        uint64_t page = (hold_random(&seed) >> 8) % PAGES;
        CHECK(*(const volatile uint64_t *)hold_at(segment, page) == page + 1);
    }
    dsm_statistics after = hold_stats(session);
    uint64_t fetched = after.swap_in_reads - before.swap_in_reads;
    uint64_t faults = after.faults_read - before.faults_read;
    printf("%lu pages for %lu faults\n", (unsigned long)fetched, (unsigned long)faults);
    CHECK(faults >= TOUCHES / 2, "nothing was tested");
    CHECK(fetched * 10 <= faults * 11);
    hold_close(session);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"bound", run_bound},
        {"scan", run_scan},
        {"random", run_random},
    };
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
