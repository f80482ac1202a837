// SPDX-License-Identifier: Apache-2.0
//
// The wire, byte by byte: where each field stands (an old end and a new one must agree for ever),
// that decode gives back what encode was given, that it refuses every byte that encode
// cannot have written, and that statuses have words. The checks are in wire_check.c.
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
    hello.role = 4;
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
    h.op = (uint16_t)(1 + random_number() % WIRE_LAST_OP);
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
        assert_int_equal(wire_header_decode(bytes, &out), op >= 1 && op <= 9 ? 0 : -EBADMSG);
        wire_header_encode(&h, bytes);
        bytes[2] = (uint8_t)value;
        bytes[3] = (uint8_t)(value >> 8);
        assert_int_equal(wire_header_decode(bytes, &out), value <= 20 ? 0 : -EBADMSG);
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
        cmocka_unit_test(every_status_has_words),
        cmocka_unit_test(sealed_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
