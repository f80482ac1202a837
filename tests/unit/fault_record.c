// SPDX-License-Identifier: Apache-2.0
//
// What a worker leaves for the thread that faulted: it gets there once, whole, and to nobody else, whatever the thread did meanwhile; and the
// parts of the time add up. The semaphore is raised by hand; that a tracer sees the same is another test's business.
#include "libdsm/pager/fault_record.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "libdsm/pager/pager.h"
#include "libdsm/stat/probes.h"

static struct pager *pager;
static struct segment segment;

static int start(void **state)
{
    (void)state;
    pager = calloc(1, sizeof *pager);
    segment = (struct segment){.number = 1};
    dsm_fault_end_semaphore = 1;
    return pager == NULL;
}

static int stop(void **state)
{
    (void)state;
    dsm_fault_end_semaphore = 0;
    free(pager);
    return 0;
}

static struct fault_request request_of(uint32_t thread)
{
    return (struct fault_request){.thread = thread};
}

static uint32_t self(void)
{
    return (uint32_t)syscall(SYS_gettid);
}

// A worker's swap-in for this request, `late` ns after it was posted.
static struct swap swap_for(const struct fault_request *request, int64_t late)
{
    struct swap swap = {.pager = pager, .segment = &segment, .request = request};
    swap.picked = pager->records[request->record - 1].posted + late;
    return swap;
}

static uint64_t sum_of(const struct dsm_fault_parts *p)
{
    return p->pager_ns + p->handover_ns + p->wait_ns + p->cipher_ns + p->wire_ns + p->server_ns +
           p->wake_ns;
}

static void nothing_is_done_while_nobody_looks(void **state)
{
    (void)state;
    struct fault_trace trace;
    struct fault_request request = request_of(self());
    dsm_fault_end_semaphore = 0;
    fault_trace_begin(&trace, sync_now());
    fault_trace_ask(&trace, pager, &request);
    assert_int_equal(request.record, 0);
    fault_trace_sleep(&trace);
    fault_trace_slept(&trace, pager);
    fault_trace_end(&trace, &segment, 0);
    assert_int_equal(pager->records[0].owner, 0);
    struct swap swap = {.pager = pager, .segment = &segment, .request = &request};
    SWAP_ADD(&(struct swap){.stat = &pager->unseen}, reads, 1);
    fault_record_settle(&swap); // no record: nothing to write to
}

static void the_parts_come_over_and_add_up(void **state)
{
    (void)state;
    struct fault_trace trace;
    struct fault_request request = request_of(self());
    int64_t begun = sync_now();
    fault_trace_begin(&trace, begun);
    fault_trace_ask(&trace, pager, &request);
    fault_trace_sleep(&trace);
    struct swap swap = swap_for(&request, 100);
    struct backing_lane lane = {.times = {.io_ns = 700,
                                          .cipher_ns = 50,
                                          .server_ns = 300,
                                          .server_cipher_ns = 20,
                                          .data_bytes = 4096},
                                .down_ns = 7};
    swap.timed = &lane;
    swap.run = (struct fault_run){.pages = 3, .store = 2};
    swap.waited_ns = 5;
    swap.counted[SWAP_COUNT_reads] = 3;
    while (sync_now() < swap.picked + 2000) {
    }
    fault_record_settle(&swap);
    assert_int_equal(swap.counted[SWAP_COUNT_reads], 0); // told
    fault_record_settle(&swap);                          // once
    fault_trace_slept(&trace, pager);
    struct dsm_fault_parts *p = &trace.parts;
    assert_int_equal(p->handover_ns, 100);
    assert_int_equal(p->cipher_ns, 50 + 20);
    assert_int_equal(p->server_ns, 300 - 20);
    assert_int_equal(p->wire_ns, 700 - 300);
    assert_int_equal(p->wait_ns, 7 + 5);
    assert_int_equal(p->swap_in[SWAP_COUNT_reads], 3);
    assert_int_equal(trace.run.pages, 3);
    assert_int_equal(trace.run.store, 2);
    assert_int_equal(trace.run.bytes, 4096);
    fault_trace_end(&trace, &segment, 0);
    int64_t now = sync_now();
    assert_true(p->begin_ns == (uint64_t)begun);
    assert_true(sum_of(p) <= (uint64_t)(now - begun));
    assert_true(p->pager_ns > 0);
}

// The answer was there before it was waited for: no part is below zero, and none is counted twice.
static void a_slow_client_is_not_the_wire(void **state)
{
    (void)state;
    struct fault_trace trace;
    struct fault_request request = request_of(self());
    fault_trace_begin(&trace, sync_now());
    fault_trace_ask(&trace, pager, &request);
    fault_trace_sleep(&trace);
    struct swap swap = swap_for(&request, 0);
    struct backing_lane lane = {
        .times = {.io_ns = 100, .server_ns = 5000, .server_cipher_ns = 200}};
    swap.timed = &lane;
    fault_record_settle(&swap);
    fault_trace_slept(&trace, pager);
    assert_int_equal(trace.parts.wire_ns, 0);
    assert_int_equal(trace.parts.server_ns + trace.parts.cipher_ns, 100);
}

// It sleeps, is woken for nothing, sleeps again: the first sleep is within what the record tells.
static void sleeps_are_counted_once(void **state)
{
    (void)state;
    struct fault_trace trace;
    struct fault_request request = request_of(self());
    int64_t begun = sync_now();
    fault_trace_begin(&trace, begun);
    fault_trace_ask(&trace, pager, &request);
    for (int i = 0; i < 3; i++) {
        fault_trace_sleep(&trace);
        (void)usleep(1000);
        if (i == 2) {
            struct swap swap = swap_for(&request, 0);
            fault_record_settle(&swap);
        }
        fault_trace_slept(&trace, pager);
    }
    fault_trace_end(&trace, &segment, 0);
    assert_int_equal(trace.parts.wait_ns, 0);
    assert_true(sum_of(&trace.parts) >= 3000000);
    assert_true(sum_of(&trace.parts) <= (uint64_t)(sync_now() - begun));
}

static void without_a_request_all_is_waiting(void **state)
{
    (void)state;
    struct fault_trace trace;
    fault_trace_begin(&trace, sync_now());
    fault_trace_sleep(&trace);
    (void)usleep(1000);
    fault_trace_slept(&trace, pager);
    fault_trace_end(&trace, &segment, 0);
    assert_true(trace.parts.wait_ns >= 1000000);
}

// The thread gave up, or left by a leap: its next fault has another ticket, and the late worker keeps what it counted.
static void a_late_worker_finds_nobody(void **state)
{
    (void)state;
    struct fault_trace first;
    struct fault_trace second;
    struct fault_request old = request_of(self());
    struct fault_request new = request_of(self());
    fault_trace_begin(&first, sync_now());
    fault_trace_ask(&first, pager, &old);
    fault_trace_begin(&second, sync_now());
    fault_trace_ask(&second, pager, &new);
    assert_int_equal(old.record, new.record);
    struct swap late = swap_for(&old, 0);
    late.counted[SWAP_COUNT_reads] = 1;
    fault_record_settle(&late);
    assert_int_equal(late.counted[SWAP_COUNT_reads], 1); // its own to tell
    struct swap swap = swap_for(&new, 0);
    swap.counted[SWAP_COUNT_reads] = 10;
    fault_record_settle(&swap);
    fault_trace_sleep(&second);
    fault_trace_slept(&second, pager);
    assert_int_equal(second.parts.swap_in[SWAP_COUNT_reads], 10);
    fault_trace_sleep(&first); // the interrupted one goes on
    fault_trace_slept(&first, pager);
    assert_int_equal(first.parts.swap_in[SWAP_COUNT_reads], 0);
}

static void *one_fault(void *argument)
{
    struct fault_request *request = argument;
    struct fault_trace trace;
    *request = request_of(self());
    fault_trace_begin(&trace, sync_now());
    fault_trace_ask(&trace, pager, request);
    return NULL;
}

static void threads_that_are_gone_leave_their_records(void **state)
{
    (void)state;
    struct fault_request mine = request_of(self());
    struct fault_trace trace;
    fault_trace_begin(&trace, sync_now());
    fault_trace_ask(&trace, pager, &mine);
    assert_int_equal(mine.record, 1);
    for (int i = 0; i < 2 * FAULT_RECORDS; i++) {
        pthread_t thread;
        struct fault_request request;
        assert_int_equal(pthread_create(&thread, NULL, one_fault, &request), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_true(request.record > 1 && request.record <= FAULT_RECORDS);
    }
    fault_trace_ask(&trace, pager, &mine);
    assert_int_equal(mine.record, 1); // who lives keeps it
}

static void where_no_record_is_left_faults_go_on(void **state)
{
    (void)state;
    for (int i = 0; i < FAULT_RECORDS; i++) {
        pager->records[i].owner = (uint32_t)getpid(); // who lives
    }
    struct fault_request other = request_of(self() + 1000000); // not one of those
    struct fault_trace trace;
    fault_trace_begin(&trace, sync_now());
    fault_trace_ask(&trace, pager, &other);
    assert_int_equal(other.record, 0);
    fault_trace_sleep(&trace);
    fault_trace_slept(&trace, pager);
    fault_trace_end(&trace, &segment, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_done_while_nobody_looks, start, stop),
        cmocka_unit_test_setup_teardown(the_parts_come_over_and_add_up, start, stop),
        cmocka_unit_test_setup_teardown(a_slow_client_is_not_the_wire, start, stop),
        cmocka_unit_test_setup_teardown(sleeps_are_counted_once, start, stop),
        cmocka_unit_test_setup_teardown(without_a_request_all_is_waiting, start, stop),
        cmocka_unit_test_setup_teardown(a_late_worker_finds_nobody, start, stop),
        cmocka_unit_test_setup_teardown(threads_that_are_gone_leave_their_records, start, stop),
        cmocka_unit_test_setup_teardown(where_no_record_is_left_faults_go_on, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
