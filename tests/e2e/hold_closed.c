// SPDX-License-Identifier: Apache-2.0
//
// A segment that is closed while the server does not answer: its pages are there, so it is closed, and that is no error that
// somebody could take for one of the cleaning, after which it would be open. The server hears of it when it can be reached. Who has
// waited for it in vain once does not wait for each further segment.
#include "tests/e2e/hold_rig.h"

enum { PAGES = 16, SEGMENTS = 8 };

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

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {{"unanswered", unanswered}};
    return hold_main(argc, argv, roles, sizeof roles / sizeof *roles);
}
