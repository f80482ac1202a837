// SPDX-License-Identifier: Apache-2.0
//
// What the program says of its pages: data states, read-only, age, pins and kills, through the public interface, against a
// dsmd in another process. One role for each row of Cedar's operations; the figures of the server are its own.
#include <pthread.h>
#include <unistd.h>

#include "tests/e2e/hold_rig.h"

enum { CACHE = 1 * MIB, PAGES = 8 * CACHE / PAGE };

static dsm *session;
static dsm_segment *segment, *other;

static void begin(void)
{
    session = hold_open(CACHE);
    segment = hold_create(session, "states", PAGES, PAGE);
    other = hold_create(session, "other", PAGES, PAGE);
    hold_fill_all(segment, 1);
    OK(dsm_clean(segment, hold_all(segment), NULL));
}

static void end(void)
{
    hold_close_after_errors(session);
}

static dsm_interval pages(uint64_t page, uint64_t count)
{
    return (dsm_interval){.page = page, .count = count};
}

static enum dsm_data data_of(uint64_t page)
{
    return hold_state(segment, page).data;
}

static void check_zeros(uint64_t page)
{
    const uint64_t *at = hold_at(segment, page);
    for (int i = 0; i < PAGE / 8; i++) {
        CHECK(at[i] == 0, "page %lu is not zeros", (unsigned long)page);
    }
}

// ---- SetDataState ----

static void run_undefined(void)
{
    begin();
    OK(dsm_swap_in(segment, pages(0, 4), DSM_WRITE, DSM_NO_PAGE)); // in and dirty
    dsm_statistics before = hold_stats(session);
    OK(dsm_set_data_state(segment, pages(0, 8), DSM_DATA_UNDEFINED));
    dsm_statistics after = hold_stats(session);
    CHECK(before.read_requests == after.read_requests &&
              before.write_requests == after.write_requests,
          "giving contents up made requests");
    CHECK(after.resident_bytes < before.resident_bytes, "no frame came back");
    for (uint64_t page = 0; page < 8; page++) {
        CHECK(data_of(page) == DSM_DATA_UNDEFINED && hold_state(segment, page).resident == 0);
    }
    for (uint64_t page = 0; page < 8; page++) {
        check_zeros(page);
        CHECK(data_of(page) == DSM_DATA_UNDEFINED, "a load changed the mark");
    }
    CHECK(hold_stats(session).swap_in_no_read - after.swap_in_no_read == 8);
    *(uint64_t *)hold_at(segment, 3) = 7;
    CHECK(data_of(3) == DSM_DATA_CHANGED, "the first store does not count");
    CHECK(hold_holds(segment, 8, 1));
    end();
}

static void run_unchanged(void)
{
    begin();
    hold_fill(segment, 5, 2); // dirty
    CHECK(data_of(5) == DSM_DATA_CHANGED);
    OK(dsm_set_data_state(segment, pages(5, 1), DSM_DATA_UNCHANGED));
    CHECK(data_of(5) == DSM_DATA_UNCHANGED && hold_state(segment, 5).needs_cleaning == 1,
          "the mark is not the page's need");
    hold_evict(segment, other);
    CHECK(hold_state(segment, 5).resident == 0 && data_of(5) == DSM_DATA_UNCHANGED,
          "an eviction touched the mark");
    CHECK(hold_holds(segment, 5, 2), "a dirty page told unchanged lost its bytes");
    CHECK(data_of(5) == DSM_DATA_UNCHANGED);
    *(uint64_t *)hold_at(segment, 5) += 1;
    CHECK(data_of(5) == DSM_DATA_CHANGED, "the first store does not count");
    OK(dsm_set_data_state(segment, pages(7, 1), DSM_DATA_UNDEFINED));
    OK(dsm_set_data_state(segment, pages(7, 1), DSM_DATA_UNCHANGED));
    CHECK(data_of(7) == DSM_DATA_UNCHANGED);
    check_zeros(7);
    hold_evict(segment, other);
    CHECK(data_of(7) == DSM_DATA_UNCHANGED, "an eviction touched the mark");
    end();
}

static void run_changed(void)
{
    begin();
    dsm_statistics before = hold_stats(session);
    uint64_t absent = hold_absent(segment, 20);
    OK(dsm_set_data_state(segment, pages(6, 1), DSM_DATA_CHANGED));
    OK(dsm_set_data_state(segment, pages(absent, 1), DSM_DATA_CHANGED));
    CHECK(data_of(6) == DSM_DATA_CHANGED && data_of(absent) == DSM_DATA_CHANGED);
    CHECK(hold_state(segment, absent).resident == 0 && hold_state(segment, 6).needs_cleaning == 0,
          "a mark is a mark");
    CHECK(hold_stats(session).read_requests == before.read_requests, "it did I/O");
    OK(dsm_clean(segment, hold_all(segment), NULL));
    CHECK(data_of(6) == DSM_DATA_CHANGED, "a clean touched the mark");
    hold_evict(segment, other);
    CHECK(data_of(6) == DSM_DATA_CHANGED && hold_holds(segment, 6, 1));
    CHECK(hold_holds(segment, absent, 1));
    end();
}

static void check_gone(uint64_t page)
{
    struct hold_touch touch = hold_load(hold_at(segment, page));
    CHECK(touch.signal == SIGSEGV && touch.address == (uintptr_t)hold_at(segment, page),
          "signal %d at %#lx", touch.signal, (unsigned long)touch.address);
}

// The script compares what the server stores before and after.
static void run_none(void)
{
    hold_catch(SIGSEGV);
    begin();
    hold_say("full");
    hold_await("seen-full");
    OK(dsm_swap_in(segment, pages(0, 100), DSM_WRITE, DSM_NO_PAGE));
    OK(dsm_set_data_state(segment, pages(0, PAGES / 2), DSM_DATA_NONE));
    hold_say("half");
    hold_await("seen-half");
    CHECK(data_of(0) == DSM_DATA_NONE && data_of(PAGES / 2 - 1) == DSM_DATA_NONE);
    CHECK(data_of(PAGES / 2) == DSM_DATA_CHANGED || data_of(PAGES / 2) == DSM_DATA_UNCHANGED);
    check_gone(0);
    check_gone(PAGES / 2 - 1);
    RESULT(dsm_swap_in(segment, pages(PAGES / 2 - 2, 4), 0, DSM_NO_PAGE), -EFAULT);
    CHECK(dsm_error()->page == PAGES / 2 - 2, "page %lu", (unsigned long)dsm_error()->page);
    RESULT(dsm_clean(segment, pages(PAGES / 2 - 2, 4), NULL), -EFAULT);
    CHECK(dsm_error()->page == PAGES / 2 - 2);
    RESULT(dsm_set_data_state(segment, pages(PAGES / 2 - 2, 4), DSM_DATA_CHANGED), -EFAULT);
    RESULT(dsm_make_read_only(segment, pages(PAGES / 2 - 1, 2)), -EFAULT);
    CHECK(hold_state(segment, PAGES / 2).read_only == 0, "half of it was done");
    for (uint64_t page = PAGES / 2; page < PAGES; page++) {
        CHECK(hold_holds(segment, page, 1));
    }
    RESULT(dsm_age(segment, pages(PAGES / 2 - 1, 2)), -EFAULT);
    RESULT(dsm_unpin(segment, pages(PAGES / 2 - 1, 2)), -EFAULT);
    CHECK(dsm_error()->page == PAGES / 2 - 1);
    OK(dsm_set_data_state(segment, pages(0, 1), DSM_DATA_NONE)); // again
    OK(dsm_set_data_state(segment, pages(1, 2), DSM_DATA_UNDEFINED));
    check_zeros(1);
    hold_fill(segment, 2, 3);
    OK(dsm_segment_close(segment)); // pages that are none are no error
    hold_say("closed");
    hold_await("seen-closed"); // dsmd was started again
    segment = hold_segment(session, "states", 0);
    CHECK(data_of(0) == DSM_DATA_NONE && data_of(3) == DSM_DATA_NONE &&
              data_of(PAGES / 2 - 1) == DSM_DATA_NONE,
          "the next opening does not know");
    check_gone(0);
    check_gone(PAGES / 2 - 1);
    CHECK(hold_holds(segment, 2, 3) && hold_holds(segment, PAGES - 1, 1));
    check_zeros(1);
    OK(dsm_set_data_state(segment, pages(0, PAGES / 2), DSM_DATA_UNDEFINED));
    check_zeros(PAGES / 2 - 1);
    hold_say("whole");
    hold_await("seen-whole");
    end();
}

static void check_never_zeros(uint64_t from, uint64_t to)
{
    for (uint64_t page = from; page < to; page++) {
        struct hold_touch touch = hold_load(hold_at(segment, page));
        CHECK(touch.signal == SIGBUS || (touch.signal == 0 && hold_holds(segment, page, 1)),
              "page %lu: signal %d, %#lx", (unsigned long)page, touch.signal,
              (unsigned long)touch.value);
    }
}

// No answer comes, so whether the server did it is not known. What memory has it has still; what must come from the server does, or is
// a signal; and asked again, it is done.
static void run_none_late(void)
{
    enum { KEPT = 8, ASKED = 16 };
    hold_catch(SIGSEGV);
    hold_catch(SIGBUS);
    begin();
    hold_evict(segment, other);
    OK(dsm_swap_in(segment, pages(0, KEPT), 0, DSM_NO_PAGE));
    hold_say("pause");
    hold_await("paused");
    RESULT(dsm_set_data_state(segment, pages(0, ASKED), DSM_DATA_NONE), -ETIMEDOUT);
    for (uint64_t page = 0; page < KEPT; page++) {
        CHECK(hold_holds(segment, page, 1));
    }
    hold_say("continue");
    hold_await("continued");
    check_never_zeros(KEPT, ASKED);
    hold_evict(segment, other);
    check_never_zeros(0, ASKED);
    OK(dsm_set_data_state(segment, pages(0, ASKED), DSM_DATA_NONE));
    check_gone(0);
    check_gone(ASKED - 1);
    OK(dsm_set_data_state(segment, pages(0, ASKED), DSM_DATA_UNDEFINED));
    check_zeros(3);
    end();
}

// Space that was given up is another's; to have it again may be refused, and then nothing is changed.
static void run_room(void)
{
    int refused = strcmp(hold_setting("HOLD_REFUSED"), "quota") == 0 ? -EDQUOT : -ENOSPC;
    enum { LARGE = 20 * MIB / PAGE };
    session = hold_open(CACHE);
    segment = hold_create(session, "large", LARGE, PAGE);
    hold_fill(segment, LARGE - 1, 1);
    RESULT(dsm_segment_create(session, "second", 20 * MIB, PAGE, 0, &other), refused);
    OK(dsm_set_data_state(segment, pages(0, LARGE - 1), DSM_DATA_NONE));
    other = hold_create(session, "second", LARGE, PAGE);
    RESULT(dsm_set_data_state(segment, pages(0, LARGE), DSM_DATA_UNDEFINED), refused);
    printf("%s\n", dsm_error()->text);
    CHECK(data_of(0) == DSM_DATA_NONE && data_of(LARGE - 2) == DSM_DATA_NONE);
    CHECK(hold_holds(segment, LARGE - 1, 1), "half of it was done");
    OK(dsm_set_data_state(segment, pages(100, 64), DSM_DATA_UNDEFINED)); // for less there is room
    hold_fill(segment, 101, 2);
    OK(dsm_clean(segment, pages(100, 64), NULL));
    OK(dsm_segment_close(other));
    OK(dsm_segment_delete(session, "second"));
    OK(dsm_set_data_state(segment, pages(0, LARGE - 1), DSM_DATA_UNDEFINED));
    check_zeros(101);
    end();
}

// dsmd is killed on the way; the call succeeds all the same.
static void run_killed(void)
{
    session = hold_open(CACHE);
    segment = hold_create(session, "states", PAGES, PAGE);
    other = hold_create(session, "other", PAGES, PAGE);
    hold_fill_all(segment, 1);
    OK(dsm_clean(segment, hold_all(segment), NULL));
    OK(dsm_set_data_state(segment, pages(10, 1000), DSM_DATA_NONE));
    OK(dsm_set_data_state(segment, pages(500, 100), DSM_DATA_UNDEFINED));
    hold_fill(segment, 599, 2);
    OK(dsm_clean(segment, pages(500, 100), NULL));
    hold_await("killed");
    OK(dsm_segment_close(segment));
    segment = hold_segment(session, "states", 0);
    for (uint64_t page = 0; page < PAGES; page++) {
        bool none = page >= 10 && page < 1010 && !(page >= 500 && page < 600);
        CHECK((data_of(page) == DSM_DATA_NONE) == none, "page %lu", (unsigned long)page);
        CHECK((page >= 10 && page < 1010) || hold_holds(segment, page, 1));
    }
    check_zeros(500);
    CHECK(hold_holds(segment, 599, 2));
    end();
}

// Pages given up and had again by one thread while others touch their neighbours, and are never hurt.
static _Atomic int busy;

static void *touch_neighbours(void *argument)
{
    uint64_t seed = (uint64_t)(uintptr_t)argument;
    while (busy != 0) {
        uint64_t page = 64 + hold_random(&seed) % (PAGES - 64);
        CHECK(hold_holds(segment, page, 1), "page %lu", (unsigned long)page);
    }
    return NULL;
}

static void run_again_and_again(void)
{
    begin();
    pthread_t threads[2];
    busy = 1;
    for (uintptr_t i = 0; i < 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, touch_neighbours, (void *)(i + 1)) == 0);
    }
    for (int round = 0; round < 150; round++) {
        OK(dsm_set_data_state(segment, pages(0, 64), DSM_DATA_NONE));
        CHECK(data_of((uint64_t)round % 64) == DSM_DATA_NONE);
        OK(dsm_set_data_state(segment, pages(0, 64), DSM_DATA_UNDEFINED));
        check_zeros((uint64_t)round % 64);
        hold_fill(segment, (uint64_t)(round + 1) % 64, 5);
    }
    busy = 0;
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    end();
}

static void run_refused(void)
{
    begin();
    OK(dsm_swap_in(segment, pages(9, 1), DSM_PIN, DSM_NO_PAGE));
    static const enum dsm_data all[] = {DSM_DATA_NONE, DSM_DATA_UNDEFINED, DSM_DATA_UNCHANGED,
                                        DSM_DATA_CHANGED};
    for (int i = 0; i < 4; i++) {
        enum dsm_data before = data_of(8);
        RESULT(dsm_set_data_state(segment, pages(8, 2), all[i]), -EBUSY);
        CHECK(dsm_error()->page == 9 && data_of(8) == before, "half of it was done");
    }
    RESULT(dsm_make_read_only(segment, pages(8, 2)), -EBUSY);
    CHECK(hold_state(segment, 8).read_only == 0, "half of it was done");
    RESULT(dsm_set_data_state(segment, pages(8, 1), (enum dsm_data)77), -EINVAL);
    RESULT(dsm_set_data_state(segment, pages(PAGES - 1, 2), DSM_DATA_NONE), -EFAULT);
    CHECK(dsm_error()->page == PAGES && data_of(PAGES - 1) != DSM_DATA_NONE);
    RESULT(dsm_set_data_state(segment, pages(2, UINT64_MAX), DSM_DATA_NONE), -EFAULT);
    OK(dsm_set_data_state(segment, pages(PAGES, 0), DSM_DATA_NONE));
    OK(dsm_unpin(segment, pages(9, 1)));
    OK(dsm_set_data_state(segment, pages(8, 2), DSM_DATA_UNDEFINED));
    end();
}

// ---- MakeReadOnly, MakeReadWrite ----

static void run_read_only(void)
{
    hold_catch(SIGSEGV);
    begin();
    hold_fill(segment, 3, 2); // dirty and open for stores
    uint64_t absent = hold_absent(segment, 20);
    dsm_statistics before = hold_stats(session);
    OK(dsm_make_read_only(segment, pages(2, 3)));
    OK(dsm_make_read_only(segment, pages(absent, 1)));
    CHECK(hold_stats(session).read_requests == before.read_requests, "it did I/O");
    for (int round = 0; round < 2; round++) {
        uint64_t *at = hold_at(segment, 3);
        struct hold_touch touch = hold_store(at + 9, 1);
        CHECK(touch.signal == SIGSEGV && touch.address == (uintptr_t)(at + 9), "signal %d at %#lx",
              touch.signal, (unsigned long)touch.address);
        touch = hold_store(hold_at(segment, absent), 1);
        CHECK(touch.signal == SIGSEGV && touch.address == (uintptr_t)hold_at(segment, absent));
        CHECK(hold_holds(segment, 3, 2) && hold_holds(segment, absent, 1), "loads are not right");
        CHECK(hold_state(segment, 3).read_only == 1);
        CHECK(round > 0 || hold_state(segment, 3).needs_cleaning == 1);
        hold_evict(segment, other); // the dirty one is cleaned all the same
    }
    RESULT(dsm_swap_in(segment, pages(1, 4), DSM_KILL, DSM_NO_PAGE), -EROFS);
    CHECK(dsm_error()->page == 2 && data_of(1) == DSM_DATA_UNDEFINED &&
              data_of(2) != DSM_DATA_UNDEFINED,
          "killed beyond the read-only page, or not before it");
    RESULT(dsm_swap_in(segment, pages(4, 1), DSM_PIN | DSM_WRITE, DSM_NO_PAGE), -EROFS);
    CHECK(hold_state(segment, 4).pin_count == 0);
    OK(dsm_set_data_state(segment, pages(4, 1), DSM_DATA_UNDEFINED)); // is allowed
    CHECK(hold_state(segment, 4).read_only == 1);
    check_zeros(4);
    CHECK(hold_store(hold_at(segment, 4), 1).signal == SIGSEGV);
    OK(dsm_segment_close(segment));
    segment = hold_segment(session, "states", 0); // another opening
    CHECK(hold_store(hold_at(segment, absent), 1).signal == 0, "the mark outlived its opening");
    end();
}

static void run_read_write(void)
{
    hold_catch(SIGSEGV);
    begin();
    hold_fill(segment, 3, 2);
    OK(dsm_make_read_only(segment, pages(2, 4)));
    hold_evict(segment, other);
    OK(dsm_set_data_state(segment, pages(5, 1), DSM_DATA_NONE));
    RESULT(dsm_make_read_write(segment, pages(2, 4)), -EFAULT);
    CHECK(dsm_error()->page == 5 && hold_state(segment, 2).read_only == 1, "half of it was done");
    dsm_statistics before = hold_stats(session);
    OK(dsm_make_read_write(segment, pages(2, 3)));
    CHECK(hold_stats(session).read_requests == before.read_requests, "it did I/O");
    for (uint64_t page = 2; page < 5; page++) {
        CHECK(hold_state(segment, page).read_only == 0);
        CHECK(hold_holds(segment, page, page == 3 ? 2 : 1));
        CHECK(hold_store(hold_at(segment, page), 1).signal == 0);
    }
    OK(dsm_set_data_state(segment, pages(5, 1), DSM_DATA_UNDEFINED));
    CHECK(hold_state(segment, 5).read_only == 0, "what was given up is new when it is back");
    RESULT(dsm_make_read_write(segment, pages(PAGES, 1)), -EFAULT);
    end();
}

// ---- Unpin, Pin ----

static void run_pin(void)
{
    begin();
    OK(dsm_unpin(segment, pages(0, 4))); // at zero it has no effect
    OK(dsm_swap_in(segment, pages(0, 4), DSM_PIN, DSM_NO_PAGE));
    OK(dsm_swap_in(segment, pages(2, 4), DSM_PIN, DSM_NO_PAGE));
    CHECK(hold_state(segment, 1).pin_count == 1 && hold_state(segment, 3).pin_count == 2 &&
          hold_state(segment, 5).pin_count == 1);
    OK(dsm_age(segment, pages(0, 6))); // pinned pages are not aged
    for (uint64_t page = 0; page < PAGES; page++) {
        *(uint64_t *)hold_at(other, page) = page;
    }
    for (uint64_t page = 0; page < 6; page++) {
        CHECK(hold_state(segment, page).resident == 1, "pinned page %lu went", (unsigned long)page);
    }
    OK(dsm_unpin(segment, pages(0, 6)));
    CHECK(hold_state(segment, 3).pin_count == 1 && hold_state(segment, 0).pin_count == 0);
    OK(dsm_unpin(segment, pages(0, 6)));
    for (uint64_t page = 0; page < PAGES; page++) {
        *(uint64_t *)hold_at(other, page) = page;
    }
    CHECK(hold_state(segment, 3).resident == 0, "the last unpin does not make it evictable");
    end();
}

// ---- KILL and PIN together: no buffer, no request, so no server is needed ----

static void run_kill_pin(void)
{
    begin();
    OK(dsm_swap_in(segment, pages(0, 60), 0, DSM_NO_PAGE));
    OK(dsm_clean(segment, hold_all(segment), NULL)); // victims are clean
    hold_say("pause");
    hold_await("paused");
    dsm_statistics before = hold_stats(session);
    OK(dsm_swap_in(segment, pages(PAGES / 2, 50), DSM_KILL | DSM_PIN, DSM_NO_PAGE));
    dsm_statistics after = hold_stats(session);
    CHECK(after.swap_in_virtual_runs == before.swap_in_virtual_runs &&
              after.read_requests == before.read_requests,
          "it asked the server");
    for (uint64_t page = PAGES / 2; page < PAGES / 2 + 50; page++) {
        CHECK(data_of(page) == DSM_DATA_UNDEFINED && hold_state(segment, page).pin_count == 1);
        check_zeros(page);
    }
    OK(dsm_unpin(segment, pages(PAGES / 2, 50)));
    hold_say("continue");
    hold_await("continued");
    end();
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"undefined", run_undefined},   {"unchanged", run_unchanged},
        {"changed", run_changed},       {"none", run_none},
        {"none-late", run_none_late},   {"room", run_room},
        {"killed", run_killed},         {"again", run_again_and_again},
        {"read-write", run_read_write}, {"refused", run_refused},
        {"read-only", run_read_only},   {"pin", run_pin},
        {"kill-pin", run_kill_pin},
    };
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
