// SPDX-License-Identifier: Apache-2.0
//
// What the catalog tells of all principals at once.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/unit/catalog_rig.h"

// The first names, in order, whenever they came; the sums are of all.
static void test_principals(void **state)
{
    enum { ROOM = 3, PRINCIPALS = 5 };
    static const char *const names[PRINCIPALS] = {"m", "b", "z", "a", "c"};
    struct world *world = *state;
    struct catalog_session *sessions[PRINCIPALS];
    struct catalog_sums first[ROOM];
    struct catalog_totals totals;
    for (size_t i = 0; i < PRINCIPALS; i++) {
        struct key_grant grant = grant_of((uint8_t)(i + 1), names[i]);
        grant.quota_bytes = 10 * PAGE;
        sessions[i] = session_with(world, (uint8_t)(i + 1), &grant);
        assert_int_equal(catalog_principals(world->catalog, first, ROOM, &totals),
                         i + 1 < ROOM ? i + 1 : ROOM);
        assert_int_equal(totals.principals, i + 1);
    }
    assert_string_equal(first[0].principal, "a");
    assert_string_equal(first[1].principal, "b");
    assert_string_equal(first[2].principal, "c");
    assert_true(totals.fullest == 0);
    assert_int_equal(create_sized(world, sessions[2], "z", 1, 9 * PAGE, 0), WIRE_OK);
    assert_int_equal(create_sized(world, sessions[1], "b", 2, 5 * PAGE, 0), WIRE_OK);
    assert_int_equal(catalog_principals(world->catalog, first, ROOM, &totals), ROOM);
    assert_int_equal(first[1].charged_bytes, 5 * PAGE);
    assert_true(totals.fullest == 0.9); // z's, who is not among the first
    assert_int_equal(totals.segments, 2);
    assert_int_equal(totals.sessions, PRINCIPALS);
    for (size_t i = 0; i < PRINCIPALS; i++) {
        put(world, sessions[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_principals, world_setup, world_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
