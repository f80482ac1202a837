// SPDX-License-Identifier: Apache-2.0
//
// Runs by a thread that may not wait: over a lane_sock whose other end is in the test's hands, so that an answer comes as late, and in
// as small pieces, as the test wants. What a direct receive left is gone on with, to the byte; a lane that dies in the middle
// costs a retry by whoever takes over; and direct threads do not keep a worker from a lane.
#include "tests/unit/backing_rig.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "libdsm/sync/futex.h"
#include "tests/unit/lane_sock_rig.h"

enum { LONG_PAST = 1 };

static struct line *line;

static struct backing_lane *begin(uint32_t page_bytes, bool with_address)
{
    struct backing_lane *lane = start(page_bytes);
    lane_destroy(&lane->lane);
    backing_give(lane);
    line = line_new();
    lane->lane = line->lane;
    rig.with_address = with_address;
    lane = backing_direct(&rig.backing, LONG_PAST);
    assert_non_null(lane);
    return lane;
}

static void end(struct backing_lane *lane)
{
    line->lane = lane->lane;
    lane->lane = NULL;
    line_free(line);
    stop(lane);
}

// The next request, out of the socket, and its answer, sealed, into line->message; its bytes.
static size_t prepare_answer(void)
{
    uint8_t sealed[WIRE_HEADER_SEALED_BYTES];
    assert_true(line_read(line->fd, sealed, sizeof sealed));
    assert_int_equal(record_header_open(line->open, sealed, &line->last), 0);
    assert_int_equal(line->last.op, WIRE_READ);
    struct wire_header answer = line_answer(line, 0);
    answer.segment = line->last.segment;
    answer.page = line->last.page;
    answer.count = line->last.count;
    for (uint32_t i = 0; i < answer.count; i++) {
        const uint8_t *page = rig.data + (answer.page + i - FIRST_PAGE) * rig.page_bytes;
        if (page[0] != 0 || memcmp(page, page + 1, rig.page_bytes - 1) != 0) {
            wire_map_set(answer.map, i);
            memcpy(line->answer_payload + answer.length, page, rig.page_bytes);
            answer.length += rig.page_bytes;
        }
    }
    return line_seal(line, &answer);
}

static uint32_t delivered(uint32_t count)
{
    uint32_t n = 0;
    while (n < count && rig.delivered[n] == 1) {
        n++;
    }
    return n;
}

// Pages of data whose records are wholly among the first `bytes` of an answer.
static uint32_t arrived(size_t bytes)
{
    size_t records = bytes < WIRE_HEADER_SEALED_BYTES
                         ? 0
                         : (bytes - WIRE_HEADER_SEALED_BYTES) / RECORD_SEALED_MAX;
    return (uint32_t)(records * LIMIT_RECORD_DATA_BYTES / rig.page_bytes);
}

// In pieces of `step` bytes; between them the run moves, as from one thread's hands into another's.
static void dribble(struct backing_lane *lane, struct backing_run run, size_t bytes, size_t step)
{
    uint32_t before = 0;
    for (size_t at = 0; at < bytes; at += step) {
        struct backing_run moved = run;
        assert_int_equal(backing_read_receive(lane, &moved, &sink, &moved, soon()), -EINPROGRESS);
        assert_int_equal(moved.done, delivered(moved.count));
        assert_true(moved.done >= before && moved.done >= arrived(at));
        before = moved.done;
        assert_true(
            line_write(line->fd, line->message + at, step < bytes - at ? step : bytes - at));
        run = moved;
    }
    assert_int_equal(backing_read_receive(lane, &run, &sink, &run, soon()), 0);
    assert_int_equal(run.done, run.count);
    expect_delivered(run.count, run.count);
    assert_int_equal(STAT_GET(&rig.stat, retries), 0);
}

static void late_answers_come_in_piece_by_piece(void **state)
{
    (void)state;
    static const struct {
        uint32_t page_bytes, count;
        uint64_t zeros;
        size_t step;
    } cases[] = {{4096, 1, 0, 1},           {4096, 1, 0, 4000},      {4096, 1, 1, 50},
                 {4096, 64, 0, 4099},       {4096, 64, 0xf0f1, 777}, {4096, 256, 0x8001, 65536},
                 {65536, 5, 4, 9001},       {1 << 20, 1, 0, 32791},  {16384, 7, 0x41, 112},
                 {4096, 9, ~UINT64_C(0), 7}};
    for (size_t c = 0; c < 2 * sizeof cases / sizeof cases[0]; c++) {
        struct backing_lane *lane = begin(cases[c / 2].page_bytes, c % 2 == 0);
        data_pages(cases[c / 2].zeros, cases[c / 2].count);
        struct backing_run run = run_of(cases[c / 2].count);
        backing_read_send(lane, &run, soon());
        dribble(lane, run, prepare_answer(), cases[c / 2].step);
        end(lane);
    }
}

// What is all here is opened first and delivered after, but for the pages that somebody waits for.
static void many_records_are_delivered_as_one(void **state)
{
    (void)state;
    struct backing_lane *lane = begin(4096, true);
    data_pages(0, 40);
    struct backing_run run = run_of(40);
    backing_read_send(lane, &run, soon());
    size_t bytes = prepare_answer();
    assert_true(line_write(line->fd, line->message, bytes));
    rig.deliveries = 0;
    assert_int_equal(backing_read_receive(lane, &run, &sink, &run, soon()), 0);
    expect_delivered(40, 40);
    assert_int_equal(rig.deliveries, 2);
    end(lane);
}

static void *feed_later(void *argument)
{
    size_t bytes = *(size_t *)argument;
    _Atomic uint32_t never = 0;
    (void)sync_wait(&never, 0, sync_after_ms(20));
    assert_true(line_write(line->fd, line->message + bytes / 3, bytes - bytes / 3));
    return NULL;
}

// The worker waits where the direct thread could not; the lane is as good as ever afterwards.
static void taken_over_in_the_middle(void **state)
{
    (void)state;
    struct backing_lane *lane = begin(4096, true);
    data_pages(0, 64);
    struct backing_run run = run_of(64);
    backing_read_send(lane, &run, soon());
    size_t bytes = prepare_answer();
    assert_true(line_write(line->fd, line->message, bytes / 3));
    assert_int_equal(backing_read_receive(lane, &run, &sink, &run, soon()), -EINPROGRESS);
    assert_in_range(run.done, 1, 63);
    backing_take_over(lane);
    pthread_t feeder;
    assert_int_equal(pthread_create(&feeder, NULL, feed_later, &bytes), 0);
    assert_int_equal(backing_read_receive(lane, &run, &sink, &run, soon()), 0);
    (void)pthread_join(feeder, NULL);
    expect_delivered(64, 64);
    backing_give(lane);

    lane = backing_direct(&rig.backing, LONG_PAST); // a question of somebody else's
    assert_non_null(lane);
    run = run_of(9);
    backing_read_send(lane, &run, soon());
    dribble(lane, run, prepare_answer(), 1000);
    end(lane);
}

// Two runs under way; the late answer to the first is never taken for the second's.
static void late_answers_keep_their_order(void **state)
{
    (void)state;
    struct backing_lane *lane = begin(4096, false);
    data_pages(0x10, 48);
    struct backing_run first = run_of(16), second = first;
    second.page += 16;
    second.count = 32;
    backing_read_send(lane, &first, soon());
    backing_read_send(lane, &second, soon());
    assert_int_equal(backing_read_receive(lane, &first, &sink, &first, soon()), -EINPROGRESS);
    for (int i = 0; i < 2; i++) {
        size_t bytes = prepare_answer();
        assert_true(line_write(line->fd, line->message, bytes));
    }
    backing_take_over(lane);
    assert_int_equal(backing_read_receive(lane, &first, &sink, &first, soon()), 0);
    expect_delivered(16, 16);
    second = (struct backing_run){.segment = second.segment,
                                  .page = second.page,
                                  .count = second.count,
                                  .sent_on = second.sent_on,
                                  .request = second.request,
                                  .asked = second.asked};
    memset(rig.delivered, 0, sizeof rig.delivered);
    memset(rig.placed, 0, sizeof rig.placed);
    assert_int_equal(backing_read_receive(lane, &second, &sink, &second, soon()), 0);
    expect_delivered(32, 32);
    end(lane);
}

// The server dies with a third of the pages sent. The direct thread neither waits nor asks again; who takes over does.
static void death_in_the_middle(void **state)
{
    (void)state;
    struct backing_lane *lane = begin(4096, true);
    data_pages(2, 64);
    struct backing_run run = run_of(64);
    backing_read_send(lane, &run, soon());
    size_t bytes = prepare_answer();
    assert_true(line_write(line->fd, line->message, bytes / 3));
    shutdown(line->fd, SHUT_RDWR);
    unsigned requests = rig.requests;
    assert_int_equal(backing_read_receive(lane, &run, &sink, &run, soon()), -EINPROGRESS);
    assert_in_range(run.done, 1, 63);
    expect_delivered(run.done, 64);
    assert_int_equal(rig.requests, requests);
    backing_take_over(lane); // the keeper brings it up again, over lane_loop
    assert_int_equal(backing_read_receive(lane, &run, &sink, &run, soon()), 0);
    expect_delivered(64, 64);
    assert_int_equal(rig.requests, requests + 1);
    assert_int_equal(STAT_GET(&rig.stat, retries), 1);
    line->lane = NULL;
    line_free(line);
    stop(lane);
}

// A server that was just started says "not open": a direct thread does not wait for it.
static void not_yet_is_left_to_others(void **state)
{
    (void)state;
    struct backing_lane *lane = start(4096);
    backing_give(lane);
    data_pages(0, 8);
    lane = backing_direct(&rig.backing, soon());
    assert_non_null(lane);
    rig.statuses_left = 1;
    rig.status = WIRE_NOT_OPEN;
    struct backing_run run = run_of(8);
    assert_int_equal(read_run(lane, &run, soon()), -EINPROGRESS);
    assert_int_equal(rig.requests, 1);
    backing_take_over(lane);
    assert_int_equal(backing_read_receive(lane, &run, &sink, &run, soon()), 0);
    expect_delivered(8, 8);

    // Some pages could be read: the error is not forgotten on the way from hand to hand.
    backing_give(lane);
    lane = backing_direct(&rig.backing, soon());
    assert_non_null(lane);
    rig.statuses_left = 1;
    rig.status = WIRE_STORE_ERROR;
    rig.done = 5;
    run = run_of(8);
    assert_int_equal(read_run(lane, &run, soon()), -EINPROGRESS);
    struct backing_run moved = run;
    backing_take_over(lane);
    assert_int_equal(backing_read_receive(lane, &moved, &sink, &moved, soon()), -EIO);
    expect_delivered(5, 8);
    stop(lane);
}

static void a_lane_that_is_down_is_not_taken(void **state)
{
    (void)state;
    struct backing_lane *lane = start(4096);
    assert_null(backing_direct(&rig.backing, soon())); // ours
    atomic_store(&lane->up, 0);                        // nobody told the keeper
    backing_give(lane);
    assert_null(backing_direct(&rig.backing, soon()));
    atomic_store(&lane->up, 1);
    lane = backing_direct(&rig.backing, soon());
    assert_non_null(lane);
    stop(lane);
}

struct worker {
    pthread_t thread;
    _Atomic uint32_t has, let_go;
};

static void *take_as_a_worker(void *argument)
{
    struct worker *worker = argument;
    struct backing_lane *lane = backing_take(&rig.backing, BACKING_FAULT, SYNC_FOR_EVER);
    atomic_store(&worker->has, 1);
    while (atomic_load(&worker->let_go) == 0) {
        (void)sync_wait(&worker->let_go, 0, SYNC_FOR_EVER);
    }
    backing_give(lane);
    return NULL;
}

// From when a worker stands in line, no direct thread comes before it.
static void workers_have_their_turn(void **state)
{
    (void)state;
    struct backing_lane *lane = start(4096);
    struct worker worker = {.has = 0};
    assert_int_equal(pthread_create(&worker.thread, NULL, take_as_a_worker, &worker), 0);
    while (atomic_load(&rig.backing.in_line[BACKING_FAULT]) == 0) {
        (void)sync_wait(&worker.has, 0, sync_after_ms(1));
    }
    backing_give(lane);
    while (atomic_load(&worker.has) == 0) {
        assert_null(backing_direct(&rig.backing, soon()));
    }
    assert_null(backing_direct(&rig.backing, soon()));
    atomic_store(&worker.let_go, 1);
    sync_wake(&worker.let_go, 1);
    (void)pthread_join(worker.thread, NULL);
    assert_int_equal(atomic_load(&rig.backing.in_line[BACKING_FAULT]), 0);
    lane = backing_direct(&rig.backing, soon());
    assert_non_null(lane);
    stop(lane);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(late_answers_come_in_piece_by_piece),
        cmocka_unit_test(many_records_are_delivered_as_one),
        cmocka_unit_test(taken_over_in_the_middle),
        cmocka_unit_test(late_answers_keep_their_order),
        cmocka_unit_test(death_in_the_middle),
        cmocka_unit_test(not_yet_is_left_to_others),
        cmocka_unit_test(a_lane_that_is_down_is_not_taken),
        cmocka_unit_test(workers_have_their_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
