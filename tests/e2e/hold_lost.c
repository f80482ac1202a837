// SPDX-License-Identifier: Apache-2.0
//
// A server that comes back without the segment's pages: on another store, on an emptied directory, on an older copy
// of its store. The script changes the store under the session; what the program must see is the same each time: no
// zeros, no stale bytes, but SIGBUS at the page touched, and errors that say "lost"; other segments of the session are
// not harmed, here a new one on the new store.
#include "tests/e2e/hold_rig.h"

enum { CACHE = 1 * MIB, PAGES = 4 * CACHE / PAGE, ALLOCATED = 2 * CACHE, OLD = 1, NEW = 2 };

// Resident pages hold what was stored last; all others say where they were touched.
static void check_every_touch(dsm_segment *segment)
{
    uint64_t buses = 0;
    uint64_t loads = 0;
    for (uint64_t page = 0; page < PAGES; page++) {
        bool resident = hold_state(segment, page).resident;
        const char *at = (const char *)hold_at(segment, page) + 8 * (page % 512);
        struct hold_touch touch = hold_load(at);
        if (resident) {
            CHECK(touch.signal == 0, "a resident page cannot be read");
            CHECK(hold_holds(segment, page, NEW));
            loads++;
        } else {
            CHECK_SIGBUS(touch, at);
            buses++;
        }
    }
    printf("%lu resident pages read, %lu touches ended in SIGBUS\n", (unsigned long)loads,
           (unsigned long)buses);
    CHECK(buses >= PAGES / 2 && loads > 0, "nothing was tested");
}

static void check_calls(dsm_segment *segment)
{
    uint64_t absent = hold_absent(segment, 0);
    CHECK(hold_state(segment, absent).lost);
    struct hold_touch touch = hold_store(hold_at(segment, absent), 1);
    CHECK_SIGBUS(touch, hold_at(segment, absent));
    RESULT(dsm_swap_in(segment, (dsm_interval){absent, 1}, 0, DSM_NO_PAGE), -DSM_ELOST);
    CHECK(dsm_error()->page == absent, "the detail names page %lu",
          (unsigned long)dsm_error()->page);
    uint64_t dirty = 0;
    while (dirty < PAGES && !hold_state(segment, dirty).needs_cleaning) {
        dirty++;
    }
    CHECK(dirty < PAGES, "no page is dirty: nothing was tested");
    RESULT(dsm_clean(segment, hold_all(segment), NULL), -DSM_ELOST);
    CHECK(hold_state(segment, dirty).needs_cleaning && hold_holds(segment, dirty, NEW));
}

// The first touch that needs the server waits until it is back and finds out.
static void wait_for_fate(dsm_segment *segment)
{
    uint64_t absent = hold_absent(segment, 0);
    struct hold_touch touch = hold_load(hold_at(segment, absent));
    CHECK_SIGBUS(touch, hold_at(segment, absent));
}

static void check_new_segment(dsm *session)
{
    dsm_segment *segment = hold_create(session, "after", PAGES, PAGE);
    hold_fill_all(segment, 3);
    hold_check_all(segment, 3);
    OK(dsm_segment_close(segment));
    segment = hold_segment(session, "after", DSM_READ_ONLY);
    hold_check_all(segment, 3);
    OK(dsm_segment_close(segment));
}

static char *allocate(int byte)
{
    char *array = dsm_alloc(ALLOCATED);
    CHECK(array != NULL, "%s", dsm_error()->text);
    memset(array, byte, ALLOCATED);
    CHECK(array[ALLOCATED / 2] == byte);
    return array;
}

// What was allocated is lost, too; what is allocated from now on is not. (Another store deals out the same addresses again.)
static void check_new_allocation(char *lost, bool other_addresses)
{
    struct hold_touch touch = hold_load(lost + ALLOCATED / 2);
    CHECK_SIGBUS(touch, lost + ALLOCATED / 2);
    char *beside = other_addresses ? allocate(OLD) : NULL;
    OK(dsm_free(lost));
    char *array = allocate(NEW);
    OK(dsm_free(array));
    OK(dsm_free(beside));
}

static void run(bool old_name_is_there)
{
    hold_catch(SIGBUS);
    dsm *session = hold_open(CACHE);
    dsm_segment *segment = hold_create(session, "lost", PAGES, PAGE);
    hold_fill_all(segment, OLD);
    OK(dsm_clean(segment, hold_all(segment), NULL));
    char *array = allocate(OLD);
    hold_say("written");
    hold_await("go-on");
    hold_fill_all(segment, NEW);
    OK(dsm_clean(segment, hold_all(segment), NULL));
    hold_fill(segment, PAGES - 1, NEW); // dirty again
    hold_say("acknowledged");
    hold_await("replaced");
    wait_for_fate(segment);
    check_every_touch(segment);
    check_calls(segment);
    check_every_touch(segment);
    RESULT(dsm_segment_close(segment), -DSM_ELOST);
    check_new_allocation(array, old_name_is_there);
    RESULT(dsm_segment_delete(session, "lost"), old_name_is_there ? 0 : -ENOENT);
    check_new_segment(session);
    hold_close_after_errors(session);
}

static void run_replaced(void)
{
    run(false);
}

static void run_older(void)
{
    run(true);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"another", run_replaced},
        {"emptied", run_replaced},
        {"older", run_older},
    };
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
