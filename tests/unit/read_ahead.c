// SPDX-License-Identifier: Apache-2.0
//
// Read-ahead: page numbers in, page numbers out, held against the bounds that the product promises.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "libdsm/policy/read_ahead.h"

static uint64_t seed;

static uint64_t below(uint64_t bound)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % bound;
}

enum { MOST = 256, PAGES = 65536, THREAD = 1 };

// Pages that come with this one.
static uint32_t window(struct read_ahead *r, uint64_t page, uint32_t most)
{
    return read_ahead_fault(r, THREAD, page, most, PAGES).count + 1;
}

static void a_sequential_scan_takes_few_runs(void **state)
{
    (void)state;
    static const uint32_t most[] = {256, 64, 32};
    for (size_t m = 0; m < sizeof most / sizeof most[0]; m++) {
        struct read_ahead r;
        read_ahead_start(&r);
        unsigned runs = 0;
        for (uint64_t page = 0; page < PAGES; runs++) {
            uint32_t n = window(&r, page, most[m]);
            assert_in_range(n, 1, most[m]);
            page += n;
        }
        assert_in_range(runs, 1, PAGES / 32 + 8); // doubling up to there takes a few
        assert_true(most[m] == 32 || runs <= PAGES / 32);
    }
}

static void random_pages_cost_one(void **state)
{
    (void)state;
    struct read_ahead r;
    uint64_t fetched = 0;
    enum { FAULTS = 100000 };
    read_ahead_start(&r);
    seed = 42;
    for (int i = 0; i < FAULTS; i++) {
        fetched += window(&r, below(PAGES), MOST);
    }
    assert_in_range(fetched, FAULTS, FAULTS * 11 / 10);
}

// What a scan has built up is gone soon after it ends: random faults that follow do not pay for it.
static void it_shrinks(void **state)
{
    (void)state;
    struct read_ahead r;
    read_ahead_start(&r);
    uint64_t page = 0;
    while (page < 4096) {
        page += window(&r, page, MOST);
    }
    uint64_t fetched = 0;
    seed = 7;
    for (int i = 0; i < 1000; i++) {
        fetched += window(&r, below(PAGES), MOST);
    }
    assert_in_range(fetched, 1000, 1100 + 2 * MOST);
}

static void sixteen_streams_side_by_side(void **state)
{
    (void)state;
    struct read_ahead r;
    uint64_t at[READ_AHEAD_STREAMS];
    read_ahead_start(&r);
    for (uint64_t s = 0; s < READ_AHEAD_STREAMS; s++) {
        at[s] = s << 32;
    }
    seed = 3;
    for (int round = 0; round < 12; round++) {
        uint64_t first = below(READ_AHEAD_STREAMS); // not always in the same order
        for (uint64_t i = 0; i < READ_AHEAD_STREAMS; i++) {
            uint64_t s = (first + i) % READ_AHEAD_STREAMS;
            uint32_t n = read_ahead_fault(&r, THREAD, at[s], MOST, 1ull << 40).count + 1;
            assert_int_equal(n, round < 8 ? 1 << round : MOST);
            at[s] += n;
        }
    }
}

// A run that ends early (the next page is in already) goes on right behind it.
static void a_trimmed_run_goes_on(void **state)
{
    (void)state;
    struct read_ahead r;
    read_ahead_start(&r);
    assert_int_equal(window(&r, 0, MOST), 1);
    assert_int_equal(window(&r, 1, MOST), 2);
    assert_int_equal(window(&r, 3, MOST), 4);
    read_ahead_trim(&r, 1);
    assert_int_equal(window(&r, 5, MOST), 4);
    assert_int_equal(window(&r, 9 + 2, MOST), 8); // some pages were in
    assert_int_equal(window(&r, PAGES - 1, 1), 1);
}

// Faults of a walk until it has a window; what the plan of that fault is.
static struct read_ahead_plan walk(struct read_ahead *r, uint32_t thread, uint64_t *page,
                                   int64_t stride, unsigned *faults)
{
    struct read_ahead_plan plan = {.count = 0};
    for (*faults = 0; plan.count == 0 && *faults < 20; ++*faults) {
        *page += (uint64_t)stride;
        plan = read_ahead_fault(r, thread, *page, MOST, PAGES);
    }
    return plan;
}

static void a_stride_is_seen_after_five_faults(void **state)
{
    (void)state;
    static const int64_t strides[] = {-1, 2, -2, 3, 17, -100, 1000};
    for (size_t i = 0; i < sizeof strides / sizeof strides[0]; i++) {
        struct read_ahead r;
        read_ahead_start(&r);
        int64_t stride = strides[i];
        uint64_t page = PAGES / 2;
        unsigned faults;
        struct read_ahead_plan plan = walk(&r, THREAD, &page, stride, &faults);
        assert_int_equal(faults, 5); // the first has nothing before it
        assert_int_equal(plan.stride, stride);
        assert_int_equal(plan.page, page + (uint64_t)stride);
        assert_int_equal(plan.count, 3);
        assert_int_equal(plan.open, 0); // nothing was confirmed yet
        // The fault behind the window doubles it, up to its bound, and within the segment.
        page += (uint64_t)stride * 4;
        plan = read_ahead_fault(&r, THREAD, page, MOST, PAGES);
        assert_int_equal(plan.count, 7);
        assert_int_equal(plan.open, 4);
        for (int more = 0; more < 8 && page < PAGES; more++) {
            page += (uint64_t)stride * (plan.count + 1);
            if (page < PAGES) {
                plan = read_ahead_fault(&r, THREAD, page, MOST, PAGES);
                uint64_t last = plan.page + (uint64_t)stride * plan.count - (uint64_t)stride;
                assert_true(last < PAGES);
                assert_in_range(plan.count + 1, 1, stride == -1 ? MOST : READ_AHEAD_STRIDED_MOST);
            }
        }
    }
}

// One fault in four is elsewhere: most of the distances still agree in the end, and no wrong stride is ever taken.
static void noise_does_not_hide_a_trend(void **state)
{
    (void)state;
    struct read_ahead r;
    read_ahead_start(&r);
    seed = 11;
    uint64_t page = 100;
    unsigned right = 0;
    for (unsigned i = 0; i < 400 && page < PAGES - 4096; i++) {
        if (i % 8 == 7) {
            (void)read_ahead_fault(&r, THREAD, below(PAGES), MOST, PAGES);
            continue;
        }
        struct read_ahead_plan plan = read_ahead_fault(&r, THREAD, page, MOST, PAGES);
        assert_true(plan.count == 0 || plan.stride == 5);
        right += plan.count;
        page += 5 * (plan.count + 1ull);
    }
    assert_true(right > 1000);
}

static void each_thread_has_its_own_trend(void **state)
{
    (void)state;
    struct read_ahead r;
    read_ahead_start(&r);
    enum { THREADS = 8 };
    unsigned found = 0;
    for (uint64_t i = 0; i < 5; i++) {
        for (uint32_t t = 0; t < THREADS; t++) {
            uint64_t page = t * 8192ull + i * (t + 2);
            struct read_ahead_plan plan = read_ahead_fault(&r, 100 + t, page, MOST, PAGES);
            found += plan.count > 0;
            assert_true(plan.count == 0 || plan.stride == t + 2);
        }
    }
    assert_int_equal(found, THREADS);
}

// A walk from the segment's start, until its window has so many pages.
static void grow_to(struct read_ahead *r, uint32_t pages)
{
    uint64_t page = 0;
    while (window(r, page, MOST) < pages) {
        page = r->streams[r->last].next;
    }
}

// Left closed, a window's touches open twice as many each time, stop at the marker, and there ask for the next window.
static void touches_open_more_and_ask_in_time(void **state)
{
    (void)state;
    struct read_ahead r;
    struct read_ahead_plan next;
    int64_t stride;
    read_ahead_start(&r);
    grow_to(&r, 32);
    uint64_t from = r.streams[r.last].from;
    uint64_t marker = r.streams[r.last].marker;
    uint64_t end = r.streams[r.last].next;
    assert_int_equal(marker, from + 16);
    assert_int_equal(read_ahead_touched(&r, from + 1, MOST, PAGES, &stride, &next), 1);
    assert_int_equal(read_ahead_touched(&r, from + 2, MOST, PAGES, &stride, &next), 2);
    assert_int_equal(read_ahead_touched(&r, from + 4, MOST, PAGES, &stride, &next), 4);
    assert_int_equal(read_ahead_touched(&r, from + 14, MOST, PAGES, &stride, &next), 2);
    assert_int_equal(next.count, 0);
    assert_int_equal(stride, 1);
    assert_true(read_ahead_touched(&r, marker, MOST, PAGES, &stride, &next) >= 1);
    assert_int_equal(next.page, end);
    assert_int_equal(next.count, 64);
    assert_int_equal(next.open, 32);
    assert_int_equal(next.marker, end + 32);
    // Where that window did not come, the walk's fault is no stranger, and the window does not grow.
    assert_int_equal(window(&r, end, MOST), 64);
    assert_int_equal(read_ahead_touched(&r, 60000, MOST, PAGES, &stride, &next), 1); // no stream's
    assert_int_equal(next.count, 0);
}

// While windows grow, half of one is left when the next is asked for; of windows that cannot grow, nearly all of it.
static void a_long_walk_asks_early(void **state)
{
    (void)state;
    struct read_ahead r;
    struct read_ahead_plan next;
    int64_t stride;
    read_ahead_start(&r);
    grow_to(&r, MOST / 2);
    uint64_t marker = r.streams[r.last].marker;
    (void)read_ahead_touched(&r, marker, MOST, PAGES, &stride, &next);
    assert_int_equal(next.count, MOST);
    assert_int_equal(next.marker, next.page + MOST / 2);
    for (int i = 0; i < 3; i++) {
        uint64_t end = next.page + MOST;
        (void)read_ahead_touched(&r, next.marker, MOST, PAGES, &stride, &next);
        assert_int_equal(next.page, end);
        assert_int_equal(next.count, MOST);
        assert_int_equal(next.marker, end + MOST / 8);
    }
}

static void waste_shrinks_the_window(void **state)
{
    (void)state;
    struct read_ahead r;
    read_ahead_start(&r);
    uint64_t page = 0;
    uint32_t n = 0;
    while (n < 64) {
        n = window(&r, page, MOST);
        page += n;
    }
    read_ahead_wasted(&r, 100);
    for (uint32_t expected = 32; expected >= 8; expected /= 2) {
        struct read_ahead_plan plan = read_ahead_fault(&r, THREAD, page, MOST, PAGES);
        assert_int_equal(plan.count + 1, expected);
        assert_int_equal(plan.open, 0);
        page += plan.count + 1;
    }
    read_ahead_used(&r, 1000);
    assert_int_equal(window(&r, page, MOST), 16);
}

// A few pages that were fetched for nothing, long ago, do not keep a walk from its windows.
static void a_little_waste_is_forgotten(void **state)
{
    (void)state;
    for (uint32_t wasted = 1; wasted < 100; wasted++) {
        struct read_ahead r;
        read_ahead_start(&r);
        read_ahead_wasted(&r, wasted);
        uint64_t page = 0;
        for (int fault = 0; fault < 40; fault++) {
            page += window(&r, page, MOST);
        }
        assert_int_equal(window(&r, page, MOST), MOST);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sequential_scan_takes_few_runs),
        cmocka_unit_test(random_pages_cost_one),
        cmocka_unit_test(it_shrinks),
        cmocka_unit_test(sixteen_streams_side_by_side),
        cmocka_unit_test(a_trimmed_run_goes_on),
        cmocka_unit_test(a_stride_is_seen_after_five_faults),
        cmocka_unit_test(noise_does_not_hide_a_trend),
        cmocka_unit_test(each_thread_has_its_own_trend),
        cmocka_unit_test(touches_open_more_and_ask_in_time),
        cmocka_unit_test(a_long_walk_asks_early),
        cmocka_unit_test(waste_shrinks_the_window),
        cmocka_unit_test(a_little_waste_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
