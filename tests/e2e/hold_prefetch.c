// SPDX-License-Identifier: Apache-2.0
//
// What comes before it is touched, from a dsmd: walks with strides, backwards, by several threads at once, and touches at random.
// After each touch a walk waits until nothing seems to be under way any more: the figures say what was foreseen, not who was
// faster. On a busy machine some of it is late all the same, so the bounds are far from what is seen (4 to 6 faults).
#include <pthread.h>
#include <time.h>

#include "tests/e2e/hold_rig.h"

enum { PAGES = 6000, CACHE = PAGES / 2 * PAGE, TOUCHES = 1200, THREADS = 4 };

static void settle(dsm *session)
{
    uint64_t before;
    uint64_t now = hold_stats(session).read_ahead_pages;
    int same = 0;
    while (same < 2) {
        (void)nanosleep(&(struct timespec){.tv_nsec = 300000}, NULL);
        before = now;
        now = hold_stats(session).read_ahead_pages;
        same = now == before ? same + 1 : 0;
    }
}

static void walk(dsm *session, dsm_segment *segment, uint64_t page, int64_t stride,
                 uint64_t touches)
{
    for (uint64_t i = 0; i < touches; i++, page += (uint64_t)stride) {
        CHECK(hold_holds(segment, page, 1), "page %lu", (unsigned long)page);
        if (session != NULL) {
            settle(session);
        }
    }
}

// Nothing of it is in memory.
static dsm_segment *cold(dsm *session)
{
    return hold_segment(session, "walked", DSM_READ_ONLY);
}

static void make(dsm *session)
{
    dsm_segment *segment = hold_create(session, "walked", PAGES, PAGE);
    hold_fill_all(segment, 1);
    OK(dsm_segment_close(segment));
}

static dsm_statistics since(dsm *session, const dsm_statistics *before)
{
    dsm_statistics now = hold_stats(session);
    now.faults_read -= before->faults_read;
    now.faults_waited -= before->faults_waited;
    now.read_ahead_pages -= before->read_ahead_pages;
    now.read_ahead_used -= before->read_ahead_used;
    now.read_ahead_wasted -= before->read_ahead_wasted;
    printf("%lu faults, %lu waited; %lu pages came ahead, %lu used, %lu wasted\n",
           (unsigned long)now.faults_read, (unsigned long)now.faults_waited,
           (unsigned long)now.read_ahead_pages, (unsigned long)now.read_ahead_used,
           (unsigned long)now.read_ahead_wasted);
    return now;
}

static void run_strides(void)
{
    static const int64_t strides[] = {1, -1, 2, 5, -3};
    dsm *session = hold_open(CACHE);
    make(session);
    for (size_t i = 0; i < sizeof strides / sizeof strides[0]; i++) {
        dsm_segment *segment = cold(session);
        dsm_statistics before = hold_stats(session);
        walk(session, segment, strides[i] > 0 ? 0 : PAGES - 1, strides[i], TOUCHES);
        dsm_statistics s = since(session, &before);
        CHECK(s.faults_read + s.faults_waited < TOUCHES / 3, "it was not foreseen");
        CHECK(s.read_ahead_used > TOUCHES / 2);
        OK(dsm_segment_close(segment));
        s = since(session, &before);
        CHECK(s.read_ahead_pages == s.read_ahead_used + s.read_ahead_wasted);
    }
    hold_close(session);
}

static void run_random(void)
{
    dsm *session = hold_open(CACHE);
    make(session);
    dsm_segment *segment = cold(session);
    dsm_statistics before = hold_stats(session);
    uint64_t seed = 5;
    for (int i = 0; i < 4 * TOUCHES; i++) {
        uint64_t page = hold_random(&seed) % PAGES;
        CHECK(hold_holds(segment, page, 1), "page %lu", (unsigned long)page);
    }
    dsm_statistics s = since(session, &before);
    CHECK(s.read_ahead_pages < s.faults_read / 10, "random touches were taken for a walk");
    OK(dsm_segment_close(segment));
    hold_close(session);
}

struct walker {
    pthread_t thread;
    dsm_segment *segment;
    uint64_t from;
    int64_t stride;
};

static void *walk_alone(void *argument)
{
    const struct walker *walker = argument;
    OK(dsm_thread_init());
    walk(NULL, walker->segment, walker->from, walker->stride, PAGES / THREADS / 10);
    return NULL;
}

// Each in its own part, with its own stride: what they touch is mixed, what each does is not.
static void run_threads(void)
{
    dsm *session = hold_open(CACHE);
    make(session);
    dsm_segment *segment = cold(session);
    dsm_statistics before = hold_stats(session);
    struct walker walkers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        int64_t stride = i % 2 == 0 ? 3 + i : -(3 + i);
        uint64_t from = (uint64_t)i * (PAGES / THREADS);
        walkers[i] = (struct walker){.segment = segment,
                                     .from = stride > 0 ? from : from + PAGES / THREADS - 1,
                                     .stride = stride};
        CHECK(pthread_create(&walkers[i].thread, NULL, walk_alone, &walkers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(walkers[i].thread, NULL) == 0);
    }
    settle(session);
    dsm_statistics s = since(session, &before);
    // How many are in time is a matter of load.
    CHECK(s.read_ahead_pages > THREADS, "no walk was seen");
    OK(dsm_segment_close(segment));
    s = since(session, &before);
    CHECK(s.read_ahead_pages == s.read_ahead_used + s.read_ahead_wasted);
    hold_close(session);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"strides", run_strides},
        {"random", run_random},
        {"threads", run_threads},
    };
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
