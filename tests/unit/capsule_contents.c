// SPDX-License-Identifier: Apache-2.0
//
// What may be in a capsule. Whoever knows the destination's public key can seal what they like, so contents against the rules are
// tried both ways: as the writer refuses to make them, and as the reader refuses to believe them; and so is each bit of a body.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/capsule_rig.h"

static const uint8_t destination[NOISE_KEY_BYTES] = {9};

#define SEGMENT(n) capsule->segments[n]
static void bad_count(struct capsule *capsule)
{
    SEGMENT(2).runs[0].pages++;
}
static void bad_empty_run(struct capsule *capsule)
{
    SEGMENT(2).runs[0].pages = 0;
}
static void bad_huge_run(struct capsule *capsule)
{
    SEGMENT(2).runs[1].pages = UINT64_MAX >> 4;
}
static void bad_repeat(struct capsule *capsule)
{
    SEGMENT(2).runs[1] = (struct capsule_run){4, CAPSULE_ZERO, false, false};
}
static void bad_mark(struct capsule *capsule)
{
    SEGMENT(3).runs[0].changed = true;
}
static void bad_from(struct capsule *capsule)
{
    SEGMENT(2).runs[0].place = CAPSULE_TEMPLATE;
}
static void bad_no_template(struct capsule *capsule)
{
    SEGMENT(1).from.segment = 0;
}
static void bad_self(struct capsule *capsule)
{
    SEGMENT(1).from.segment = SEGMENT(1).id;
}
static void bad_first(struct capsule *capsule)
{
    SEGMENT(1).from.first_page = UINT64_MAX;
}
static void bad_no_pages(struct capsule *capsule)
{
    SEGMENT(2).pages = 0;
}
static void bad_pages(struct capsule *capsule)
{
    SEGMENT(2).pages = UINT64_MAX;
}
static void bad_page_bytes(struct capsule *capsule)
{
    SEGMENT(2).page_bytes = 12288;
}
static void bad_small_page(struct capsule *capsule)
{
    SEGMENT(2).page_bytes = 2048;
}
static void bad_large_page(struct capsule *capsule)
{
    SEGMENT(4).page_bytes = 2 << 20;
}
static void bad_base(struct capsule *capsule)
{
    SEGMENT(2).base++;
}
static void bad_low(struct capsule *capsule)
{
    SEGMENT(2).base = LIMIT_BASE_LOW - 4096;
}
static void bad_high(struct capsule *capsule)
{
    SEGMENT(2).base = LIMIT_BASE_HIGH - 4096;
}
static void bad_overlap(struct capsule *capsule)
{
    SEGMENT(3).base = SEGMENT(2).base + 63 * 4096;
}
static void bad_name(struct capsule *capsule)
{
    strcpy(SEGMENT(2).name, "../stack");
}
static void bad_no_name(struct capsule *capsule)
{
    SEGMENT(2).name[0] = 0;
}
static void bad_twice(struct capsule *capsule)
{
    strcpy(SEGMENT(4).name, SEGMENT(3).name);
}
static void bad_same_id(struct capsule *capsule)
{
    SEGMENT(4).id = SEGMENT(3).id;
}
static void bad_no_id(struct capsule *capsule)
{
    SEGMENT(4).id = 0;
}
static void bad_identity(struct capsule *capsule)
{
    memset(SEGMENT(0).identity, 0, CAPSULE_IDENTITY_BYTES);
}
static void bad_order(struct capsule *capsule)
{
    struct capsule_segment stack = SEGMENT(2);
    SEGMENT(2) = SEGMENT(3);
    SEGMENT(3) = stack;
}
static void bad_two_stacks(struct capsule *capsule)
{
    SEGMENT(3).type = CAPSULE_STACK;
}
static void bad_no_stack(struct capsule *capsule)
{
    SEGMENT(2).type = CAPSULE_DATA;
}
static void bad_source(struct capsule *capsule)
{
    capsule->source[0] = '\n';
}
static void bad_token(struct capsule *capsule)
{
    memset(capsule->token, 0, sizeof capsule->token);
}
static void bad_system_page(struct capsule *capsule)
{
    capsule->system_page_bytes = 0;
}
static void bad_build_id(struct capsule *capsule)
{
    capsule->build_id_bytes = 0;
}

static void bad_long_build_id(struct capsule *capsule)
{
    capsule->build_id_bytes = LIMIT_BUILD_ID_BYTES + 1;
}
static void bad_long_task(struct capsule *capsule)
{
    capsule->task_bytes = LIMIT_CAPSULE_TASK_BYTES + 1;
}
static void bad_many_segments(struct capsule *capsule)
{
    capsule->segment_count = LIMIT_CAPSULE_SEGMENTS + 1;
}

// Above the limits of what a capsule may have: refused before anything is read or written.
static void limits_are_kept(void **state)
{
    (void)state;
    static void (*const exceed[])(struct capsule *) = {bad_long_build_id, bad_long_task,
                                                       bad_many_segments};
    for (size_t i = 0; i < sizeof exceed / sizeof *exceed; i++) {
        struct capsule *capsule = capsule_sample(destination);
        uint32_t segments = capsule->segment_count;
        struct failure failure = {""};
        exceed[i](capsule);
        assert_int_equal(capsule_check(capsule, &failure), -EINVAL);
        assert_non_null(strstr(failure.text, "are allowed"));
        capsule->segment_count = segments; // what there is to free
        capsule_destroy(&capsule);
    }
}

static void contents_keep_the_rules(void **state)
{
    (void)state;
    static void (*const spoil[])(struct capsule *) = {
        bad_count,   bad_empty_run,   bad_huge_run,   bad_repeat,  bad_mark,     bad_from,
        bad_self,    bad_no_template, bad_first,      bad_pages,   bad_no_pages, bad_page_bytes,
        bad_base,    bad_small_page,  bad_large_page, bad_low,     bad_high,     bad_overlap,
        bad_name,    bad_no_name,     bad_twice,      bad_same_id, bad_no_id,    bad_identity,
        bad_order,   bad_two_stacks,  bad_no_stack,   bad_source,  bad_token,    bad_system_page,
        bad_build_id};
    for (size_t i = 0; i < sizeof spoil / sizeof *spoil; i++) {
        struct capsule *capsule = capsule_sample(destination), *back = NULL;
        struct capsule_memory memory = {0};
        struct capsule_stream stream = capsule_memory_stream(&memory);
        struct failure failure = {""};
        assert_int_equal(capsule_check(capsule, &failure), 0);
        spoil[i](capsule);
        assert_int_equal(capsule_write(capsule, &stream, &failure), -EINVAL);
        assert_int_equal(memory.used, 0);
        assert_string_not_equal(failure.text, "");
        uint64_t bytes = capsule_body_bytes(capsule);
        uint8_t *body = malloc(bytes);
        assert_non_null(body);
        capsule_body_encode(capsule, body);
        assert_int_equal(capsule_body_decode(body, bytes, &back, &failure), -EBADMSG);
        assert_null(back);
        free(body);
        capsule_destroy(&capsule);
    }
}

// One capsule has one spelling: a body that differs in a bit is refused, or another that encodes to just these bytes.
static void bodies_have_one_spelling(void **state)
{
    (void)state;
    struct capsule *capsule = capsule_sample(destination);
    size_t bytes = (size_t)capsule_body_bytes(capsule), refused = 0;
    uint8_t *body = malloc(bytes), *again = malloc(bytes);
    assert_non_null(body);
    assert_non_null(again);
    capsule_body_encode(capsule, body);
    for (size_t bit = 0; bit < 8 * bytes; bit++) {
        struct capsule *back = NULL;
        body[bit / 8] = (uint8_t)(body[bit / 8] ^ 1U << bit % 8);
        if (capsule_body_decode(body, bytes, &back, NULL) == 0) {
            assert_int_equal(capsule_body_bytes(back), bytes);
            capsule_body_encode(back, again);
            assert_memory_equal(body, again, bytes);
            capsule_destroy(&back);
        } else {
            refused++;
        }
        body[bit / 8] = (uint8_t)(body[bit / 8] ^ 1U << bit % 8);
    }
    assert_true(refused > bytes);
    for (size_t cut = 0; cut < bytes; cut++) {
        struct capsule *back = NULL;
        assert_int_equal(capsule_body_decode(body, cut, &back, NULL), -EBADMSG);
    }
    free(body);
    free(again);
    capsule_destroy(&capsule);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contents_keep_the_rules),
        cmocka_unit_test(limits_are_kept),
        cmocka_unit_test(bodies_have_one_spelling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
