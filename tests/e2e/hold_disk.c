// SPDX-License-Identifier: Apache-2.0
//
// The file system under the store runs full, or its disk writes or reads no more (the script sees to it): what was
// acknowledged stays readable, what cannot be stored is refused in words and stays changed in memory, and it is stored
// once the file system is well again. After that dsmd is killed, so that what counts is on the file system.
#include "tests/e2e/hold_rig.h"

enum { CACHE = 8 * MIB, PAGES = 16 * MIB / PAGE, CHANGED = 4 * MIB / PAGE };

static void trouble(const char *begin, const char *begun)
{
    hold_say(begin);
    hold_await(begun);
}

static dsm_segment *begin(dsm **session)
{
    hold_catch(SIGBUS);
    return hold_begin(CACHE, "kept", PAGES, session);
}

static void change_without_disk(dsm_segment *segment)
{
    trouble("break", "broken");
    for (uint64_t page = 0; page < CHANGED; page++) {
        hold_fill(segment, page, 2);
    }
}

static void show_error(const char *what)
{
    printf("%s: %s\n", what, dsm_error()->text);
}

static uint64_t version_of(uint64_t page)
{
    return page < CHANGED ? 2 : 1;
}

// dsmd is killed and started again, and what it has is looked at.
static dsm_segment *as_restarted(dsm *session, dsm_segment *segment, const char *begin,
                                 const char *begun)
{
    OK(dsm_segment_close(segment));
    trouble(begin, begun);
    return hold_segment(session, "kept", DSM_READ_ONLY);
}

static void check_versions(const dsm_segment *segment)
{
    for (uint64_t page = 0; page < PAGES; page++) {
        CHECK(hold_holds(segment, page, version_of(page)), "page %lu", (unsigned long)page);
    }
}

// As long as nothing can be stored: a touch that would need the frame of a changed page may end with SIGBUS, every other one
// is right.
static void check_what_is_there(dsm_segment *segment)
{
    uint64_t right = 0;
    for (uint64_t page = 0; page < PAGES; page++) {
        bool resident = hold_state(segment, page).resident;
        struct hold_touch touch = hold_load(hold_at(segment, page));
        if (touch.signal != 0) {
            CHECK_SIGBUS(touch, hold_at(segment, page));
            CHECK(!resident && !hold_state(segment, page).lost, "page %lu", (unsigned long)page);
            continue;
        }
        CHECK(hold_holds(segment, page, version_of(page)), "page %lu", (unsigned long)page);
        right++;
    }
    printf("%lu of %d pages can be loaded\n", (unsigned long)right, PAGES);
    CHECK(right > CHANGED);
}

static void expect_no_room(dsm *session, dsm_segment *segment)
{
    dsm_segment *more;
    RESULT(dsm_clean(segment, hold_all(segment), NULL), -EIO);
    show_error("clean");
    CHECK(dsm_error()->page < CHANGED && strcmp(dsm_error()->segment, "kept") == 0);
    CHECK(hold_state(segment, dsm_error()->page).needs_cleaning, "what failed is not changed");
    int error = dsm_segment_create(session, "more", MIB, PAGE, 0, &more);
    CHECK(error == -ENOSPC || error == -EIO, "a creation ends with %d", error);
    show_error("create");
    check_what_is_there(segment);
}

static void run_no_writes(void)
{
    dsm *session;
    dsm_segment *more, *segment = begin(&session);
    change_without_disk(segment);
    expect_no_room(session, segment);
    trouble("mend", "mended");
    OK(dsm_clean(segment, hold_all(segment), NULL));
    OK(dsm_segment_create(session, "more", MIB, PAGE, 0, &more));
    segment = as_restarted(session, segment, "restart", "restarted");
    check_versions(segment);
    hold_close_after_errors(session);
}

// A sync that failed is told once, and what it was of may be forgotten by the kernel: from then on dsmd acknowledges no write until
// it is started again, even when its disk works.
static void run_no_sync(void)
{
    dsm *session;
    dsm_segment *segment = begin(&session);
    change_without_disk(segment);
    RESULT(dsm_clean(segment, hold_all(segment), NULL), -EIO);
    trouble("mend", "mended");
    RESULT(dsm_clean(segment, hold_all(segment), NULL), -EIO);
    check_what_is_there(segment);
    trouble("restart", "restarted");
    OK(dsm_clean(segment, hold_all(segment), NULL));
    segment = as_restarted(session, segment, "again", "once-more");
    check_versions(segment);
    hold_close_after_errors(session);
}

static uint64_t read_all(dsm_segment *segment)
{
    uint64_t unreadable = 0;
    for (uint64_t page = 0; page < PAGES; page++) {
        int error = dsm_swap_in(segment, (dsm_interval){page, 1}, 0, DSM_NO_PAGE);
        if (error == 0) {
            CHECK(hold_holds(segment, page, 1), "page %lu", (unsigned long)page);
            continue;
        }
        CHECK(error == -EIO && dsm_error()->page == page, "page %lu: %d", (unsigned long)page,
              error);
        if (unreadable++ == 0) {
            show_error("swap in");
            struct hold_touch touch = hold_load(hold_at(segment, page));
            CHECK_SIGBUS(touch, hold_at(segment, page));
        }
        CHECK(!hold_state(segment, page).lost, "what cannot be read now is not lost");
    }
    return unreadable;
}

static void run_no_reads(void)
{
    dsm *session;
    dsm_segment *segment = begin(&session);
    OK(dsm_segment_close(segment));
    segment = hold_segment(session, "kept", 0); // nothing of it is in memory
    trouble("break", "broken");
    uint64_t unreadable = read_all(segment);
    printf("%lu of %d pages cannot be read\n", (unsigned long)unreadable, PAGES);
    CHECK(unreadable > 0 && unreadable < PAGES);
    trouble("mend", "mended");
    hold_check_all(segment, 1);
    segment = as_restarted(session, segment, "restart", "restarted");
    hold_check_all(segment, 1);
    hold_close_after_errors(session);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"no-writes", run_no_writes},
        {"no-sync", run_no_sync},
        {"no-reads", run_no_reads},
    };
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
