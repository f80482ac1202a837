// SPDX-License-Identifier: Apache-2.0
//
// The histogram of latencies against the samples themselves, sorted: percentiles by nearest rank are at most 1/16 off between 2^10
// and 2^34 ns. And its buckets: each begins where the one before ends, and none is wider than 1/8 of where it begins.
#include "rpc/latency.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SAMPLES = 20000, THREADS = 4 };
static const double percents[] = {0.001, 1, 10, 50, 90, 99, 99.9, 99.99, 100};

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void copy(const struct latency *latency, uint64_t buckets[LATENCY_BUCKETS])
{
    for (size_t i = 0; i < LATENCY_BUCKETS; i++) {
        buckets[i] = atomic_load(&latency->buckets[i]);
    }
}

static void buckets_join(void **state)
{
    (void)state;
    assert_int_equal(latency_bucket_from(0), 0);
    assert_int_equal(latency_bucket_from(1), 1024);
    assert_int_equal(latency_bucket_from(LATENCY_BUCKETS - 1), UINT64_C(1) << 34);
    for (size_t i = 1; i < LATENCY_BUCKETS; i++) {
        uint64_t from = latency_bucket_from(i);
        assert_int_equal(latency_bucket_of(from), i);
        assert_int_equal(latency_bucket_of(from - 1), i - 1);
        if (i < LATENCY_BUCKETS - 1) {
            assert_true((latency_bucket_from(i + 1) - from) * 8 <= from);
        }
    }
    assert_int_equal(latency_bucket_of(0), 0);
    assert_int_equal(latency_bucket_of(UINT64_MAX), LATENCY_BUCKETS - 1);
}

static int compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static uint64_t exact_percentile(const uint64_t *sorted, uint64_t count, double percent)
{
    uint64_t rank = 1;
    while (rank < count && (double)rank < percent / 100.0 * (double)count) {
        rank++;
    }
    return sorted[rank - 1];
}

static void compare_with_samples(uint64_t *samples, uint64_t count)
{
    struct latency latency = {.total_ns = 0};
    uint64_t buckets[LATENCY_BUCKETS];
    uint64_t total = 0;
    for (uint64_t i = 0; i < count; i++) {
        latency_add(&latency, (int64_t)samples[i]);
        total += samples[i];
    }
    copy(&latency, buckets);
    qsort(samples, count, sizeof samples[0], compare);
    assert_int_equal(latency_count(buckets), count);
    assert_int_equal(atomic_load(&latency.total_ns), total);
    for (size_t i = 0; i < sizeof percents / sizeof percents[0]; i++) {
        uint64_t exact = exact_percentile(samples, count, percents[i]);
        uint64_t found = latency_percentile(buckets, percents[i]);
        uint64_t off = found > exact ? found - exact : exact - found;
        if (off * 16 > exact) {
            fail_msg("%g %%: %llu instead of %llu ns", percents[i], (unsigned long long)found,
                     (unsigned long long)exact);
        }
    }
}

static void percentiles_are_those_of_the_samples(void **state)
{
    (void)state;
    static uint64_t samples[SAMPLES];
    uint64_t seed = 7;
    for (unsigned i = 0; i < SAMPLES; i++) { // of all sizes alike
        unsigned power =
            LATENCY_FIRST_POWER +
            (unsigned)(next_random(&seed) % (LATENCY_LAST_POWER - LATENCY_FIRST_POWER));
        samples[i] = (UINT64_C(1) << power) + next_random(&seed) % (UINT64_C(1) << power);
    }
    compare_with_samples(samples, SAMPLES);
    for (unsigned i = 0; i < SAMPLES; i++) { // narrow, with a tail of 2 in 1000
        samples[i] = 30000 + next_random(&seed) % 4000 + (i % 500 == 0 ? 9000000 : 0);
    }
    compare_with_samples(samples, SAMPLES);
    for (unsigned i = 0; i < SAMPLES; i++) { // where buckets begin and end
        samples[i] = latency_bucket_from(1 + i % (LATENCY_BUCKETS - 2)) + (i / LATENCY_BUCKETS) % 2;
    }
    compare_with_samples(samples, SAMPLES);
    for (uint64_t few = 1; few < 20; few++) {
        for (uint64_t i = 0; i < few; i++) {
            samples[i] = 5000 * (i + 1);
        }
        compare_with_samples(samples, few);
    }
}

static void what_is_out_of_range_is_kept(void **state)
{
    (void)state;
    struct latency latency = {.total_ns = 0};
    uint64_t buckets[LATENCY_BUCKETS] = {0};
    assert_int_equal(latency_percentile(buckets, 50), 0);
    latency_add(&latency, -5); // a clock that steps back
    latency_add(&latency, 3);
    latency_add(&latency, INT64_MAX);
    copy(&latency, buckets);
    assert_int_equal(buckets[0], 2);
    assert_int_equal(buckets[LATENCY_BUCKETS - 1], 1);
    assert_true(latency_percentile(buckets, 50) < 1024);
    assert_int_equal(latency_percentile(buckets, 100), UINT64_C(1) << 34);
}

static void *add_many(void *argument)
{
    for (int64_t i = 0; i < SAMPLES; i++) {
        latency_add(argument, 2000 + i % 7);
    }
    return NULL;
}

static void threads_lose_nothing(void **state)
{
    (void)state;
    static struct latency latency;
    pthread_t threads[THREADS];
    uint64_t buckets[LATENCY_BUCKETS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, &latency), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    copy(&latency, buckets);
    assert_int_equal(latency_count(buckets), THREADS * SAMPLES);
    assert_int_equal(buckets[latency_bucket_of(2000)], THREADS * SAMPLES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_join),
        cmocka_unit_test(percentiles_are_those_of_the_samples),
        cmocka_unit_test(what_is_out_of_range_is_kept),
        cmocka_unit_test(threads_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
