// SPDX-License-Identifier: Apache-2.0
//
// dsmperf's percentiles: nearest rank over all samples, whatever order they came in.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tools/dsmperf.h"

static bool is(double found, double expected)
{
    return found >= expected && found <= expected;
}

static void nearest_rank(void **state)
{
    (void)state;
    struct perf_samples samples = {0};
    for (unsigned i = 0; i < 5000;
         i++) { // 1 to 5000, scattered (1999 and 5000 have no common factor)
        assert_int_equal(perf_samples_add(&samples, (double)(i * 1999 % 5000 + 1)), 0);
    }
    assert_true(is(perf_percentile(&samples, 50), 2500));
    assert_true(is(perf_percentile(&samples, 95), 4750));
    assert_true(is(perf_percentile(&samples, 99), 4950));
    assert_true(is(perf_percentile(&samples, 100), 5000));
    assert_true(is(perf_percentile(&samples, 0.001), 1));
    perf_samples_free(&samples);
    assert_int_equal(samples.count, 0);
}

static void few_samples(void **state)
{
    (void)state;
    struct perf_samples samples = {0};
    assert_true(isnan(perf_percentile(&samples, 50)));
    assert_int_equal(perf_samples_add(&samples, 9), 0);
    assert_true(is(perf_percentile(&samples, 1), 9));
    assert_true(is(perf_percentile(&samples, 99), 9));
    assert_int_equal(perf_samples_add(&samples, 4), 0);
    assert_int_equal(perf_samples_add(&samples, 6), 0);
    assert_true(is(perf_percentile(&samples, 50), 6));
    assert_true(is(perf_percentile(&samples, 33), 4));
    assert_true(is(perf_percentile(&samples, 67), 9));
    perf_samples_free(&samples);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nearest_rank),
        cmocka_unit_test(few_samples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
