// SPDX-License-Identifier: Apache-2.0
//
// A latency that is known: dsmd is stopped before a page is touched, and goes on only when the fault has been under way for a while.
// It lasts at least from when its counter was seen to move until dsmd was asked for again, and at most as long as the
// touch that it is part of; that is what the histogram must say of it, whatever else the machine does.
#include <pthread.h>

#include "tests/e2e/hold_rig.h"

enum { PAGES = 64, CACHE = 1 * MIB, WHILE_MS = 300 };

static struct {
    dsm_segment *segment;
    int64_t took_ns;
} toucher;

static int64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void *touch(void *argument)
{
    (void)argument;
    int64_t begun = now_ns();
    CHECK(*(const volatile uint64_t *)hold_at(toucher.segment, PAGES - 1) != 0);
    toucher.took_ns = now_ns() - begun;
    return NULL;
}

static dsm_latency latency_of(dsm *session)
{
    dsm_latency latency = {.size = sizeof latency};
    OK(dsm_fault_latency(session, &latency));
    return latency;
}

// Closed and opened again, nothing of it is in memory.
static void make_cold(dsm *session)
{
    dsm_segment *segment = hold_create(session, "latency", PAGES, PAGE);
    for (uint64_t page = 0; page < PAGES; page++) {
        *(volatile uint64_t *)hold_at(segment, page) = page + 1;
    }
    OK(dsm_segment_close(segment));
    toucher.segment = hold_segment(session, "latency", DSM_READ_ONLY);
}

// How long it was under way for certain.
static int64_t touch_while_stopped(dsm *session)
{
    pthread_t thread;
    uint64_t before = hold_stats(session).faults_read;
    hold_say("pause");
    hold_await("paused");
    CHECK(pthread_create(&thread, NULL, touch, NULL) == 0);
    while (hold_stats(session).faults_read == before) {
        hold_pause_ms(1);
    }
    int64_t seen = now_ns();
    hold_pause_ms(WHILE_MS);
    int64_t least = now_ns() - seen;
    hold_say("continue");
    CHECK(pthread_join(thread, NULL) == 0);
    return least;
}

static void run_stopped(void)
{
    dsm *session = hold_open(CACHE);
    dsm_latency small = {.size = sizeof small - 1};
    RESULT(dsm_fault_latency(session, &small), -EINVAL);
    make_cold(session);
    dsm_latency before = latency_of(session);
    CHECK(before.count == 0, "a first touch, with room, waits for nobody");
    CHECK(dsm_latency_percentile(&before, 50) == 0);
    for (uint64_t page = 0; page < 40; page++) {
        CHECK(*(const volatile uint64_t *)hold_at(toucher.segment, page) == page + 1);
    }
    before = latency_of(session);
    CHECK(before.count == 40 && before.count == hold_stats(session).faults_read);
    int64_t least = touch_while_stopped(session);
    dsm_latency after = latency_of(session);
    int64_t within = (int64_t)(after.total_ns - before.total_ns);
    printf("%.3f s in the handler; at least %.3f, at most %.3f\n", (double)within / 1e9,
           (double)least / 1e9, (double)toucher.took_ns / 1e9);
    CHECK(after.count == 41);
    CHECK(within >= least && within <= toucher.took_ns);
    for (int i = 0; i < DSM_LATENCY_BUCKETS; i++) {
        after.buckets[i] -= before.buckets[i]; // now this one alone
    }
    double found = (double)dsm_latency_percentile(&after, 50);
    CHECK(found >= (double)within * 15 / 16 && found <= (double)within * 17 / 16, "%.3f s",
          found / 1e9);
    for (uint64_t page = 40; page < PAGES; page++) { // is in, or comes
        CHECK(*(const volatile uint64_t *)hold_at(toucher.segment, page) == page + 1);
    }
    OK(dsm_close(session));
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {{"stopped", run_stopped}};
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
