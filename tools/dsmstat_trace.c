// SPDX-License-Identifier: Apache-2.0
//
// dsmstat trace: a line for each swap-in, as they end: the faults that asked for pages, and the calls of dsm_swap_in; with --all every
// trap. This is the only word for which the kernel tells of single events. They lie in a ring of 1 MiB, from which they are
// taken every 20 ms: the program never waits for the reader, and nothing wakes one from within its fault. What finds the ring full
// is counted, and told at the end.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tools/dsmstat_sums.h"
#include "tools/tool_text.h"

enum { PAUSE_NS = 20000000, NAME = 16 };

struct state {
    struct watch *watch;
    unsigned lines;     // since the heading
    double monotonic_s; // what to add to make a time of the day
};

// The bits of an outcome, as letters.
static const char *outcome_text(const struct seen_event *event, char text[8])
{
    static const char letters[] =
        "RWSUQF"; // read, write, soft, upgrade, queued behind another, failed
    size_t at = 0;
    for (size_t i = 0; i < SEEN_OUTCOMES; i++) {
        if ((event->outcome >> i & 1) != 0) {
            text[at++] = letters[i];
        }
    }
    if (event->kind == 1) {
        text[at++] = 'C';
    } else if (event->kind != 0) {
        text[at++] = '+';
    }
    text[at] = '\0';
    return text;
}

static bool wanted(const struct state *state, const struct seen_event *event)
{
    struct seen_key key = {
        .process = event->process, .segment = event->segment, .store = event->store};
    return watch_shows(state->watch, &key) &&
           (event->pages != 0 || event->kind != 0 || state->watch->options->all);
}

static const struct tool_column columns[] = {
    {"TIME", true, 7},    {"PID", false, 6},    {"TID", false, 14},  {"SEGMENT", true, 5},
    {"PAGE", false, 0},   {"PAGES", false, 0},  {"HOW", true, 0},    {"TOTAL", false, 0},
    {"PAGER", false, 10}, {"HAND", false, 11},  {"WAIT", false, 12}, {"WIRE", false, 3},
    {"SERVER", false, 4}, {"CIPHER", false, 9}, {"WAKE", false, 8}};
enum { COLUMNS = sizeof columns / sizeof columns[0], TIME = 0, SEGMENT = 3, TOTAL = 7 };
static const size_t widths[COLUMNS] = {15, 7, 7, NAME, 8, 5, 3, 6, 6, 6, 6, 6, 6, 6, 6};

static void print_cells(const char (*cells)[STAT_PAGE_NAME_BYTES])
{
    bool shown[COLUMNS];
    unsigned width, rows;
    const char *gap = "";
    tool_terminal(stdout, &width, &rows);
    tool_columns_fit(columns, widths, COLUMNS, 1, width, shown);
    for (size_t i = 0; i < COLUMNS; i++) {
        int cell = (int)widths[i];
        if (shown[i]) {
            printf(columns[i].left ? "%s%-*.*s" : "%s%*.*s", gap, cell,
                   columns[i].left ? cell : STAT_PAGE_NAME_BYTES, cells[i]);
            gap = " ";
        }
    }
    (void)putchar('\n');
}

static void print_text(struct state *state, const struct seen_event *event,
                       const struct watch_name *name, double time_s)
{
    char cells[COLUMNS][STAT_PAGE_NAME_BYTES], text[16];
    time_t whole = (time_t)time_s;
    struct tm local;
    if (stat_heading_due(&state->lines)) {
        for (size_t i = 0; i < COLUMNS; i++) {
            (void)snprintf(cells[i], sizeof cells[i], "%s", columns[i].title);
        }
        print_cells((const char(*)[STAT_PAGE_NAME_BYTES])cells);
    }
    (void)strftime(text, sizeof text, "%T", localtime_r(&whole, &local));
    (void)snprintf(cells[TIME], sizeof cells[TIME], "%s.%06u", text,
                   (unsigned)((time_s - (double)whole) * 1e6));
    (void)snprintf(cells[1], sizeof cells[1], "%u", event->process);
    (void)snprintf(cells[2], sizeof cells[2], "%u", event->thread);
    memcpy(cells[SEGMENT], name->segment, sizeof cells[SEGMENT]);
    (void)snprintf(cells[4], sizeof cells[4], "%llu", event->page);
    (void)snprintf(cells[5], sizeof cells[5], "%u", event->pages);
    (void)snprintf(cells[6], sizeof cells[6], "%s", outcome_text(event, text));
    (void)snprintf(cells[TOTAL], sizeof cells[TOTAL], "%s", stat_time_text(event->total_ns, text));
    for (size_t i = SEEN_PAGER; i < SEEN_PARTS; i++) {
        (void)snprintf(cells[TOTAL + i], sizeof cells[TOTAL], "%s",
                       stat_time_text(event->parts_ns[i], text));
    }
    print_cells((const char(*)[STAT_PAGE_NAME_BYTES])cells);
}

static void print_json(const struct seen_event *event, const struct watch *watch,
                       const struct seen_key *key, double time_s)
{
    static const char *const names[SEEN_PARTS] = {NULL,      "pager_ns",  "handover_ns", "wait_ns",
                                                  "wire_ns", "server_ns", "cipher_ns",   "wake_ns"};
    char text[8];
    json_t *object = json_object();
    (void)json_object_set_new(object, "time", json_real(time_s));
    sums_name_json(watch, key, object);
    (void)json_object_set_new(object, "thread", json_integer(event->thread));
    (void)json_object_set_new(object, "page", tool_json_number(event->page));
    (void)json_object_set_new(object, "pages", json_integer(event->pages));
    (void)json_object_set_new(object, "bytes", tool_json_number(event->bytes));
    (void)json_object_set_new(object, "how", json_string(outcome_text(event, text)));
    (void)json_object_set_new(object, "error", json_integer(event->error));
    (void)json_object_set_new(object, "total_ns", tool_json_number(event->total_ns));
    for (size_t i = SEEN_PAGER; i < SEEN_PARTS; i++) {
        (void)json_object_set_new(object, names[i], tool_json_number(event->parts_ns[i]));
    }
    (void)tool_json_print(object, false);
}

static void csv_heading(void)
{
    (void)puts("time," SUMS_NAME_CSV ",thread,page,pages,bytes,how,error,total_ns,pager_ns,"
               "handover_ns,wait_ns,wire_ns,server_ns,cipher_ns,wake_ns");
}

static void print_csv(const struct seen_event *event, const struct watch *watch,
                      const struct seen_key *key, double time_s)
{
    char text[8];
    printf("%.6f,", time_s);
    sums_name_csv(watch, key);
    printf(",%u,%llu,%u,%llu,%s,%d,%llu", event->thread, event->page, event->pages, event->bytes,
           outcome_text(event, text), event->error, event->total_ns);
    for (size_t i = SEEN_PAGER; i < SEEN_PARTS; i++) {
        printf(",%llu", event->parts_ns[i]);
    }
    (void)putchar('\n');
}

static int on_event(void *context, const struct seen_event *event)
{
    struct state *state = context;
    struct seen_key key = {
        .process = event->process, .segment = event->segment, .store = event->store};
    struct watch_name name;
    double time_s = (double)event->ns / 1e9 + state->monotonic_s;
    if (!wanted(state, event)) {
        return 0;
    }
    switch (state->watch->options->format) {
    case STAT_JSON:
        print_json(event, state->watch, &key, time_s);
        break;
    case STAT_CSV:
        print_csv(event, state->watch, &key, time_s);
        break;
    default:
        watch_name(state->watch, &key, &name);
        print_text(state, event, &name, time_s);
    }
    return 0;
}

static int show(struct watch *watch, void *context, struct failure *failure)
{
    struct state *state = context;
    state->watch = watch;
    state->monotonic_s = tool_wall_clock() - (double)stat_now_ns() / 1e9;
    int error = seen_take_events(watch->seen, on_event, state);
    if (error != 0) {
        (void)failure_set(failure, error, "the kernel's events cannot be read: %s",
                          strerror(-error));
    }
    return error;
}

int watch_trace(const struct stat_options *options)
{
    struct state state = {0};
    struct failure failure;
    struct stat_options endless = *options;
    if (options->interval_s <= 0) {
        endless.interval_s = 3600;
        endless.count = UINT64_MAX;
    }
    const struct watch_view view = {.wanted = SEEN_TRACE,
                                    .pause_ns = PAUSE_NS,
                                    .begin = options->format == STAT_CSV ? csv_heading : NULL,
                                    .show = show,
                                    .state = &state};
    int error = watch_run(&endless, &view, &failure);
    if (error == -EPERM || error == -EOPNOTSUPP) {
        return watch_refused(options, &failure, "each swap-in");
    }
    return watch_result(error, &failure);
}
