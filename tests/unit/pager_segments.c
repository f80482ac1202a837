// SPDX-License-Identifier: Apache-2.0
//
// What the pager does with mappings when there are few of them, with segments that go while others are at work, and with frames
// that are given up together.
#include "tests/unit/pager_rig.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

// ---- mappings ----

// Isolated pages, far more than mappings: some are closed again, none fails.
static void the_map_budget(void **state)
{
    (void)state;
    enum { PAGES = 8000, LIMIT = 64, SLACK = 16 };
    rig_start(&(struct rig_options){.pages = PAGES,
                                    .cache_pages = PAGES,
                                    .second_chance = true,
                                    .map_limit = LIMIT,
                                    .trap = &trap_mprotect_ops});
    uint64_t seed = 5;
    uint64_t most = 0;
    for (int i = 0; i < PAGES; i++) {
        uint64_t page = next_random(&seed) % (PAGES / 2) * 2;
        if (i % 3 == 0) {
            rig_store(page, page + 1);
        } else {
            rig_expect_page(page, page + 1);
        }
        uint64_t edges = STAT_GET(&rig.stat, open_edges);
        most = edges > most ? edges : most;
    }
    assert_in_range(most, LIMIT / 2, LIMIT + SLACK);
    assert_true(STAT_GET(&rig.stat, closed_for_edges) > 0);
    assert_int_equal(STAT_GET(&rig.stat, victims), 0); // their frames stay
    rig_stop();
}

// Closing in the middle of an open run would cost mappings, not give any.
static void long_open_runs_and_a_full_budget(void **state)
{
    (void)state;
    enum { PAGES = 4096, LIMIT = 32, SLACK = 16 };
    rig_start(&(struct rig_options){.pages = PAGES,
                                    .cache_pages = PAGES,
                                    .second_chance = true,
                                    .map_limit = LIMIT,
                                    .trap = &trap_mprotect_ops});
    for (uint64_t page = 0; page < PAGES; page += 128) {
        assert_int_equal(rig_swap_in(page, 100, 0), 0); // 32 runs, two edges each
    }
    assert_in_range(STAT_GET(&rig.stat, open_edges), 1, LIMIT + SLACK);
    for (uint64_t page = 0; page < PAGES; page += 3) { // dirty pages among clean ones
        rig_store(page, page + 1);
        assert_in_range(STAT_GET(&rig.stat, open_edges), 1, LIMIT + SLACK);
    }
    rig_stop();
}

// ---- segments that come and go ----

static void *detach_first(void *argument)
{
    _Atomic uint32_t *done = argument;
    rig_detach(0);
    atomic_store(done, 1);
    return NULL;
}

static void *touch_second(void *argument)
{
    (void)argument;
    (void)*(volatile uint8_t *)rig.segments[1].view.base;
    return NULL;
}

// A worker that serves another segment is about to punch a frame of this one: the segment waits for it.
static void a_segment_goes_while_its_frame_is_punched(void **state)
{
    (void)state;
    rig_start(&(struct rig_options){.cache_pages = 4});
    rig_attach(1);
    assert_int_equal(rig_swap_in(0, 4, 0), 0);
    atomic_store(&rig.hold_discards, 1);
    pthread_t toucher;
    pthread_t detacher;
    _Atomic uint32_t done = 0;
    assert_int_equal(pthread_create(&toucher, NULL, touch_second, NULL), 0);
    rig_await(&rig.discards_held, 1);
    assert_int_equal(pthread_create(&detacher, NULL, detach_first, &done), 0);
    (void)usleep(50000); // it has had the time to do it wrong; it cannot do it too early
    assert_int_equal(atomic_load(&done), 0);
    rig_release(&rig.hold_discards);
    (void)pthread_join(toucher, NULL);
    (void)pthread_join(detacher, NULL);
    assert_int_equal(atomic_load(&done), 1);
    rig_stop();
}

// A lost segment may be closed with pages pinned: what they held back is given back.
static void a_segment_goes_with_its_pins(void **state)
{
    (void)state;
    rig_start(&(struct rig_options){.cache_pages = 16});
    rig_attach(1);
    assert_int_equal(rig_swap_in(0, 4, DSM_PIN), 0);
    assert_int_equal(rig_swap_in(2, 1, DSM_PIN), 0);
    rig_detach(0);
    assert_int_equal(rig.pager.pinned_bytes, 0);
    rig_stop();
}

// ---- segments that go while calls on them are under way, which nobody waits for any more ----

static struct call *begin_swap_in(unsigned segment, uint64_t page, uint64_t count, unsigned flags)
{
    const struct call call = {.kind = CALL_SWAP_IN,
                              .segment = &rig.segments[segment],
                              .page = page,
                              .count = count,
                              .flags = flags,
                              .next_page = DSM_NO_PAGE};
    struct call *begun = pager_call_begin(&rig.pager, &call);
    assert_non_null(begun);
    return begun;
}

static int end(struct call *begun)
{
    struct call result = {0};
    return pager_call_end(&rig.pager, begun, &result);
}

static void expect_to_wait_for(struct call *left)
{
    pthread_t detacher;
    _Atomic uint32_t done = 0;
    assert_int_equal(pthread_create(&detacher, NULL, detach_first, &done), 0);
    (void)usleep(50000); // it has had the time to do it wrong; it cannot do it too early
    assert_int_equal(atomic_load(&done), 0);
    rig_release(&rig.hold);
    (void)pthread_join(detacher, NULL);
    assert_int_equal(end(left), 0);
}

// Its page has no frame yet.
static void a_segment_goes_while_a_call_fetches_its_page(void **state)
{
    (void)state;
    rig_start(&(struct rig_options){0});
    rig_attach(1);
    atomic_store(&rig.hold, 1);
    struct call *left = begin_swap_in(0, 3, 1, 0);
    rig_await(&rig.held, 1);
    expect_to_wait_for(left);
    rig_stop();
}

// All workers are at work on another segment's calls.
static void begin_on_all_workers(struct call *calls[PAGER_CALL_WORKERS])
{
    atomic_store(&rig.hold, 1);
    for (uint64_t i = 0; i < PAGER_CALL_WORKERS; i++) {
        calls[i] = begin_swap_in(1, 2 * i, 1, 0);
    }
    rig_await(&rig.held, PAGER_CALL_WORKERS);
}

static void end_on_all_workers(struct call *calls[PAGER_CALL_WORKERS])
{
    for (int i = 0; i < PAGER_CALL_WORKERS; i++) {
        assert_int_equal(end(calls[i]), 0);
    }
}

static void a_segment_goes_while_a_call_is_queued(void **state)
{
    (void)state;
    struct call *others[PAGER_CALL_WORKERS];
    rig_start(&(struct rig_options){0});
    rig_attach(1);
    begin_on_all_workers(others);
    expect_to_wait_for(begin_swap_in(0, 3, 1, 0));
    end_on_all_workers(others);
    rig_stop();
}

// Whoever closes the segment may be the one that would give frames back: the call does not wait for any.
static void a_segment_goes_while_a_call_waits_for_a_frame(void **state)
{
    (void)state;
    rig_start(&(struct rig_options){.cache_pages = 4});
    rig_attach(1);
    assert_int_equal(end(begin_swap_in(1, 0, 4, DSM_PIN)), 0);
    struct call *left = begin_swap_in(0, 3, 1, 0);
    for (int i = 0; i < 100000 && STAT_GET(&rig.stat, waits) == 0; i++) {
        (void)usleep(100);
    }
    assert_int_equal(STAT_GET(&rig.stat, waits), 1);
    rig_detach(0);
    assert_int_equal(end(left), -ECANCELED);
    assert_int_equal(pager_unpin(&rig.segments[1], 0, 4), 0);
    rig_stop();
}

#if !defined(__SANITIZE_THREAD__)

static pthread_t main_thread;
static sigjmp_buf out;

static void leave(int number)
{
    (void)number;
    siglongjmp(out, 1);
}

static bool await_users(uint32_t wanted)
{
    bool found = false;
    for (int i = 0; i < 100000 && !found; i++) {
        (void)usleep(100);
        sync_mask mask = sync_block_signals();
        lock_acquire(&rig.pager.lock);
        found = rig.segments[0].users == wanted;
        lock_release(&rig.pager.lock);
        sync_restore_signals(mask);
    }
    return found;
}

static struct {
    pthread_t thread;
    bool began, revoked;
} interrupter;

static void *interrupt_call(void *argument)
{
    (void)argument;
    interrupter.began = await_users(1);
    (void)pthread_kill(main_thread, SIGUSR1);
    interrupter.revoked = await_users(0);
    rig_release(&rig.hold);
    return NULL;
}

// The thread's next call takes the record over: nobody carries the one before it out, and its segment may go.
static void a_segment_whose_queued_call_is_revoked(void **state)
{
    (void)state;
    struct call *others[PAGER_CALL_WORKERS];
    rig_start(&(struct rig_options){0});
    rig_attach(1);
    begin_on_all_workers(others);
    struct sigaction action = {.sa_handler = leave};
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    main_thread = pthread_self();
    if (sigsetjmp(out, 1) == 0) {
        assert_int_equal(pthread_create(&interrupter.thread, NULL, interrupt_call, NULL), 0);
        (void)rig_swap_in(3, 1, 0);
        fail_msg("the call came back");
    }
    struct call next = {.kind = CALL_SWAP_IN,
                        .segment = &rig.segments[1],
                        .page = 9,
                        .count = 1,
                        .next_page = DSM_NO_PAGE};
    assert_int_equal(pager_call(&rig.pager, &next), 0);
    (void)pthread_join(interrupter.thread, NULL);
    assert_true(interrupter.began && interrupter.revoked);
    end_on_all_workers(others);
    assert_int_equal(rig_state(3), PAGE_BACKING);
    rig_check();
    rig_detach(0);
    rig_stop();
}

#endif

// Who waits for memory is woken once for a run of pages that are given up, not once for each.
static void frames_given_up_together(void **state)
{
    enum { PAGES = 32 };
    (void)state;
    rig_start(&(struct rig_options){0});
    assert_int_equal(rig_swap_in(0, PAGES, 0), 0);
    rig_settle();
    uint64_t resident = rig.pager.resident_bytes;
    uint32_t woken = atomic_load(&rig.pager.frames_word);
    assert_int_equal(rig_give_up(0, PAGES), 0);
    assert_int_equal(resident - rig.pager.resident_bytes, (uint64_t)PAGES * RIG_PAGE);
    assert_int_equal(atomic_load(&rig.pager.frames_word) - woken, 1);
    rig_expect_page(PAGES - 1, 0);
    rig_stop();
}

static struct {
    _Atomic uint32_t stop;
    unsigned found;
} search;

static void *find_nothing(void *argument)
{
    (void)argument;
    while (atomic_load(&search.stop) == 0) {
        search.found += pager_find(&rig.pager, 4096) != NULL;
    }
    return NULL;
}

// While a segment is attached no other address is taken for one of its own.
static void low_addresses_are_nobodys(void **state)
{
    (void)state;
    rig_start(&(struct rig_options){0});
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, find_nothing, NULL), 0);
    for (int i = 0; i < 200; i++) {
        rig_attach(1);
        rig_detach(1);
    }
    atomic_store(&search.stop, 1);
    (void)pthread_join(thread, NULL);
    assert_int_equal(search.found, 0);
    rig_stop();
}

// What is kept free follows how much finds no place: nothing where all fit; a page at least, or the laundry would aim at none.
static void what_is_kept_free(void **state)
{
    (void)state;
    enum { BYTES = 65536, PAGES = 100 };
    rig_start(&(struct rig_options){
        .pages = PAGES, .page_bytes = BYTES, .cache_pages = PAGES, .laundry = true});
    assert_int_equal(rig.pager.high_water, 0);
    assert_int_equal(rig.pager.low_water, 0);
    const uint64_t cache = rig.pager.options.cache_bytes;
    rig.pager.options.cache_bytes = 2 * cache - BYTES / 2; // the second one lacks half a page
    rig_attach(1);
    assert_int_equal(rig.pager.high_water, 2 * BYTES);
    assert_int_equal(rig.pager.low_water, BYTES);
    rig_detach(1);
    assert_int_equal(rig.pager.high_water, 0);
    rig.pager.options.cache_bytes = cache; // and here all of its pages
    rig_attach(1);
    assert_int_equal(rig.pager.high_water, cache / 16);
    assert_int_equal(rig.pager.low_water, cache / 32);
    rig_detach(1);
    rig_stop();
}

#define TEST(name) cmocka_unit_test_teardown(name, rig_cmocka_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_map_budget),
        TEST(long_open_runs_and_a_full_budget),
        TEST(a_segment_goes_while_its_frame_is_punched),
        TEST(a_segment_goes_with_its_pins),
        TEST(a_segment_goes_while_a_call_fetches_its_page),
        TEST(a_segment_goes_while_a_call_is_queued),
        TEST(a_segment_goes_while_a_call_waits_for_a_frame),
#if !defined(__SANITIZE_THREAD__)
        TEST(a_segment_whose_queued_call_is_revoked),
#endif
        TEST(frames_given_up_together),
        TEST(low_addresses_are_nobodys),
        TEST(what_is_kept_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
