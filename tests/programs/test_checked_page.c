// SPDX-License-Identifier: Apache-2.0
//
// A checker that cannot fail checks nothing: every kind of wrong page that pagecheck is there to find must be
// found, with the right field and place.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tests/programs/checked_page.h"
#include "tests/programs/report.h"

enum { BYTES = 4096, WORDS = BYTES / 8 };
static const struct checked_identity identity = {
    .segment = 7, .page = 42, .version = 3, .writer = 5};

static const char *judge(uint64_t *words, const struct checked_identity *expected, size_t *offset)
{
    struct checked_mismatch mismatch = {.field = "none"};
    int result = checked_page_verify(words, BYTES, expected, &mismatch);
    assert_true((result == 0) == (strcmp(mismatch.field, "none") == 0));
    *offset = mismatch.offset;
    return mismatch.field;
}

static void any_changed_word_is_found(void **state)
{
    (void)state;
    static const char *const fields[] = {"segment", "page", "version", "writer", "checksum"};
    uint64_t words[WORDS];
    size_t offset;
    checked_page_write(words, BYTES, &identity);
    assert_string_equal(judge(words, &identity, &offset), "none");
    for (size_t i = 0; i < WORDS; i++) {
        words[i] ^= UINT64_C(1) << (i % 64);
        assert_string_equal(judge(words, &identity, &offset), i < 5 ? fields[i] : "body");
        assert_int_equal(offset, i * 8);
        words[i] ^= UINT64_C(1) << (i % 64);
    }
}

static void zeros_and_old_and_torn_pages_are_found(void **state)
{
    (void)state;
    uint64_t words[WORDS] = {0};
    uint64_t old[WORDS];
    size_t offset;
    struct checked_identity unwritten = {.segment = 7, .page = 42};
    struct checked_identity older = identity;
    assert_string_equal(judge(words, &unwritten, &offset), "none");
    assert_string_equal(judge(words, &identity, &offset), "segment");
    words[WORDS - 1] = 1;
    assert_string_equal(judge(words, &unwritten, &offset), "body");
    older.version--;
    checked_page_write(old, BYTES, &older);
    assert_string_equal(judge(old, &identity, &offset), "version");
    checked_page_write(words, BYTES, &identity);
    memcpy(words + WORDS / 2, old + WORDS / 2, BYTES / 2);
    assert_string_equal(judge(words, &identity, &offset), "body");
    assert_int_equal(offset, BYTES / 2);
}

static void sizes_are_parsed(void **state)
{
    (void)state;
    uint64_t bytes = 1;
    static const char *const wrong[] = {"",    "M",   "-1", "1X",
                                        "1KK", "1 K", "x",  "18446744073709551615K"};
    assert_int_equal(report_parse_size("12", &bytes), 0);
    assert_int_equal(bytes, 12);
    assert_int_equal(report_parse_size("3M", &bytes), 0);
    assert_int_equal(bytes, 3 << 20);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_true(report_parse_size(wrong[i], &bytes) < 0);
    }
    assert_int_equal(bytes, 3 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_changed_word_is_found),
        cmocka_unit_test(zeros_and_old_and_torn_pages_are_found),
        cmocka_unit_test(sizes_are_parsed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
