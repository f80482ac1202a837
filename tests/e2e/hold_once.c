// SPDX-License-Identifier: Apache-2.0
//
// Over a wire that cuts connections all the time (the script's proxy), so that requests and answers are lost: each creation, write,
// discard, giving up of pages, closing, opening and deletion is carried out once. A creation that was carried out twice
// would be told that the name is taken, a deletion that there is no such segment, and a write that came late would undo
// what came after it.
#include <stdlib.h>

#include "tests/e2e/hold_rig.h"

enum { CACHE = 1 * MIB, PAGES = 64, ROUNDS = 60, STEPS = 6, LEAST_RETRIES = 20 };

static dsm *session;
static uint64_t seed = 11;

static dsm_interval somewhere(void)
{
    uint64_t page = hold_random(&seed) % PAGES;
    return (dsm_interval){page, 1 + hold_random(&seed) % (PAGES - page)};
}

// Versions of 0 are zeros.
static void change(dsm_segment *segment, uint64_t versions[PAGES], uint64_t version)
{
    dsm_interval some = somewhere();
    bool zeros = hold_random(&seed) % 3 == 0;
    if (zeros) { // given up, and there again
        OK(dsm_set_data_state(segment, some, DSM_DATA_NONE));
        OK(dsm_set_data_state(segment, some, DSM_DATA_UNDEFINED));
    }
    for (uint64_t page = some.page; page < some.page + some.count; page++) {
        if (zeros) {
            memset(hold_at(segment, page), 0, PAGE);
        } else {
            hold_fill(segment, page, version);
        }
        versions[page] = zeros ? 0 : version;
    }
    OK(dsm_clean(segment, hold_all(segment), NULL));
}

static void check(const dsm_segment *segment, const uint64_t versions[PAGES])
{
    static const char zeros[PAGE];
    for (uint64_t page = 0; page < PAGES; page++) {
        bool right = versions[page] == 0 ? memcmp(hold_at(segment, page), zeros, PAGE) == 0
                                         : hold_holds(segment, page, versions[page]);
        CHECK(right, "page %lu is not of version %lu", (unsigned long)page,
              (unsigned long)versions[page]);
    }
}

static void one_life(unsigned number)
{
    char name[32];
    dsm_segment *segment, *again;
    uint64_t versions[PAGES] = {0};
    (void)snprintf(name, sizeof name, "once-%u", number);
    OK(dsm_segment_create(session, name, PAGES * PAGE, PAGE, 0, &segment));
    for (unsigned step = 1; step <= STEPS; step++) {
        change(segment, versions, step);
    }
    OK(dsm_segment_close(segment));
    RESULT(dsm_segment_create(session, name, PAGES * PAGE, PAGE, DSM_EXCLUSIVE, &again), -EEXIST);
    segment = hold_segment(session, name, DSM_READ_ONLY); // as the server has it
    check(segment, versions);
    OK(dsm_segment_close(segment));
    OK(dsm_segment_delete(session, name));
    RESULT(dsm_segment_open(session, name, 0, &again), -ENOENT);
}

static void run_all(void)
{
    session = hold_open(CACHE);
    hold_say("open");
    hold_await("spoiled");
    for (unsigned i = 0; i < ROUNDS; i++) {
        one_life(i);
    }
    printf("%d lives of segments, %lu requests sent again\n", ROUNDS,
           (unsigned long)hold_stats(session).retries);
    CHECK(hold_stats(session).retries >= LEAST_RETRIES, "nothing was tested");
    hold_close_after_errors(session);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {{"all", run_all}};
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
