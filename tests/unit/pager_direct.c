// SPDX-License-Identifier: Apache-2.0
//
// Threads that fetch for themselves where memory is full of changed pages: the victim's write and the read leave together, on one
// lane, whoever takes the answers. Nobody is asked for it: the queue of faults stays empty.
#include "tests/unit/pager_rig.h"

#include <signal.h>
#include <stdlib.h>

enum { FRAMES = 4, PAGE = 8 };

static void fill_with_changes(void)
{
    for (uint64_t page = 0; page < FRAMES; page++) {
        rig_store(page, page + 100);
    }
    rig_age(0, FRAMES); // in this order
    rig_reset();
}

static void start(void)
{
    rig_start(&(struct rig_options){.cache_pages = FRAMES});
    fill_with_changes();
}

static uint32_t queued(void)
{
    sync_mask mask = sync_block_signals();
    lock_acquire(&rig.pager.lock);
    uint32_t so_far = rig.pager.queue_head + rig.pager.queue_count;
    lock_release(&rig.pager.lock);
    sync_restore_signals(mask);
    return so_far;
}

static void *touch(void *none)
{
    (void)none;
    rig_expect_page(PAGE, PAGE + 1);
    return NULL;
}

static void expect_all(void)
{
    for (uint64_t page = 0; page < FRAMES; page++) {
        rig_expect_page(page, page + 100);
    }
    rig_expect_page(PAGE, PAGE + 1);
}

static void a_thread_writes_its_victim_itself(void **state)
{
    (void)state;
    start();
    uint32_t before = queued();
    (void)touch(NULL);
    assert_int_equal(queued(), before);
    rig_expect_io("W0+1 R8+1");
    rig_expect_stored(0, 100);
    assert_int_equal(rig_state(0), PAGE_BACKING);
    assert_int_equal(STAT_GET(&rig.stat, victims_dirty), 1);
    expect_all();
    rig_stop();
}

// Both requests are on their way before the first answer is in; the lane's thread takes what is late.
static void a_late_answer_is_taken_by_the_lanes_thread(void **state)
{
    (void)state;
    start();
    pthread_t thread;
    uint32_t sent = atomic_load(&rig.sent);
    atomic_store(&rig.hold, 1);
    assert_int_equal(pthread_create(&thread, NULL, touch, NULL), 0);
    rig_await(&rig.sent, sent + 2);
    rig_await(&rig.held, 1); // by the lane's thread: who touched has left the rest to it
    assert_int_equal(rig_state(0), PAGE_WRITING);
    assert_int_equal(rig_state(PAGE), PAGE_READING);
    rig_release(&rig.hold);
    (void)pthread_join(thread, NULL);
    rig_expect_io("W0+1 R8+1");
    expect_all();
    rig_stop();
}

// The victim's write fails: it keeps its page and its mark, and another one goes.
static void a_victim_that_cannot_be_written(void **state)
{
    (void)state;
    for (int late = 0; late < 2; late++) {
        start();
        pthread_t thread;
        uint32_t sent = atomic_load(&rig.sent);
        rig.fail_write = 0;
        atomic_store(&rig.hold, (uint32_t)late);
        assert_int_equal(pthread_create(&thread, NULL, touch, NULL), 0);
        rig_await(&rig.sent, sent + 2);
        rig_await(&rig.held, (uint32_t)late); // as above
        rig_release(&rig.hold);
        (void)pthread_join(thread, NULL);
        assert_int_equal(rig_state(PAGE), PAGE_RESIDENT);
        assert_int_equal(STAT_GET(&rig.stat, swap_in_failed_to_clean_victims), 1);
        assert_int_equal(STAT_GET(&rig.stat, faults_failed), 0);
        expect_all();
        rig_check_failed();
        rig_stop();
    }
}

// The server refuses all writes, and goes on. The lane that was given up for the first of them is enough: whoever faults then
// leaves the victims to a worker.
static void a_server_that_refuses_writes(void **state)
{
    (void)state;
    rig_start(&(struct rig_options){.cache_pages = FRAMES});
    for (uint64_t page = 0; page < FRAMES - 1; page++) {
        rig_store(page, page + 100);
    }
    rig_expect_page(FRAMES - 1, FRAMES);
    rig_age(0, FRAMES);
    rig.refuse_writes = WIRE_NO_SPACE;
    (void)touch(NULL);
    assert_true(STAT_GET(&rig.stat, swap_in_failed_to_clean_victims) > 0);
    uint64_t connections = rig.resume;
    uint32_t before = queued();
    for (uint64_t page = PAGE + 1; page < PAGE + 5; page++) {
        rig_expect_page(page, page + 1);
    }
    assert_true(queued() - before >= 4);
    assert_int_equal(rig.resume, connections);
    rig.refuse_writes = WIRE_OK;
    assert_int_equal(rig_clean(0, 1), 0);
    for (uint64_t page = 1; page < FRAMES - 1; page++) {
        rig_expect_page(page, page + 100);
    }
    before = queued();
    for (uint64_t page = 2 * PAGE; page < 2 * PAGE + FRAMES; page++) { // by itself again
        rig_expect_page(page, page + 1);
    }
    assert_int_equal(queued(), before);
    assert_true(STAT_GET(&rig.stat, swap_in_dirty_victims) > 0);
    rig_check_failed();
    rig_stop();
}

// What a server refused is forgotten with it: attached again, the segment has its victims written
// by the threads that need their memory.
static void a_segment_that_is_attached_again(void **state)
{
    (void)state;
    start();
    struct segment *segment = &rig.segments[0];
    const struct trap_ops *watched = segment->view.ops;
    void *base = segment->view.base;
    rig.refuse_writes = WIRE_NO_SPACE;
    assert_int_not_equal(rig_clean(0, 1), 0);
    rig_settle();
    pager_detach(segment);
    rig.refuse_writes = WIRE_OK;
    assert_int_equal(pager_attach(&rig.pager, segment, base), 0);
    segment->view.ops = watched;
    fill_with_changes();
    uint32_t before = queued();
    (void)touch(NULL);
    assert_int_equal(queued(), before);
    rig_expect_io("W0+1 R8+1");
    expect_all();
    rig_check_failed();
}

// A page that is larger than its victim needs more than one: that takes a worker.
static void pages_of_different_sizes(void **state)
{
    (void)state;
    rig_start(&(struct rig_options){.cache_pages = FRAMES});
    rig.options.page_bytes = 2 * RIG_PAGE;
    rig_attach(1);
    rig.options.page_bytes = RIG_PAGE;
    for (uint64_t page = 0; page < FRAMES; page++) {
        rig_store(page, page + 100);
    }
    uint32_t before = queued();
    static uint8_t large[2 * RIG_PAGE];
    rig_fill(large, 1, sizeof large);
    const uint8_t *base = rig.segments[1].view.base;
    (void)*(const volatile uint8_t *)base;
    assert_true(queued() > before); // again while it is without a frame, and given back
    assert_in_range(STAT_GET(&rig.stat, victims_dirty), 2, FRAMES);
    assert_memory_equal(base, large, sizeof large);
    for (uint64_t page = 0; page < FRAMES; page++) {
        rig_expect_page(page, page + 100); // whether it was written to make room, or stayed
    }
    assert_memory_equal(base, large, sizeof large);
    rig_stop();
}

// Linked by --wrap: a fault's plan is made, and nothing of it is checked out yet.
void __real_pager_fault_swap(struct swap *swap, struct segment *segment,
                             const struct fault_request *request,
                             const struct read_ahead_plan *plan, uint32_t run, int64_t deadline);
void __wrap_pager_fault_swap(struct swap *swap, struct segment *segment,
                             const struct fault_request *request,
                             const struct read_ahead_plan *plan, uint32_t run, int64_t deadline);
static _Atomic uint64_t given_up_next; // a page: given up where a fault's plan is made; or 0

void __wrap_pager_fault_swap(struct swap *swap, struct segment *segment,
                             const struct fault_request *request,
                             const struct read_ahead_plan *plan, uint32_t run, int64_t deadline)
{
    uint64_t page = atomic_exchange(&given_up_next, 0);
    if (page != 0) {
        assert_in_range(page, request->page + 1, request->page + run - 1);
        assert_int_equal(rig_give_up(page, 1), 0);
        atomic_store(&rig.places_fail, 1);
    }
    __real_pager_fault_swap(swap, segment, request, plan, run, deadline);
}

static void *touch_third(void *none)
{
    (void)none;
    rig_expect_page(3, 4);
    return NULL;
}

// The page beside the touched one has lost its contents since the plan was made, and there is no
// memory for it: that ends the swap-in with the touched page under way. Its lane goes with it.
static void memory_runs_out_before_the_run_has_left(void **state)
{
    (void)state;
    rig_start(&(struct rig_options){.read_ahead_bytes = 1 << 20});
    rig_expect_page(0, 1);
    rig_expect_page(1, 2); // with one behind it; the third fault's window is of four pages
    rig_settle();
    rig_reset();
    uint32_t sent = atomic_load(&rig.sent);
    atomic_store(&rig.hold, 1);
    atomic_store(&given_up_next, 4);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, touch_third, NULL), 0);
    rig_await(&rig.sent, sent + 1);
    while (atomic_load(&rig.held) == 0) { // until the lane's thread waits for the answer
        assert_false(rig_server_lanes_free());
    }
    assert_int_equal(rig_state(3), PAGE_READING);
    rig_release(&rig.hold);
    (void)pthread_join(thread, NULL);
    rig_expect_io("R3+1");
    rig_expect_page(4, 0);
    rig_expect_page(5, 6);
    rig_stop();
}

#define TEST(name) cmocka_unit_test_teardown(name, rig_cmocka_stop)

int main(void)
{
    (void)setenv("DSM_DIRECT", "on", 1);
    const struct CMUnitTest tests[] = {
        TEST(a_thread_writes_its_victim_itself),
        TEST(a_late_answer_is_taken_by_the_lanes_thread),
        TEST(a_victim_that_cannot_be_written),
        TEST(a_server_that_refuses_writes),
        TEST(a_segment_that_is_attached_again),
        TEST(pages_of_different_sizes),
        TEST(memory_runs_out_before_the_run_has_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
