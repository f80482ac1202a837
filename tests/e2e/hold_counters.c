// SPDX-License-Identifier: Apache-2.0
//
// What counters.def says of each counter and the trap. Two workloads run more than once; counters that are ANY must come out the same,
// and so must those that are SOFT, less faults_soft and faults_waited:
// - trap: figures that follow by hand from what the program does, with each trap; the second time mprotect's may use so few
//   mappings that it closes pages again and again.
// - calls: pages that are touched, and the same pages asked for by dsm_swap_in(), while each must take the place of
//   another one (DSM_EXACT, so that the same ones are replaced).
//
// By hand, for 64 pages, without read-ahead and laundry:
// - stores into all, even ones first: 64 faults of stores, no reads. Cleaned: one run of 64 pages.
// - opened again: loads of the 32 even ones, a request each. Stores into 0, 2, ... 14, which are in. A swap-in of all 64: the 32
//   odd ones are read, a request each, since none lies beside another.
// - cleaned: one run from 0 to 14, 8 of its 15 pages dirty. Behind it 4 clean pages (the gap) are taken along and given
//   back; the other 45 are passed over.
#include <stdlib.h>

#include "tests/e2e/hold_rig.h"

enum { PAGES = 64, STORED_AGAIN = 16, CACHE = 16 * MIB };

static const dsm_statistics expected = {
    .swap_in_calls = 64 + 32 + 1,
    .swap_in_virtual_runs = 64,
    .swap_in_physical_runs = 64,
    .swap_in_pages = 64 + 32 + 64,
    .swap_in_already_in = 32,
    .swap_in_no_read = 64,
    .swap_in_reads = 64,
    .clean_calls = 2,
    .clean_virtual_runs = 2,
    .clean_physical_runs = 2,
    .clean_pages = 64 + 15,
    .clean_writes = 64 + 8,
    .clean_cant_writes = 45,
    .clean_skipped_clean = 45,
    .clean_check_out_cleans = 7 + 4,
    .clean_unneeded_check_out_cleans = 4,
    .read_requests = 64,
    .write_requests = 2,
    .bytes_read = 64 * PAGE,
    .bytes_written = (64 + 15) * PAGE,
    .resident_bytes = 64 * PAGE,
    .resident_peak_bytes = 64 * PAGE,
};

static void touch(dsm_segment *segment, uint64_t from, uint64_t end, bool store)
{
    for (uint64_t page = from; page < end; page += 2) {
        volatile uint64_t *at = hold_at(segment, page);
        if (store) {
            *at = page + 1;
        } else {
            CHECK(*at == page + 1, "page %lu", (unsigned long)page);
        }
    }
}

static dsm_segment *first_part(dsm *session, const char *name)
{
    dsm_segment *segment = hold_create(session, name, PAGES, PAGE);
    touch(segment, 0, PAGES, true);
    touch(segment, 1, PAGES, true);
    touch(segment, 0, PAGES, false);
    touch(segment, 1, PAGES, false);
    OK(dsm_clean(segment, hold_all(segment), NULL));
    return segment;
}

static void second_part(dsm_segment *segment)
{
    touch(segment, 0, PAGES, false);
    touch(segment, 0, PAGES, false);
    touch(segment, 0, STORED_AGAIN, true);
    OK(dsm_swap_in(segment, hold_all(segment), 0, DSM_NO_PAGE));
    OK(dsm_clean(segment, hold_all(segment), NULL));
}

// What both parts counted; what lies between them, closing and opening, is left out. Levels are as at the end.
static dsm_statistics run(const char *name, const char *map_limit)
{
    CHECK(setenv("DSM_MAP_LIMIT", map_limit, 1) == 0);
    CHECK(setenv("DSM_ARENA", "0", 1) == 0); // what can be kept free is the system's to say
    dsm *session = hold_open(CACHE);
    dsm_statistics start = hold_stats(session);
    dsm_segment *segment = first_part(session, name);
    dsm_statistics middle = hold_stats(session);
    OK(dsm_segment_close(segment));
    segment = hold_segment(session, name, 0);
    dsm_statistics again = hold_stats(session);
    second_part(segment);
    dsm_statistics end = hold_stats(session);
    hold_close(session);
#define SUM(name) end.name += middle.name - start.name - again.name;
#define LEVEL(name)
#define DSM_COUNTER(name, unit, kind, ...) kind(name)
#include <dsm/counters.def>
#undef DSM_COUNTER
#undef SUM
#undef LEVEL
    return end;
}

static void compare(const char *name, uint64_t found, uint64_t wanted)
{
    bool wire = strncmp(name, "wire_", 5) == 0; // heartbeats come by the clock
    CHECK(wire ? found >= PAGES * PAGE : found == wanted, "%s is %lu instead of %lu", name,
          (unsigned long)found, (unsigned long)wanted);
}

static void compare_all(const dsm_statistics *found, const dsm_statistics *wanted)
{
    uint64_t found_soft = found->faults_soft + found->faults_waited;
    uint64_t wanted_soft = wanted->faults_soft + wanted->faults_waited;
#define ANY(name) compare(#name, found->name, wanted->name);
#define SOFT(name) compare(#name, found->name - found_soft, wanted->name - wanted_soft);
#define TOUCH(name)
#define DSM_COUNTER(name, unit, kind, trap, ...) trap(name)
#include <dsm/counters.def>
#undef DSM_COUNTER
#undef ANY
#undef SOFT
#undef TOUCH
}

static void run_trap(void)
{
    CHECK(setenv("DSM_TRAP", "mprotect", 1) == 0);
    dsm_statistics plain = run("plain", "0");
    CHECK(plain.faults_read == 32 && plain.faults_write == 64 && plain.faults_upgrade == 8);
    compare_all(&plain, &expected);
    dsm_statistics closed = run("closed", "8");
    printf("%lu soft faults, and %lu where pages are closed\n", (unsigned long)plain.faults_soft,
           (unsigned long)closed.faults_soft);
    CHECK(closed.faults_soft > plain.faults_soft && closed.swap_in_calls > plain.swap_in_calls,
          "no page was closed");
    compare_all(&closed, &expected);
    CHECK(setenv("DSM_TRAP", "uffd", 1) == 0);
    dsm_statistics uffd = run("uffd", "8");
    CHECK(uffd.faults_soft == plain.faults_soft,
          "pages were closed for mappings that nobody needs");
    compare_all(&uffd, &expected);
}

// ---- touches and calls ----

// A page that is not in, each time: the cache holds a quarter of them, and they go in the order in which they came.
static void need(dsm_segment *segment, uint64_t page, bool store, bool call)
{
    CHECK(!hold_state(segment, page).resident);
    if (call) {
        OK(dsm_swap_in(segment, (dsm_interval){page, 1}, store ? DSM_WRITE : 0, DSM_NO_PAGE));
    }
    volatile uint64_t *at = hold_at(segment, page);
    if (store) {
        *at = page + 1;
    } else {
        CHECK(*at == page + 1, "page %lu", (unsigned long)page);
    }
}

static dsm_statistics run_needs(const char *name, bool call)
{
    dsm *session = hold_open(PAGES / 4 * PAGE);
    dsm_segment *segment = hold_create(session, name, PAGES, PAGE);
    for (uint64_t page = 0; page < PAGES; page++) {
        need(segment, page, true, call);
    }
    for (uint64_t page = PAGES; page-- > 0;) {
        if (!hold_state(segment, page).resident) {
            need(segment, page, page % 3 == 0, call);
        }
    }
    OK(dsm_clean(segment, hold_all(segment), NULL));
    OK(dsm_age(segment, hold_all(segment)));
    for (uint64_t page = 1; page < PAGES; page += 2) {
        if (!hold_state(segment, page).resident) {
            need(segment, page, false, call);
        }
    }
    dsm_statistics end = hold_stats(session);
    hold_close(session);
    return end;
}

static void run_calls(void)
{
    dsm_statistics touched = run_needs("touched", false);
    dsm_statistics called = run_needs("called", true);
    printf("%lu faults, and %lu where calls come first; %lu victims, %lu of them dirty\n",
           (unsigned long)(touched.faults_read + touched.faults_write),
           (unsigned long)(called.faults_read + called.faults_write),
           (unsigned long)touched.victims, (unsigned long)touched.victims_dirty);
    CHECK(touched.faults_read + touched.faults_write == touched.swap_in_calls);
    CHECK(called.faults_read + called.faults_write == 0);
    CHECK(touched.swap_in_dirty_victims > PAGES / 2 && touched.victims > touched.victims_dirty);
    compare_all(&called, &touched);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {{"trap", run_trap}, {"calls", run_calls}};
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
