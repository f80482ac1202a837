// SPDX-License-Identifier: Apache-2.0
//
// Why by hand and not with a client library: there is none in C that Debian has, and the format is a page long: HELP, TYPE,
// then NAME{LABEL="VALUE",...} NUMBER. What can go wrong is escaping, and histograms whose buckets do not add up; both are in
// one place here.
//
// The buckets of latency.h are finer (eight to a power of two) than a time series database wants them: each would be a series
// of its own for every operation. Given are those at powers of two, of which each is exact, since a bucket ends there: a
// sample of just that length, to the nanosecond, counts above and not below, which nobody can measure.
//
// Numbers: counts are written as integers; reals so that they read back as the same.
//
// Memory grows by doubling, to a bound; afterwards, or without memory, nothing more is added and `failed` says so. One owner.
#include "metrics/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_FIRST_BYTES = 32 << 10, NUMBER_BYTES = 40 };

static const char *const type_names[] = {"counter", "gauge", "histogram"};

const char *metrics_type_text(enum metrics_type type)
{
    return type_names[type];
}

static bool grow(struct metrics_text *text, size_t bytes)
{
    size_t room = text->room == 0 ? TEXT_FIRST_BYTES : text->room;
    while (room - text->used < bytes && room <= METRICS_TEXT_MOST_BYTES) {
        room *= 2;
    }
    char *larger = room <= METRICS_TEXT_MOST_BYTES ? realloc(text->bytes, room) : NULL;
    if (larger == NULL) {
        text->failed = true;
        return false;
    }
    text->bytes = larger;
    text->room = room;
    return true;
}

static void put(struct metrics_text *text, const char *bytes, size_t count)
{
    if (text->failed || (text->room - text->used < count && !grow(text, count))) {
        return;
    }
    memcpy(text->bytes + text->used, bytes, count);
    text->used += count;
}

static void put_text(struct metrics_text *text, const char *string)
{
    put(text, string, strlen(string));
}

// In HELP a quotation mark is itself; in the value of a label it ends the value.
static void put_escaped(struct metrics_text *text, const char *string, bool quoted)
{
    for (; *string != '\0'; string++) {
        if (*string == '\n') {
            put(text, "\\n", 2);
        } else {
            if (*string == '\\' || (quoted && *string == '"')) {
                put(text, "\\", 1);
            }
            put(text, string, 1);
        }
    }
}

void metrics_family(struct metrics_text *text, const char *name, enum metrics_type type,
                    const char *help)
{
    text->family = name;
    text->suffix = "";
    put_text(text, "# HELP ");
    put_text(text, name);
    put_text(text, " ");
    put_escaped(text, help, false);
    put_text(text, "\n# TYPE ");
    put_text(text, name);
    put_text(text, " ");
    put_text(text, type_names[type]);
    put_text(text, "\n");
}

static void put_sample(struct metrics_text *text, const struct metrics_label *labels, size_t count,
                       const char *number)
{
    put_text(text, text->family);
    put_text(text, text->suffix);
    for (size_t i = 0; i < count; i++) {
        put_text(text, i == 0 ? "{" : ",");
        put_text(text, labels[i].name);
        put_text(text, "=\"");
        put_escaped(text, labels[i].value, true);
        put_text(text, "\"");
    }
    put_text(text, count > 0 ? "} " : " ");
    put_text(text, number);
    put_text(text, "\n");
}

void metrics_number(struct metrics_text *text, const struct metrics_label *labels, size_t count,
                    uint64_t value)
{
    char number[NUMBER_BYTES];
    (void)snprintf(number, sizeof number, "%" PRIu64, value);
    put_sample(text, labels, count, number);
}

static const char *real_text(double value, char number[NUMBER_BYTES])
{
    if (isinf(value)) {
        return value > 0 ? "+Inf" : "-Inf";
    }
    (void)snprintf(number, NUMBER_BYTES, "%.15g", value);
    if (strtod(number, NULL) != value) {
        (void)snprintf(number, NUMBER_BYTES, "%.17g", value);
    }
    return isnan(value) ? "NaN" : number;
}

void metrics_real(struct metrics_text *text, const struct metrics_label *labels, size_t count,
                  double value)
{
    char number[NUMBER_BYTES];
    put_sample(text, labels, count, real_text(value, number));
}

void metrics_one(struct metrics_text *text, const char *name, enum metrics_type type,
                 const char *help, double value)
{
    metrics_family(text, name, type, help);
    metrics_real(text, NULL, 0, value);
}

void metrics_latency(struct metrics_text *text, const struct metrics_label *labels, size_t count,
                     const uint64_t buckets[LATENCY_BUCKETS], uint64_t total_ns)
{
    struct metrics_label all[METRICS_LABELS + 1];
    char bound[NUMBER_BYTES];
    uint64_t below = 0;
    size_t bucket = 0;
    count = count < METRICS_LABELS ? count : METRICS_LABELS;
    for (size_t i = 0; i < count; i++) {
        all[i] = labels[i];
    }
    text->suffix = "_bucket";
    for (unsigned power = LATENCY_FIRST_POWER; power <= LATENCY_LAST_POWER; power++) {
        for (; bucket < latency_bucket_of(UINT64_C(1) << power); bucket++) {
            below += buckets[bucket];
        }
        const char *seconds = real_text((double)(UINT64_C(1) << power) / 1e9, bound);
        all[count] = (struct metrics_label){"le", seconds};
        metrics_number(text, all, count + 1, below);
    }
    uint64_t every = latency_count(buckets);
    all[count] = (struct metrics_label){"le", "+Inf"};
    metrics_number(text, all, count + 1, every);
    text->suffix = "_sum";
    metrics_real(text, labels, count, (double)total_ns / 1e9);
    text->suffix = "_count";
    metrics_number(text, labels, count, every);
    text->suffix = "";
}
