// SPDX-License-Identifier: Apache-2.0
//
// How tools write sizes, times and tables, and which columns go first when there is no room.
#include "tools/tool_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void sizes(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } rows[] = {{0, "0"},
                {1023, "1023"},
                {1024, "1K"},
                {1536, "1.5K"},
                {64 << 20, "64M"},
                {(64 << 20) - 1, "64.0M"},
                {(100 << 20) + 1, "100M"},
                {(1 << 20) - 1, "1.0M"},
                {1ULL << 40, "1T"},
                {UINT64_MAX, "16.0E"},
                {1ULL << 63, "8E"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[TOOL_SIZE_BYTES];
        assert_string_equal(tool_size(rows[i].bytes, text), rows[i].text);
    }
}

static void durations(void **state)
{
    (void)state;
    static const struct {
        uint64_t ms;
        const char *text;
    } rows[] = {{0, "0 s"},           {1999, "1 s"},    {119999, "119 s"},    {120000, "2 min"},
                {7199999, "119 min"}, {7200000, "2 h"}, {172800000, "2 days"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[TOOL_SIZE_BYTES];
        assert_string_equal(tool_duration(rows[i].ms, text), rows[i].text);
    }
}

static const struct tool_column columns[] = {
    {"NAME", true, 0}, {"SIZE", false, 1}, {"NOTE", true, 2}};

static void table_is(unsigned width, const char *expected)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *to = open_memstream(&text, &bytes);
    struct tool_table *table = tool_table_create(columns, 3);
    assert_non_null(to);
    assert_non_null(table);
    assert_int_equal(tool_table_add(table, (const char *[]){"one", "1M", ""}), 0);
    assert_int_equal(tool_table_add(table, (const char *[]){"eleven", "11", "eleventh"}), 0);
    tool_table_print(table, to, width);
    assert_int_equal(fclose(to), 0);
    assert_string_equal(text, expected);
    free(text);
    tool_table_destroy(&table);
    assert_null(table);
}

static void tables(void **state)
{
    (void)state;
    const char *whole = "NAME    SIZE  NOTE\n"
                        "one       1M  \n"
                        "eleven    11  eleventh\n";
    table_is(0, whole);
    table_is(22, whole);
    table_is(21, "NAME    SIZE\none       1M\neleven    11\n");
    table_is(12, "NAME    SIZE\none       1M\neleven    11\n");
    table_is(11, "NAME\none\neleven\n");
    table_is(2, "NAME\none\neleven\n"); // names are never cut
}

static void many_rows(void **state)
{
    (void)state;
    struct tool_table *table = tool_table_create(columns, 3);
    char *text = NULL;
    size_t bytes = 0;
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(tool_table_add(table, (const char *[]){"a", "b", "c"}), 0);
    }
    FILE *to = open_memstream(&text, &bytes);
    tool_table_print(table, to, 0);
    assert_int_equal(fclose(to), 0);
    assert_int_equal(bytes, strlen("NAME  SIZE  NOTE\n") + 1000 * strlen("a        b  c\n"));
    free(text);
    tool_table_destroy(&table);
    assert_null(tool_table_create(columns, TOOL_MOST_COLUMNS + 1));
}

static void numbers_beyond_json_are_null(void **state)
{
    (void)state;
    json_t *number = tool_json_number(INT64_MAX);
    assert_true(json_is_integer(number));
    assert_int_equal(json_integer_value(number), INT64_MAX);
    json_decref(number);
    number = tool_json_number((uint64_t)INT64_MAX + 1);
    assert_true(json_is_null(number));
    json_decref(number);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),
        cmocka_unit_test(durations),
        cmocka_unit_test(tables),
        cmocka_unit_test(many_rows),
        cmocka_unit_test(numbers_beyond_json_are_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
