// SPDX-License-Identifier: Apache-2.0
//
// What is particular to the trap of userfaultfd: what the kernel, or the program, does to an open page behind the pager's
// back; a descriptor that the program closes; who gets which signal.
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/pager_rig.h"

static const struct trap_ops *trap; // which of the two
static sigjmp_buf out;
static volatile sig_atomic_t met;
static void *volatile met_at;
static volatile sig_atomic_t met_code;

static void leap(int number, siginfo_t *info, void *context)
{
    (void)context;
    met = number;
    met_at = info->si_addr;
    met_code = info->si_code;
    siglongjmp(out, 1);
}

static void start(const struct rig_options *given)
{
    struct sigaction action = {.sa_sigaction = leap, .sa_flags = SA_SIGINFO};
    assert_int_equal(sigaction(SIGBUS, &action, NULL), 0);
    assert_int_equal(sigaction(SIGSEGV, &action, NULL), 0);
    struct rig_options options = *given;
    options.trap = trap;
    rig_start(&options);
}

static int touch(uint64_t page, bool store)
{
    volatile uint8_t *at = rig_at(page) + 8;
    met = 0;
    if (sigsetjmp(out, 1) == 0) {
        if (store) {
            *at = 1;
        } else {
            (void)*at;
        }
        return 0;
    }
    assert_ptr_equal(met_at, at);
    return met;
}

// The page's entry goes, its frame stays: as when the kernel swaps it out.
static void shut(uint64_t page)
{
    assert_int_equal(madvise(rig_at(page), RIG_PAGE, MADV_DONTNEED), 0);
}

static void an_open_page_that_the_kernel_shut(void **state)
{
    (void)state;
    start(&(struct rig_options){0});
    rig_expect_page(3, 4);
    shut(3);
    rig_expect_page(3, 4); // open for loads
    shut(3);
    rig_store(3, 9); // and a store is still seen
    assert_true(rig_has(3, PAGE_DIRTY));
    shut(3);
    rig_expect_page(3, 9);
    shut(3);
    rig_store(3, 10);
    assert_int_equal(rig_clean(3, 1), 0);
    rig_expect_stored(3, 10);
    rig_expect_io("R3+1 W3+1");
    rig_stop();
}

// A run whose pages are open in different ways is opened and closed as one.
static void a_mixed_run(void **state)
{
    (void)state;
    start(&(struct rig_options){.second_chance = true});
    rig_store(2, 12);
    rig_expect_page(4, 5);
    shut(4);
    assert_int_equal(rig_swap_in(0, 8, DSM_WRITE), 0);
    for (uint64_t page = 0; page < 8; page++) {
        assert_int_equal(touch(page, true), 0);
        assert_true(rig_has(page, PAGE_DIRTY));
    }
    uint64_t upgrades = STAT_GET(&rig.stat, faults_upgrade);
    assert_int_equal(rig_clean(0, 8), 0); // closed for stores, in one step
    for (uint64_t page = 0; page < 8; page++) {
        assert_false(rig_has(page, PAGE_DIRTY));
        assert_int_equal(touch(page, true), 0);
        assert_true(rig_has(page, PAGE_DIRTY));
    }
    assert_int_equal(STAT_GET(&rig.stat, faults_upgrade) - upgrades, trap->tracks ? 0 : 8);
    rig_stop();
}

static void denied_is_sigsegv(void **state)
{
    (void)state;
    start(&(struct rig_options){0});
    rig_pages("RC");
    assert_int_equal(touch(0, true), SIGSEGV); // not in memory
    assert_int_equal(met_code, SEGV_ACCERR);
    assert_int_equal(touch(0, false), 0);
    assert_int_equal(touch(0, true), SIGSEGV); // in memory
    assert_int_equal(touch(1, true), 0);
    rig_expect_stored(0, 1);
    rig_stop();
}

static void failed_is_sigbus(void **state)
{
    (void)state;
    start(&(struct rig_options){.timeout_ms = 5000});
    rig.fail_read = 3;
    assert_int_equal(touch(3, false), SIGBUS);
    assert_int_equal(met_code, BUS_ADRERR);
    assert_int_equal(touch(3, false), 0);
    rig_expect_page(3, 4);
    rig_stop();
}

// The descriptor's number in this process, or -1.
static int find_descriptor(void)
{
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    int found = -1;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char path[300];
        char what[64] = "";
        (void)snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
        if (readlink(path, what, sizeof what - 1) > 0 &&
            strcmp(what, "anon_inode:[userfaultfd]") == 0) {
            found = (int)strtol(entry->d_name, NULL, 10);
        }
    }
    (void)closedir(folder);
    return found;
}

// A program that closes what it did not open: its touches fail, and never read zeros.
static void a_closed_descriptor(void **state)
{
    (void)state;
    start(&(struct rig_options){0});
    rig_expect_page(3, 4);
    rig.pager.options.fault_timeout_ms = 300; // for the touches that are to fail
    int fd = find_descriptor();
    assert_true(fd >= 0);
    int kept = dup(fd);
    assert_true(kept >= 0);
    int moved = kept + 100;
    assert_int_equal(dup2(kept, moved), moved);
    (void)close(kept);
    (void)close(moved);
    (void)close(fd); // the last one in this table
    assert_int_equal(find_descriptor(), -1);
    rig_expect_page(3, 4); // is in, and open
    assert_int_equal(touch(7, false), SIGBUS);
    assert_int_equal(touch(9, true), SIGBUS);
    rig_settle();
    for (unsigned i = 0; i < RIG_SEGMENTS; i++) {
        if (rig.segments[i].pager != NULL) {
            rig_detach(i);
        }
    }
}

// ---- stores that only the kernel sees ----

static bool is_tracked(uint64_t page)
{
    return protection_of(rig_entry(page)) == TRAP_TRACKED;
}

// The first store into an open page costs no touch, and is known to whoever asks.
static void a_store_that_nobody_sees(void **state)
{
    (void)state;
    start(&(struct rig_options){0});
    rig_expect_page(3, 4);
    rig_expect_page(4, 5);
    assert_true(is_tracked(3) && is_tracked(4));
    assert_false(rig_has(3, PAGE_DIRTY));
    assert_int_equal(touch(3, true), 0);
    assert_int_equal(STAT_GET(&rig.stat, faults_upgrade), 0);
    assert_true(rig_has(3, PAGE_DIRTY | PAGE_CHANGED));
    assert_false(rig_has(4, PAGE_DIRTY) || rig_has(4, PAGE_CHANGED));
    rig_stop();
}

// Cleaned, driven out, frozen: what was stored reaches the server.
static void what_was_stored_reaches_the_server(void **state)
{
    (void)state;
    struct freeze freeze;
    start(&(struct rig_options){.cache_pages = 4});
    assert_int_equal(rig_swap_in(0, 4, 0), 0);
    rig_store(1, 41);
    assert_int_equal(rig_clean(0, 4), 0);
    rig_expect_stored(1, 41);
    rig_store(1, 42); // open again, and tracked
    assert_int_equal(STAT_GET(&rig.stat, faults_upgrade), 0);
    rig_store(2, 43);
    assert_int_equal(rig_swap_in(8, 4, 0), 0); // drives them out
    rig_expect_stored(1, 42);
    rig_expect_stored(2, 43);
    rig_store(9, 44);
    assert_int_equal(pager_freeze(&rig.segments[0], &freeze), 0);
    assert_int_equal(freeze.dirty_pages, 1);
    assert_int_equal(freeze.clean_pages, 3);
    pager_thaw(&rig.segments[0]);
    rig_expect_page(9, 44);
    rig_stop();
}

// A store comes after the look, before the page is closed: it is no clean victim any more.
static void a_store_between_look_and_close(void **state)
{
    (void)state;
    start(&(struct rig_options){.cache_pages = 4});
    assert_int_equal(rig_swap_in(0, 4, 0), 0);
    rig_age(0, 1);
    rig.store_when_looked = rig_at(0);
    assert_int_equal(rig_swap_in(8, 1, 0), 0);
    assert_null(rig.store_when_looked);
    assert_int_equal(*rig_at(0), 1);
    assert_int_equal(STAT_GET(&rig.stat, victims_dirty), 1);
    rig_stop();
}

// Marked unchanged, the page is tracked anew, and stays dirty.
static void a_store_after_a_mark(void **state)
{
    (void)state;
    start(&(struct rig_options){0});
    rig_store(3, 9);
    for (int i = 0; i < 2; i++) {
        struct data_change change = {.segment = &rig.segments[0],
                                     .page = 3,
                                     .end = 4,
                                     .data = DSM_DATA_UNCHANGED,
                                     .deadline = pager_deadline(&rig.pager)};
        assert_int_equal(pager_set_data(&change), 0);
        assert_true(rig_has(3, PAGE_DIRTY));
        assert_false(rig_has(3, PAGE_CHANGED));
        rig_store(3, 10);
        assert_true(rig_has(3, PAGE_DIRTY | PAGE_CHANGED));
    }
    assert_int_equal(STAT_GET(&rig.stat, faults_upgrade), 0);
    rig_stop();
}

// Read-only pages are shut for stores, and nothing else splits the mapping.
static void read_only_pages_among_others(void **state)
{
    (void)state;
    uint64_t failed;
    start(&(struct rig_options){0});
    assert_int_equal(rig_swap_in(0, 9, 0), 0);
    rig_store(4, 50);
    assert_int_equal(STAT_GET(&rig.stat, open_edges), 0);
    assert_int_equal(pager_protect(&rig.segments[0], 3, 3, true, &failed), 0);
    assert_int_equal(STAT_GET(&rig.stat, open_edges), 2);
    assert_true(rig_has(4, PAGE_DIRTY));
    for (uint64_t page = 3; page < 6; page++) {
        assert_int_equal(touch(page, true), SIGSEGV);
        assert_int_equal(touch(page, false), 0);
    }
    assert_int_equal(touch(2, true), 0);
    assert_int_equal(touch(6, true), 0);
    assert_int_equal(pager_protect(&rig.segments[0], 3, 3, false, &failed), 0);
    assert_int_equal(STAT_GET(&rig.stat, open_edges), 0);
    assert_int_equal(touch(3, true), 0);
    assert_int_equal(STAT_GET(&rig.stat, faults_upgrade), 0);
    rig_stop();
}

// The kernel takes an entry away with what it knew: then the page counts as stored into.
static void an_entry_that_went_with_its_store(void **state)
{
    (void)state;
    start(&(struct rig_options){.cache_pages = 4});
    rig_expect_page(3, 4);
    rig_store(3, 9);
    shut(3);
    assert_true(rig_has(3, PAGE_DIRTY));
    rig_expect_page(5, 6);
    shut(5);
    assert_false(rig_has(5, PAGE_DIRTY)); // the mark is left
    rig_store(5, 10);
    shut(5);
    rig_expect_page(5, 10); // opened again, not tracked: it was stored into
    assert_int_equal(rig_swap_in(8, 4, 0), 0);
    rig_expect_stored(3, 9);
    rig_expect_stored(5, 10);
    rig_stop();
}

// Pages 0 and 1, of which the second has no frame.
static int open_two_with_one_frame(enum trap_access access)
{
    struct segment *segment = &rig.segments[0];
    assert_int_equal(segment->view.ops->place(&segment->view, 0, RIG_PAGE, NULL), 0);
    sync_mask mask = sync_block_signals();
    lock_acquire(&rig.pager.lock);
    int error = protection_set(segment, 0, 2, access);
    lock_release(&rig.pager.lock);
    sync_restore_signals(mask);
    return error;
}

// The first stays closed, too, or a store into it would be nobody's.
static void a_run_that_opens_half(void **state)
{
    (void)state;
    start(&(struct rig_options){0});
    assert_int_equal(open_two_with_one_frame(TRAP_TRACKED), -EFAULT);
    rig_expect_page(0, 1); // what the server has, so it was fetched
    rig_expect_io("R0+1");
    rig_stop();
}

// A change to "loads only" that fails half-way leaves nothing shut for stores.
static void a_run_that_is_shut_half(void **state)
{
    (void)state;
    start(&(struct rig_options){0});
    assert_int_equal(open_two_with_one_frame(TRAP_READ), -EFAULT);
    assert_int_equal(touch(0, true), 0);
    assert_int_equal(touch(1, true), 0);
    assert_true(rig_has(0, PAGE_DIRTY));
    rig_stop();
}

#define TEST(name) cmocka_unit_test_teardown(name, rig_cmocka_stop)

static const struct CMUnitTest both[] = {
    TEST(an_open_page_that_the_kernel_shut),
    TEST(a_mixed_run),
    TEST(denied_is_sigsegv),
    TEST(failed_is_sigbus),
    TEST(a_closed_descriptor),
};

static const struct CMUnitTest tracking[] = {
    TEST(a_store_that_nobody_sees),       TEST(what_was_stored_reaches_the_server),
    TEST(a_store_between_look_and_close), TEST(a_store_after_a_mark),
    TEST(read_only_pages_among_others),   TEST(an_entry_that_went_with_its_store),
    TEST(a_run_that_opens_half),          TEST(a_run_that_is_shut_half),
};

int main(void)
{
    int error = trap_uffd_get(true, &trap);
    if (error != 0) {
        printf("This kernel has no userfaultfd with write protection of shared memory: %s\n",
               strerror(-error));
        return 77;
    }
    trap_uffd_put();
    int failed = trap->tracks ? cmocka_run_group_tests(tracking, NULL, NULL) : 0;
    failed += cmocka_run_group_tests(both, NULL, NULL);
    trap = &trap_uffd_sync_ops;
    failed += cmocka_run_group_tests(both, NULL, NULL);
    return failed;
}
