// SPDX-License-Identifier: Apache-2.0
//
// First touches of pages without contents: that a walk over them takes few traps where the trap tracks stores, and one a
// page where it does not; that what came with a touched page is zeros, is written by nobody unless it is stored into, and
// takes memory that is spare; and that pages with contents end such a run.
#include <stdio.h>
#include <string.h>

#include "tests/unit/pager_rig.h"

enum { PAGES = 1024, RUN_MOST = 64 };

#define GET(name) STAT_GET(&rig.stat, name)

static const struct trap_ops *tracking;

static void start(const struct trap_ops *trap, bool fresh, uint32_t cache_pages)
{
    rig_start(&(struct rig_options){
        .trap = trap,
        .fresh = fresh,
        .pages = PAGES,
        .cache_pages = cache_pages,
        .second_chance = true,
        .laundry = true,
        .read_ahead_bytes = 1 << 20,
    });
}

static void store_into(uint64_t from, uint64_t count)
{
    for (uint64_t page = from; page < from + count; page++) {
        rig_at(page)[page % RIG_PAGE] = (uint8_t)(page | 1);
    }
}

// Each page: zeros, but for what was stored.
static void expect_stored_into(uint64_t from, uint64_t count)
{
    uint8_t expected[RIG_PAGE];
    for (uint64_t page = from; page < from + count; page++) {
        memset(expected, 0, sizeof expected);
        expected[page % RIG_PAGE] = (uint8_t)(page | 1);
        assert_memory_equal(rig_at(page), expected, sizeof expected);
    }
}

static unsigned resident(void)
{
    unsigned n = 0;
    for (uint64_t page = 0; page < PAGES; page++) {
        n += rig_state(page) == PAGE_RESIDENT;
    }
    return n;
}

static void a_walk_takes_few_faults(void **state)
{
    (void)state;
    start(tracking, true, PAGES);
    store_into(0, PAGES);
    assert_in_range(GET(faults_write), PAGES / RUN_MOST, PAGES / RUN_MOST + 8);
    assert_in_range(atomic_load(&rig.places), PAGES / RUN_MOST, PAGES / RUN_MOST + 8);
    assert_int_equal(GET(faults_upgrade) + GET(faults_soft), 0);
    assert_int_equal(GET(swap_in_no_read), PAGES);
    assert_int_equal(GET(swap_in_pages), PAGES);
    assert_int_equal(rig_clean(0, PAGES), 0);
    for (uint64_t page = 0; page < PAGES; page++) { // no store went unnoticed
        assert_int_equal(rig.stores[0].data[page * RIG_PAGE + page % RIG_PAGE],
                         (uint8_t)(page | 1));
    }
    expect_stored_into(0, PAGES);
    rig_stop();
}

static void loads_walk_as_well(void **state)
{
    (void)state;
    start(tracking, true, PAGES);
    for (uint64_t page = 0; page < PAGES; page++) {
        rig_expect_page(page, 0);
    }
    assert_in_range(GET(faults_read), PAGES / RUN_MOST, PAGES / RUN_MOST + 8);
    rig_stop();
}

// The kernel says which of them were stored into: the others are written by nobody, and leave as they came.
static void what_was_not_stored_into_costs_the_server_nothing(void **state)
{
    (void)state;
    enum { STORED = 150 };
    start(tracking, true, PAGES);
    store_into(0, STORED);
    unsigned in = resident();
    assert_in_range(in, STORED + 1, STORED + RUN_MOST);
    for (uint64_t page = 0; page < in; page++) {
        assert_int_equal(rig_has(page, PAGE_DIRTY), page < STORED);
    }
    assert_int_equal(rig_clean(0, PAGES), 0);
    assert_int_equal(GET(clean_writes), STORED);
    rig_stop();
}

static void random_touches_take_one_page_each(void **state)
{
    (void)state;
    enum { TOUCHES = 200 };
    start(tracking, true, PAGES);
    for (uint64_t i = 0; i < TOUCHES; i++) {
        store_into(i * 607 % PAGES, 1);
    }
    assert_int_equal(GET(faults_write), TOUCHES);
    assert_int_equal(resident(), TOUCHES);
    rig_stop();
}

static void where_stores_are_trapped_pages_come_alone(void **state)
{
    (void)state;
    start(&trap_mprotect_ops, true, PAGES);
    store_into(0, 200);
    assert_int_equal(GET(faults_write), 200);
    assert_int_equal(resident(), 200);
    rig_stop();
}

// What is on the server is not taken for empty.
static void pages_with_contents_end_the_run(void **state)
{
    (void)state;
    enum { EMPTY = 200 };
    char states[EMPTY + 1];
    memset(states, 'U', EMPTY);
    states[EMPTY] = 0;
    states[100] = 'O';
    states[101] = 'R'; // empty no more than the one before it, and read-only
    start(tracking, false, PAGES);
    rig_pages(states);
    store_into(0, 100);
    assert_int_equal(rig_state(100), PAGE_BACKING);
    assert_int_equal(GET(faults_write), 7); // 1, 2, 4, ... 32 pages, and what is left
    rig_expect_page(100, rig_first_stamp(100));
    rig_expect_page(101, rig_first_stamp(101));
    store_into(102, EMPTY - 102);
    expect_stored_into(0, 100);
    expect_stored_into(102, EMPTY - 102);
    rig_expect_page(EMPTY, rig_first_stamp(EMPTY));
    rig_stop();
}

// A run takes what is free beyond what the laundry keeps, and drives nothing out.
static void memory_that_is_not_spare_is_left_alone(void **state)
{
    (void)state;
    enum { CACHE = 256 };
    start(tracking, true, CACHE);
    store_into(0, CACHE * 7 / 8); // the last fault has a window that is larger than what is left
    uint64_t kept = rig.pager.low_water / RIG_PAGE;
    assert_true(kept > 0);
    assert_in_range(resident(), CACHE * 7 / 8, CACHE - kept);
    assert_int_equal(GET(victims), 0);
    store_into(CACHE * 7 / 8, PAGES - CACHE * 7 / 8);
    rig_settle();
    assert_true(GET(resident_peak_bytes) <= CACHE * RIG_PAGE);
    expect_stored_into(0, PAGES);
    rig_stop();
}

// No memory for many is no failure of the one that was touched.
static void a_run_that_finds_no_memory(void **state)
{
    (void)state;
    start(tracking, true, PAGES);
    store_into(0, 63);
    atomic_store(&rig.places_fail, 1);
    store_into(63, 100);
    assert_int_equal(atomic_load(&rig.places_fail), 0);
    expect_stored_into(0, 163);
    assert_int_equal(GET(faults_failed), 0);
    rig_stop();
}

// The program's own call: one system call for a run of empty pages, and for what is killed.
static void a_call_fills_runs(void **state)
{
    (void)state;
    start(tracking, true, PAGES);
    assert_int_equal(rig_swap_in(0, 512, DSM_WRITE), 0);
    assert_int_equal(atomic_load(&rig.places), 512 / RUN_MOST);
    assert_int_equal(GET(swap_in_no_read), 512);
    assert_int_equal(rig_swap_in(512, 10, DSM_PIN), 0);
    assert_int_equal(atomic_load(&rig.places), 512 / RUN_MOST + 10); // a pin may be refused
    rig_stop();
    start(tracking, false, PAGES);
    assert_int_equal(rig_swap_in(0, 256, DSM_KILL), 0);
    assert_int_equal(atomic_load(&rig.places), 256 / RUN_MOST);
    rig_expect_io("");
    for (uint64_t page = 0; page < 256; page++) {
        rig_expect_page(page, 0);
    }
    rig_stop();
}

// A walk that was good for long windows is no reason to give memory to what lies behind a touch elsewhere.
static void only_where_a_walk_goes_on(void **state)
{
    (void)state;
    enum { WALK = 255, TOUCHES = 8, STRIDE = 80 };
    start(tracking, true, PAGES);
    store_into(0, WALK); // 1 + 2 + ... 64 pages, and twice 64
    assert_int_equal(resident(), WALK);
    for (uint64_t i = 0; i < TOUCHES; i++) {
        store_into(WALK + 1 + i * STRIDE, 1);
    }
    assert_int_equal(resident(), WALK + TOUCHES);
    rig_stop();
}

// Two walks and touches here and there, in turn: each walk has its windows.
static void walks_side_by_side(void **state)
{
    (void)state;
    enum { WALK = 200, FROM = 400, ELSEWHERE = 700 };
    start(tracking, true, PAGES);
    for (uint64_t i = 0; i < WALK; i++) {
        store_into(i, 1);
        store_into(FROM + i, 1);
        store_into(ELSEWHERE + i * 61 % 300, i % 20 == 0);
    }
    assert_in_range(GET(faults_write), 2 * 8, 2 * 9 + WALK / 20);
    rig_stop();
}

// A page without contents in a walk over pages that have some does not break off the walk's windows.
static void a_hole_in_a_walk_of_reads(void **state)
{
    (void)state;
    char states[PAGES + 1];
    for (uint64_t page = 0; page < PAGES; page++) {
        states[page] = page % 16 == 15 ? 'U' : 'O';
    }
    states[PAGES] = 0;
    rig_start(&(struct rig_options){.trap = tracking,
                                    .pages = PAGES,
                                    .cache_pages = PAGES,
                                    .second_chance = true,
                                    .read_ahead_bytes = 1 << 20});
    rig_pages(states);
    for (uint64_t page = 0; page < PAGES; page++) {
        rig_expect_page(page, states[page] == 'U' ? 0 : rig_first_stamp(page));
        rig_settle();
    }
    // Each hole cuts a run in two; but for that, windows are as long as without any.
    assert_in_range(rig.io_count, PAGES / 16, PAGES / 16 + 16);
    rig_stop();
}

static void *change_fate(void *stop)
{
    while (atomic_load((_Atomic uint32_t *)stop) == 0) {
        atomic_store(&rig.segments[0].backing.fate, BACKING_LOST);
        atomic_store(&rig.segments[0].backing.fate, BACKING_WELL);
        for (int i = 0; i < 100; i++) { // some pages are to come
            (void)atomic_load((_Atomic uint32_t *)stop);
        }
    }
    return NULL;
}

// Whether the segment is lost may become known at any time, also between two looks at a page.
static void a_fate_that_changes(void **state)
{
    (void)state;
    _Atomic uint32_t stop = 0;
    unsigned lost = 0;
    pthread_t thread;
    start(tracking, true, PAGES);
    assert_int_equal(pthread_create(&thread, NULL, change_fate, &stop), 0);
    for (int round = 0; round < 300; round++) {
        int error = rig_swap_in(0, PAGES, 0);
        lost += error == -DSM_ELOST;
        assert_true(error == 0 || error == -DSM_ELOST);
        assert_int_equal(rig_give_up(0, PAGES), 0);
    }
    atomic_store(&stop, 1);
    assert_int_equal(pthread_join(thread, NULL), 0);
    atomic_store(&rig.segments[0].backing.fate, BACKING_WELL);
    assert_in_range(lost, 1, 300);
    rig.faulted += lost;
    store_into(0, PAGES);
    expect_stored_into(0, PAGES);
    rig_stop();
}

static _Atomic uint32_t placing, may_place;

static int place_later(struct trap_view *view, uint64_t offset, uint64_t bytes, void **to)
{
    atomic_store(&placing, 1);
    sync_wake(&placing, 1);
    while (atomic_load(&may_place) == 0) {
        (void)sync_wait(&may_place, 0, SYNC_FOR_EVER);
    }
    return tracking->place(view, offset, bytes, to);
}

static void *touch_first_page(void *argument)
{
    (void)argument;
    store_into(0, 1);
    return NULL;
}

// A fill that is under way is work on the segment: whoever detaches it waits.
static void a_fill_under_way_is_work(void **state)
{
    (void)state;
    pthread_t thread;
    start(tracking, true, PAGES);
    struct trap_ops held = *rig.options.trap;
    const struct trap_ops *before = rig.options.trap;
    held.place = place_later;
    atomic_store(&placing, 0);
    atomic_store(&may_place, 0);
    rig.options.trap = &held;
    assert_int_equal(pthread_create(&thread, NULL, touch_first_page, NULL), 0);
    while (atomic_load(&placing) == 0) {
        (void)sync_wait(&placing, 0, SYNC_FOR_EVER);
    }
    sync_mask mask = sync_block_signals();
    lock_acquire(&rig.pager.lock);
    uint32_t users = rig.segments[0].users;
    lock_release(&rig.pager.lock);
    sync_restore_signals(mask);
    rig.options.trap = before;
    atomic_store(&may_place, 1);
    sync_wake(&may_place, 1);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(users, 1);
    assert_int_equal(rig.segments[0].users, 0);
    rig_stop();
}

#define TEST(name) cmocka_unit_test_teardown(name, rig_cmocka_stop)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(a_walk_takes_few_faults),
        TEST(loads_walk_as_well),
        TEST(what_was_not_stored_into_costs_the_server_nothing),
        TEST(random_touches_take_one_page_each),
        TEST(where_stores_are_trapped_pages_come_alone),
        TEST(pages_with_contents_end_the_run),
        TEST(memory_that_is_not_spare_is_left_alone),
        TEST(a_run_that_finds_no_memory),
        TEST(a_call_fills_runs),
        TEST(only_where_a_walk_goes_on),
        TEST(walks_side_by_side),
        TEST(a_hole_in_a_walk_of_reads),
        TEST(a_fate_that_changes),
        TEST(a_fill_under_way_is_work),
    };
    int error = trap_uffd_get(true, &tracking);
    if (error != 0 || !tracking->tracks) {
        printf("This kernel does not say which pages were stored into: %s\n", strerror(-error));
        return 77;
    }
    trap_uffd_put();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
