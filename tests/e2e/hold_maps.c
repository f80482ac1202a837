// SPDX-License-Identifier: Apache-2.0
//
// The system allows a process some 65,530 mappings, and every place where a page that is open stands beside one that is closed costs one.
// No pattern of touches may give the program an error for lack of them: pages are closed, with their frames kept, until there
// is room. Tried with a lowered budget of the library's own, at an eighth of the scale at which the system's is met; and in a
// program that has used up nearly all of the system's itself.
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/e2e/hold_rig.h"

enum { BUDGET = 7000, CACHE = 128 * MIB, SMALL = 2048 };

static uint64_t mappings(void)
{
    char line[512];
    uint64_t count = 0;
    FILE *file = fopen("/proc/self/maps", "re");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) {
        count++;
    }
    (void)fclose(file);
    return count;
}

static void store(dsm_segment *segment, uint64_t page)
{
    ((volatile uint64_t *)hold_at(segment, page))[3] = page * 3 + 1;
}

static bool right(dsm_segment *segment, uint64_t page)
{
    return ((volatile uint64_t *)hold_at(segment, page))[3] == page * 3 + 1;
}

// Every other page of a segment eight times the cache, touched at random, with a budget of so many mappings.
static void touch_every_other(uint64_t cache, uint64_t budget)
{
    uint64_t pages = 8 * cache / PAGE;
    dsm *session = hold_open(cache);
    uint64_t own = mappings();
    dsm_segment *segment = hold_create(session, "maps", pages, PAGE);
    for (uint64_t page = 0; page < pages; page++) {
        store(segment, page);
    }
    uint64_t seed = 1;
    uint64_t most = 0;
    for (uint64_t i = 0; i < pages / 2; i++) {
        uint64_t page = (hold_random(&seed) >> 8) % (pages / 2) * 2;
        CHECK(right(segment, page), "page %lu", (unsigned long)page);
        if (i % 4096 == 0) {
            dsm_statistics now = hold_stats(session);
            CHECK(now.open_edges <= budget, "%lu edges", (unsigned long)now.open_edges);
            uint64_t count = mappings();
            most = count > most ? count : most;
        }
    }
    dsm_statistics end = hold_stats(session);
    printf(
        "%lu mappings, of which %lu the program's; %lu pages open, %lu closed for them, %lu soft "
        "faults, %lu MiB resident\n",
        (unsigned long)most, (unsigned long)own, (unsigned long)end.open_pages,
        (unsigned long)end.closed_for_edges, (unsigned long)end.faults_soft,
        (unsigned long)(end.resident_bytes / MIB));
    CHECK(most <= own + budget + 64, "%lu mappings", (unsigned long)most);
    CHECK(end.closed_for_edges > 0, "the budget was never met");
    CHECK(end.open_pages > 0 && end.open_pages <= budget, "the open set is not what fits");
    CHECK(end.faults_failed == 0 && end.resident_bytes > cache / 10 * 8,
          "pages were evicted instead of closed");
    hold_close(session);
}

static void run_budget(void)
{
    touch_every_other(CACHE, BUDGET);
}

// The system's own limit, at full scale.
static void run_full(void)
{
    enum { SYSTEM = 65530 };
    touch_every_other(8ull * CACHE, SYSTEM);
}

// Every other page of a mapping with another protection, until the system has no more; a few are given back.
static void use_mappings_up(void)
{
    enum { OWN = 70000, LEFT = 300 };
    char *own = mmap(NULL, (size_t)OWN * PAGE, PROT_READ,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(own != MAP_FAILED);
    size_t i = 1;
    while (i < OWN && mprotect(own + i * PAGE, PAGE, PROT_NONE) == 0) {
        i += 2;
    }
    CHECK(i < OWN && errno == ENOMEM, "the system gives mappings without end");
    for (int back = 0; back < LEFT / 2; back++) {
        i -= 2;
        CHECK(mprotect(own + i * PAGE, PAGE, PROT_READ) == 0);
    }
}

static void run_used_up(void)
{
    dsm *session = hold_open((uint64_t)SMALL / 2 * PAGE);
    dsm_segment *segment = hold_create(session, "maps", SMALL, PAGE);
    for (uint64_t page = 0; page < SMALL; page++) {
        store(segment, page);
    }
    use_mappings_up();
    uint64_t seed = 1;
    for (uint64_t i = 0; i < (uint64_t)8 * SMALL; i++) {
        uint64_t page = (hold_random(&seed) >> 8) % SMALL;
        CHECK(right(segment, page), "page %lu", (unsigned long)page);
        if (i % 3 == 0) {
            store(segment, page);
        }
    }
    dsm_statistics end = hold_stats(session);
    printf("%lu pages closed for mappings\n", (unsigned long)end.closed_for_edges);
    CHECK(end.faults_failed == 0 && end.closed_for_edges > 0, "the limit was never met");
    hold_close(session);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"budget", run_budget}, {"full", run_full}, {"used-up", run_used_up}};
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
