// SPDX-License-Identifier: Apache-2.0
//
// lane_sock over socket pairs. First against a peer that answers well, on a thread of its own; then
// against bytes that the test itself puts into the socket: flipped, cut, replayed, reordered, from
// another session, or sealed properly but wrong in what they say. Then time-outs, shut, CLOSE, and
// that nothing is allocated.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "rpc/deadline.h"
#include "tests/unit/lane_sock_rig.h"

// Allocations of the thread that has `counting` set (-Wl,--wrap).
// volatile: the compiler believes that malloc cannot change them.
static _Thread_local volatile bool counting;
static _Thread_local volatile unsigned allocations;
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
void __real_free(void *block);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
void __wrap_free(void *block);

void *__wrap_malloc(size_t bytes)
{
    allocations = allocations + counting;
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    allocations = allocations + counting;
    return __real_calloc(count, bytes);
}

void *__wrap_realloc(void *old, size_t bytes)
{
    allocations = allocations + counting;
    return __real_realloc(old, bytes);
}

void __wrap_free(void *block)
{
    allocations = allocations + counting;
    __real_free(block);
}

static void does_what_lanes_do(void **state)
{
    (void)state;
    void (*const exercises[])(struct lane *) = {exercise_reads, exercise_writes,
                                                exercise_pipelining, exercise_leftovers,
                                                exercise_refusals};
    for (size_t i = 0; i < sizeof exercises / sizeof *exercises; i++) {
        struct line *line = line_with_peer();
        exercises[i](line->lane);
        line_free(line);
    }
}

static void destroy_says_close(void **state)
{
    (void)state;
    struct line *line = line_with_peer();
    struct wire_header request = exercise_request(WIRE_PING, 0, 0, 0), answer;
    assert_int_equal(line->lane->ops->send(line->lane, &request, NULL, 0, LANE_NO_DEADLINE), 0);
    assert_int_equal(line->lane->ops->receive(line->lane, &answer, LANE_NO_DEADLINE), 0);
    assert_int_equal(line->lane->counts.requests, 1);
    assert_int_equal(line->lane->counts.sent_bytes, WIRE_HEADER_SEALED_BYTES);
    assert_int_equal(line->lane->counts.received_bytes, WIRE_HEADER_SEALED_BYTES);
    lane_destroy(&line->lane);
    pthread_join(line->thread, NULL);
    line->running = false;
    assert_int_equal(line->last.op, WIRE_CLOSE);
    line_free(line);
}

static void nothing_is_allocated(void **state)
{
    (void)state;
    struct line *line = line_with_peer();
    struct lane *lane = line->lane;
    static uint8_t page[LIMIT_RUN_BYTES];
    const struct iovec piece = {page, sizeof page};
    struct wire_header request = exercise_request(WIRE_READ, 0, 256, 4096), answer;
    struct wire_header write = exercise_request(WIRE_WRITE, 0, 1, 1 << 20);
    const void *data;
    write.length = 1 << 20;
    wire_map_set(write.map, 0);
    counting = true;
    int error = lane->ops->send(lane, &request, NULL, 0, LANE_NO_DEADLINE);
    error |= lane->ops->receive(lane, &answer, LANE_NO_DEADLINE);
    while (lane->ops->receive_data(lane, NULL, &data, LANE_NO_DEADLINE) > 0) {
    }
    error |= lane->ops->send(lane, &write, &piece, 1, LANE_NO_DEADLINE);
    error |= lane->ops->receive(lane, &answer, LANE_NO_DEADLINE);
    error |= lane->ops->receive(lane, &answer, deadline_now()); // nothing asked: -EINVAL
    counting = false;
    assert_int_equal(error, -EINVAL);
    assert_int_equal(allocations, 0);
    counting = true; // and the counter does count
    void *volatile block = malloc(1);
    free(block);
    counting = false;
    assert_int_equal(allocations, 2);
    line_free(line);
}

// Receives one answer with its payload, like a user would.
static int receive_whole(struct lane *lane)
{
    struct wire_header answer;
    const void *data;
    ssize_t bytes = lane->ops->receive(lane, &answer, LANE_NO_DEADLINE);
    while (bytes >= 0) {
        bytes = lane->ops->receive_data(lane, NULL, &data, LANE_NO_DEADLINE);
        if (bytes == 0) {
            return 0;
        }
    }
    return (int)bytes;
}

static void assert_dies(struct line *line, int error)
{
    struct wire_header request = exercise_request(WIRE_PING, 0, 0, 0), answer;
    struct lane *lane = line->lane;
    const void *data;
    assert_int_equal(receive_whole(lane), error);
    assert_int_equal(lane->ops->receive(lane, &answer, LANE_NO_DEADLINE), -ENOTCONN);
    assert_int_equal(lane->ops->receive_data(lane, NULL, &data, LANE_NO_DEADLINE), -ENOTCONN);
    assert_int_equal(lane->ops->send(lane, &request, NULL, 0, LANE_NO_DEADLINE), -ENOTCONN);
    line_free(line);
}

enum { SMALL = 24, SMALL_SEALED = WIRE_HEADER_SEALED_BYTES + SMALL + LIMIT_SEAL_BYTES };

static struct line *line_with_small_answer(void)
{
    struct line *line = line_new();
    line_ask(line, WIRE_CONTROL, 0, 7);
    struct wire_header answer = line_answer(line, SMALL);
    assert_int_equal(line_seal(line, &answer), SMALL_SEALED);
    return line;
}

static void every_flipped_bit_is_found(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < SMALL_SEALED * 8; bit++) {
        struct line *line = line_with_small_answer();
        line->message[bit / 8] = (uint8_t)(line->message[bit / 8] ^ 1u << bit % 8);
        assert_true(line_write(line->fd, line->message, SMALL_SEALED));
        assert_dies(line, -EBADMSG);
    }
}

static void every_cut_is_found(void **state)
{
    (void)state;
    for (unsigned cut = 0; cut <= SMALL_SEALED; cut++) {
        struct line *line = line_with_small_answer();
        assert_true(cut == 0 || line_write(line->fd, line->message, cut));
        shutdown(line->fd, SHUT_WR);
        if (cut == SMALL_SEALED) {
            assert_int_equal(receive_whole(line->lane), 0);
            line_free(line);
        } else {
            assert_dies(line, -ECONNRESET);
        }
    }
}

// Bytes may come one at a time.
static void slow_bytes_are_no_matter(void **state)
{
    (void)state;
    struct line *line = line_with_small_answer();
    struct lane *lane = line->lane;
    struct wire_header answer;
    for (unsigned i = 0; i + 1 < SMALL_SEALED; i++) {
        assert_true(line_write(line->fd, line->message + i, 1));
    }
    const void *data;
    assert_int_equal(lane->ops->receive(lane, &answer, LANE_NO_DEADLINE), 0);
    assert_true(line_write(line->fd, line->message + SMALL_SEALED - 1, 1));
    assert_int_equal(lane->ops->receive_data(lane, NULL, &data, LANE_NO_DEADLINE), SMALL);
    line_free(line);
}

static void a_replayed_message_is_found(void **state)
{
    (void)state;
    struct line *line = line_new();
    line_ask(line, WIRE_PING, 0, 7);
    line_ask(line, WIRE_PING, 0, 7); // the same id: only the nonce tells them apart
    struct wire_header answer = line_answer(line, 0);
    size_t bytes = line_seal(line, &answer);
    assert_true(line_write(line->fd, line->message, bytes));
    assert_true(line_write(line->fd, line->message, bytes));
    assert_int_equal(receive_whole(line->lane), 0);
    assert_dies(line, -EBADMSG);
}

enum mischief { SWAPPED, DROPPED, REPEATED, MISCHIEFS };

static void moved_records_are_found(void **state)
{
    (void)state;
    enum { RECORD = RECORD_SEALED_MAX };
    for (int what = 0; what < MISCHIEFS; what++) {
        struct line *line = line_new();
        line_ask(line, WIRE_READ, 24, 7); // three records
        struct wire_header answer = line_answer(line, 24 * 4096);
        memset(answer.map, 0xff, 3);
        size_t bytes = line_seal(line, &answer);
        assert_int_equal(bytes, WIRE_HEADER_SEALED_BYTES + 3 * RECORD);
        uint8_t *first = line->message + WIRE_HEADER_SEALED_BYTES, *second = first + RECORD;
        uint8_t *saved = malloc(RECORD);
        memcpy(saved, first, RECORD);
        if (what == SWAPPED) {
            memcpy(first, second, RECORD);
            memcpy(second, saved, RECORD);
        } else if (what == DROPPED) {
            memmove(first, second, 2 * RECORD);
        } else {
            memcpy(second, first, RECORD);
        }
        free(saved);
        assert_true(line_write(line->fd, line->message, bytes));
        assert_dies(line, -EBADMSG);
    }
}

static void another_sessions_answer_is_found(void **state)
{
    (void)state;
    struct line *line = line_with_small_answer(), *other = line_with_small_answer();
    assert_true(line_write(line->fd, other->message, SMALL_SEALED));
    line_free(other);
    assert_dies(line, -EBADMSG);
}

static void its_own_words_reflected_are_found(void **state)
{
    (void)state;
    struct line *line = line_new();
    struct wire_header request = exercise_request(WIRE_PING, 0, 0, 0);
    assert_int_equal(line->lane->ops->send(line->lane, &request, NULL, 0, LANE_NO_DEADLINE), 0);
    assert_true(line_read(line->fd, line->message, WIRE_HEADER_SEALED_BYTES));
    assert_true(line_write(line->fd, line->message, WIRE_HEADER_SEALED_BYTES));
    assert_dies(line, -EBADMSG);
}

// Sealed as it should be, but not an answer to the question.
static void answers_that_do_not_fit_kill_the_lane(void **state)
{
    (void)state;
    for (int what = 0; what < 6; what++) {
        struct line *line = line_new();
        line_ask(line, WIRE_READ, 2, 7);
        struct wire_header answer = line_answer(line, 0);
        switch (what) {
        case 0:
            answer.request = 8;
            break;
        case 1:
            answer.op = WIRE_WRITE | WIRE_ANSWER;
            break;
        case 2:
            wire_map_set(answer.map, 2); // a page that was not asked for
            answer.length = 4096;
            break;
        case 3:
            answer.length = 4096; // no page in the map
            break;
        case 4:
            answer.length = LIMIT_RUN_BYTES; // 2 pages of 1 MiB
            wire_map_set(answer.map, 0);
            break;
        default:
            answer.op = WIRE_READ;
            break;
        }
        (void)line_seal(line, &answer);
        assert_true(line_write(line->fd, line->message, WIRE_HEADER_SEALED_BYTES));
        assert_dies(line, -EBADMSG);
    }
}

static void close_by_the_peer_is_told_from_a_cut(void **state)
{
    (void)state;
    struct line *line = line_new();
    line_ask(line, WIRE_PING, 0, 7);
    struct wire_header answer = {.op = WIRE_CLOSE | WIRE_ANSWER};
    assert_true(line_write(line->fd, line->message, line_seal(line, &answer)));
    assert_dies(line, -ESHUTDOWN);
    line = line_new();
    line_ask(line, WIRE_PING, 0, 7);
    shutdown(line->fd, SHUT_RDWR);
    assert_dies(line, -ECONNRESET);
}

static void a_late_answer_is_too_late(void **state)
{
    (void)state;
    struct line *line = line_with_small_answer();
    struct lane *lane = line->lane;
    struct wire_header answer;
    int64_t deadline = deadline_now() + 20 * DEADLINE_NS_PER_MS;
    assert_int_equal(lane->ops->receive(lane, &answer, deadline), -ETIMEDOUT);
    assert_true(deadline_now() >= deadline);
    assert_true(line_write(line->fd, line->message, SMALL_SEALED));
    assert_int_equal(lane->ops->receive(lane, &answer, LANE_NO_DEADLINE), -ENOTCONN);
    line_free(line);
}

// A peer that reads nothing: the socket fills up, and then the deadline counts.
static void sending_has_a_deadline_too(void **state)
{
    (void)state;
    struct line *line = line_new();
    struct lane *lane = line->lane;
    static uint8_t page[LIMIT_RUN_BYTES];
    const struct iovec piece = {page, sizeof page};
    struct wire_header write = exercise_request(WIRE_WRITE, 0, 1, 1 << 20);
    write.length = 1 << 20;
    wire_map_set(write.map, 0);
    int error = 0;
    for (int i = 0; i < 64 && error == 0; i++) {
        error = lane->ops->send(lane, &write, &piece, 1, deadline_now() + 20 * DEADLINE_NS_PER_MS);
    }
    assert_int_equal(error, -ETIMEDOUT);
    assert_int_equal(lane->ops->send(lane, &write, &piece, 1, LANE_NO_DEADLINE), -ENOTCONN);
    line_free(line);
}

static void *shut_thread(void *argument)
{
    struct lane *lane = argument;
    lane->ops->shut(lane);
    return NULL;
}

static void shut_wakes_the_owner(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        struct line *line = line_new();
        struct lane *lane = line->lane;
        struct wire_header answer;
        pthread_t thread;
        line_ask(line, WIRE_PING, 0, 7);
        assert_int_equal(pthread_create(&thread, NULL, shut_thread, lane), 0);
        assert_int_equal(lane->ops->receive(lane, &answer, LANE_NO_DEADLINE), -ENOTCONN);
        pthread_join(thread, NULL);
        line_free(line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_allocated),
        cmocka_unit_test(does_what_lanes_do),
        cmocka_unit_test(destroy_says_close),
        cmocka_unit_test(every_flipped_bit_is_found),
        cmocka_unit_test(every_cut_is_found),
        cmocka_unit_test(slow_bytes_are_no_matter),
        cmocka_unit_test(a_replayed_message_is_found),
        cmocka_unit_test(moved_records_are_found),
        cmocka_unit_test(another_sessions_answer_is_found),
        cmocka_unit_test(its_own_words_reflected_are_found),
        cmocka_unit_test(answers_that_do_not_fit_kill_the_lane),
        cmocka_unit_test(close_by_the_peer_is_told_from_a_cut),
        cmocka_unit_test(a_late_answer_is_too_late),
        cmocka_unit_test(sending_has_a_deadline_too),
        cmocka_unit_test(shut_wakes_the_owner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
