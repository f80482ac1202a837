// SPDX-License-Identifier: Apache-2.0
//
// The pager by the book: the golden scenarios S1, S2, S4, S5 and S8, with all 17 of Cedar's counters and every request that was
// sent. Exact mode: no second chance, no read-ahead, no laundry, no gap limit; frames are claimed in the order in which
// pages 100, 101, ... were aged.
//
// Order of the figures: swap_in {calls, virtual_runs, physical_runs | pages, already_in, no_read, reads | dirty_victims,
// failed_to_clean_victims}, clean {calls, virtual_runs, physical_runs | pages, writes, cant_writes | check_out_cleans,
// unneeded_check_out_cleans}.
#include "tests/unit/pager_rig.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static void start(uint32_t cache_pages, uint32_t buffer_pages, const char *pages,
                  const char *frames)
{
    rig_start(&(struct rig_options){.cache_pages = cache_pages, .buffer_pages = buffer_pages});
    rig_pages(pages);
    rig_frames(frames);
}

static void s1_gaps_deferral_full_buffer(void **state)
{
    (void)state;
    start(12, 4, "OOOCOOOOOOUO", "CCCCCCCCCCC");
    assert_int_equal(rig_swap_in(0, 12, 0), 0);
    rig_expect_io("R0+3>4 R4+4>8 R8+2>11 R11+1");
    rig_expect((struct rig_counts){{1, 4, 4, 12, 1, 1, 10, 0, 0}, {0}});
    for (uint64_t i = 0; i < 12; i++) {
        rig_expect_page(i, i == 10 ? 0 : i + 1);
    }
    rig_stop();
}

// The last run's hint is what the caller says comes next; page 0 is a page.
static bool io_is(const char *expected)
{
    char text[256];
    rig_io_text(text, sizeof text);
    return strcmp(text, expected) == 0;
}

// next_page is told to the server with the last run, and fetched by itself: one run, into free frames only, at the same
// time as the call's own pages, and in none of Cedar's figures.
static void next_page_is_the_last_hint_and_fetched(void **state)
{
    (void)state;
    start(12, 4, "OOOOO", "CCCCC");
    assert_int_equal(rig_swap_in_next(1, 4, 0, 0), 0);
    for (int i = 0; i < 5000 && STAT_GET(rig.pager.stat, prefetched_pages) == 0; i++) {
        (void)usleep(1000);
    }
    assert_int_equal(STAT_GET(rig.pager.stat, prefetched_pages), 1);
    assert_true(io_is("R1+4>0 R0+1") || io_is("R0+1 R1+4>0"));
    rig_expect((struct rig_counts){{1, 1, 1, 4, 0, 0, 4, 0, 0}, {0}});
    rig_expect_page(0, 1);
    rig_stop();
}

static void *swap_in_with_next(void *argument)
{
    int *error = argument;
    *error = rig_swap_in_next(1, 4, 0, 0);
    return NULL;
}

// The lanes delay every answer: the request for the next page is at the server before the present answer has left it.
static void the_next_request_leaves_before_the_answer(void **state)
{
    (void)state;
    pthread_t thread;
    int error = -1;
    start(12, 4, "OOOOO", "CCCCC");
    atomic_store(&rig.hold, 1);
    assert_int_equal(pthread_create(&thread, NULL, swap_in_with_next, &error), 0);
    rig_await(&rig.held, 2); // both, and neither is answered
    assert_int_equal(rig_state(1), PAGE_READING);
    assert_int_equal(rig_state(0), PAGE_READING);
    rig_release(&rig.hold);
    (void)pthread_join(thread, NULL);
    assert_int_equal(error, 0);
    rig_settle();
    assert_int_equal(STAT_GET(rig.pager.stat, prefetched_pages), 1);
    rig_stop();
}

static void no_page_is_driven_out_for_the_next_one(void **state)
{
    (void)state;
    start(5, 4, "OOOOO", "CCCCC"); // no free frame at any time
    assert_int_equal(rig_swap_in_next(1, 1, 0, 0), 0);
    (void)usleep(
        50000); // what it should not do, it would have done by now on any but the busiest machine
    assert_int_equal(rig_state(0), PAGE_BACKING);
    assert_int_equal(STAT_GET(rig.pager.stat, victims), 1);
    rig_stop();
}

static void s2_dirty_victims(void **state)
{
    (void)state;
    start(6, 4, "OOOOO", "CDCDCC");
    rig.fail_write = 103;
    assert_int_equal(rig_swap_in(0, 5, 0), 0);
    rig_expect_io("R0+1>101 W101+1 R1+2>103 W103+1 R3+2");
    rig_expect((struct rig_counts){{1, 3, 3, 6, 0, 0, 6, 1, 1}, {0}});
    assert_int_equal(rig_state(103), PAGE_RESIDENT);
    assert_true(rig_has(103, PAGE_DIRTY));
    for (uint64_t i = 0; i < 5; i++) {
        rig_expect_page(i, i + 1);
    }
    rig_expect_stored(101, 1102);
    rig_expect_stored(103, 104);
    rig_expect_page(103, 1104);
    rig_stop();
}

// A dirty victim while skipping: the run is flushed with the page as hint, not the victim (VM 164); a failed write leaves
// it skipping.
static void dirty_victims_while_skipping(void **state)
{
    (void)state;
    start(5, 4, "OCOO", "CDCC");
    rig.fail_write = 101;
    assert_int_equal(rig_swap_in(0, 4, 0), 0);
    rig_expect_io("R0+1>2 W101+1 R2+2");
    rig_expect((struct rig_counts){{1, 2, 2, 5, 1, 0, 4, 0, 1}, {0}});
    rig_expect_page(2, 3);
    rig_stop();
}

// No read, dirty victim: the run goes first, with the victim as hint, then the victim.
static void dirty_victim_for_a_page_without_read(void **state)
{
    (void)state;
    start(4, 4, "OUO", "CDCC");
    assert_int_equal(rig_swap_in(0, 3, 0), 0);
    rig_expect_io("R0+1>101 W101+1 R2+1");
    rig_expect((struct rig_counts){{1, 2, 2, 3, 0, 1, 2, 1, 0}, {0}});
    rig_expect_page(1, 0);
    rig_stop();
}

// The server says how many it could read; those are asked for again and come.
static void s4_partial_failure_then_retry(void **state)
{
    (void)state;
    start(8, 8, "OOOOOO", "CCCCCCCC");
    rig.fail_read = 4;
    assert_int_equal(rig_swap_in(0, 6, 0), -EIO);
    assert_int_equal(rig.call.failed_page, 4);
    rig_expect_io("R0+6 R0+4");
    rig_expect((struct rig_counts){{1, 1, 1, 6, 0, 0, 6, 0, 0}, {0}});
    for (uint64_t i = 0; i < 6; i++) {
        assert_int_equal(rig_state(i), i < 4 ? PAGE_RESIDENT : PAGE_BACKING);
    }
    rig_check();
    assert_int_equal(rig_swap_in(0, 6, 0), 0);
    rig_expect_io("R0+6 R0+4 R4+2");
    rig_expect((struct rig_counts){{2, 2, 2, 12, 4, 0, 8, 0, 0}, {0}});
    for (uint64_t i = 0; i < 6; i++) {
        rig_expect_page(i, i + 1);
    }
    rig_stop();
}

static void s5_clean(void **state)
{
    (void)state;
    start(9, 8, "CDCDCCPDC", "");
    assert_int_equal(rig_clean(0, 9), 0);
    rig_expect_io("W1+3 W7+1");
    rig_expect((struct rig_counts){{0}, {1, 2, 2, 4, 3, 2, 4, 3}});
    assert_int_equal(rig.call.passed_over, 1);
    assert_int_equal(STAT_GET(&rig.stat, clean_skipped_pinned), 1);
    assert_int_equal(STAT_GET(&rig.stat, clean_skipped_clean), 1);
    for (uint64_t i = 0; i < 9; i++) {
        assert_int_equal(rig_has(i, PAGE_DIRTY), i == 6);
    }
    rig_expect_stored(1, 1002);
    rig_expect_stored(2, 3);
    rig_expect_stored(3, 1004);
    rig_expect_stored(7, 1008);
    assert_int_equal(rig_entry(6)->pins, 1);
    assert_int_equal(pager_unpin(&rig.segments[0], 6, 1), 0);
    rig_stop();
}

// D2: a clean page joins the run only if it is adjacent, whatever was passed over between.
static void clean_joins_only_what_is_adjacent(void **state)
{
    (void)state;
    start(9, 8, "DPCODOCD", "");
    assert_int_equal(rig_clean(0, 8), 0);
    rig_expect_io("W0+1 W4+1 W7+1");
    rig_expect((struct rig_counts){{0}, {1, 3, 3, 3, 3, 5, 0, 0}});
    assert_int_equal(pager_unpin(&rig.segments[0], 1, 1), 0);
    rig_stop();
}

static void clean_with_a_gap_limit(void **state)
{
    (void)state;
    rig_start(&(struct rig_options){.cache_pages = 12, .gap_pages = 2});
    rig_pages("DCDCCDCCCD");
    assert_int_equal(rig_clean(0, 10), 0);
    rig_expect_io("W0+6 W9+1");
    rig_expect((struct rig_counts){{0}, {1, 2, 2, 7, 4, 1, 5, 2}});
    rig_stop();
}

// 15: pages before the failed one are done, it and those after it are as they were, clean ones clean.
static void clean_fails_in_the_middle(void **state)
{
    (void)state;
    start(8, 8, "DDCDD", "");
    rig.fail_write = 1;
    assert_int_equal(rig_clean(0, 5), -EIO);
    assert_int_equal(rig.call.failed_page, 1);
    rig_expect((struct rig_counts){{0}, {1, 1, 1, 1, 4, 0, 1, 0}});
    static const bool dirty[] = {false, true, false, true, true};
    for (uint64_t i = 0; i < 5; i++) {
        assert_int_equal(rig_has(i, PAGE_DIRTY), dirty[i]);
    }
    rig_check_failed();
    assert_int_equal(rig_clean(0, 5), 0);
    for (uint64_t i = 0; i < 5; i++) {
        rig_expect_stored(i, i == 2 ? 3 : i + 1001);
    }
    rig_check_failed();
    (void)rig_cmocka_stop(state);
}

static void *clean_forty(void *argument)
{
    int *error = argument;
    *error = rig_clean(0, 40);
    return NULL;
}

// Twenty runs of a page each and its neighbour that is absent: fifteen are on their way before the first answer is in.
static void cleaned_runs_leave_before_the_answer(void **state)
{
    (void)state;
    pthread_t thread;
    int error = -1;
    start(64, 8, "DODODODODODODODODODODODODODODODODODODODO", "");
    uint32_t before = atomic_load(&rig.sent);
    atomic_store(&rig.hold, 1);
    assert_int_equal(pthread_create(&thread, NULL, clean_forty, &error), 0);
    rig_await(&rig.held,
              1); // the first run's: those that follow were sent before it was looked for
    uint32_t sent = atomic_load(&rig.sent) - before;
    rig_release(&rig.hold);
    (void)pthread_join(thread, NULL);
    assert_int_equal(sent, CLEAN_RUNS - 1);
    assert_int_equal(error, 0);
    rig_expect((struct rig_counts){{0}, {1, 20, 20, 20, 20, 20, 0, 0}});
    for (uint64_t i = 0; i < 40; i += 2) {
        assert_false(rig_has(i, PAGE_DIRTY));
        rig_expect_stored(i, i + 1001);
    }
    rig_stop();
}

// A run of the middle fails: those on their way behind it are written, no further one is sent, and the lowest page is told.
static void clean_fails_with_others_under_way(void **state)
{
    (void)state;
    start(64, 8, "DODODODODODODODODODODODODODODODODODODODO", "");
    rig.fail_write = 2;
    assert_int_equal(rig_clean(0, 40), -EIO);
    assert_int_equal(rig.call.failed_page, 2);
    uint64_t in_hand = 2 * CLEAN_RUNS; // not sent yet when the failure was seen
    for (uint64_t i = 0; i < 40; i += 2) {
        assert_int_equal(rig_state(i), PAGE_RESIDENT);
        assert_int_equal(rig_has(i, PAGE_DIRTY), i == 2 || i >= in_hand);
    }
    assert_int_equal(rig_clean(0, 40), 0);
    for (uint64_t i = 0; i < 40; i += 2) {
        rig_expect_stored(i, i + 1001);
    }
    rig_check_failed();
    (void)rig_cmocka_stop(state);
}

static void s8_kill_pin_bounds(void **state)
{
    (void)state;
    rig_start(&(struct rig_options){.pages = 64, .cache_pages = 8, .buffer_pages = 4});
    rig_pages("DOURO");
    rig.faulted = 1;
    assert_int_equal(rig_swap_in(0, 5, DSM_KILL | DSM_PIN), -EROFS);
    assert_int_equal(rig.call.failed_page, 3);
    rig_expect_io("");
    rig_expect((struct rig_counts){{1, 0, 0, 4, 1, 2, 0, 0, 0}, {0}});
    rig_check(); // the pins are undone, too
    assert_int_equal(rig_swap_in(60, 5, 0), -EFAULT);
    assert_int_equal(rig.call.failed_page, 64);
    assert_int_equal(rig_swap_in(64, 0, 0), 0);
    assert_int_equal(rig_swap_in(65, 0, 0), -EFAULT);
    assert_int_equal(rig.call.failed_page, 64);
    assert_int_equal(rig_clean(63, 2), -EFAULT);
    assert_int_equal(rig.call.failed_page, 64);
    rig_expect((struct rig_counts){{4, 0, 0, 4, 1, 2, 0, 0, 0}, {1, 0, 0, 0, 0, 0, 0, 0}});
    for (uint64_t i = 0; i < 3; i++) { // pages before the fault stay killed
        rig_expect_page(i, 0);
        assert_false(rig_has(i, PAGE_DIRTY));
    }
    rig_expect_stored(0, 1); // and the dirty one was not written
    rig_expect_page(4, 5);
    rig_stop();
}

// A killed page that is stored into is written; one that is not is undefined when it is gone.
static void killed_pages_come_back_as_zeros(void **state)
{
    (void)state;
    start(4, 4, "DC", "");
    assert_int_equal(rig_swap_in(0, 3, DSM_KILL), 0);
    rig_store(1, 77);
    rig_age(0, 2);
    assert_int_equal(rig_swap_in(10, 4, 0), 0);
    rig_expect_io("R10+2>1 W1+1 R12+2");
    rig_expect_page(0, 0);
    rig_expect_page(1, 77);
    rig_expect_page(2, 0);
    rig_stop();
}

// A1: what a trap counts.
static void what_faults_count(void **state)
{
    (void)state;
    start(8, 4, "OU", "");
    rig_expect_page(0, 1); // a load: one call of one page
    rig_expect((struct rig_counts){{1, 1, 1, 1, 0, 0, 1, 0, 0}, {0}});
    rig_store(0, 5); // an upgrade is no call
    rig_expect((struct rig_counts){{1, 1, 1, 1, 0, 0, 1, 0, 0}, {0}});
    rig_store(1, 6); // the first touch of a page without contents makes no request
    rig_expect((struct rig_counts){{2, 1, 1, 2, 0, 1, 1, 0, 0}, {0}});
    assert_int_equal(STAT_GET(&rig.stat, faults_read), 1);
    assert_int_equal(STAT_GET(&rig.stat, faults_upgrade), rig.options.trap->tracks ? 0 : 1);
    assert_int_equal(STAT_GET(&rig.stat, faults_write), 1);
    rig_expect_io("R0+1");
    rig_stop();
}

#define TEST(name) cmocka_unit_test_teardown(name, rig_cmocka_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(s1_gaps_deferral_full_buffer),
        TEST(next_page_is_the_last_hint_and_fetched),
        TEST(the_next_request_leaves_before_the_answer),
        TEST(no_page_is_driven_out_for_the_next_one),
        TEST(s2_dirty_victims),
        TEST(dirty_victims_while_skipping),
        TEST(dirty_victim_for_a_page_without_read),
        TEST(s4_partial_failure_then_retry),
        TEST(s5_clean),
        TEST(clean_joins_only_what_is_adjacent),
        TEST(clean_with_a_gap_limit),
        TEST(clean_fails_in_the_middle),
        TEST(cleaned_runs_leave_before_the_answer),
        TEST(clean_fails_with_others_under_way),
        TEST(s8_kill_pin_bounds),
        TEST(killed_pages_come_back_as_zeros),
        TEST(what_faults_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
