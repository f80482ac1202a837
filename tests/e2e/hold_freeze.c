// SPDX-License-Identifier: Apache-2.0
//
// A segment that is frozen, flushed and thawed, as it is before it moves (Vm_InitiateMigration: lock dirty, free clean, flush).
//
//   traffic   clean pages leave without a byte on the wire, dirty ones with just theirs
//   touch     who touches a page waits for the thaw, in the handler and in calls; signals reach it meanwhile
//   pinned    is refused, names the page, and leaves nothing frozen
//   rate      a quarter of $HOLD_MIB is dirty: the flush takes at most 1.5 times as long as dsm_clean() of as much; for the long test
//   stores    threads store all the time: whatever they stored is there, freeze after freeze
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "libdsm/session_api.h"
#include "tests/e2e/hold_rig.h"

enum { PAGES = 512, DIRTY = 128, STORES_ROUNDS = 60, STORERS = 2 };

static dsm *session;
static dsm_segment *segment;

static void set_up(uint64_t cache_bytes)
{
    session = hold_open(cache_bytes);
    segment = hold_create(session, "freeze", PAGES, PAGE);
    hold_fill_all(segment, 1);
    OK(dsm_clean(segment, hold_all(segment), NULL));
}

static struct freeze frozen(void)
{
    struct freeze freeze;
    OK(pager_freeze(&segment->segment, &freeze));
    return freeze;
}

static uint64_t flushed(void)
{
    struct call call = {.kind = CALL_FLUSH, .segment = &segment->segment};
    struct call *begun = pager_call_begin(&session->pager, &call);
    CHECK(begun != NULL);
    OK(pager_call_end(&session->pager, begun, &call));
    return call.passed_over;
}

static void traffic(void)
{
    set_up(8 * MIB);
    for (uint64_t page = 0; page < 2 * DIRTY; page += 2) {
        hold_fill(segment, page, 2);
    }
    for (uint64_t page = 0; page < PAGES; page++) {
        CHECK(hold_state(segment, page).resident);
    }
    dsm_statistics before = hold_stats(session);
    struct freeze freeze = frozen();
    CHECK(freeze.dirty_pages == DIRTY && freeze.clean_pages == PAGES - DIRTY);
    dsm_statistics after = hold_stats(session);
    CHECK(after.bytes_written == before.bytes_written && after.bytes_read == before.bytes_read);
    CHECK(after.resident_bytes == DIRTY * PAGE, "%llu", (unsigned long long)after.resident_bytes);
    CHECK(flushed() == DIRTY);
    after = hold_stats(session);
    CHECK(after.bytes_written - before.bytes_written == DIRTY * PAGE);
    CHECK(after.bytes_read == before.bytes_read);
    CHECK(pager_release_clean(&segment->segment) == 0);
    CHECK(hold_stats(session).resident_bytes == 0);
    struct freeze again;
    RESULT(pager_freeze(&segment->segment, &again), -EALREADY);
    pager_thaw(&segment->segment);
    for (uint64_t page = 0; page < PAGES; page++) {
        CHECK(hold_holds(segment, page, page % 2 == 0 && page < 2 * DIRTY ? 2 : 1));
    }
    freeze = frozen(); // nothing is dirty
    CHECK(freeze.dirty_pages == 0 && flushed() == 0);
    pager_thaw(&segment->segment);
    hold_close(session);
}

static _Atomic int signals, arrived;

static void on_signal(int number)
{
    (void)number;
    signals++;
}

static void *store_one(void *at)
{
    arrived = 1;
    *(volatile uint64_t *)at = 77;
    arrived = 2;
    return NULL;
}

static void touch(void)
{
    set_up(8 * MIB);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    (void)sigaction(SIGUSR1, &action, NULL);
    volatile uint64_t *at = (uint64_t *)hold_at(segment, 7) + 300;
    *at = 76;
    (void)frozen();
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, store_one, (void *)at) == 0);
    while (arrived == 0) {
        hold_pause_ms(1);
    }
    hold_pause_ms(100);
    (void)pthread_kill(thread, SIGUSR1);
    for (int ms = 0; signals == 0; ms++) {
        CHECK(ms < 20000, "the signal waits for the thaw");
        hold_pause_ms(1);
    }
    CHECK(flushed() == 1);
    CHECK(arrived == 1, "a store went through a frozen page");
    RESULT(dsm_swap_in(segment, (dsm_interval){3, 1}, DSM_PIN, DSM_NO_PAGE), -EBUSY);
    RESULT(dsm_swap_in(segment, (dsm_interval){3, 1}, DSM_KILL, DSM_NO_PAGE), -EBUSY);
    RESULT(dsm_set_data_state(segment, (dsm_interval){3, 1}, DSM_DATA_NONE), -EBUSY);
    RESULT(dsm_set_data_state(segment, (dsm_interval){3, 1}, DSM_DATA_UNDEFINED), -EBUSY);
    RESULT(dsm_make_read_only(segment, (dsm_interval){3, 1}), -EBUSY);
    OK(dsm_swap_in(segment, (dsm_interval){3, 1}, 0, DSM_NO_PAGE)); // comes in, and stays closed
    pager_thaw(&segment->segment);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(*at == 77 && hold_state(segment, 7).needs_cleaning);
    hold_close_after_errors(session);
}

static void pinned(void)
{
    set_up(8 * MIB);
    OK(dsm_swap_in(segment, (dsm_interval){40, 2}, DSM_PIN | DSM_WRITE, DSM_NO_PAGE));
    struct freeze freeze;
    RESULT(pager_freeze(&segment->segment, &freeze), -EBUSY);
    CHECK(freeze.failed_page == 40 || freeze.failed_page == 41);
    hold_fill(segment, 5, 3);
    OK(dsm_unpin(segment, (dsm_interval){40, 2}));
    (void)frozen();
    pager_thaw(&segment->segment);
    CHECK(hold_holds(segment, 5, 3));
    hold_close(session);
}

static _Atomic int over;

// Each storer has every STORERS-th page; what it stored last stands in its own memory, too.
static void *store_always(void *context)
{
    uint64_t *stored = context;
    uint64_t state = 88172645463325252 + (uintptr_t)stored[PAGES];
    while (over == 0) {
        uint64_t page = hold_random(&state) % (PAGES / STORERS) * STORERS + stored[PAGES];
        volatile uint64_t *at = hold_at(segment, page);
        stored[page]++;
        *at = stored[page];
        CHECK(*at == stored[page], "page %llu", (unsigned long long)page);
    }
    return NULL;
}

static void stores(void)
{
    static uint64_t stored[STORERS][PAGES + 1];
    set_up(1 * MIB); // half of the segment: pages come and go meanwhile
    pthread_t threads[STORERS];
    for (uint64_t page = 0; page < PAGES; page++) { // before anybody stores
        stored[page % STORERS][page] = *(volatile uint64_t *)hold_at(segment, page);
    }
    for (uint64_t i = 0; i < STORERS; i++) {
        stored[i][PAGES] = i;
        CHECK(pthread_create(&threads[i], NULL, store_always, stored[i]) == 0);
    }
    for (int round = 0; round < STORES_ROUNDS; round++) {
        (void)frozen();
        (void)flushed();
        uint64_t written = hold_stats(session).bytes_written;
        CHECK(flushed() == 0, "something was dirty after the flush");
        CHECK(hold_stats(session).bytes_written == written);
        pager_thaw(&segment->segment);
        hold_pause_ms(3);
    }
    over = 1;
    for (int i = 0; i < STORERS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    OK(dsm_segment_close(segment)); // what the server has is what counts
    segment = hold_segment(session, "freeze", 0);
    for (uint64_t page = 0; page < PAGES; page++) {
        CHECK(*(volatile uint64_t *)hold_at(segment, page) == stored[page % STORERS][page]);
    }
    hold_close(session);
}

static int64_t now_us(void)
{
    return sync_now() / 1000;
}

// Runs of 1 MiB, each fourth one dirty.
static void dirty_quarter(uint64_t version)
{
    enum { RUN = MIB / PAGE };
    for (uint64_t page = 0; page < hold_pages(segment); page++) {
        if (page / RUN % 4 == 0) {
            hold_fill(segment, page, version);
        }
    }
}

static void rate(void)
{
    enum { ROUNDS = 3 };
    uint64_t mib = strtoull(hold_setting("HOLD_MIB"), NULL, 10);
    session = hold_open((mib + 64) * MIB);
    segment = hold_create(session, "rate", mib * MIB / PAGE, PAGE);
    hold_fill_all(segment, 1);
    OK(dsm_clean(segment, hold_all(segment), NULL));
    int64_t clean = INT64_MAX, flush = INT64_MAX; // the best of each
    for (uint64_t round = 0; round < ROUNDS; round++) {
        dirty_quarter(10 + 2 * round);
        int64_t begun = now_us();
        OK(dsm_clean(segment, hold_all(segment), NULL));
        int64_t took = now_us() - begun;
        clean = took < clean ? took : clean;
        dirty_quarter(11 + 2 * round);
        begun = now_us();
        struct freeze freeze = frozen();
        int64_t froze = now_us() - begun;
        CHECK(flushed() == freeze.dirty_pages && freeze.dirty_pages == mib * MIB / PAGE / 4);
        took = now_us() - begun;
        flush = took < flush ? took : flush;
        printf("round %d: freeze %lld us, with flush %lld us\n", (int)round, (long long)froze,
               (long long)took);
        pager_thaw(&segment->segment);
    }
    printf("%llu MiB, a quarter dirty: dsm_clean %lld us, freeze and flush %lld us\n",
           (unsigned long long)mib, (long long)clean, (long long)flush);
    CHECK(flush <= clean + clean / 2);
    hold_close(session);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {{"traffic", traffic},
                                             {"touch", touch},
                                             {"pinned", pinned},
                                             {"stores", stores},
                                             {"rate", rate}};
    return hold_main(argc, argv, roles, sizeof roles / sizeof *roles);
}
