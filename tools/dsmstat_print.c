// SPDX-License-Identifier: Apache-2.0
//
// From samples to lines, and lines for programs. A line is one client or the sum of all; what is shown of it depends on the
// reader. People get rates (dsmstat_text.c). Programs get the counters themselves, since the session was opened, under the
// names of counters.def: differences and rates are theirs to take over whatever time they like, and none is lost when they
// miss a sample.
//
// The first line's rates are since the start, as with vmstat. What is a level (resident bytes) has none.
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "tools/dsmstat.h"
#include "tools/tool_text.h"

const struct stat_percent stat_percents[STAT_PERCENTS] = {{50, "P50", "p50_ns"},
                                                          {90, "P90", "p90_ns"},
                                                          {99, "P99", "p99_ns"},
                                                          {99.9, "P99.9", "p999_ns"}};

static void subtract(struct stat_latency *from, const struct stat_latency *what)
{
    from->total_ns -= what->total_ns;
    for (size_t i = 0; i < LATENCY_BUCKETS; i++) {
        from->buckets[i] -= what->buckets[i];
    }
}

static void add(struct stat_latency *to, const struct stat_latency *what)
{
    to->total_ns += what->total_ns;
    for (size_t i = 0; i < LATENCY_BUCKETS; i++) {
        to->buckets[i] += what->buckets[i];
    }
}

static void take_line(const struct stat_sample *sample, const struct stat_client *client,
                      struct stat_line *line)
{
    double age = (double)(int64_t)(sample->now_ns - client->opened_ns) / 1e9;
    double seconds = sample->interval_s > 0 ? sample->interval_s : age;
    *line = (struct stat_line){.pid = client->pid,
                               .clients = 1,
                               .program = client->program,
                               .server = client->server,
                               .trap = client->trap,
                               .ended = client->ended,
                               .seconds = age,
                               .cache_bytes = client->cache_bytes,
                               .latency = client->latency_now,
                               .recent = client->latency_now};
    subtract(&line->recent, &client->latency_before);
    for (size_t i = 0; i < STAT_COUNTERS; i++) {
        line->value[i] = client->now[i];
        if (client->now[i] > client->before[i] && seconds > 0 && !stat_counters[i].level) {
            line->rate[i] = (double)(client->now[i] - client->before[i]) / seconds;
        }
    }
}

static void add_line(struct stat_line *total, const struct stat_line *line)
{
    total->clients += line->ended ? 0 : 1;
    total->cache_bytes += line->ended ? 0 : line->cache_bytes;
    total->seconds = line->seconds > total->seconds ? line->seconds : total->seconds;
    add(&total->latency, &line->latency);
    add(&total->recent, &line->recent);
    for (size_t i = 0; i < STAT_COUNTERS; i++) {
        total->value[i] += line->ended && stat_counters[i].level ? 0 : line->value[i];
        total->rate[i] += line->rate[i];
    }
}

// Buckets that are empty are left out; the others as [where it begins, count].
json_t *stat_latency_json(const struct stat_latency *latency)
{
    json_t *object = json_object();
    json_t *buckets = json_array();
    (void)json_object_set_new(object, "faults", tool_json_number(latency_count(latency->buckets)));
    (void)json_object_set_new(object, "total_ns", tool_json_number(latency->total_ns));
    for (size_t i = 0; i < STAT_PERCENTS; i++) {
        uint64_t ns = latency_percentile(latency->buckets, stat_percents[i].percent);
        (void)json_object_set_new(object, stat_percents[i].name, tool_json_number(ns));
    }
    for (size_t i = 0; i < LATENCY_BUCKETS; i++) {
        if (latency->buckets[i] > 0) {
            json_t *pair = json_array();
            (void)json_array_append_new(pair, tool_json_number(latency_bucket_from(i)));
            (void)json_array_append_new(pair, tool_json_number(latency->buckets[i]));
            (void)json_array_append_new(buckets, pair);
        }
    }
    (void)json_object_set_new(object, "buckets", buckets);
    return object;
}

static json_t *object_of(const struct stat_line *line)
{
    json_t *object = json_object();
    json_t *counters = json_object();
    if (line->pid != 0) {
        (void)json_object_set_new(object, "pid", json_integer(line->pid));
        (void)json_object_set_new(object, "program", json_string(line->program));
        (void)json_object_set_new(object, "server", json_string(line->server));
        (void)json_object_set_new(object, "ended", json_boolean(line->ended));
    } else {
        (void)json_object_set_new(object, "clients", json_integer(line->clients));
    }
    (void)json_object_set_new(object, "seconds", json_real(line->seconds));
    (void)json_object_set_new(object, "cache_bytes", tool_json_number(line->cache_bytes));
    if (line->pid != 0) {
        (void)json_object_set_new(object, "trap", json_string(line->trap));
    }
    for (size_t i = 0; i < STAT_COUNTERS; i++) {
        (void)json_object_set_new(counters, stat_counters[i].name,
                                  tool_json_number(line->value[i]));
    }
    (void)json_object_set_new(object, "counters", counters);
    (void)json_object_set_new(object, "fault_latency", stat_latency_json(&line->latency));
    return object;
}

static void print_csv(struct stat_printer *printer, const struct stat_sample *sample,
                      const struct stat_line *line)
{
    if (printer->lines++ == 0) {
        (void)fputs("time,pid,program,seconds,cache_bytes", stdout);
        for (size_t i = 0; i < STAT_COUNTERS; i++) {
            printf(",%s", stat_counters[i].name);
        }
        for (size_t i = 0; i < STAT_PERCENTS; i++) {
            printf(",fault_%s", stat_percents[i].name);
        }
        (void)putchar('\n');
    }
    printf("%.3f,", sample->time_s);
    if (line->pid != 0) {
        printf("%ld", (long)line->pid);
    }
    (void)fputs(",\"", stdout);
    for (const char *at = line->pid != 0 ? line->program : "total"; *at != '\0'; at++) {
        (void)fputs(*at == '"' ? "\"\"" : (char[]){*at, '\0'}, stdout);
    }
    printf("\",%.3f,%" PRIu64, line->seconds, line->cache_bytes);
    for (size_t i = 0; i < STAT_COUNTERS; i++) {
        printf(",%" PRIu64, line->value[i]);
    }
    for (size_t i = 0; i < STAT_PERCENTS; i++) {
        printf(",%" PRIu64, latency_percentile(line->latency.buckets, stat_percents[i].percent));
    }
    (void)putchar('\n');
}

static void print_line(struct stat_printer *printer, const struct stat_sample *sample,
                       const struct stat_line *line, json_t *lines)
{
    switch (printer->options->format) {
    case STAT_JSON:
        (void)json_array_append_new(lines, object_of(line));
        break;
    case STAT_CSV:
        print_csv(printer, sample, line);
        break;
    default:
        if (printer->options->all) {
            stat_print_all(line);
        } else {
            stat_print_text(printer, line);
        }
    }
}

int stat_print(struct stat_printer *printer, const struct stat_sample *sample)
{
    const struct stat_options *options = printer->options;
    struct stat_line total = {.program = "total", .server = "", .trap = ""};
    json_t *lines = json_array();
    for (const struct stat_client *client = sample->clients; client != NULL;
         client = client->next) {
        struct stat_line line;
        take_line(sample, client, &line);
        add_line(&total, &line);
        if (!options->total) {
            print_line(printer, sample, &line, lines);
        }
    }
    if (options->total) {
        print_line(printer, sample, &total, lines);
    }
    if (options->format == STAT_JSON) {
        json_t *object = json_object();
        (void)json_object_set_new(object, "time", json_real(sample->time_s));
        (void)json_object_set_new(object, "interval_s", json_real(sample->interval_s));
        (void)json_object_set(object, options->total ? "total" : "clients",
                              options->total ? json_array_get(lines, 0) : lines);
        (void)tool_json_print(object, false);
    }
    json_decref(lines);
    return fflush(stdout) == 0 && ferror(stdout) == 0 ? 0 : -EIO;
}
