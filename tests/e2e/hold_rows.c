// SPDX-License-Identifier: Apache-2.0
//
// Rows of Cedar's operations that need no more than one session: State, Age, Unpin, kill, and what an interval must be. Through
// the public interface, against a dsmd in another process.
#include <pthread.h>
#include <stdatomic.h>

#include "tests/e2e/hold_rig.h"

enum { CACHE = 1 * MIB, FRAMES = CACHE / PAGE, PAGES = 8 * FRAMES };

static dsm *session;
static dsm_segment *segment, *other;

static void begin(uint64_t cache)
{
    session = hold_open(cache);
    segment = hold_create(session, "rows", PAGES, PAGE);
    other = hold_create(session, "other", PAGES, PAGE);
}

static void fill(void)
{
    hold_fill_all(segment, 1);
    OK(dsm_clean(segment, hold_all(segment), NULL));
}

static dsm_interval pages(uint64_t page, uint64_t count)
{
    return (dsm_interval){.page = page, .count = count};
}

static void is(uint64_t page, enum dsm_data data, int resident, int needs_cleaning, unsigned pins)
{
    dsm_page_info info = hold_state(segment, page);
    CHECK(info.data == data && info.resident == resident && info.needs_cleaning == needs_cleaning &&
              info.pin_count == pins,
          "page %lu is data %d, resident %d, needs cleaning %d, pins %u", (unsigned long)page,
          (int)info.data, info.resident, info.needs_cleaning, info.pin_count);
    CHECK(info.lost == 0);
}

// ---- State ----

static void run_state(void)
{
    begin(CACHE);
    is(3, DSM_DATA_UNDEFINED, 0, 0, 0); // nobody ever wrote
    CHECK(*(volatile uint64_t *)hold_at(segment, 3) == 0);
    is(3, DSM_DATA_UNDEFINED, 1, 0, 0);
    hold_fill(segment, 3, 1);
    is(3, DSM_DATA_CHANGED, 1, 1, 0);
    OK(dsm_clean(segment, pages(3, 1), NULL));
    is(3, DSM_DATA_CHANGED, 1, 0, 0);
    hold_evict(segment, other);
    is(3, DSM_DATA_CHANGED, 0, 0, 0);
    OK(dsm_swap_in(segment, pages(3, 1), DSM_PIN, DSM_NO_PAGE));
    is(3, DSM_DATA_CHANGED, 1, 0, 1);
    OK(dsm_unpin(segment, pages(3, 1)));
    OK(dsm_segment_close(segment));
    segment = hold_segment(session, "rows", 0); // since this opening nobody stored
    is(3, DSM_DATA_UNCHANGED, 0, 0, 0);
    CHECK(hold_holds(segment, 3, 1));
    is(3, DSM_DATA_UNCHANGED, 1, 0, 0);
    OK(dsm_swap_in(segment, pages(3, 1), DSM_WRITE, DSM_NO_PAGE));
    is(3, DSM_DATA_CHANGED, 1, 1, 0);
    dsm_page_info info;
    RESULT(dsm_page_state(segment, PAGES, &info), -EFAULT);
    CHECK(dsm_error()->page == PAGES);
    hold_close(session);
}

static atomic_int at_work;

static void *touch(void *argument)
{
    uint64_t seed = (uint64_t)(uintptr_t)argument;
    for (int i = 0; i < 15000; i++) {
        uint64_t page = 8 + hold_random(&seed) % (PAGES - 8);
        uint64_t *at = (uint64_t *)hold_at(segment, page) + (uintptr_t)argument;
        if (i % 4 == 0) {
            *at += 1;
        } else {
            (void)*(volatile uint64_t *)at;
        }
    }
    atomic_fetch_sub(&at_work, 1);
    return NULL;
}

// What cannot be is never told, whatever faults, victims and cleans go on.
static void run_state_concurrent(void)
{
    begin(CACHE);
    fill();
    OK(dsm_swap_in(segment, pages(0, 1), DSM_PIN | DSM_WRITE, DSM_NO_PAGE));
    OK(dsm_set_data_state(segment, pages(1, 1), DSM_DATA_UNCHANGED));
    OK(dsm_set_data_state(segment, pages(2, 1), DSM_DATA_NONE));
    OK(dsm_make_read_only(segment, pages(3, 1)));
    pthread_t threads[2];
    at_work = 2;
    for (uintptr_t i = 0; i < 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, touch, (void *)(i + 1)) == 0);
    }
    uint64_t seed = 5;
    uint64_t looks = 0;
    for (; atomic_load(&at_work) > 0 || looks == 0; looks++) {
        dsm_page_info info = hold_state(segment, hold_random(&seed) % PAGES);
        CHECK(info.resident || !info.needs_cleaning, "needs cleaning and is not in memory");
        CHECK(info.data == DSM_DATA_CHANGED || !info.needs_cleaning,
              "needs cleaning and nobody changed it");
        is(0, DSM_DATA_CHANGED, 1, 1, 1);
        is(2, DSM_DATA_NONE, 0, 0, 0);
        CHECK(hold_state(segment, 1).data == DSM_DATA_UNCHANGED);
        CHECK(hold_state(segment, 3).read_only == 1);
        if (looks % 64 == 0) {
            OK(dsm_clean(segment, pages(8, 200), NULL));
        }
    }
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    CHECK(hold_holds(segment, 1, 1));
    OK(dsm_unpin(segment, pages(0, 1)));
    hold_close(session);
}

// ---- Age: 16 frames, no second chance, nothing is taken before it is needed ----

static void run_age(void)
{
    enum { FEW = 16 };
    static const uint64_t order[] = {9, 2, 14, 5, 0};
    session = hold_open(FEW * PAGE);
    segment = hold_create(session, "rows", PAGES, PAGE);
    hold_fill_all(segment, 1);
    OK(dsm_clean(segment, hold_all(segment), NULL));
    OK(dsm_swap_in(segment, pages(0, FEW), DSM_PIN, DSM_NO_PAGE)); // so none drives another out
    OK(dsm_unpin(segment, pages(0, FEW)));
    OK(dsm_swap_in(segment, pages(3, 1), DSM_PIN, DSM_NO_PAGE));
    dsm_statistics before = hold_stats(session);
    for (int i = 0; i < 5; i++) {
        OK(dsm_age(segment, pages(order[i], 1)));
        is(order[i], DSM_DATA_CHANGED, 1, 0, 0); // no visible effect
    }
    OK(dsm_age(segment, pages(3, 1)));   // pinned: left alone
    OK(dsm_age(segment, pages(100, 4))); // absent, too
    CHECK(hold_stats(session).read_requests == before.read_requests, "it did I/O");
    for (uint64_t i = 0; i < 5; i++) {
        OK(dsm_swap_in(segment, pages(1000 + i, 1), 0, DSM_NO_PAGE));
        for (uint64_t k = 0; k < 5; k++) {
            CHECK(hold_state(segment, order[k]).resident == (k > i),
                  "after %lu victims page %lu %s", (unsigned long)i + 1, (unsigned long)order[k],
                  k > i ? "is gone" : "is there");
        }
    }
    for (uint64_t page = 1; page < FEW; page++) {
        bool aged = page == 9 || page == 2 || page == 14 || page == 5;
        CHECK(hold_state(segment, page).resident == !aged, "page %lu", (unsigned long)page);
    }
    RESULT(dsm_age(segment, pages(PAGES - 1, 2)), -EFAULT);
    CHECK(dsm_error()->page == PAGES);
    OK(dsm_unpin(segment, pages(3, 1)));
    hold_close(session);
}

// ---- Unpin ----

static void press(void)
{
    for (uint64_t page = 0; page < PAGES; page++) {
        (void)*(volatile uint64_t *)hold_at(other, page);
    }
}

static void run_unpin(void)
{
    begin(CACHE);
    fill();
    OK(dsm_unpin(segment, pages(0, PAGES))); // at zero it has no effect
    for (int i = 0; i < 3; i++) {
        OK(dsm_swap_in(segment, pages(4, 2), DSM_PIN, DSM_NO_PAGE));
    }
    press();
    for (int left = 2; left >= 0; left--) {
        CHECK(hold_state(segment, 4).resident == 1, "a pinned page went");
        OK(dsm_unpin(segment, pages(3, 3))); // 3 is not pinned
        CHECK(hold_state(segment, 4).pin_count == (unsigned)left &&
              hold_state(segment, 5).pin_count == (unsigned)left &&
              hold_state(segment, 3).pin_count == 0);
        if (left > 0) {
            press();
        }
    }
    OK(dsm_unpin(segment, pages(4, 2)));
    CHECK(hold_state(segment, 4).pin_count == 0, "below zero");
    press();
    CHECK(hold_state(segment, 4).resident == 0, "the last unpin does not make it evictable");
    RESULT(dsm_unpin(segment, pages(PAGES, 1)), -EFAULT);
    hold_close(session);
}

// ---- kill ----

static void zeros(uint64_t page)
{
    const uint64_t *at = hold_at(segment, page);
    for (int i = 0; i < PAGE / 8; i++) {
        CHECK(at[i] == 0, "page %lu shows %#lx", (unsigned long)page, (unsigned long)at[i]);
    }
}

static void run_kill(void)
{
    begin(CACHE);
    fill();
    hold_evict(segment, other);
    uint64_t absent = hold_absent(segment, 4);
    hold_fill(segment, 2, 7); // in and dirty
    OK(dsm_swap_in(segment, pages(3, 1), 0, DSM_NO_PAGE));
    dsm_statistics before = hold_stats(session);
    OK(dsm_swap_in(segment, pages(2, 2), DSM_KILL, DSM_NO_PAGE));
    OK(dsm_swap_in(segment, pages(absent, 1), DSM_KILL, DSM_NO_PAGE));
    dsm_statistics after = hold_stats(session);
    CHECK(after.read_requests == before.read_requests &&
              after.write_requests == before.write_requests,
          "a kill made requests");
    CHECK(after.swap_in_already_in - before.swap_in_already_in == 2 &&
          after.swap_in_no_read - before.swap_in_no_read == 1);
    const uint64_t killed[] = {2, 3, absent};
    for (int i = 0; i < 3; i++) {
        is(killed[i], DSM_DATA_UNDEFINED, 1, 0, 0);
        zeros(killed[i]);
        is(killed[i], DSM_DATA_UNDEFINED, 1, 0, 0);
    }
    hold_evict(segment, other);
    CHECK(hold_stats(session).clean_writes == after.clean_writes, "a killed page was written");
    zeros(2);
    hold_fill(segment, 3, 8); // a store makes it changed
    is(3, DSM_DATA_CHANGED, 1, 1, 0);
    OK(dsm_make_read_only(segment, pages(12, 1)));
    RESULT(dsm_swap_in(segment, pages(10, 4), DSM_KILL, DSM_NO_PAGE), -EROFS);
    CHECK(dsm_error()->page == 12);
    is(10, DSM_DATA_UNDEFINED, 1, 0, 0); // those before it stay killed
    is(11, DSM_DATA_UNDEFINED, 1, 0, 0);
    CHECK(hold_holds(segment, 12, 1) && hold_holds(segment, 13, 1));
    hold_evict(segment, other);
    CHECK(hold_holds(segment, 3, 8));
    hold_close_after_errors(session);
}

// ---- ValidateInterval ----

typedef int operation(dsm_interval interval);
static int swap_in(dsm_interval interval)
{
    return dsm_swap_in(segment, interval, DSM_PIN, DSM_NO_PAGE);
}
static int kill_pages(dsm_interval interval)
{
    return dsm_swap_in(segment, interval, DSM_KILL, DSM_NO_PAGE);
}
static int unpin(dsm_interval interval)
{
    return dsm_unpin(segment, interval);
}
static int clean(dsm_interval interval)
{
    return dsm_clean(segment, interval, NULL);
}
static int age(dsm_interval interval)
{
    return dsm_age(segment, interval);
}
static int read_only(dsm_interval interval)
{
    return dsm_make_read_only(segment, interval);
}
static int read_write(dsm_interval interval)
{
    return dsm_make_read_write(segment, interval);
}
static int none(dsm_interval interval)
{
    return dsm_set_data_state(segment, interval, DSM_DATA_NONE);
}
static int undefined(dsm_interval interval)
{
    return dsm_set_data_state(segment, interval, DSM_DATA_UNDEFINED);
}
static int changed(dsm_interval interval)
{
    return dsm_set_data_state(segment, interval, DSM_DATA_CHANGED);
}

static void run_interval(void)
{
    static operation *const operations[] = {swap_in,   kill_pages, unpin, clean,     age,
                                            read_only, read_write, none,  undefined, changed};
    static const dsm_interval beyond[] = {
        {PAGES - 1, 2},          {PAGES, 1}, {PAGES + 1, 0},  {0, PAGES + 1},  {1, UINT64_MAX},
        {PAGES - 1, UINT64_MAX}, {2, -2ULL}, {UINT64_MAX, 0}, {UINT64_MAX, 1}, {-1ULL, -1ULL},
    };
    begin(CACHE);
    fill();
    OK(dsm_segment_close(segment));
    segment = hold_segment(session, "rows", 0);
    for (size_t o = 0; o < sizeof operations / sizeof operations[0]; o++) {
        for (size_t i = 0; i < sizeof beyond / sizeof beyond[0]; i++) {
            RESULT(operations[o](beyond[i]), -EFAULT);
            CHECK(dsm_error()->page == PAGES, "operation %zu interval %zu names page %lu", o, i,
                  (unsigned long)dsm_error()->page);
        }
        dsm_statistics before = hold_stats(session);
        OK(operations[o](pages(PAGES, 0)));
        OK(operations[o](pages(7, 0)));
        dsm_statistics after = hold_stats(session);
        CHECK(after.swap_in_calls - before.swap_in_calls == (o < 2 ? 2 : 0));
        CHECK(after.clean_calls - before.clean_calls == (o == 3 ? 2 : 0));
        CHECK(after.read_requests == before.read_requests &&
              after.swap_in_pages == before.swap_in_pages);
        is(PAGES - 1, DSM_DATA_UNCHANGED, 0, 0, 0); // nothing was changed
        is(1, DSM_DATA_UNCHANGED, 0, 0, 0);
        CHECK(hold_state(segment, 1).read_only == 0);
    }
    hold_close(session);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"state", run_state}, {"state-concurrent", run_state_concurrent},
        {"age", run_age},     {"unpin", run_unpin},
        {"kill", run_kill},   {"interval", run_interval},
    };
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
