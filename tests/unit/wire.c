// SPDX-License-Identifier: Apache-2.0
//
// The wire, byte by byte: where each field stands (an old end and a new one must agree for ever),
// that decode gives back what encode was given, that it refuses every byte that encode cannot have
// written, and that each rule of the checks refuses what breaks it and nothing else.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/wire.h"

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint64_t random_number(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static uint64_t number_at(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = bytes; i-- > 0;) {
        value = value << 8 | at[i];
    }
    return value;
}

static struct wire_hello good_hello(void)
{
    return (struct wire_hello){.version = WIRE_VERSION,
                               .suite = 2,
                               .role = WIRE_ROLE_CLIENT,
                               .lane_kind = WIRE_LANE_GRPC,
                               .cluster = "cluster-7",
                               .server = "memory_1"};
}

static void hello_stands_where_it_must(void **state)
{
    (void)state;
    struct wire_hello hello = good_hello();
    uint8_t bytes[WIRE_HELLO_BYTES];
    hello.version = 0x1234;
    wire_hello_encode(&hello, bytes);
    assert_memory_equal(bytes, "dsm-lane\x34\x12\x02\x01\x02", 13);
    assert_string_equal((char *)bytes + 32, "cluster-7");
    assert_string_equal((char *)bytes + 96, "memory_1");
}

// Every single-bit change is either refused or another legal hello that encodes to just these
// bytes.
static void hello_has_one_spelling(void **state)
{
    (void)state;
    struct wire_hello hello = good_hello();
    uint8_t bytes[WIRE_HELLO_BYTES], again[WIRE_HELLO_BYTES];
    wire_hello_encode(&hello, bytes);
    unsigned refused = 0;
    for (unsigned bit = 0; bit < WIRE_HELLO_BYTES * 8; bit++) {
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << bit % 8);
        struct wire_hello other;
        if (wire_hello_decode(bytes, &other) == 0) {
            wire_hello_encode(&other, again);
            assert_memory_equal(bytes, again, sizeof bytes);
        } else {
            refused++;
        }
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << bit % 8);
    }
    assert_true(refused > (WIRE_MAGIC_BYTES + 19) * 8); // all of magic and reserved, and more
}

static int hello_verdict(const struct wire_hello *hello)
{
    uint8_t bytes[WIRE_HELLO_BYTES];
    struct wire_hello decoded;
    wire_hello_encode(hello, bytes);
    return wire_hello_decode(bytes, &decoded);
}

static void hello_names_are_checked(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "a/b", "a b", "\x7f", "\x80", "\n", "a\xff"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct wire_hello hello = good_hello();
        strcpy(hello.cluster, bad[i]);
        assert_int_equal(hello_verdict(&hello), -EBADMSG);
        hello = good_hello();
        strcpy(hello.server, bad[i]);
        assert_int_equal(hello_verdict(&hello), bad[i][0] == '\0' ? 0 : -EBADMSG);
    }
    struct wire_hello hello = good_hello();
    memset(hello.cluster, 'x', sizeof hello.cluster - 1);
    hello.cluster[sizeof hello.cluster - 1] = '\0';
    assert_int_equal(hello_verdict(&hello), 0);
    uint8_t bytes[WIRE_HELLO_BYTES];
    wire_hello_encode(&hello, bytes);
    bytes[95] = 'x'; // no NUL is left
    assert_int_equal(wire_hello_decode(bytes, &hello), -EBADMSG);
}

static void hello_values_are_checked(void **state)
{
    (void)state;
    struct wire_hello hello = good_hello();
    hello.version = 999; // a newer end: decoded, so that it can be told
    assert_int_equal(hello_verdict(&hello), 0);
    hello.version = 0;
    assert_int_equal(hello_verdict(&hello), -EBADMSG);
    hello = good_hello();
    hello.role = 3;
    assert_int_equal(hello_verdict(&hello), -EBADMSG);
    hello = good_hello();
    hello.lane_kind = 0;
    assert_int_equal(hello_verdict(&hello), -EBADMSG);
    hello = good_hello();
    hello.suite = 0;
    assert_int_equal(hello_verdict(&hello), -EBADMSG);
}

static struct wire_header random_header(void)
{
    struct wire_header h = {0};
    h.op = (uint16_t)(1 + random_number() % WIRE_CLOSE);
    if (random_number() & 1) {
        h.op |= WIRE_ANSWER;
    }
    h.status = (uint16_t)(random_number() % WIRE_STATUS_COUNT);
    h.length = (uint32_t)random_number();
    h.request = random_number();
    h.segment = random_number();
    h.epoch = random_number();
    h.page = random_number();
    h.count = (uint32_t)random_number();
    h.done = (uint32_t)random_number();
    h.version = random_number();
    h.hint = random_number();
    for (size_t i = 0; i < sizeof h.map; i++) {
        h.map[i] = (uint8_t)random_number();
    }
    return h;
}

static void header_stands_where_it_must(void **state)
{
    (void)state;
    struct wire_header h = random_header();
    uint8_t b[WIRE_HEADER_BYTES];
    wire_header_encode(&h, b);
    assert_int_equal(number_at(b, 2), h.op);
    assert_int_equal(number_at(b + 2, 2), h.status);
    assert_int_equal(number_at(b + 4, 4), h.length);
    assert_int_equal(number_at(b + 8, 8), h.request);
    assert_int_equal(number_at(b + 16, 8), h.segment);
    assert_int_equal(number_at(b + 24, 8), h.epoch);
    assert_int_equal(number_at(b + 32, 8), h.page);
    assert_int_equal(number_at(b + 40, 4), h.count);
    assert_int_equal(number_at(b + 44, 4), h.done);
    assert_int_equal(number_at(b + 48, 8), h.version);
    assert_int_equal(number_at(b + 56, 8), h.hint);
    assert_memory_equal(b + 64, h.map, WIRE_MAP_BYTES);
}

static void headers_come_back(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        struct wire_header h = random_header(), back = {0};
        uint8_t bytes[WIRE_HEADER_BYTES], again[WIRE_HEADER_BYTES];
        wire_header_encode(&h, bytes);
        assert_int_equal(wire_header_decode(bytes, &back), 0);
        wire_header_encode(&back, again);
        assert_memory_equal(bytes, again, sizeof bytes);
        assert_int_equal(back.page, h.page);
        assert_int_equal(back.hint, h.hint);
    }
}

// All 65,536 values of op, and of status.
static void unknown_op_and_status_are_refused(void **state)
{
    (void)state;
    struct wire_header h = {.op = WIRE_PING};
    uint8_t bytes[WIRE_HEADER_BYTES];
    for (unsigned value = 0; value <= UINT16_MAX; value++) {
        struct wire_header out = {0};
        wire_header_encode(&h, bytes);
        bytes[0] = (uint8_t)value;
        bytes[1] = (uint8_t)(value >> 8);
        unsigned op = value & 0x7fff;
        assert_int_equal(wire_header_decode(bytes, &out), op >= 1 && op <= 7 ? 0 : -EBADMSG);
        wire_header_encode(&h, bytes);
        bytes[2] = (uint8_t)value;
        bytes[3] = (uint8_t)(value >> 8);
        assert_int_equal(wire_header_decode(bytes, &out), value <= 18 ? 0 : -EBADMSG);
    }
}

static void attach_comes_back(void **state)
{
    (void)state;
    struct wire_attach attach = {.instance = {1, 2, 3}, .generation = 1ull << 60, .lane = 63};
    strcpy(attach.holder, "node7 4711 pagerank");
    uint8_t bytes[WIRE_ATTACH_BYTES];
    struct wire_attach back;
    wire_attach_encode(&attach, bytes);
    assert_int_equal(wire_attach_decode(bytes, &back), 0);
    assert_memory_equal(back.instance, attach.instance, sizeof back.instance);
    assert_int_equal(back.generation, attach.generation);
    assert_int_equal(back.lane, 63);
    assert_string_equal(back.holder, attach.holder);
    for (unsigned i = 124; i < WIRE_ATTACH_BYTES; i++) {
        bytes[i] = 1;
        assert_int_equal(wire_attach_decode(bytes, &back), -EBADMSG);
        bytes[i] = 0;
    }
    attach.lane = LIMIT_LANES_PER_SESSION;
    wire_attach_encode(&attach, bytes);
    assert_int_equal(wire_attach_decode(bytes, &back), -EBADMSG);
}

static void attached_comes_back(void **state)
{
    (void)state;
    struct wire_attached attached = {
        .store_id = {9}, .incarnation = 7, .lease_ms = 60000, .rights = 7};
    strcpy(attached.text, "the key of \xc3\xa9ric is\nnot known");
    uint8_t bytes[WIRE_ATTACHED_BYTES];
    struct wire_attached back;
    wire_attached_encode(&attached, bytes);
    assert_int_equal(wire_attached_decode(bytes, &back), 0);
    assert_string_equal(back.text, "the key of ??ric is?not known");
    assert_int_equal(back.incarnation, 7);
    assert_int_equal(back.lease_ms, 60000);
    assert_int_equal(back.rights, 7);
    memset(attached.text, 'y', sizeof attached.text); // cut, not run over
    wire_attached_encode(&attached, bytes);
    assert_int_equal(wire_attached_decode(bytes, &back), 0);
    assert_int_equal(strlen(back.text), sizeof back.text - 1);
    bytes[32] = '\n';
    assert_int_equal(wire_attached_decode(bytes, &back), -EBADMSG);
}

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
    static const enum wire_op ops[] = {WIRE_READ, WIRE_DISCARD, WIRE_PING, WIRE_CLOSE};
    for (size_t i = 0; i < 4; i++) {
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

static void every_status_has_words(void **state)
{
    (void)state;
    assert_int_equal(wire_status_errno(WIRE_OK), 0);
    for (int s = 1; s < WIRE_STATUS_COUNT; s++) {
        assert_true(wire_status_errno((enum wire_status)s) < 0);
        assert_true(strlen(wire_status_text((enum wire_status)s)) > 10);
    }
    assert_int_equal(wire_status_errno((enum wire_status)999), -EBADMSG);
    assert_non_null(wire_status_text((enum wire_status)999));
}

static void sealed_sizes(void **state)
{
    (void)state;
    assert_int_equal(wire_sealed_bytes(0), 0);
    assert_int_equal(wire_sealed_bytes(1), 17);
    assert_int_equal(wire_sealed_bytes(LIMIT_RECORD_DATA_BYTES), LIMIT_RECORD_DATA_BYTES + 16);
    assert_int_equal(wire_sealed_bytes(LIMIT_RECORD_DATA_BYTES + 1), LIMIT_RECORD_DATA_BYTES + 33);
    assert_int_equal(wire_sealed_bytes(LIMIT_RUN_BYTES), LIMIT_RUN_BYTES + 32 * 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_stands_where_it_must),
        cmocka_unit_test(hello_has_one_spelling),
        cmocka_unit_test(hello_names_are_checked),
        cmocka_unit_test(hello_values_are_checked),
        cmocka_unit_test(header_stands_where_it_must),
        cmocka_unit_test(headers_come_back),
        cmocka_unit_test(unknown_op_and_status_are_refused),
        cmocka_unit_test(attach_comes_back),
        cmocka_unit_test(attached_comes_back),
        cmocka_unit_test(intervals_are_checked),
        cmocka_unit_test(data_must_fit_its_map),
        cmocka_unit_test(requests_without_data_carry_none),
        cmocka_unit_test(only_requests_are_requests),
        cmocka_unit_test(answers_are_held_against_the_question),
        cmocka_unit_test(answers_to_writes_carry_nothing),
        cmocka_unit_test(maps_are_counted),
        cmocka_unit_test(segment_names),
        cmocka_unit_test(every_status_has_words),
        cmocka_unit_test(sealed_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
