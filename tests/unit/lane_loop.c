// SPDX-License-Identifier: Apache-2.0
//
// lane_loop: the common exercises, its bounds, and what its answering function can do to it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>

#include "tests/unit/lane_exercise.h"

static int open_lane(void **state)
{
    *state = lane_loop_create(exercise_answer, NULL);
    return *state == NULL;
}

static int close_lane(void **state)
{
    struct lane *lane = *state;
    lane_destroy(&lane);
    return lane != NULL;
}

static void reads(void **state)
{
    exercise_reads(*state);
}

static void writes(void **state)
{
    exercise_writes(*state);
}

static void pipelining(void **state)
{
    exercise_pipelining(*state);
}

static void leftovers(void **state)
{
    exercise_leftovers(*state);
}

static void refusals(void **state)
{
    exercise_refusals(*state);
}

// Runs of 1 MiB: some four fit into the queue, then -EAGAIN, and after an answer there is room
// again.
static void the_queue_is_bounded(void **state)
{
    struct lane *lane = *state;
    static uint8_t data[LIMIT_RUN_BYTES];
    const struct iovec piece = {data, sizeof data};
    struct wire_header request = exercise_request(WIRE_WRITE, 0, 1, 1 << 20), answer;
    request.length = LIMIT_RUN_BYTES;
    wire_map_set(request.map, 0);
    unsigned sent = 0;
    int error;
    while ((error = lane->ops->send(lane, &request, &piece, 1, LANE_NO_DEADLINE)) == 0) {
        sent++;
    }
    assert_int_equal(error, -EAGAIN);
    assert_in_range(sent, 4, 5);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(lane->ops->receive(lane, &answer, LANE_NO_DEADLINE), 0);
        assert_int_equal(lane->ops->send(lane, &request, &piece, 1, LANE_NO_DEADLINE), 0);
    }
}

static int answer_broken(void *context, const struct wire_header *request, const void *payload,
                         struct wire_header *answer, void *answer_payload)
{
    (void)payload;
    (void)answer_payload;
    *answer = (struct wire_header){.op = request->op | WIRE_ANSWER, .request = request->request};
    int *error = context;
    if (*error == 0) {
        answer->request++; // an answer to something else
    }
    return *error;
}

static void a_wrong_answer_kills_the_lane(void **state)
{
    (void)state;
    static const int returned[] = {-ECONNRESET, -ETIMEDOUT, 0};
    static const int seen[] = {-ECONNRESET, -ETIMEDOUT, -EBADMSG};
    for (int i = 0; i < 3; i++) {
        int error = returned[i];
        struct lane *lane = lane_loop_create(answer_broken, &error);
        struct wire_header request = exercise_request(WIRE_PING, 0, 0, 0), answer;
        assert_int_equal(lane->ops->send(lane, &request, NULL, 0, LANE_NO_DEADLINE), 0);
        assert_int_equal(lane->ops->receive(lane, &answer, LANE_NO_DEADLINE), seen[i]);
        assert_int_equal(lane->ops->receive(lane, &answer, LANE_NO_DEADLINE), -ENOTCONN);
        assert_int_equal(lane->ops->send(lane, &request, NULL, 0, LANE_NO_DEADLINE), -ENOTCONN);
        lane_destroy(&lane);
    }
}

static void shut_ends_it(void **state)
{
    struct lane *lane = *state;
    struct wire_header request = exercise_request(WIRE_PING, 0, 0, 0), answer;
    assert_int_equal(lane->ops->send(lane, &request, NULL, 0, LANE_NO_DEADLINE), 0);
    lane->ops->shut(lane);
    assert_int_equal(lane->ops->receive(lane, &answer, LANE_NO_DEADLINE), -ENOTCONN);
    assert_int_equal(lane->ops->send(lane, &request, NULL, 0, LANE_NO_DEADLINE), -ENOTCONN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reads, open_lane, close_lane),
        cmocka_unit_test_setup_teardown(writes, open_lane, close_lane),
        cmocka_unit_test_setup_teardown(pipelining, open_lane, close_lane),
        cmocka_unit_test_setup_teardown(leftovers, open_lane, close_lane),
        cmocka_unit_test_setup_teardown(refusals, open_lane, close_lane),
        cmocka_unit_test_setup_teardown(the_queue_is_bounded, open_lane, close_lane),
        cmocka_unit_test(a_wrong_answer_kills_the_lane),
        cmocka_unit_test_setup_teardown(shut_ends_it, open_lane, close_lane),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
