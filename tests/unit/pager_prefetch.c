// SPDX-License-Identifier: Apache-2.0
//
// What comes before it is touched: of a stride, backwards, in the window after the one in use; that it takes free frames
// only; and that what became of each page is counted. Every check waits until the workers are idle, so the figures do not
// depend on who is faster.
#include "tests/unit/pager_rig.h"

#include <string.h>

enum { PAGES = 2048, CACHE = 512 };

#define GET(name) STAT_GET(&rig.stat, name)

static void start(uint32_t cache_pages, bool exact, bool laundry)
{
    struct rig_options o = {
        .pages = PAGES,
        .cache_pages = cache_pages,
        .second_chance = !exact,
        .laundry = laundry,
        .read_ahead_bytes = 1 << 20,
    };
    rig_start(&o);
}

// Touches every page of the walk in turn.
static void walk(uint64_t page, int64_t stride, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++, page += (uint64_t)stride) {
        rig_expect_page(page, rig_first_stamp(page));
        rig_settle();
    }
}

static unsigned pages_read(void)
{
    unsigned pages = 0;
    for (unsigned i = 0; i < rig.io_count; i++) {
        pages += rig.io[i].op == 'R' ? rig.io[i].count : 0;
    }
    return pages;
}

// Five faults are needed to see it; from then on the walk meets closed pages and, at the markers, fetches the next ones.
static void strides_and_backwards(void **state)
{
    (void)state;
    static const struct {
        uint64_t from;
        int64_t stride;
    } walks[] = {{0, 3}, {PAGES - 1, -1}, {PAGES - 1, -7}, {5, 2}};
    for (size_t w = 0; w < sizeof walks / sizeof walks[0]; w++) {
        enum { TOUCHES = 250 };
        start(CACHE, false, false);
        walk(walks[w].from, walks[w].stride, TOUCHES);
        assert_in_range(GET(faults_read), 5, 7);
        assert_in_range(GET(read_ahead_used), TOUCHES - 7, TOUCHES + 64);
        assert_in_range(GET(read_ahead_pages), TOUCHES - 7,
                        TOUCHES + 100); // what is ahead of the walk
        assert_int_equal(GET(victims), 0);
        for (unsigned i = 0; i < rig.io_count; i++) { // nothing that is not on the way
            int64_t off = (int64_t)(rig.io[i].page - walks[w].from);
            assert_int_equal(off % walks[w].stride, 0);
            assert_true(walks[w].stride == -1 || rig.io[i].count == 1);
        }
        rig_stop();
        assert_int_equal(GET(read_ahead_pages), GET(read_ahead_used) + GET(read_ahead_wasted));
    }
}

// A walk forward meets a fault for each window only until windows are fetched in time.
static void the_next_window_is_fetched_in_time(void **state)
{
    (void)state;
    enum { TOUCHES = 400 };
    start(CACHE, false, false);
    walk(0, 1, TOUCHES);
    assert_in_range(GET(faults_read), 2,
                    5); // windows of 1, 2, 4, 8: from there on there are markers
    assert_int_equal(GET(faults_waited), 0);
    assert_in_range(pages_read(), TOUCHES, TOUCHES + 2 * CACHE / 8);
    rig_stop();
}

// The marker alone needs a touch that is trapped: the other pages of a window that is trusted are
// open.
static void of_a_trusted_window_only_the_marker_is_closed(void **state)
{
    (void)state;
    enum { TOUCHES = 200 };
    start(CACHE, false, false);
    walk(0, 1, TOUCHES);
    unsigned came = 0;
    unsigned closed = 0;
    for (uint64_t page = TOUCHES; page < PAGES; page++) {
        came += rig_state(page) == PAGE_RESIDENT;
        closed += rig_has(page, PAGE_AHEAD);
    }
    assert_in_range(came, 2, 2 * CACHE / 8);
    assert_int_equal(closed, 1);
    rig_stop();
}

// In the exact mode pages are opened one by one, and what was used is known to the page.
static void used_and_wasted_are_exact(void **state)
{
    (void)state;
    enum { TOUCHES = 40 };
    start(64, true, false);
    walk(100, 1, TOUCHES);
    uint64_t ahead = GET(read_ahead_pages);
    assert_int_equal(GET(read_ahead_used), TOUCHES - GET(faults_read));
    assert_true(ahead > GET(read_ahead_used));
    assert_int_equal(GET(read_ahead_wasted), 0);
    assert_int_equal(rig_swap_in(1000, 64, 0), 0); // they all leave
    rig_settle();
    assert_int_equal(GET(read_ahead_used) + GET(read_ahead_wasted), ahead);
    assert_int_equal(GET(read_ahead_used), TOUCHES - GET(faults_read));
    rig_stop();
}

// Nobody's page makes room for a guess, nor does a guess that was not used stay for ever.
static void a_guess_takes_free_frames_only(void **state)
{
    (void)state;
    start(64, true, false);
    assert_int_equal(rig_swap_in(1000, 64, 0), 0);
    walk(0, 3, 40);
    assert_int_equal(GET(read_ahead_pages), 0);
    assert_int_equal(GET(faults_read), 40);
    assert_int_equal(GET(victims), 40);
    rig_stop();
}

// A page that came ahead is spared by the clock once, so that it can be of use at all; then it goes, and shrinks the window.
static void unused_pages_go_and_shrink_the_window(void **state)
{
    (void)state;
    start(128, false, false);
    for (int64_t round = 0; round < 16; round++) { // five touches of a stride, then of another one
        walk((uint64_t)round * 100, 2 + round, 5);
    }
    assert_true(GET(read_ahead_pages) > 0);
    assert_int_equal(rig_swap_in(1024, 128, 0), 0);
    assert_int_equal(rig_swap_in(1500, 128, 0), 0);
    rig_settle();
    assert_true(GET(read_ahead_wasted) >= GET(read_ahead_used));
    uint64_t ahead = GET(read_ahead_pages);
    for (int64_t round = 0; round < 8; round++) {
        walk((uint64_t)round * 100 + 500, 3 + round, 5);
    }
    assert_in_range(GET(read_ahead_pages) - ahead, 0, 8 * 2); // not three for each, as at first
    rig_stop();
}

static void stores_and_calls_are_touches(void **state)
{
    (void)state;
    start(CACHE, false, false);
    walk(0, 1, 8); // 0; 1 2; 3 to 6; 7 to 14: of these, four are closed
    rig_settle();
    uint64_t used = GET(read_ahead_used);
    unsigned closed = 0;
    uint64_t first = 0;
    for (uint64_t page = 0; page < 16; page++) {
        closed += rig_has(page, PAGE_AHEAD);
        first = closed == 1 && rig_has(page, PAGE_AHEAD) ? page : first;
    }
    assert_true(closed >= 2);
    rig_store(first, 77); // by a store,
    assert_true(GET(read_ahead_used) > used);
    used = GET(read_ahead_used);
    assert_int_equal(rig_swap_in(first + 1, 1, DSM_PIN), 0); // and by a call
    assert_int_equal(pager_unpin(&rig.segments[0], first + 1, 1), 0);
    assert_false(rig_has(first + 1, PAGE_AHEAD));
    assert_true(GET(read_ahead_used) > used);
    rig_expect_page(first, 77);
    rig_expect_page(first + 1, rig_first_stamp(first + 1));
    rig_stop();
}

// With the laundry at work, a long walk over more than the cache holds finds frames free, and evicts nothing for a guess.
static void a_long_walk_with_the_laundry(void **state)
{
    (void)state;
    start(128, false, true);
    for (uint64_t page = 0; page < PAGES; page++) {
        rig_expect_page(page, rig_first_stamp(page));
    }
    rig_settle();
    assert_true(GET(read_ahead_used) > PAGES / 4);
    rig_stop();
}

// A window larger than what the laundry keeps free is not cut short, or each one would end in a fault.
static void a_walk_does_not_break_off_where_memory_is_full(void **state)
{
    (void)state;
    start(CACHE, false, true);
    walk(0, 1, PAGES);
    assert_in_range(GET(faults_read), 2, 8);
    assert_in_range(GET(victims), PAGES - CACHE - CACHE / 8, PAGES);
    rig_stop();
}

// The laundry keeps memory free for pages that may come. Where every page has its own, none has to go for that.
static void where_all_fits_nothing_goes(void **state)
{
    (void)state;
    start(PAGES, false, true);
    for (int round = 0; round < 3; round++) {
        for (uint64_t page = 0; page < PAGES; page++) {
            rig_expect_page(page, rig_first_stamp(page));
        }
        rig_settle();
    }
    assert_int_equal(GET(victims), 0);
    assert_int_equal(GET(resident_bytes), (uint64_t)PAGES * RIG_PAGE);
    rig_stop();
}

// Nor much where all but two pages have: of many touches here and there, few meet a page that had to go.
static void where_nearly_all_fits_little_goes(void **state)
{
    (void)state;
    enum { TOUCHES = 8 * PAGES };
    start(PAGES - 2, false, true);
    uint64_t random = 42;
    for (int touch = 0; touch < TOUCHES; touch++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        uint64_t page = random % PAGES;
        rig_expect_page(page, rig_first_stamp(page));
    }
    rig_settle();
    assert_in_range(GET(victims), 2, TOUCHES / 100);
    rig_stop();
}

// A walk whose next touch is the marker, which asks for the next window. The marker's page.
static uint64_t walk_to_marker(void)
{
    enum { TOUCHES = 200 };
    start(CACHE, false, false);
    walk(0, 1, TOUCHES);
    uint64_t marker = TOUCHES;
    while (!rig_has(marker, PAGE_AHEAD)) {
        marker++;
    }
    return marker;
}

// A touch whose time is over before it begins, as its handler sees it.
static enum trap_verdict touch_too_late(uint64_t page, bool write)
{
    int64_t timeout_ms = rig.pager.options.fault_timeout_ms;
    rig.pager.options.fault_timeout_ms = -1;
    sync_mask mask = sync_block_signals();
    enum trap_verdict verdict = pager_fault(&(struct trap_fault){
        .address = (uintptr_t)rig_at(page),
        .write = write,
        .mask = &mask,
    });
    sync_restore_signals(mask);
    rig.pager.options.fault_timeout_ms = timeout_ms;
    return verdict;
}

// Nothing is kept for the touch that gave up, and the one that comes after it asks for the window.
static void expect_the_next_window(uint64_t marker)
{
    rig_settle();
    uint64_t ahead = GET(read_ahead_pages);
    rig_expect_page(marker, rig_first_stamp(marker));
    rig_settle();
    assert_true(GET(read_ahead_pages) > ahead);
    rig_stop();
}

static void a_touch_gives_up_where_no_page_can_be_opened(void **state)
{
    (void)state;
    for (int write = 0; write < 2; write++) {
        uint64_t marker = walk_to_marker();
        atomic_store(&rig.protects_fail, 1 << 20);
        assert_int_equal(touch_too_late(marker, write != 0), TRAP_FAILED);
        atomic_store(&rig.protects_fail, 0);
        expect_the_next_window(marker);
    }
}

static void *clean_all(void *none)
{
    (void)none;
    assert_int_equal(rig_clean(0, PAGES), 0);
    return NULL;
}

// Between two changed pages it is written with them, and a store waits for that.
static void a_store_gives_up_while_the_page_is_written(void **state)
{
    (void)state;
    uint64_t marker = walk_to_marker();
    rig_store(marker - 1, 77);
    rig_store(marker + 1, 78);
    rig_settle();
    assert_true(rig_has(marker, PAGE_AHEAD));
    pthread_t cleaner;
    atomic_store(&rig.hold, 1);
    assert_int_equal(pthread_create(&cleaner, NULL, clean_all, NULL), 0);
    rig_await(&rig.held, 1);
    assert_int_equal(rig_state(marker), PAGE_WRITING);
    assert_int_equal(touch_too_late(marker, true), TRAP_FAILED);
    rig_release(&rig.hold);
    (void)pthread_join(cleaner, NULL);
    expect_the_next_window(marker);
}

#define TEST(name) cmocka_unit_test_teardown(name, rig_cmocka_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(strides_and_backwards),
        TEST(the_next_window_is_fetched_in_time),
        TEST(of_a_trusted_window_only_the_marker_is_closed),
        TEST(used_and_wasted_are_exact),
        TEST(a_guess_takes_free_frames_only),
        TEST(unused_pages_go_and_shrink_the_window),
        TEST(stores_and_calls_are_touches),
        TEST(a_long_walk_with_the_laundry),
        TEST(a_walk_does_not_break_off_where_memory_is_full),
        TEST(where_all_fits_nothing_goes),
        TEST(where_nearly_all_fits_little_goes),
        TEST(a_touch_gives_up_where_no_page_can_be_opened),
        TEST(a_store_gives_up_while_the_page_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
