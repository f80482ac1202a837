// SPDX-License-Identifier: Apache-2.0
//
// Rows of results, as a table for people or as an array of objects for programs. Both show the same rows:
// what was measured, under which settings, and beside it the raw limit of the same run and their ratio.
// value / limit: for times 1 is perfect and more is worse; for rates 1 is perfect and less is worse.
//
// Jansson is seen in this file only. NAN means "has none": a dash in the table, null in JSON.
#include "tools/dsmperf.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

int perf_report_add(struct perf_report *report, const struct perf_row *row)
{
    if (report->count == report->capacity) {
        size_t capacity = report->capacity == 0 ? 32 : report->capacity * 2;
        struct perf_row *rows = reallocarray(report->rows, capacity, sizeof(*rows));
        if (rows == NULL) {
            return -ENOMEM;
        }
        report->rows = rows;
        report->capacity = capacity;
    }
    report->rows[report->count++] = *row;
    return 0;
}

int perf_report_spread(struct perf_report *report, struct perf_row row, struct perf_samples *rounds)
{
    row.value = perf_percentile(rounds, 50);
    row.min = rounds->count > 0 ? rounds->values[0] : (double)NAN;
    row.max = rounds->count > 0 ? rounds->values[rounds->count - 1] : (double)NAN;
    return perf_report_add(report, &row);
}

int perf_report_why_not(struct perf_report *report, struct perf_row row, const char *what,
                        const char *why)
{
    row.value = row.min = row.max = row.limit = (double)NAN;
    (void)snprintf(row.metric, sizeof(row.metric), "%s: none: %s", what, why);
    return perf_report_add(report, &row);
}

void perf_report_free(struct perf_report *report)
{
    free(report->rows);
    *report = (struct perf_report){0};
}

static void print_number(double value, int decimals)
{
    if (isnan(value)) {
        printf(" %9s", "-");
    } else {
        printf(" %9.*f", decimals, value);
    }
}

static void print_table(const struct perf_report *report)
{
    printf("%-7s %-41s %-16s %-5s %-7s %9s %9s %9s %-6s %9s %9s\n", "test", "metric", "trap",
           "lanes", "waiting", "value", "min", "max", "unit", "limit", "ratio");
    for (size_t i = 0; i < report->count; i++) {
        const struct perf_row *row = &report->rows[i];
        printf("%-7s %-41s %-16s %-5s %-7s", row->test, row->metric, row->trap, row->lanes,
               row->waiting);
        print_number(row->value, 2);
        print_number(row->min, 2);
        print_number(row->max, 2);
        printf(" %-6s", row->unit);
        print_number(row->limit, 2);
        print_number(row->value / row->limit, 2);
        printf("\n");
    }
}

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static void print_json(const struct perf_report *report)
{
    json_t *array = json_array();
    for (size_t i = 0; i < report->count; i++) {
        const struct perf_row *row = &report->rows[i];
        json_array_append_new(
            array,
            json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:s, s:o, s:o}", "test", row->test,
                      "metric", row->metric, "trap", row->trap, "lanes", row->lanes, "waiting",
                      row->waiting, "value", number(row->value), "min", number(row->min), "max",
                      number(row->max), "unit", row->unit, "limit", number(row->limit), "ratio",
                      number(row->value / row->limit)));
    }
    json_dumpf(array, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    printf("\n");
    json_decref(array);
}

void perf_report_print(const struct perf_report *report, bool json)
{
    if (json) {
        print_json(report);
    } else {
        print_table(report);
    }
}
