// SPDX-License-Identifier: Apache-2.0
//
// dsmstat server: a dsmd's load over time, from what it says of itself over one connection that is kept. A dsmd that is
// restarted is told apart by its incarnation: its counters begin anew, and so does the line. While it is away each sample
// says so on standard error, and the next one tries again.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tools/dsmstat.h"
#include "tools/tool_server.h"
#include "tools/tool_text.h"

struct watch {
    const struct stat_options *options;
    struct tool_client *client;
    unsigned lines;
    uint64_t incarnation, uptime_ms;
    uint64_t requests, pages_read, pages_written; // at the sample before
};

static void remember(struct watch *watch, const Dsm__StatInfo *stat)
{
    watch->incarnation = stat->incarnation;
    watch->uptime_ms = stat->uptime_ms;
    watch->requests = stat->requests;
    watch->pages_read = stat->pages_read;
    watch->pages_written = stat->pages_written;
}

static double rate(uint64_t now, uint64_t before, uint64_t ms)
{
    return now > before && ms > 0 ? (double)(now - before) * 1e3 / (double)ms : 0;
}

static void print_text(struct watch *watch, const Dsm__StatInfo *stat)
{
    char a[16], b[16], c[16];
    char up[TOOL_SIZE_BYTES], stored[TOOL_SIZE_BYTES], reserved[TOOL_SIZE_BYTES];
    char capacity[TOOL_SIZE_BYTES];
    uint64_t ms = stat->uptime_ms - watch->uptime_ms;
    if (stat_heading_due(&watch->lines)) {
        printf("%7s %7s %7s %7s %8s %8s %6s %8s %8s\n", "REQ/s", "READ/s", "WRITE/s", "STORED",
               "RESERVED", "CAPACITY", "LANES", "SESSIONS", "UP");
    }
    printf("%7s %7s %7s %7s %8s %8s %6" PRIu64 " %8" PRIu64 " %8s\n",
           stat_rate_text(rate(stat->requests, watch->requests, ms), a),
           stat_rate_text(rate(stat->pages_read, watch->pages_read, ms), b),
           stat_rate_text(rate(stat->pages_written, watch->pages_written, ms), c),
           tool_size(stat->stored_bytes, stored), tool_size(stat->reserved_bytes, reserved),
           tool_size(stat->capacity_bytes, capacity), stat->lanes, stat->sessions,
           tool_duration(stat->uptime_ms, up));
}

static void print_csv(struct watch *watch, json_t *object)
{
    const char *name;
    json_t *value;
    if (watch->lines++ == 0) {
        (void)fputs("time", stdout);
        json_object_foreach(object, name, value)
        {
            printf(",%s", name);
        }
        (void)putchar('\n');
    }
    printf("%.3f", tool_wall_clock());
    json_object_foreach(object, name, value)
    {
        (void)putchar(',');
        if (json_is_string(value)) {
            printf("\"%s\"", json_string_value(value));
        } else if (json_is_integer(value)) {
            printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
        }
    }
    (void)putchar('\n');
}

static void print(struct watch *watch, const Dsm__StatInfo *stat)
{
    json_t *object = NULL;
    if (watch->options->format != STAT_TEXT) {
        object = tool_server_json(watch->client, stat);
    }
    switch (watch->options->format) {
    case STAT_JSON:
        (void)json_object_set_new(object, "time", json_real(tool_wall_clock()));
        (void)tool_json_print(json_incref(object), false);
        break;
    case STAT_CSV:
        print_csv(watch, object);
        break;
    default:
        print_text(watch, stat);
    }
    json_decref(object);
}

static int sample(struct watch *watch, struct failure *failure)
{
    Dsm__ControlAnswer *answer = NULL;
    int error = tool_server_ask(watch->client, &answer, failure);
    if (error != 0) {
        return error;
    }
    const Dsm__StatInfo *stat = answer->stat;
    if (stat->incarnation != watch->incarnation || stat->uptime_ms < watch->uptime_ms) {
        const Dsm__StatInfo none = DSM__STAT_INFO__INIT;
        remember(watch, &none);
    }
    print(watch, stat);
    remember(watch, stat);
    tool_client_free(&answer);
    return fflush(stdout) == 0
               ? 0
               : failure_set(failure, -EPIPE, "The output cannot be written: %s.", strerror(errno));
}

int stat_server(const struct stat_options *options)
{
    struct watch watch = {.options = options};
    struct failure failure = {""};
    uint64_t start_ns = stat_now_ns();
    int error = tool_client_open(options->server, &watch.client, &failure);
    for (uint64_t i = 0; i < options->count && (error == 0 || i > 0); i++) {
        error = sample(&watch, &failure);
        if (error == -EPIPE) {
            break;
        }
        if (i + 1 < options->count) {
            if (error != 0) {
                stat_complain(&failure);
            }
            stat_wait(options, start_ns, i + 1);
        }
    }
    tool_client_close(&watch.client);
    if (error != 0) {
        stat_complain(&failure);
    }
    return error == 0 ? DSMSTAT_DONE : DSMSTAT_FAILED;
}
