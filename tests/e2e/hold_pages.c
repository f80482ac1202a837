// SPDX-License-Identifier: Apache-2.0
//
// Threads with small stacks, pages of several sizes, and what the program may say about its pages: pins that let system
// calls into managed memory and keep pages there, and pages that it gives up first.
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/e2e/hold_rig.h"

enum { THREADS = 4 };

// ---- small stacks, page sizes ----

static dsm_segment *shared;

static void *small_thread(void *number)
{
    OK(dsm_thread_init());
    uint64_t pages = hold_pages(shared);
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t page = (i * 7 + (uintptr_t)number * pages / THREADS) % pages;
        CHECK(hold_holds(shared, page, 1));
        if (page % THREADS == (uintptr_t)number) {
            hold_fill(shared, page, 1);
        }
    }
    return NULL;
}

static void run_small_stacks(uint32_t page_bytes, uint64_t cache, uint64_t bytes)
{
    dsm *session = hold_open(cache);
    shared = hold_create(session, "small", bytes / page_bytes, page_bytes);
    CHECK(dsm_segment_page_size(shared) == page_bytes);
    hold_fill_all(shared, 1);
    pthread_attr_t attributes;
    pthread_t threads[THREADS];
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, (size_t)PTHREAD_STACK_MIN) == 0);
    for (uintptr_t i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], &attributes, small_thread, (void *)i) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    (void)pthread_attr_destroy(&attributes);
    hold_check_all(shared, 1);
    dsm_statistics statistics = hold_stats(session);
    CHECK(statistics.resident_peak_bytes <= cache);
    CHECK(statistics.swap_in_reads > hold_pages(shared) / 2, "nothing was tested");
    hold_close(session);
}

static void run_4_kib(void)
{
    run_small_stacks(4096, 1 * MIB, 8 * MIB);
}

static void run_64_kib(void)
{
    run_small_stacks(64 << 10, 8 * MIB, 32 * MIB);
}

static void run_1_mib(void)
{
    run_small_stacks(1 << 20, 100 * MIB, 200 * MIB); // the smallest cache is so many pages
}

// ---- pins ----

enum { CACHE = 1 * MIB, PAGES = 4 * CACHE / PAGE, PINNED = 8 };

static dsm *session;
static dsm_segment *segment;

static void begin(void)
{
    session = hold_open(CACHE);
    segment = hold_create(session, "pages", PAGES, PAGE);
    hold_fill_all(segment, 1);
    OK(dsm_clean(segment, hold_all(segment), NULL));
}

static ssize_t read_into(uint64_t page)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    ssize_t got = pread(fd, hold_at(segment, page), PAGE, 0);
    ssize_t result = got < 0 ? -errno : got;
    CHECK(close(fd) == 0);
    return result;
}

static void run_system_calls(void)
{
    begin();
    uint64_t absent = hold_absent(segment, 10);
    CHECK(read_into(absent) == -EFAULT, "an absent page");
    CHECK(hold_holds(segment, absent, 1)); // now it is there, but clean
    CHECK(!hold_state(segment, absent).needs_cleaning);
    if (strcmp(dsm_trap(session), "uffd") != 0) { // else the kernel notes its own stores, too
        CHECK(read_into(absent) == -EFAULT, "a clean page");
        CHECK(hold_holds(segment, absent, 1));
    }
    for (int i = 0; i < 2; i++) { // a clean page, and an absent one
        dsm_interval one = {i == 0 ? absent : hold_absent(segment, 100), 1};
        OK(dsm_swap_in(segment, one, DSM_PIN | DSM_WRITE, DSM_NO_PAGE));
        CHECK(hold_state(segment, one.page).pin_count == 1);
        CHECK(read_into(one.page) == PAGE);
        CHECK(memcmp(hold_at(segment, one.page), "\177ELF", 4) == 0);
        CHECK(hold_state(segment, one.page).needs_cleaning);
        OK(dsm_unpin(segment, one));
        OK(dsm_clean(segment, hold_all(segment), NULL));
        for (uint64_t page = 200; page < PAGES; page++) {
            CHECK(hold_holds(segment, page, 1));
        }
        CHECK(memcmp(hold_at(segment, one.page), "\177ELF", 4) == 0, "it came back otherwise");
    }
    hold_close(session);
}

static void press(uint64_t from) // brings in more than the cache holds
{
    for (int round = 0; round < 3; round++) {
        for (uint64_t page = from; page < PAGES; page++) {
            CHECK(hold_holds(segment, page, 1));
        }
    }
}

static void run_pressure(void)
{
    begin();
    const dsm_interval some = {20, PINNED};
    uint64_t passed = 0;
    OK(dsm_swap_in(segment, some, DSM_PIN, DSM_NO_PAGE));
    OK(dsm_swap_in(segment, some, DSM_PIN, DSM_NO_PAGE));
    OK(dsm_age(segment, some)); // which makes no victim of a pinned page
    press(20 + PINNED);
    for (uint64_t page = 20; page < 20 + PINNED; page++) {
        CHECK(hold_state(segment, page).resident && hold_state(segment, page).pin_count == 2);
    }
    RESULT(dsm_segment_close(segment), -EBUSY);
    OK(dsm_clean(segment, hold_all(segment), &passed));
    CHECK(passed == PINNED, "%lu pages passed over", (unsigned long)passed);
    OK(dsm_unpin(segment, some));
    press(20 + PINNED);
    for (uint64_t page = 20; page < 20 + PINNED; page++) {
        CHECK(hold_state(segment, page).resident && hold_state(segment, page).pin_count == 1);
    }
    OK(dsm_unpin(segment, some));
    OK(dsm_unpin(segment, some)); // pages that are not pinned are left alone
    press(20 + PINNED);
    for (uint64_t page = 20; page < 20 + PINNED; page++) {
        CHECK(!hold_state(segment, page).resident && hold_state(segment, page).pin_count == 0);
    }
    hold_check_all(segment, 1);
    hold_close(session);
}

static void run_too_many(void) // pins that would leave no memory to work with
{
    begin();
    RESULT(dsm_swap_in(segment, hold_all(segment), DSM_PIN, DSM_NO_PAGE), -ENOMEM);
    for (uint64_t page = 0; page < PAGES; page++) {
        CHECK(hold_state(segment, page).pin_count == 0);
    }
    press(0);
    hold_close_after_errors(session);
}

// Refused before there is a segment: its name is free for smaller pages.
static void run_too_large(void)
{
    dsm_segment *made;
    session = hold_open(CACHE);
    RESULT(dsm_segment_create(session, "large", MIB, 1 << 20, 0, &made), -EINVAL);
    CHECK(strstr(dsm_error()->text, "need a cache of at least") != NULL, "%s", dsm_error()->text);
    OK(dsm_segment_create(session, "large", MIB, PAGE, 0, &made));
    OK(dsm_segment_close(made));
    OK(dsm_segment_delete(session, "large"));
    hold_close(session);
}

// ---- aging ----

static void run_age(void)
{
    begin();
    enum { AGED = 16, FIRST = 64, BROUGHT = CACHE / PAGE / 2 };
    press(PAGES / 2);
    const dsm_interval all = {FIRST, BROUGHT};
    OK(dsm_swap_in(segment, all, 0, DSM_NO_PAGE));
    for (uint64_t page = FIRST; page < FIRST + BROUGHT; page++) {
        CHECK(hold_holds(segment, page, 1)); // used just now: no victim
    }
    const dsm_interval aged = {FIRST + 32, AGED};
    OK(dsm_age(segment, aged));
    for (uint64_t page = aged.page; page < aged.page + AGED; page++) {
        CHECK(hold_state(segment, page).resident, "aging is no I/O");
    }
    uint64_t victims = hold_stats(session).victims;
    uint64_t next = 0;
    while (hold_stats(session).victims < victims + AGED) { // until so many frames were taken
        next = hold_absent(segment, next);
        CHECK(next < FIRST, "too many pages fit into the cache");
        CHECK(hold_holds(segment, next, 1));
    }
    for (uint64_t page = aged.page; page < aged.page + AGED; page++) {
        CHECK(!hold_state(segment, page).resident, "page %lu outlived others", (unsigned long)page);
    }
    hold_check_all(segment, 1);
    hold_close(session);
}

// The kernel's marks of the mapping that `at` lies in: "VmFlags: rd wr ...".
static void read_marks(const void *at, char marks[512])
{
    char line[512];
    bool inside = false;
    FILE *maps = fopen("/proc/self/smaps", "re");
    CHECK(maps != NULL);
    marks[0] = '\0';
    while (marks[0] == '\0' && fgets(line, sizeof line, maps) != NULL) {
        unsigned long from = 0;
        unsigned long to = 0;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) { // NOLINT(cert-err34-c): the kernel's words
            inside = (uintptr_t)at >= from && (uintptr_t)at < to;
        } else if (inside && strncmp(line, "VmFlags:", 8) == 0) {
            (void)snprintf(marks, 512, "%s", line);
        }
    }
    (void)fclose(maps);
}

static void run_marks(void)
{
    static const char *const wanted[] = {" dd", " dc", " nh"}; // no core, no child, no huge page
    char marks[512];
    session = hold_open(CACHE);
    segment = hold_create(session, "marks", PAGES, PAGE);
    hold_fill(segment, 0, 1);
    for (int page = 0; page < PAGES; page += PAGES - 1) { // in memory; never touched
        read_marks(hold_at(segment, (uint64_t)page), marks);
        for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
            CHECK(strstr(marks, wanted[i]) != NULL, "page %d has no%s: %s", page, wanted[i], marks);
        }
    }
    hold_close(session);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"4-kib", run_4_kib},         {"64-kib", run_64_kib},
        {"1-mib", run_1_mib},         {"system-calls", run_system_calls},
        {"pressure", run_pressure},   {"too-many-pins", run_too_many},
        {"too-large", run_too_large}, {"age", run_age},
        {"marks", run_marks},
    };
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
