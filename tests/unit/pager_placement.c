// SPDX-License-Identifier: Apache-2.0
//
// A segment that lies in several stores: a virtual run is broken where the store changes, its physical runs leave before the
// first answer is taken, and are gathered; what one store fails to do is named by its lowest page, and nothing else
// suffers. Each store refuses pages that are another's (pager_server.c). Arguments choose tests by their names.
#include "tests/unit/pager_rig.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { PAGES = 256 };

static const struct placement_row halves[] = {{0, 3, 0}, {3, 253, 1}};
static const struct placement_row thirds[] = {{0, 2, 0}, {2, 3, 1}, {5, 1, 2}, {6, 250, 0}};

static void start(const struct placement_row *rows, uint32_t count, uint32_t stores,
                  uint32_t buffer_pages)
{
    const struct rig_options options = {
        .stores = stores, .row = rows, .rows = count, .buffer_pages = buffer_pages};
    rig_start(&options);
}

// Page by page in three stores: every page is a physical run.
static void start_striped(uint64_t stripe, int64_t timeout_ms)
{
    struct placement_row rows[LIMIT_PLACEMENT_ROWS];
    uint32_t n = 0;
    for (uint64_t page = 0; n < LIMIT_PLACEMENT_ROWS && page < PAGES; page += stripe, n++) {
        uint64_t left = PAGES - page;
        bool last = n + 1 == LIMIT_PLACEMENT_ROWS;
        rows[n] = (struct placement_row){page, last || left < stripe ? left : stripe, n % 3};
    }
    const struct rig_options options = {
        .stores = 3, .row = rows, .rows = n, .timeout_ms = timeout_ms};
    rig_start(&options);
}

static void expect_in(uint64_t page, uint64_t count)
{
    for (uint64_t i = page; i < page + count; i++) {
        assert_int_equal(rig_state(i), PAGE_RESIDENT);
        rig_expect_page(i, rig_first_stamp(i));
    }
}

static void expect_absent(uint64_t page, uint64_t count)
{
    for (uint64_t i = page; i < page + count; i++) {
        assert_int_equal(rig_state(i), PAGE_BACKING);
    }
}

// ---- breaking ----

static void breaking(void **state)
{
    (void)state;
    start(thirds, 4, 3, 8);
    assert_int_equal(rig_swap_in(0, 8, 0), 0);
    rig_expect_io("R0+2@A R2+3@B R5+1@C R6+2@A");
    rig_expect((struct rig_counts){.swap_in = {1, 1, 4, 8, 0, 0, 8}});
    rig_reset();
    assert_int_equal(rig_swap_in_next(8, 10, 0, 18), 0); // the buffer, not the store, ends this run
    rig_settle();
    rig_expect((struct rig_counts){.swap_in = {1, 2, 2, 10, 0, 0, 10}});
    rig_stop();
}

// What is in ends a virtual run; a boundary that it hides costs nothing.
static void breaking_beside_what_is_in(void **state)
{
    (void)state;
    start(halves, 2, 2, 8);
    rig_pages("OOOCOO");
    assert_int_equal(rig_swap_in(0, 6, 0), 0);
    rig_expect_io("R0+3@A>4 R4+2@B");
    rig_expect((struct rig_counts){.swap_in = {1, 2, 2, 6, 1, 0, 5}});
    expect_in(0, 6);
    rig_stop();
}

// More stores change than a request has physical runs for: another virtual run.
static void breaking_into_too_many(void **state)
{
    (void)state;
    start_striped(1, 0);
    assert_int_equal(rig_swap_in(0, 10, 0), 0);
    rig_expect_io("R0+1@A R1+1@B R2+1@C R3+1@A R4+1@B R5+1@C R6+1@A R7+1@B>8 R8+1@C R9+1@A");
    rig_expect((struct rig_counts){.swap_in = {1, 2, 10, 10, 0, 0, 10}});
    expect_in(0, 10);
    rig_stop();
}

static void breaking_nothing_with_one_store(void **state)
{
    (void)state;
    static const struct placement_row rows[] = {{0, 3, 0}, {3, 253, 0}};
    start(rows, 2, 1, 8);
    assert_int_equal(rig_swap_in(0, 6, 0), 0);
    rig_expect_io("R0+6");
    rig_expect((struct rig_counts){.swap_in = {1, 1, 1, 6, 0, 0, 6}});
    rig_stop();
}

// ---- side by side ----

static void *swap_in_all(void *argument)
{
    (void)argument;
    (void)rig_swap_in(0, 8, 0);
    return NULL;
}

static void *clean_all(void *argument)
{
    (void)argument;
    (void)rig_clean(0, 8);
    return NULL;
}

// The first store keeps its answer back: the others have been asked all the same.
static void expect_side_by_side(void *(*call)(void *), char op)
{
    pthread_t thread;
    rig_reset();
    uint32_t before = atomic_load(&rig.sent);
    atomic_store(&rig.hold, 1);
    assert_int_equal(pthread_create(&thread, NULL, call, NULL), 0);
    rig_await(&rig.held, 1);
    assert_int_equal(atomic_load(&rig.sent) - before, 4);
    assert_int_equal(rig.io_count, 1); // an answer is made when it is asked for: one was
    assert_true(rig.io[0].op == op && rig.io[0].store == 0);
    rig_release(&rig.hold);
    (void)pthread_join(thread, NULL);
    assert_int_equal(rig.io_count, 4);
}

static void side_by_side(void **state)
{
    (void)state;
    start(thirds, 4, 3, 8);
    expect_side_by_side(swap_in_all, 'R');
    expect_in(0, 8);
    for (uint64_t i = 0; i < 8; i++) {
        rig_store(i, 3000 + i);
    }
    expect_side_by_side(clean_all, 'W');
    for (uint64_t i = 0; i < 8; i++) {
        rig_expect_stored(i, 3000 + i);
    }
    rig_stop();
}

// Threads that need all stores at once, from different ends, do not wait for one another in a circle.
static void *walk(void *argument)
{
    uint64_t seed = (uint64_t)(uintptr_t)argument;
    for (int i = 0; i < 60; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint64_t page = (seed >> 33) % (PAGES - 24);
        assert_int_equal(*(volatile uint64_t *)(void *)rig_at(page),
                         (page + 1) * 0x9e3779b97f4a7c15u);
        struct call call = {.kind = CALL_SWAP_IN,
                            .segment = &rig.segments[0],
                            .page = page,
                            .count = 24,
                            .next_page = DSM_NO_PAGE};
        assert_int_equal(pager_call(&rig.pager, &call), 0);
    }
    return NULL;
}

static void side_by_side_from_many_threads(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    start_striped(5, 0);
    for (uintptr_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, walk, (void *)(i + 1)), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    rig_stop();
}

// ---- gathering ----

static void gathering(void **state)
{
    (void)state;
    start_striped(5, 0);
    assert_int_equal(rig_swap_in(0, 60, DSM_PIN), 0);
    expect_in(0, 60);
    assert_int_equal(pager_unpin(&rig.segments[0], 0, 60), 0);
    for (uint64_t page = 0; page < PAGES; page++) { // a touch goes to its page's store, too
        rig_expect_page(page, rig_first_stamp(page));
    }
    rig_stop();
}

// A victim is written to its own page's store, with the lane of the call that wants its frame.
static void gathering_room(void **state)
{
    (void)state;
    static const struct placement_row rows[] = {{0, 3, 0}, {3, 98, 1}, {101, 155, 2}};
    const struct rig_options options = {
        .stores = 3, .row = rows, .rows = 3, .cache_pages = 4, .buffer_pages = 8};
    rig_start(&options);
    rig_frames("DDCC");
    assert_int_equal(rig_swap_in(1, 4, 0), 0);
    rig_expect_io("W100+1@B R1+1@A>101 W101+1@C R2+1@A R3+2@B");
    rig_expect((struct rig_counts){.swap_in = {1, 2, 3, 4, 0, 0, 4, 2}});
    expect_in(1, 4);
    rig_expect_stored(100, 1101);
    rig_expect_stored(101, 1102);
    rig_stop();
}

// The laundry's places for runs are used again: nothing of the last one counts for the next.
static void cleaning_in_a_used_place(void **state)
{
    (void)state;
    start_striped(1, 0);
    for (uint64_t page = 0; page < 10; page++) {
        rig_store(page, page + 500);
    }
    struct clean_run run = {.count = 3, .dirty_count = 2, .pieces = LIMIT_RUN_PIECES};
    for (uint64_t page = 0; page < 10; page += LIMIT_RUN_PIECES) {
        run.lane = backing_take(&rig.backing, BACKING_BULK, SYNC_FOR_EVER);
        assert_non_null(run.lane);
        assert_true(clean_begin(&run, &rig.segments[0], page, 10));
        assert_int_equal(clean_end(&run), 0);
        backing_give(run.lane);
    }
    for (uint64_t page = 0; page < 10; page++) {
        rig_expect_stored(page, page + 500);
    }
    rig_settle();
    rig_stop();
}

// ---- one store fails ----

static void failure_of_a_page(void **state)
{
    (void)state;
    start(halves, 2, 2, 8);
    rig.fail_read = 4;
    assert_int_equal(rig_swap_in(0, 6, DSM_PIN), -EIO);
    assert_int_equal(rig.call.failed_page, 4);
    rig_expect_io("R0+3@A R3+3@B R3+1@B"); // what could be read of it is asked for again
    rig_expect((struct rig_counts){.swap_in = {1, 1, 2, 6, 0, 0, 6}});
    rig_check();
    expect_in(0, 4);
    expect_absent(4, 2);
    for (uint64_t i = 0; i < 6; i++) {
        assert_int_equal(rig_entry(i)->pins, 0);
    }
    rig_reset();
    assert_int_equal(rig_swap_in(0, 6, 0), 0);
    rig_expect_io("R4+2@B");
    rig_stop();
}

// The first store fails: what the second has is in, and the lowest page is named.
static void failure_of_the_first_store(void **state)
{
    (void)state;
    start(thirds, 4, 3, 8);
    rig.fail_read = 1;
    assert_int_equal(rig_swap_in(0, 8, 0), -EIO);
    assert_int_equal(rig.call.failed_page, 1);
    rig_check();
    expect_in(0, 1);
    expect_absent(1, 1);
    expect_in(2, 6);
    rig_stop();
}

static void failure_of_a_connection(void **state)
{
    (void)state;
    enum { SOON_MS = 200 };
    start_striped(5, SOON_MS);
    atomic_store(&rig.dead_stores, 2);
    assert_int_equal(rig_swap_in(0, 20, DSM_PIN), -ETIMEDOUT);
    assert_int_equal(rig.call.failed_page, 5);
    rig_check();
    expect_absent(5, 5);
    expect_in(0, 5);
    for (uint64_t i = 0; i < 20; i++) {
        assert_int_equal(rig_entry(i)->pins, 0);
    }
    atomic_store(&rig.dead_stores, 0);
    assert_int_equal(rig_swap_in(0, 20, 0), 0);
    expect_in(0, 20);
    rig_stop();
}

// A segment that is lost at one store is as it was at the others.
static void failure_of_a_part(void **state)
{
    (void)state;
    start(halves, 2, 2, 8);
    atomic_store(&rig.parts[0][1].fate, BACKING_LOST);
    assert_int_equal(rig_swap_in(0, 3, 0), 0);
    assert_int_equal(rig_swap_in(1, 3, 0), -DSM_ELOST);
    assert_int_equal(rig.call.failed_page, 3);
    rig.faulted++;
    rig_expect_io("R0+3@A");
    rig_stop();
}

// ---- cleaning ----

static void cleaning(void **state)
{
    (void)state;
    start(thirds, 4, 3, 8);
    rig_pages("DDCDDDDC");
    assert_int_equal(rig_clean(0, 8), 0);
    rig_expect_io("W0+2@A W2+3@B W5+1@C W6+1@A");
    rig_expect((struct rig_counts){.clean = {1, 1, 4, 7, 6, 0, 2, 1}});
    for (uint64_t i = 0; i < 8; i++) {
        bool dirty = i != 2 && i != 7;
        assert_false(rig_has(i, PAGE_DIRTY));
        rig_expect_stored(i, dirty ? i + 1001 : rig_first_stamp(i));
    }
    rig_stop();
}

static void cleaning_fails(void **state)
{
    (void)state;
    start(thirds, 4, 3, 8);
    rig_pages("DDDDDDDD");
    rig.fail_write = 3;
    assert_int_equal(rig_clean(0, 8), -EIO);
    assert_int_equal(rig.call.failed_page, 3);
    rig_expect((struct rig_counts){.clean = {1, 1, 4, 6, 8}});
    for (uint64_t i = 0; i < 8; i++) {
        assert_int_equal(rig_has(i, PAGE_DIRTY), i == 3 || i == 4);
    }
    rig_check_failed();
    rig_reset();
    assert_int_equal(rig_clean(0, 8), 0);
    rig_expect_io("W3+2@B");
    for (uint64_t i = 0; i < 8; i++) {
        rig_expect_stored(i, i + 1001);
    }
    rig_check_failed();
    (void)rig_cmocka_stop(state);
}

// Washed behind the program's back: room for other pages, contents where they belong.
static void cleaning_by_the_laundry(void **state)
{
    (void)state;
    struct placement_row rows[PAGES / 8];
    for (uint32_t i = 0; i < PAGES / 8; i++) {
        rows[i] = (struct placement_row){8 * (uint64_t)i, 8, i % 3};
    }
    const struct rig_options options = {.stores = 3,
                                        .row = rows,
                                        .rows = PAGES / 8,
                                        .cache_pages = 96,
                                        .second_chance = true,
                                        .laundry = true};
    rig_start(&options);
    for (uint64_t round = 0; round < 3; round++) {
        for (uint64_t page = 0; page < PAGES; page++) {
            rig_store(page, 5000 * (round + 1) + page);
        }
    }
    for (uint64_t page = 0; page < PAGES; page++) {
        rig_expect_page(page, 15000 + page);
    }
    assert_true(STAT_GET(&rig.stat, laundered_pages) > 0);
    assert_true(STAT_GET(&rig.stat, clean_physical_runs) > STAT_GET(&rig.stat, clean_virtual_runs));
    rig_stop();
}

#define TEST(name) cmocka_unit_test_teardown(name, rig_cmocka_stop)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(breaking),
        TEST(breaking_beside_what_is_in),
        TEST(breaking_into_too_many),
        TEST(breaking_nothing_with_one_store),
        TEST(side_by_side),
        TEST(side_by_side_from_many_threads),
        TEST(gathering),
        TEST(gathering_room),
        TEST(failure_of_a_page),
        TEST(failure_of_the_first_store),
        TEST(failure_of_a_connection),
        TEST(failure_of_a_part),
        TEST(cleaning),
        TEST(cleaning_fails),
        TEST(cleaning_in_a_used_place),
        TEST(cleaning_by_the_laundry),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests_name("pager_placement", tests, NULL, NULL);
}
