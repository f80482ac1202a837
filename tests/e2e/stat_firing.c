// SPDX-License-Identifier: Apache-2.0
//
// A program whose faults are made up: it has a statistics page and the library's probes, linked statically, and fires them from
// many threads at once with numbers of its own, adding the same to the page's counters. So what dsmstat counts can be
// compared with what was fired, number by number, in a second and for any mixture, also for a part of a fault's time that is long.
//
//   stat_firing FILE THREADS EVENTS [PART]   waits for FILE, fires EVENTS from each thread, prints its counters, waits for FILE.end
//     PART: pager, handover, wait, cipher, wire, server or wake: this part takes longest; each fault is then a true page fault
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "libdsm/stat/probes.h"
#include "libdsm/stat/stat_page.h"

enum { THREADS = 64, PAGES = 1 << 20, STORES = 2, SEGMENTS = 2, PAGE = 4096 };
enum { SHORT_NS = 1000, LONG_NS = 50000 };

static struct stat_page statistics;
static unsigned long events;
static const char *slow_part = "";
static __thread volatile unsigned char *guarded; // a page that traps

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t lasts(const char *part)
{
    return strcmp(part, slow_part) == 0 ? LONG_NS : SHORT_NS;
}

static void count(uint32_t outcome, const struct dsm_fault_parts *parts)
{
    struct counters *stat = statistics.counters;
    _Atomic uint64_t *const faults[] = {&stat->faults_read,   &stat->faults_write,
                                        &stat->faults_soft,   &stat->faults_upgrade,
                                        &stat->faults_waited, &stat->faults_failed};
    _Atomic uint64_t *const swap_in[] = {
        &stat->swap_in_calls, &stat->swap_in_virtual_runs,  &stat->swap_in_physical_runs,
        &stat->swap_in_pages, &stat->swap_in_already_in,    &stat->swap_in_no_read,
        &stat->swap_in_reads, &stat->swap_in_dirty_victims, &stat->swap_in_failed_to_clean_victims};
    for (unsigned i = 0; i < 6; i++) {
        (void)atomic_fetch_add(faults[i], outcome >> i & 1);
    }
    for (unsigned i = 0; i < DSM_SWAP_IN_COUNTERS; i++) {
        (void)atomic_fetch_add(swap_in[i], parts->swap_in[i]);
    }
}

static void fire(uint64_t random, uint64_t begun_ns)
{
    struct dsm_fault_parts parts = {.begin_ns = begun_ns,
                                    .pager_ns = lasts("pager"),
                                    .handover_ns = lasts("handover"),
                                    .wait_ns = lasts("wait"),
                                    .cipher_ns = lasts("cipher"),
                                    .wire_ns = lasts("wire"),
                                    .server_ns = lasts("server"),
                                    .wake_ns = lasts("wake")};
    for (unsigned i = 0; i < DSM_SWAP_IN_COUNTERS; i++) {
        parts.swap_in[i] = (uint32_t)(random >> (4 * i) & 7);
    }
    uint64_t total = parts.pager_ns + parts.handover_ns + parts.wait_ns + parts.cipher_ns +
                     parts.wire_ns + parts.server_ns + parts.wake_ns;
    uint32_t pages = 1 + (uint32_t)(random >> 40 & 15);
    uint32_t outcome = (uint32_t)1 << (random >> 50) % 6;
    uint32_t segment = 1 + (uint32_t)(random >> 60) % SEGMENTS;
    uint32_t store = (uint32_t)(random >> 59) % STORES;
    if ((random >> 20) % 16 == 0) {
        probe_swap_in_end(segment, random % PAGES, pages, 0, 0, parts.swap_in);
        outcome = 0;
    } else {
        probe_fault_end(segment, random % PAGES, pages, outcome, total, &parts,
                        (uint64_t)pages * PAGE, store);
    }
    count(outcome, &parts);
}

static __thread uint64_t seed;

static void on_fault(int number)
{
    (void)number;
    uint64_t begun = now_ns();
    fire(seed, begun);
    (void)mprotect((void *)(uintptr_t)guarded, PAGE, PROT_READ | PROT_WRITE);
}

static void *run(void *argument)
{
    seed = 0x9e3779b97f4a7c15 * (1 + (uint64_t)(uintptr_t)argument);
    guarded = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned long i = 0; i < events; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        if (*slow_part != '\0') {
            (void)mprotect((void *)(uintptr_t)guarded, PAGE, PROT_NONE);
            *guarded = 1;
        } else {
            fire(seed, now_ns());
        }
    }
    return NULL;
}

static void await(const char *path)
{
    while (access(path, F_OK) != 0) {
        (void)usleep(5000);
    }
}

static void print_counters(void)
{
    printf("counters\n");
#define DSM_COUNTER(name, ...)                                                                     \
    printf(#name " %llu\n", (unsigned long long)atomic_load(&statistics.counters->name));
#include <dsm/counters.def>
#undef DSM_COUNTER
    printf("end\n");
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    const struct stat_page_facts facts = {.cache_bytes = 1 << 20, .server = "none"};
    struct sigaction action = {.sa_handler = on_fault};
    pthread_t threads[THREADS];
    char last[4096];
    size_t count_of = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    if (argc < 4 || count_of < 1 || count_of > THREADS ||
        stat_page_create(&statistics, &facts, true) != 0) {
        return 2;
    }
    events = strtoul(argv[3], NULL, 10);
    slow_part = argc > 4 ? argv[4] : "";
    (void)sigaction(SIGSEGV, &action, NULL);
    printf("pid %ld\n", (long)getpid());
    (void)fflush(stdout);
    await(argv[1]);
    for (uintptr_t i = 0; i < count_of; i++) {
        if (pthread_create(&threads[i], NULL, run, (void *)i) != 0) {
            return 1;
        }
    }
    for (size_t i = 0; i < count_of; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    print_counters();
    (void)snprintf(last, sizeof last, "%s.end", argv[1]);
    await(last);
    printf("attached %d\n", probe_fault_end_on() || probe_swap_in_end_on());
    stat_page_destroy(&statistics);
    return 0;
}
