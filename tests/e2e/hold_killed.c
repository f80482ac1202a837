// SPDX-License-Identifier: Apache-2.0
//
// The server is killed in the middle of an operation and comes back on its store: the call succeeds all the same, once,
// and every byte is right. Where the server dies is the script's choice.
#include "tests/e2e/hold_rig.h"

enum { CACHE = 4 * MIB, PAGES = 2 * MIB / PAGE };

static void check_again(dsm *session, const char *name, uint64_t version)
{
    dsm_segment *segment = hold_segment(session, name, 0);
    hold_check_all(segment, version);
    OK(dsm_segment_close(segment));
}

static void run_clean(void)
{
    dsm *session = hold_open(CACHE);
    dsm_segment *segment = hold_create(session, "killed", PAGES, PAGE);
    hold_fill_all(segment, 1);
    OK(dsm_clean(segment, hold_all(segment), NULL));
    hold_await("killed");
    for (uint64_t page = 0; page < PAGES; page++) {
        CHECK(!hold_state(segment, page).needs_cleaning);
    }
    OK(dsm_segment_close(segment));
    check_again(session, "killed", 1);
    hold_close_after_errors(session);
}

static void run_create(void)
{
    dsm *session = hold_open(CACHE);
    dsm_segment *segment = hold_create(session, "killed", PAGES, PAGE);
    hold_await("killed");
    hold_fill_all(segment, 1);
    dsm_segment *other;
    RESULT(dsm_segment_create(session, "killed", PAGE, PAGE, 0, &other), -EEXIST);
    OK(dsm_segment_close(segment));
    check_again(session, "killed", 1);
    hold_close_after_errors(session);
}

static void run_delete(void)
{
    dsm *session = hold_open(CACHE);
    dsm_segment *segment = hold_create(session, "killed", PAGES, PAGE);
    hold_fill_all(segment, 1);
    OK(dsm_segment_close(segment));
    OK(dsm_segment_delete(session, "killed"));
    hold_await("killed");
    RESULT(dsm_segment_open(session, "killed", 0, &segment), -ENOENT);
    segment = hold_create(session, "killed", PAGES, PAGE);
    CHECK(*(volatile uint64_t *)hold_at(segment, 1) == 0);
    hold_close_after_errors(session);
}

static void run_swap_in(void)
{
    dsm *session = hold_open(CACHE);
    dsm_segment *segment = hold_create(session, "killed", PAGES, PAGE);
    hold_fill_all(segment, 1);
    OK(dsm_segment_close(segment));
    segment = hold_segment(session, "killed", 0);
    hold_say("pause");
    hold_await("paused");
    OK(dsm_swap_in(segment, hold_all(segment), 0, DSM_NO_PAGE));
    hold_await("killed");
    for (uint64_t page = 0; page < PAGES; page++) {
        CHECK(hold_state(segment, page).resident);
    }
    hold_check_all(segment, 1);
    dsm_statistics statistics = hold_stats(session);
    CHECK(statistics.reconnects > 0, "nothing was tested");
    hold_close_after_errors(session);
}

static void run_faults(void)
{
    dsm *session = hold_open(1 * MIB);
    dsm_segment *segment = hold_create(session, "killed", PAGES, PAGE);
    hold_fill_all(segment, 1);
    OK(dsm_clean(segment, hold_all(segment), NULL));
    hold_say("pause");
    hold_await("paused");
    hold_check_all(segment, 1);
    hold_await("killed");
    hold_close_after_errors(session);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"clean", run_clean},     {"create", run_create}, {"delete", run_delete},
        {"swap-in", run_swap_in}, {"faults", run_faults},
    };
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
