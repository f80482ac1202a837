// SPDX-License-Identifier: Apache-2.0
//
// A segment that is closed while the server does not answer: its pages are there, so it is closed, and that is no error that
// somebody could take for one of the cleaning, after which it would be open. The server hears of it when it can be reached. Who has
// waited for it in vain once does not wait for each further segment.
//
// And one that threads open and close without regard for each other: one of them has it, the others are told so, and nobody's
// failure or end takes it from who has it.
#include <pthread.h>
#include <sched.h>

#include "tests/e2e/hold_rig.h"

enum { PAGES = 16, SEGMENTS = 8, THREADS = 6, TURNS = 40 };

static void unanswered(void)
{
    char names[SEGMENTS][8];
    dsm *session = hold_open(MIB);
    dsm_segment *segments[SEGMENTS];
    for (int i = 0; i < SEGMENTS; i++) {
        (void)snprintf(names[i], sizeof names[i], "%d", i);
        segments[i] = hold_create(session, names[i], PAGES, PAGE);
        hold_fill_all(segments[i], 1);
        OK(dsm_clean(segments[i], hold_all(segments[i]), NULL));
    }
    hold_say("pause");
    hold_await("paused");
    // One request is on its way when the server goes on; for the others there is no connection.
    for (int i = 0; i < SEGMENTS; i++) {
        OK(dsm_segment_close(segments[i]));
    }
    hold_say("continue");
    hold_await("continued");
    for (int i = 1; i < SEGMENTS; i++) {
        OK(dsm_segment_delete(session, names[i]));
    }
    dsm_segment *again = hold_segment(session, names[0], 0); // and is closed by nobody else
    for (uint64_t page = 0; page < PAGES; page++) {
        CHECK(hold_holds(again, page, 1));
    }
    hold_fill_all(again, 2);
    OK(dsm_segment_close(again));
    OK(dsm_segment_delete(session, names[0]));
    hold_close_after_errors(session);
}

static dsm *shared;

static void count_up(dsm_segment *segment)
{
    volatile uint64_t *counter = hold_at(segment, 0);
    *counter = *counter + 1;
    OK(dsm_segment_close(segment));
}

// Whoever comes first makes it, if nobody has; who opens it then counts in the one that all have.
static void *count_in_turns(void *name)
{
    for (int turns = 0; turns < TURNS; (void)sched_yield()) {
        dsm_segment *segment = NULL;
        int error = dsm_segment_open(shared, name, 0, &segment);
        if (error == -ENOENT) {
            error = dsm_segment_create(shared, name, PAGE, PAGE, 0, &segment);
        }
        if (error == 0) {
            count_up(segment);
            turns++;
        } else {
            CHECK(error == -EBUSY || error == -EEXIST, "%d: %s", error, dsm_error()->text);
        }
    }
    return NULL;
}

static void count_together(char *name)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, count_in_turns, name) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    dsm_segment *segment = hold_segment(shared, name, 0);
    uint64_t counted = *(volatile uint64_t *)hold_at(segment, 0);
    CHECK(counted == (uint64_t)THREADS * TURNS, "%lu", (unsigned long)counted);
    OK(dsm_segment_close(segment));
    OK(dsm_segment_delete(shared, name));
}

static void threads(void)
{
    shared = hold_open(MIB);
    char made[] = "made", found[] = "found";
    count_together(made);
    OK(dsm_segment_close(hold_create(shared, found, PAGES, PAGE)));
    count_together(found);
    hold_close(shared);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {{"unanswered", unanswered}, {"threads", threads}};
    return hold_main(argc, argv, roles, sizeof roles / sizeof *roles);
}
