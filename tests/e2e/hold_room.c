// SPDX-License-Identifier: Apache-2.0
//
// Out of room: a segment is refused when it is made, for want of space or of quota, each with its own error and sentence;
// one that promised no space (DSM_NORESERVE) may be refused at a clean, keeps its changed pages, and is cleaned once
// there is room again.
#include "tests/e2e/hold_rig.h"

enum { CACHE = 4 * MIB };

static void refused(int error, const char *word, const char *other)
{
    dsm *session = hold_open(CACHE);
    dsm_segment *segment;
    RESULT(dsm_segment_create(session, "large", 4096ULL * MIB, 0, 0, &segment), error);
    printf("%s\n", dsm_error()->text);
    CHECK(strstr(dsm_error()->text, word) != NULL && strstr(dsm_error()->text, other) == NULL);
    OK(dsm_segment_create(session, "first", 20 * MIB, 0, 0, &segment));
    dsm_segment *second;
    RESULT(dsm_segment_create(session, "second", 20 * MIB, 0, 0, &second), error);
    OK(dsm_segment_close(segment));
    OK(dsm_segment_delete(session, "first"));
    OK(dsm_segment_create(session, "second", 20 * MIB, 0, 0, &second)); // its room came back
    hold_close_after_errors(session);
}

static void run_space(void)
{
    refused(-ENOSPC, "room", "quota");
}

static void run_quota(void)
{
    refused(-EDQUOT, "quota", "room");
}

static void run_thin(void)
{
    enum { THIN = 1 * MIB / PAGE, FULL = 20 * MIB / PAGE };
    dsm *session = hold_open(CACHE);
    dsm_segment *thin;
    OK(dsm_segment_create(session, "thin", THIN * PAGE, PAGE, DSM_NORESERVE, &thin));
    dsm_segment *full[2];
    full[0] = hold_create(session, "full", FULL, PAGE);
    uint64_t more = 0; // whatever is left
    for (uint64_t pages = FULL; pages > 0; pages /= 2) {
        char name[32];
        (void)snprintf(name, sizeof name, "more-%lu", (unsigned long)more);
        while (dsm_segment_create(session, name, pages * PAGE, PAGE, 0, &full[1]) == 0) {
            (void)snprintf(name, sizeof name, "more-%lu", (unsigned long)++more);
        }
    }
    hold_fill_all(thin, 1);
    RESULT(dsm_clean(thin, hold_all(thin), NULL), -ENOSPC);
    CHECK(dsm_error()->page < THIN && strcmp(dsm_error()->segment, "thin") == 0);
    printf("%s\n", dsm_error()->text);
    uint64_t dirty = 0;
    for (uint64_t page = 0; page < THIN; page++) {
        dirty += hold_state(thin, page).needs_cleaning;
    }
    printf("%lu of %d pages stay changed\n", (unsigned long)dirty, THIN);
    CHECK(dirty > 0);
    hold_check_all(thin, 1);
    RESULT(dsm_segment_close(thin), -ENOSPC); // it stays open
    hold_check_all(thin, 1);
    OK(dsm_segment_close(full[0]));
    OK(dsm_segment_delete(session, "full"));
    OK(dsm_clean(thin, hold_all(thin), NULL));
    OK(dsm_segment_close(thin));
    thin = hold_segment(session, "thin", DSM_READ_ONLY);
    hold_check_all(thin, 1);
    hold_close_after_errors(session);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"space", run_space},
        {"quota", run_quota},
        {"thin", run_thin},
    };
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
