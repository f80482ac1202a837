// SPDX-License-Identifier: Apache-2.0
//
// See lane_exercise.h. A page's bytes are a function of its number and of the place within it, so a
// page in the wrong place, a shifted record or a piece that is missing shows at once.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/lane_exercise.h"

enum { PAGE = 4096 };

static uint64_t next_request = 1000;

static void page_fill(uint64_t page, uint8_t *to, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i += 8) {
        uint64_t value = (page + 1) * 0x9e3779b97f4a7c15u + i;
        memcpy(to + i, &value, 8);
    }
}

static bool page_has_data(uint64_t page)
{
    return page % 3 != 2;
}

static void fill_run(const struct wire_header *request, uint8_t *map, uint8_t *to, uint32_t *length)
{
    uint32_t bytes = (uint32_t)request->epoch;
    *length = 0;
    for (uint32_t i = 0; i < request->count; i++) {
        if (page_has_data(request->page + i)) {
            wire_map_set(map, i);
            page_fill(request->page + i, to + *length, bytes);
            *length += bytes;
        }
    }
}

static uint16_t write_verdict(const struct wire_header *request, const uint8_t *payload)
{
    uint8_t *expected = malloc(LIMIT_RUN_BYTES);
    uint8_t map[WIRE_MAP_BYTES] = {0};
    uint32_t length;
    fill_run(request, map, expected, &length);
    bool same = length == request->length && memcmp(map, request->map, sizeof map) == 0 &&
                memcmp(payload, expected, length) == 0;
    free(expected);
    return same ? WIRE_OK : WIRE_BOUNDS;
}

int exercise_answer(void *context, const struct wire_header *request, const void *payload,
                    struct wire_header *answer, void *answer_payload)
{
    (void)context;
    *answer = (struct wire_header){.op = request->op | WIRE_ANSWER, .request = request->request};
    switch (request->op) {
    case WIRE_READ:
        fill_run(request, answer->map, answer_payload, &answer->length);
        break;
    case WIRE_WRITE:
        answer->status = write_verdict(request, payload);
        answer->done = request->count;
        break;
    case WIRE_CONTROL:
        answer->length = request->length;
        memcpy(answer_payload, payload, request->length);
        break;
    case WIRE_DISCARD:
        answer->status = request->page == 13 ? WIRE_NOT_ALLOWED : WIRE_OK;
        break;
    default:
        break;
    }
    return 0;
}

struct wire_header exercise_request(enum wire_op op, uint64_t page, uint32_t count,
                                    uint32_t page_bytes)
{
    return (struct wire_header){.op = (uint16_t)op,
                                .request = next_request++,
                                .segment = EXERCISE_SEGMENT,
                                .epoch = page_bytes,
                                .page = page,
                                .count = count};
}

static void ask(struct lane *lane, const struct wire_header *request)
{
    assert_int_equal(lane->ops->send(lane, request, NULL, 0, LANE_NO_DEADLINE), 0);
}

// The payload into one buffer, through `to` or through the lane's own.
static uint8_t *take_payload(struct lane *lane, uint32_t length, bool straight)
{
    uint8_t *all = malloc(length + 1);
    uint32_t have = 0;
    ssize_t bytes;
    do {
        const void *data = NULL;
        bytes =
            lane->ops->receive_data(lane, straight ? all + have : NULL, &data, LANE_NO_DEADLINE);
        assert_true(bytes >= 0);
        if (bytes > 0) {
            assert_true(bytes <= LIMIT_RECORD_DATA_BYTES && have + (uint32_t)bytes <= length);
            assert_true(!straight || data == all + have);
            memmove(all + have, data, (size_t)bytes);
            have += (uint32_t)bytes;
        }
    } while (bytes > 0);
    assert_int_equal(have, length);
    return all;
}

void exercise_take_read(struct lane *lane, const struct wire_header *request)
{
    struct wire_header answer;
    uint32_t length;
    uint8_t map[WIRE_MAP_BYTES] = {0};
    uint8_t *expected = malloc(LIMIT_RUN_BYTES);
    assert_int_equal(lane->ops->receive(lane, &answer, LANE_NO_DEADLINE), 0);
    assert_int_equal(answer.request, request->request);
    assert_int_equal(answer.status, WIRE_OK);
    fill_run(request, map, expected, &length);
    assert_int_equal(answer.length, length);
    assert_memory_equal(answer.map, map, sizeof map);
    uint8_t *got = take_payload(lane, length, request->request % 2 == 0);
    assert_memory_equal(got, expected, length);
    free(got);
    free(expected);
}

void exercise_reads(struct lane *lane)
{
    static const struct {
        uint32_t count, page_bytes;
    } runs[] = {{1, PAGE},   {2, PAGE},    {8, PAGE},      {9, PAGE},      {256, PAGE},
                {16, 65536}, {1, 1 << 20}, {2, 512 << 10}, {3, 256 << 10}, {13, 32768}};
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        for (uint64_t page = 0; page < 3; page++) {
            struct wire_header request =
                exercise_request(WIRE_READ, page, runs[i].count, runs[i].page_bytes);
            ask(lane, &request);
            exercise_take_read(lane, &request);
        }
    }
}

// Sends a run as pieces of `piece` bytes.
static void send_write(struct lane *lane, struct wire_header *request, size_t piece)
{
    uint8_t *data = malloc(LIMIT_RUN_BYTES);
    struct iovec *pieces = calloc(LIMIT_RUN_BYTES / 512 + 2, sizeof *pieces);
    int count = 1; // the first is empty
    fill_run(request, request->map, data, &request->length);
    for (size_t at = 0; at < request->length; at += piece) {
        size_t bytes = request->length - at < piece ? request->length - at : piece;
        pieces[count++] = (struct iovec){data + at, bytes};
    }
    assert_int_equal(lane->ops->send(lane, request, pieces, count, LANE_NO_DEADLINE), 0);
    free(pieces);
    free(data);
}

static void take_status(struct lane *lane, const struct wire_header *request, unsigned status)
{
    struct wire_header answer;
    assert_int_equal(lane->ops->receive(lane, &answer, LANE_NO_DEADLINE), 0);
    assert_int_equal(answer.request, request->request);
    assert_int_equal(answer.status, status);
}

void exercise_writes(struct lane *lane)
{
    static const size_t pieces[] = {PAGE, 1000, 32768, 65536, 1 << 20, 33000};
    static const uint32_t counts[] = {1, 8, 9, 100, 256};
    for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            struct wire_header request = exercise_request(WIRE_WRITE, p, counts[c], PAGE);
            send_write(lane, &request, pieces[p]);
            take_status(lane, &request, WIRE_OK);
        }
    }
    struct wire_header page = exercise_request(WIRE_WRITE, 0, 1, 1 << 20);
    send_write(lane, &page, 1 << 20);
    take_status(lane, &page, WIRE_OK);
    struct wire_header discard = exercise_request(WIRE_DISCARD, 13, 1, PAGE);
    ask(lane, &discard);
    take_status(lane, &discard, WIRE_NOT_ALLOWED);
}

void exercise_pipelining(struct lane *lane)
{
    struct wire_header requests[64];
    for (unsigned i = 0; i < 64; i++) {
        requests[i] = exercise_request(i % 4 == 3 ? WIRE_PING : WIRE_READ, i, 1, PAGE);
        ask(lane, &requests[i]);
    }
    struct wire_header more = exercise_request(WIRE_PING, 0, 0, 0);
    assert_int_equal(lane->ops->send(lane, &more, NULL, 0, LANE_NO_DEADLINE), -EAGAIN);
    for (unsigned i = 0; i < 64; i++) {
        if (requests[i].op == WIRE_PING) {
            take_status(lane, &requests[i], WIRE_OK);
        } else {
            exercise_take_read(lane, &requests[i]);
        }
        if (i == 0) { // one was answered: there is room for one
            ask(lane, &more);
        }
    }
    take_status(lane, &more, WIRE_OK);
}

// An answer that was not read to its end does not disturb the next.
void exercise_leftovers(struct lane *lane)
{
    struct wire_header first = exercise_request(WIRE_READ, 0, 256, PAGE), answer;
    struct wire_header second = exercise_request(WIRE_READ, 1, 9, PAGE);
    const void *data;
    ask(lane, &first);
    ask(lane, &second);
    assert_int_equal(lane->ops->receive(lane, &answer, LANE_NO_DEADLINE), 0);
    assert_int_equal(lane->ops->receive_data(lane, NULL, &data, LANE_NO_DEADLINE),
                     LIMIT_RECORD_DATA_BYTES);
    exercise_take_read(lane, &second);
    assert_int_equal(lane->ops->receive_data(lane, NULL, &data, LANE_NO_DEADLINE), 0);
}

static void assert_not_a_request(struct lane *lane, struct wire_header request)
{
    uint8_t page[PAGE] = {0};
    const struct iovec piece = {page, sizeof page};
    assert_int_equal(lane->ops->send(lane, &request, &piece, 1, LANE_NO_DEADLINE), -EINVAL);
}

// What is not a request is refused before a byte is sent, and the lane lives on.
void exercise_refusals(struct lane *lane)
{
    struct wire_header answer;
    assert_int_equal(lane->ops->receive(lane, &answer, LANE_NO_DEADLINE), -EINVAL);
    assert_not_a_request(lane, exercise_request(WIRE_READ, 0, 0, PAGE));
    assert_not_a_request(lane, exercise_request(WIRE_READ, UINT64_MAX, 2, PAGE));
    assert_not_a_request(lane, exercise_request(WIRE_ATTACH, 0, 0, 0));
    assert_not_a_request(lane, exercise_request(WIRE_CLOSE, 0, 0, 0));
    struct wire_header request = exercise_request(WIRE_WRITE, 0, 2, PAGE);
    wire_map_set(request.map, 0);
    wire_map_set(request.map, 1);
    request.length = 2 * PAGE; // more than the pieces hold
    assert_not_a_request(lane, request);
    request = exercise_request(WIRE_PING, 0, 0, 0);
    ask(lane, &request);
    take_status(lane, &request, WIRE_OK);
}
