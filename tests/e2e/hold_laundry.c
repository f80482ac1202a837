// SPDX-License-Identifier: Apache-2.0
//
// The laundry: under a steady load of stores that the wire can take, hardly any frame has to be written before it can be taken;
// and what it could not write is told, by the next clean or close, with its first page.
#include <stdlib.h>
#include <time.h>

#include "tests/e2e/hold_rig.h"

enum { CACHE = 8 * MIB, PAGES = 8 * CACHE / PAGE, SMALL = 1 * MIB / PAGE, ROUNDS = 8 };

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void pause_until(double when)
{
    double left = when - now();
    if (left > 0) {
        struct timespec t = {.tv_sec = (time_t)left,
                             .tv_nsec = (long)((left - (double)(time_t)left) * 1e9)};
        (void)nanosleep(&t, NULL);
    }
}

static void store(dsm_segment *segment, uint64_t page)
{
    ((volatile uint64_t *)hold_at(segment, page))[1] = page ^ 0x5a5a;
}

// Pages a second that dsm_clean() writes, of runs as a steady sweep leaves them.
static double clean_rate(dsm *session, dsm_segment *segment)
{
    enum { SOME = 1024 };
    double seconds = 0;
    uint64_t pages = 0;
    for (uint64_t first = 0; first < (uint64_t)8 * SOME; first += SOME) {
        dsm_interval some = {first, SOME};
        for (uint64_t page = first; page < first + SOME; page++) {
            store(segment, page);
        }
        dsm_statistics before = hold_stats(session);
        double start = now();
        OK(dsm_clean(segment, some, NULL));
        seconds += now() - start;
        pages += hold_stats(session).clean_writes - before.clean_writes;
    }
    return (double)pages / seconds;
}

// Stores into page after page at this rate, all round the segment.
static void sweep(dsm_segment *segment, double rate)
{
    enum { STEP = 64 };
    double start = now();
    for (uint64_t page = 0; page < PAGES; page++) {
        if (page % STEP == 0) {
            pause_until(start + (double)page / rate);
        }
        store(segment, page);
    }
}

// The load is a part of what this machine can do at this time; should it change its mind meanwhile, it is measured again, and
// a smaller part of it is asked for. Without a laundry nearly every victim is dirty at any rate.
static void run_rate(void)
{
    dsm *session = hold_open(CACHE);
    dsm_segment *segment = hold_create(session, "laundry", PAGES, PAGE);
    sweep(segment, 1e9);
    for (int round = 0; round < ROUNDS; round++) {
        double rate = clean_rate(session, segment) / (2 << round);
        dsm_statistics before = hold_stats(session);
        sweep(segment, rate);
        dsm_statistics after = hold_stats(session);
        uint64_t victims = after.victims - before.victims;
        uint64_t dirty = after.victims_dirty - before.victims_dirty;
        printf("%.0f pages a second: %lu of %lu victims were dirty, %lu laundered\n", rate,
               (unsigned long)dirty, (unsigned long)victims,
               (unsigned long)(after.laundered_pages - before.laundered_pages));
        CHECK(victims > PAGES / 2, "the cache was never full");
        if (dirty * 100 < victims) {
            for (uint64_t page = 0; page < PAGES; page++) {
                CHECK(((uint64_t *)hold_at(segment, page))[1] == (page ^ 0x5a5a));
            }
            hold_close(session);
            return;
        }
    }
    CHECK(false, "one of a hundred victims or more was dirty, %d times", ROUNDS);
}

static void fill_until_washed(dsm *session, dsm_segment *segment)
{
    for (uint64_t page = 0; page < SMALL - 4; page++) {
        store(segment, page);
    }
    for (int i = 0; i < 1000 && hold_stats(session).write_requests == 0; i++) {
        hold_pause_ms(10);
    }
    CHECK(hold_stats(session).write_requests > 0, "the laundry does nothing");
}

// dsmd's store fails its first write.
static void run_failed(void)
{
    dsm *session = hold_open((uint64_t)SMALL * PAGE);
    dsm_segment *segment = hold_create(session, "failed", (uint64_t)2 * SMALL, PAGE);
    fill_until_washed(session, segment);
    dsm_interval none = {0, 0};
    int told = 0;
    for (int i = 0; i < 6000 && (told = dsm_clean(segment, none, NULL)) == 0; i++) {
        hold_pause_ms(10); // until it has its answers
    }
    RESULT(told, -EIO);
    uint64_t first = dsm_error()->page;
    CHECK(first < SMALL, "page %lu", (unsigned long)first);
    OK(dsm_clean(segment, none, NULL)); // it is told once
    OK(dsm_clean(segment, hold_all(segment), NULL));
    OK(dsm_segment_close(segment));
    segment = hold_segment(session, "failed", 0);
    for (uint64_t page = 0; page < SMALL - 4; page++) {
        CHECK(((uint64_t *)hold_at(segment, page))[1] == (page ^ 0x5a5a), "page %lu is lost",
              (unsigned long)page);
    }
    hold_close_after_errors(session);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {{"rate", run_rate}, {"failed", run_failed}};
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
