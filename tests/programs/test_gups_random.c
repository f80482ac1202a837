// SPDX-License-Identifier: Apache-2.0
//
// The sequence of RandomAccess: the jump against single steps, and against what the specification fixes: the
// polynomial (x^64 = x^2 + x + 1) and the period.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/programs/gups_random.h"

static void jump_is_many_steps(void **state)
{
    (void)state;
    uint64_t value = 1;
    for (uint64_t n = 0; n < 20000; n++) {
        if (n < 300 || n % 97 == 0) {
            assert_true(gups_start(n) == value);
        }
        value = gups_next(value);
    }
}

static void known_values(void **state)
{
    (void)state;
    assert_true(gups_start(0) == 1);
    assert_true(gups_start(1) == 2);
    assert_true(gups_start(63) == UINT64_C(1) << 63);
    assert_true(gups_start(64) == GUPS_POLY);
    assert_true(gups_start(128) == 0x15); // (x^2 + x + 1)^2
    assert_true(gups_start(GUPS_PERIOD) == 1);
    assert_true(gups_start(GUPS_PERIOD + 12345) == gups_start(12345));
    assert_true(gups_start(GUPS_PERIOD / 3) != 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jump_is_many_steps),
        cmocka_unit_test(known_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
