// SPDX-License-Identifier: Apache-2.0
//
// Clones through the public interface, against a running dsmd: what each of the two sees after both were written, in either order; of
// a clone; larger than its source; what is counted, sent and reserved; a dsmd that dies while it makes one.
#include <stdlib.h>

#include "tests/e2e/hold_rig.h"

enum { PAGES = 1000, CACHE = 512 * PAGE };

static dsm *session;
static dsm_segment *source, *clone;

static void put(dsm_segment *segment, uint64_t page, uint64_t value)
{
    uint64_t *words = hold_at(segment, page);
    words[0] = words[PAGE / 8 - 1] = value * 1000000 + page;
}

static uint64_t value_of(dsm_segment *segment, uint64_t page)
{
    const uint64_t *words = hold_at(segment, page);
    CHECK(words[0] == words[PAGE / 8 - 1], "page %lu is torn", (unsigned long)page);
    CHECK(words[0] == 0 || words[0] % 1000000 == page, "another page's: %lu", (unsigned long)page);
    return words[0] / 1000000;
}

static void begin(void)
{
    session = hold_open(CACHE);
    source = hold_create(session, "source", PAGES, PAGE);
    for (uint64_t page = 0; page < PAGES; page += 2) {
        put(source, page, 1); // every second one; half of them have left memory
    }
}

static void end(void)
{
    OK(dsm_segment_close(clone));
    OK(dsm_segment_close(source));
    hold_close(session);
}

// Opens them again, so that all of it comes from the server.
static void again(void)
{
    OK(dsm_segment_close(clone));
    OK(dsm_segment_close(source));
    source = hold_segment(session, "source", 0);
    clone = hold_segment(session, "clone", 0);
}

static void check_both(void)
{
    for (uint64_t page = 0; page < PAGES; page++) {
        uint64_t first = page % 2 == 0 ? 1 : 0;
        uint64_t here = page < 100 ? 2 : page < 200 ? 4 : first;
        uint64_t there = page < 100 ? first : page < 200 ? 3 : page < 300 ? 5 : first;
        CHECK(value_of(source, page) == here, "source, page %lu", (unsigned long)page);
        CHECK(value_of(clone, page) == there, "clone, page %lu", (unsigned long)page);
    }
}

static void run_orders(void)
{
    begin();
    OK(dsm_segment_clone(source, "clone", 0, 0, &clone));
    CHECK(dsm_segment_base(clone) != dsm_segment_base(source));
    CHECK(dsm_segment_size(clone) == dsm_segment_size(source));
    RESULT(dsm_segment_clone(source, "clone", 0, 0, &clone), -EEXIST);
    RESULT(dsm_segment_clone(source, "other", PAGE, 0, &clone), -EINVAL);
    RESULT(dsm_segment_clone(source, "other", 0, DSM_TAKEOVER, &clone), -EINVAL);
    for (uint64_t page = 0; page < 100; page++) {
        put(source, page, 2); // the source alone
    }
    for (uint64_t page = 100; page < 200; page++) {
        put(clone, page, 3); // both, the clone first
    }
    OK(dsm_clean(clone, hold_all(clone), NULL));
    for (uint64_t page = 100; page < 200; page++) {
        put(source, page, 4);
    }
    for (uint64_t page = 200; page < 300; page++) {
        put(clone, page, 5); // the clone alone
    }
    check_both();
    again();
    check_both();
    OK(dsm_segment_close(source));
    OK(dsm_segment_delete(session, "source")); // the clone keeps what it has
    for (uint64_t page = 300; page < PAGES; page++) {
        CHECK(value_of(clone, page) == (page % 2 == 0 ? 1 : 0));
    }
    source = hold_create(session, "source", PAGES, PAGE);
    CHECK(value_of(source, 500) == 0);
    end();
}

static void run_larger(void)
{
    dsm_segment *third;
    begin();
    OK(dsm_clean(source, hold_all(source), NULL));
    dsm_statistics before = hold_stats(session);
    OK(dsm_segment_clone(source, "clone", 2 * PAGES * PAGE, DSM_EPHEMERAL, &clone));
    dsm_statistics after = hold_stats(session);
    CHECK(after.read_requests == before.read_requests &&
              after.write_requests == before.write_requests,
          "pages were sent");
    CHECK(dsm_segment_size(clone) == 2 * PAGES * PAGE);
    put(clone, 2 * PAGES - 1, 7);
    put(clone, 0, 8);
    OK(dsm_segment_clone(clone, "third", 0, 0, &third)); // what was changed just now is in it
    put(clone, 0, 9);
    CHECK(value_of(third, 0) == 8 && value_of(third, 2) == 1 && value_of(third, 3) == 0);
    CHECK(value_of(third, 2 * PAGES - 1) == 7 && value_of(third, PAGES + 4) == 0);
    CHECK(value_of(source, 0) == 1 && value_of(clone, 0) == 9);
    OK(dsm_swap_in(third, (dsm_interval){5, 1}, DSM_PIN, DSM_NO_PAGE));
    dsm_segment *none = NULL;
    RESULT(dsm_segment_clone(third, "fourth", 0, 0, &none), -EBUSY);
    CHECK(none == NULL);
    OK(dsm_unpin(third, (dsm_interval){5, 1}));
    OK(dsm_segment_close(third));
    end();
}

// dsmd dies while it makes the clone; the call succeeds all the same, and once.
static void run_killed(void)
{
    begin();
    OK(dsm_segment_clone(source, "clone", 0, 0, &clone));
    put(clone, 1, 6);
    put(source, 3, 7);
    OK(dsm_clean(clone, hold_all(clone), NULL));
    OK(dsm_clean(source, hold_all(source), NULL));
    hold_await("killed");
    again();
    for (uint64_t page = 0; page < PAGES; page++) {
        uint64_t first = page % 2 == 0 ? 1 : 0;
        CHECK(value_of(source, page) == (page == 3 ? 7 : first));
        CHECK(value_of(clone, page) == (page == 1 ? 6 : first));
    }
    end();
}

static const struct hold_role roles[] = {
    {"orders", run_orders}, {"larger", run_larger}, {"killed", run_killed}};

int main(int argc, char **argv)
{
    return hold_main(argc, argv, roles, sizeof roles / sizeof *roles);
}
