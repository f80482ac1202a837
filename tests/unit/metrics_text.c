// SPDX-License-Identifier: Apache-2.0
//
// Prometheus' text format: escaping, numbers, histograms whose buckets add up, and what happens when there is too much.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "metrics/text.h"

static const char *whole(struct metrics_text *text)
{
    char *copy = calloc(1, text->used + 1);
    assert_non_null(copy);
    memcpy(copy, text->bytes, text->used);
    free(text->bytes);
    text->bytes = copy;
    return copy;
}

static void families_and_labels(void **state)
{
    struct metrics_text text = {0};
    const struct metrics_label labels[] = {{"who", "a\"b\\c\nd"}, {"op", "read"}};
    (void)state;
    metrics_family(&text, "x_total", METRICS_COUNTER, "A \"line\" with \\ and\nan end.");
    metrics_number(&text, labels, 2, UINT64_MAX);
    metrics_number(&text, NULL, 0, 0);
    metrics_one(&text, "y", METRICS_GAUGE, "Real.", 0.1);
    assert_string_equal(whole(&text), "# HELP x_total A \"line\" with \\\\ and\\nan end.\n"
                                      "# TYPE x_total counter\n"
                                      "x_total{who=\"a\\\"b\\\\c\\nd\",op=\"read\"} "
                                      "18446744073709551615\n"
                                      "x_total 0\n"
                                      "# HELP y Real.\n# TYPE y gauge\ny 0.1\n");
    free(text.bytes);
}

static void reals(void **state)
{
    static const double values[] = {0, 1, -2.5, 1e-9, 1.0 / 3, 1e300, 12345678901234567890.0};
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct metrics_text text = {0};
        metrics_family(&text, "r", METRICS_GAUGE, "");
        metrics_real(&text, NULL, 0, values[i]);
        const char *number = strrchr(whole(&text), ' ');
        assert_true(strtod(number, NULL) == values[i]);
        free(text.bytes);
    }
    struct metrics_text text = {0};
    metrics_family(&text, "r", METRICS_GAUGE, "");
    metrics_real(&text, NULL, 0, (double)INFINITY);
    metrics_real(&text, NULL, 0, (double)-INFINITY);
    metrics_real(&text, NULL, 0, (double)NAN);
    assert_non_null(strstr(whole(&text), "r +Inf\nr -Inf\nr NaN\n"));
    free(text.bytes);
}

// Of each bound: as many as are below it, of samples at every bucket's begin.
static void histogram(void **state)
{
    struct metrics_text text = {0};
    const struct metrics_label label = {"op", "read"};
    uint64_t buckets[LATENCY_BUCKETS];
    uint64_t total = 0;
    unsigned bounds = 0;
    (void)state;
    for (size_t i = 0; i < LATENCY_BUCKETS; i++) {
        buckets[i] = i + 1;
        total += i + 1;
    }
    metrics_family(&text, "h", METRICS_HISTOGRAM, "");
    metrics_latency(&text, &label, 1, buckets, UINT64_C(2500000000));
    const char *at = whole(&text);
    while ((at = strstr(at, "h_bucket{op=\"read\",le=\"")) != NULL) {
        at += strlen("h_bucket{op=\"read\",le=\"");
        char *end;
        double bound = strtod(at, &end);
        uint64_t expected = 0;
        for (size_t i = 0; i < LATENCY_BUCKETS; i++) {
            double upto = i + 1 < LATENCY_BUCKETS ? (double)latency_bucket_from(i + 1) / 1e9
                                                  : (double)INFINITY;
            expected += upto <= bound * (1 + 1e-12) ? buckets[i] : 0;
        }
        assert_int_equal(strtoull(end + strlen("\"} "), NULL, 10), expected);
        bounds++;
    }
    assert_int_equal(bounds, LATENCY_LAST_POWER - LATENCY_FIRST_POWER + 2);
    char count[64];
    (void)snprintf(count, sizeof count, "h_sum{op=\"read\"} 2.5\nh_count{op=\"read\"} %llu\n",
                   (unsigned long long)total);
    assert_non_null(strstr(text.bytes, count));
    free(text.bytes);
}

static void bounded(void **state)
{
    struct metrics_text text = {0};
    char value[4096];
    (void)state;
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    const struct metrics_label label = {"long", value};
    metrics_family(&text, "b", METRICS_GAUGE, "");
    for (unsigned i = 0; i < METRICS_TEXT_MOST_BYTES / sizeof value + 10; i++) {
        metrics_number(&text, &label, 1, i);
    }
    assert_true(text.failed);
    assert_true(text.room <= METRICS_TEXT_MOST_BYTES);
    free(text.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_and_labels),
        cmocka_unit_test(reals),
        cmocka_unit_test(histogram),
        cmocka_unit_test(bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
