// SPDX-License-Identifier: Apache-2.0
//
// Which store holds which pages: tables that are refused, and how runs are broken, by the table alone.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "libdsm/backing/backing.h"

enum { PAGES = 96 };

static struct placement placement;

static void set(const struct placement_row *rows, uint32_t count)
{
    assert_int_equal(placement_check(rows, count, PAGES, LIMIT_STORES), 0);
    placement_set(&placement, rows, count);
}

// Pages dealt out in stripes to so many stores.
static void stripes(uint64_t stripe, uint32_t stores)
{
    struct placement_row rows[LIMIT_PLACEMENT_ROWS];
    uint32_t n = 0;
    for (uint64_t page = 0; page < PAGES; page += stripe, n++) {
        uint64_t left = PAGES - page;
        rows[n] = (struct placement_row){page, left < stripe ? left : stripe, n % stores};
    }
    set(rows, n);
}

static void expect_pieces(uint64_t page, uint64_t count, uint32_t most, const char *expected)
{
    struct placement_piece pieces[LIMIT_RUN_PIECES + 1];
    char text[256] = "";
    size_t used = 0;
    memset(pieces, 0xee, sizeof pieces);
    uint32_t n = placement_break(&placement, page, count, pieces, most);
    assert_true(n <= most);
    assert_int_equal(pieces[n].store, 0xeeeeeeee); // nothing is written behind them
    for (uint32_t i = 0; i < n; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%llu+%u@%c", i > 0 ? " " : "",
                                 (unsigned long long)pieces[i].page, pieces[i].count,
                                 'A' + (int)pieces[i].store);
    }
    assert_string_equal(text, expected);
}

static void one_store(void **state)
{
    (void)state;
    struct backing_segment segment = {.pages = PAGES};
    placement_whole(&placement, &segment, PAGES);
    expect_pieces(0, PAGES, LIMIT_RUN_PIECES, "0+96@A");
    expect_pieces(PAGES - 1, 1, LIMIT_RUN_PIECES, "95+1@A");
    expect_pieces(7, 20, 1, "7+20@A");
    for (uint64_t page = 0; page < PAGES; page++) {
        assert_false(placement_begins(&placement, page));
        assert_int_equal(placement_store(&placement, page), 0);
        assert_ptr_equal(placement_part(&placement, page), &segment);
    }
}

static void boundaries(void **state)
{
    (void)state;
    set((const struct placement_row[]){{0, 3, 0}, {3, 93, 1}}, 2);
    expect_pieces(0, 3, LIMIT_RUN_PIECES, "0+3@A");
    expect_pieces(0, 4, LIMIT_RUN_PIECES, "0+3@A 3+1@B");
    expect_pieces(2, 2, LIMIT_RUN_PIECES, "2+1@A 3+1@B");
    expect_pieces(2, 1, LIMIT_RUN_PIECES, "2+1@A");
    expect_pieces(3, 5, LIMIT_RUN_PIECES, "3+5@B");
    expect_pieces(0, PAGES, LIMIT_RUN_PIECES, "0+3@A 3+93@B");
    expect_pieces(95, 1, LIMIT_RUN_PIECES, "95+1@B");
    expect_pieces(1, 10, 1, "1+2@A");
    expect_pieces(1, 0, LIMIT_RUN_PIECES, "");
    assert_true(placement_begins(&placement, 3));
    assert_false(placement_begins(&placement, 2));
    assert_false(placement_begins(&placement, 4));
}

static void three_interleaved(void **state)
{
    (void)state;
    stripes(2, 3);
    expect_pieces(0, 8, LIMIT_RUN_PIECES, "0+2@A 2+2@B 4+2@C 6+2@A");
    expect_pieces(5, 4, LIMIT_RUN_PIECES, "5+1@C 6+2@A 8+1@B");
    expect_pieces(0, PAGES, LIMIT_RUN_PIECES, "0+2@A 2+2@B 4+2@C 6+2@A 8+2@B 10+2@C 12+2@A 14+2@B");
    expect_pieces(94, 2, LIMIT_RUN_PIECES, "94+2@C");
    for (uint64_t page = 0; page < PAGES; page++) {
        assert_int_equal(placement_store(&placement, page), page / 2 % 3);
        assert_int_equal(placement_begins(&placement, page), page % 2 == 0);
    }
}

// A run is broken where the store changes, not where a row happens to end.
static void rows_of_one_store_are_one(void **state)
{
    (void)state;
    set((const struct placement_row[]){{0, 1, 2}, {1, 5, 2}, {6, 1, 0}, {7, 2, 0}, {9, 87, 2}}, 5);
    assert_int_equal(placement.row_count, 3);
    expect_pieces(0, 12, LIMIT_RUN_PIECES, "0+6@C 6+3@A 9+3@C");
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        struct placement_row rows[3];
        uint32_t count, stores;
    } cases[] = {
        {{{0, 0, 0}}, 0, 1},                         // no row
        {{{0, 95, 0}}, 1, 1},                        // the last page is nowhere
        {{{0, 97, 0}}, 1, 1},                        // more than there are
        {{{1, 95, 0}}, 1, 1},                        // the first page is nowhere
        {{{0, 96, 1}}, 1, 1},                        // a store that there is not
        {{{0, 3, 0}, {4, 92, 1}}, 2, 2},             // a gap
        {{{0, 3, 0}, {2, 94, 1}}, 2, 2},             // a page twice
        {{{0, 3, 0}, {3, 0, 1}, {3, 93, 0}}, 3, 2},  // no page
        {{{3, 93, 0}, {0, 3, 1}}, 2, 2},             // not in order
        {{{0, 1, 0}, {1, UINT64_MAX, 1}}, 2, 2},     // the sum overflows
        {{{0, 96, 0}}, 1, LIMIT_STORES + 1},         // too many stores
        {{{0, 96, 0}}, LIMIT_PLACEMENT_ROWS + 1, 1}, // too many rows
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (placement_check(cases[i].rows, cases[i].count, PAGES, cases[i].stores) != -EINVAL) {
            fail_msg("case %zu is taken", i);
        }
    }
}

// What is sent: the hint goes with the last piece, contents with their pages, versions are each store's own.
static void runs_of_a_write_and_of_a_read(void **state)
{
    (void)state;
    static const uint8_t contents[1];
    static struct backing_segment parts[2] = {{.id = 1, .page_bytes = 4096},
                                              {.id = 2, .page_bytes = 4096}};
    struct backing_run runs[LIMIT_RUN_PIECES];
    stripes(4, 2);
    for (int i = 0; i < 2; i++) {
        placement.parts[i] = &parts[i];
        atomic_store(&parts[i].next_version, 10 + 10 * (uint64_t)i);
    }
    const struct backing_run write = {.page = 2, .count = 7, .contents = contents};
    assert_int_equal(backing_break(&placement, &write, runs), 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_ptr_equal(runs[i].segment, &parts[i % 2]);
        assert_ptr_equal(runs[i].contents, contents + (runs[i].page - 2) * 4096);
    }
    assert_int_equal(runs[0].version, 10);
    assert_int_equal(runs[1].version, 20);
    assert_int_equal(runs[2].version, 11);
    const struct backing_run read = {.page = 2, .count = 3, .hint = 17};
    assert_int_equal(backing_break(&placement, &read, runs), 2);
    assert_true(runs[0].hint == WIRE_NO_HINT && runs[1].hint == 17);
    assert_int_equal(atomic_load(&parts[0].next_version), 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_store),         cmocka_unit_test(boundaries),
        cmocka_unit_test(three_interleaved), cmocka_unit_test(rows_of_one_store_are_one),
        cmocka_unit_test(refused),           cmocka_unit_test(runs_of_a_write_and_of_a_read),
    };
    return cmocka_run_group_tests_name("placement", tests, NULL, NULL);
}
