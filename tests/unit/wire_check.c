// SPDX-License-Identifier: Apache-2.0
//
// Each rule of the checks refuses what breaks it and nothing else: intervals, maps and lengths,
// which op may carry what, answers against their questions, and the names of segments.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "rpc/wire.h"

static struct wire_header request_of(enum wire_op op, uint64_t page, uint32_t count)
{
    return (struct wire_header){
        .op = (uint16_t)op, .request = 5, .segment = 3, .epoch = 1, .page = page, .count = count};
}

static void intervals_are_checked(void **state)
{
    (void)state;
    static const struct {
        uint64_t page;
        uint32_t count;
        int verdict;
    } cases[] = {
        {0, 1, 0},
        {0, 0, -EBADMSG},
        {7, LIMIT_RUN_PAGES, 0},
        {7, LIMIT_RUN_PAGES + 1, -EBADMSG},
        {7, UINT32_MAX, -EBADMSG},
        {UINT64_MAX - 1, 1, 0},
        {UINT64_MAX, 1, -EBADMSG},
        {UINT64_MAX - 255, 256, -EBADMSG},
        {UINT64_MAX - 256, 256, 0},
    };
    static const enum wire_op ops[] = {WIRE_READ, WIRE_WRITE, WIRE_DISCARD};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t o = 0; o < 3; o++) {
            struct wire_header h = request_of(ops[o], cases[i].page, cases[i].count);
            assert_int_equal(wire_request_check(&h), cases[i].verdict);
        }
    }
}

// Pages lose their backing, and have it again, by more than a run at a time, but not by any number.
static void reserves_have_their_own_bound(void **state)
{
    (void)state;
    static const enum wire_op ops[] = {WIRE_GIVE_UP, WIRE_ALLOCATE};
    for (size_t o = 0; o < 2; o++) {
        struct wire_header h = request_of(ops[o], 7, LIMIT_RESERVE_PAGES);
        assert_int_equal(wire_request_check(&h), 0);
        h.count++;
        assert_int_equal(wire_request_check(&h), -EBADMSG);
        h.count = 0;
        assert_int_equal(wire_request_check(&h), -EBADMSG);
        h = request_of(ops[o], UINT64_MAX - 7, 7);
        assert_int_equal(wire_request_check(&h), 0);
        h.count = 9;
        assert_int_equal(wire_request_check(&h), -EBADMSG);
    }
}

static void data_must_fit_its_map(void **state)
{
    (void)state;
    struct wire_header h = request_of(WIRE_WRITE, 10, 3);
    wire_map_set(h.map, 0);
    wire_map_set(h.map, 2);
    static const struct {
        uint32_t length;
        int verdict;
    } cases[] = {
        {0, -EBADMSG},
        {2 * 4096, 0},
        {2 * 4096 + 1, -EBADMSG},
        {2 * 4096 - 1, -EBADMSG},
        {3 * 4096, -EBADMSG},
        {2 * 2048, -EBADMSG},
        {2 * 12288, -EBADMSG},
        {2 * (256 << 10), 0},        // 3 pages of 256 KiB: within a run
        {2 * (512 << 10), -EBADMSG}, // 3 pages of 512 KiB: beyond it
        {2u << 20, -EBADMSG},
        {UINT32_MAX, -EBADMSG},
        {1u << 31, -EBADMSG},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        h.length = cases[i].length;
        assert_int_equal(wire_request_check(&h), cases[i].verdict);
    }
    h.length = 2 * 4096;
    for (unsigned bit = 3; bit < LIMIT_RUN_PAGES; bit++) { // beyond count: refused, each of them
        struct wire_header stray = h;
        wire_map_set(stray.map, bit);
        assert_int_equal(wire_request_check(&stray), -EBADMSG);
        stray.length = 3 * 4096;
        assert_int_equal(wire_request_check(&stray), -EBADMSG);
    }
    struct wire_header page = request_of(WIRE_WRITE, 0, 1);
    wire_map_set(page.map, 0);
    page.length = LIMIT_PAGE_MAX_BYTES;
    assert_int_equal(wire_request_check(&page), 0);
    page.length = LIMIT_PAGE_MAX_BYTES * 2;
    assert_int_equal(wire_request_check(&page), -EBADMSG);
}

static void requests_without_data_carry_none(void **state)
{
    (void)state;
    static const enum wire_op ops[] = {WIRE_READ,  WIRE_DISCARD, WIRE_PING,
                                       WIRE_CLOSE, WIRE_GIVE_UP, WIRE_ALLOCATE};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        struct wire_header h = request_of(ops[i], 0, 1);
        assert_int_equal(wire_request_check(&h), 0);
        h.length = 4096;
        assert_int_equal(wire_request_check(&h), -EBADMSG);
        wire_map_set(h.map, 0);
        assert_int_equal(wire_request_check(&h), -EBADMSG);
        h.length = 0;
        assert_int_equal(wire_request_check(&h), -EBADMSG);
    }
    struct wire_header h = request_of(WIRE_CONTROL, 0, 0);
    h.length = LIMIT_CONTROL_BYTES;
    assert_int_equal(wire_request_check(&h), 0);
    h.length++;
    assert_int_equal(wire_request_check(&h), -EBADMSG);
}

static void only_requests_are_requests(void **state)
{
    (void)state;
    struct wire_header h = request_of(WIRE_ATTACH, 0, 0);
    assert_int_equal(wire_request_check(&h), -EBADMSG);
    h = request_of(WIRE_PING, 0, 0);
    h.op |= WIRE_ANSWER;
    assert_int_equal(wire_request_check(&h), -EBADMSG);
    h = request_of(WIRE_PING, 0, 0);
    h.status = WIRE_BUSY;
    assert_int_equal(wire_request_check(&h), -EBADMSG);
    h = request_of(WIRE_PING, 0, 0);
    h.done = 1;
    assert_int_equal(wire_request_check(&h), -EBADMSG);
}

static void answers_are_held_against_the_question(void **state)
{
    (void)state;
    struct wire_header question = request_of(WIRE_READ, 10, 4);
    struct wire_header good = {.op = WIRE_READ | WIRE_ANSWER, .request = 5, .length = 4096};
    wire_map_set(good.map, 3);
    assert_int_equal(wire_answer_check(&good, &question), 0);
    struct wire_header h = good;
    h.op = WIRE_READ;
    assert_int_equal(wire_answer_check(&h, &question), -EBADMSG);
    h.op = WIRE_WRITE | WIRE_ANSWER;
    assert_int_equal(wire_answer_check(&h, &question), -EBADMSG);
    h = good;
    h.request = 6;
    assert_int_equal(wire_answer_check(&h, &question), -EBADMSG);
    h = good;
    h.done = 5;
    assert_int_equal(wire_answer_check(&h, &question), -EBADMSG);
    h = good;
    wire_map_set(h.map, 4); // one page more than asked
    h.length = 8192;
    assert_int_equal(wire_answer_check(&h, &question), -EBADMSG);
    h = good;
    h.length = 512 << 10; // 4 pages of this size are more than a run
    assert_int_equal(wire_answer_check(&h, &question), -EBADMSG);
    h = good;
    h.status = WIRE_STORE_ERROR; // failed, yet with data
    assert_int_equal(wire_answer_check(&h, &question), -EBADMSG);
    h = (struct wire_header){.op = WIRE_READ | WIRE_ANSWER, .request = 5, .status = WIRE_FENCED};
    assert_int_equal(wire_answer_check(&h, &question), 0);
}

static void answers_to_writes_carry_nothing(void **state)
{
    (void)state;
    struct wire_header question = request_of(WIRE_WRITE, 10, 4);
    struct wire_header h = {.op = WIRE_WRITE | WIRE_ANSWER, .request = 5, .done = 4};
    assert_int_equal(wire_answer_check(&h, &question), 0);
    h.length = 4096;
    assert_int_equal(wire_answer_check(&h, &question), -EBADMSG);
    wire_map_set(h.map, 0);
    assert_int_equal(wire_answer_check(&h, &question), -EBADMSG);
    question = request_of(WIRE_CONTROL, 0, 0);
    h = (struct wire_header){.op = WIRE_CONTROL | WIRE_ANSWER, .request = 5, .status = WIRE_BUSY};
    h.length = LIMIT_CONTROL_BYTES; // also a refusal explains itself
    assert_int_equal(wire_answer_check(&h, &question), 0);
    h.length++;
    assert_int_equal(wire_answer_check(&h, &question), -EBADMSG);
}

static void maps_are_counted(void **state)
{
    (void)state;
    uint8_t map[WIRE_MAP_BYTES] = {0};
    for (unsigned i = 0; i + 1 < LIMIT_RUN_PAGES; i += 3) {
        wire_map_set(map, i);
        assert_true(wire_map_get(map, i));
        assert_false(wire_map_get(map, i + 1));
    }
    assert_int_equal(wire_map_count(map, 0), 0);
    assert_int_equal(wire_map_count(map, 1), 1);
    assert_int_equal(wire_map_count(map, 4), 2);
    assert_int_equal(wire_map_count(map, 256), 85);
    assert_int_equal(wire_map_count(map, UINT32_MAX), 85); // never beyond the map
}

static void segment_names(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "run-7/matrix", "A.b_c@d:e+f=g-h", "...", "a/.b/c..d"};
    static const char *const bad[] = {"",     "/",    "/a",    "a/",   "a//b", ".",
                                      "..",   "a/..", "a/./b", "../a", "a b",  "a\xc3\xa9",
                                      "a\nb", "a\\b", "a*",    "~a"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(wire_segment_name_valid(good[i]));
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(wire_segment_name_valid(bad[i]));
    }
    char name[300];
    memset(name, 'n', sizeof name);
    name[255] = '\0';
    assert_true(wire_segment_name_valid(name));
    name[255] = 'n';
    name[256] = '\0';
    assert_false(wire_segment_name_valid(name));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(intervals_are_checked),
        cmocka_unit_test(reserves_have_their_own_bound),
        cmocka_unit_test(data_must_fit_its_map),
        cmocka_unit_test(requests_without_data_carry_none),
        cmocka_unit_test(only_requests_are_requests),
        cmocka_unit_test(answers_are_held_against_the_question),
        cmocka_unit_test(answers_to_writes_carry_nothing),
        cmocka_unit_test(maps_are_counted),
        cmocka_unit_test(segment_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
