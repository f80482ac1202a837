// SPDX-License-Identifier: Apache-2.0
//
// The service's tally: more threads than shards count at once, and nothing is lost.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "server/tally.h"

enum { THREADS = 40, ROUNDS = 2000 };

static void *count(void *context)
{
    struct tally *tally = context;
    for (unsigned i = 0; i < ROUNDS; i++) {
        const struct wire_header request = {.op = i % 2 == 0 ? WIRE_READ : WIRE_WRITE, .length = 3};
        const struct wire_header answer = {.op = (uint16_t)(request.op | WIRE_ANSWER),
                                           .status = i % 4 == 0 ? WIRE_FENCED : WIRE_OK,
                                           .length = 5};
        tally_request(tally, &request, &answer);
        tally_duration(tally, &request, 1000 + i);
    }
    return NULL;
}

static void nothing_is_lost(void **state)
{
    static struct tally_sums sums;
    struct tally *tally = tally_create();
    pthread_t threads[THREADS];
    const uint64_t each = THREADS * ROUNDS / 2;
    (void)state;
    assert_non_null(tally);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, count, tally), 0);
    }
    tally_read(tally, &sums); // beside them: no more than there is in the end
    assert_true(sums.received_bytes[WIRE_READ] <= 3 * each);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    tally_read(tally, &sums);
    assert_int_equal(sums.answers[WIRE_READ][WIRE_OK], each / 2);
    assert_int_equal(sums.answers[WIRE_READ][WIRE_FENCED], each / 2);
    assert_int_equal(sums.answers[WIRE_WRITE][WIRE_OK], each);
    assert_int_equal(sums.received_bytes[WIRE_WRITE], 3 * each);
    assert_int_equal(sums.sent_bytes[WIRE_READ], 5 * each);
    assert_int_equal(latency_count(sums.latency[WIRE_READ]), each);
    assert_int_equal(sums.latency_ns[WIRE_READ],
                     (1000 + ROUNDS / 2 - 1) * each); // 0, 2, .. ROUNDS - 2 and a microsecond
    tally_destroy(&tally);
    assert_null(tally);
}

static void strange_requests(void **state)
{
    static struct tally_sums sums;
    struct tally *tally = tally_create();
    const struct wire_header request = {.op = 0x7fff};
    const struct wire_header answer = {.status = 0xffff};
    const struct wire_header invalid = {.status = WIRE_INVALID};
    (void)state;
    assert_non_null(tally);
    tally_request(tally, &request, &answer);
    tally_request(tally, &request, &invalid);
    tally_read(tally, &sums);
    assert_int_equal(sums.answers[0][WIRE_INVALID], 1);
    tally_destroy(&tally);
}

// Every name is one of its own: two series of the same labels would be refused by who scrapes them.
static void names(void **state)
{
    (void)state;
    for (unsigned i = 0; i < WIRE_STATUS_COUNT; i++) {
        for (unsigned k = 0; k < i; k++) {
            assert_string_not_equal(tally_status_name(i), tally_status_name(k));
        }
    }
    for (unsigned i = 0; i < TALLY_OPS; i++) {
        for (unsigned k = 0; k < i; k++) {
            assert_string_not_equal(tally_op_name(i), tally_op_name(k));
        }
    }
    assert_string_equal(tally_op_name(TALLY_OPS), "other");
    assert_string_equal(tally_status_name(WIRE_STATUS_COUNT), "other");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost),
        cmocka_unit_test(strange_requests),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
