// SPDX-License-Identifier: Apache-2.0
//
// dsmstat heat: where in a segment faults happen, and when. A line for each segment and interval, the segment's pages from left to
// right, time downwards: a scan is a slope, a hot spot a column, random access a grey band.
//
// The kernel keeps at most 256 cells of a segment for a slot of time. It does not know how large a segment is, so cells grow by
// powers of two with the highest page that it has met; within an interval there may be cells of several sizes, which are spread
// over what they cover. Cells are removed when they have been shown, so the map is bounded by what happens in one interval.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/dsmstat_sums.h"
#include "tools/tool_text.h"

enum { MOST_COLUMNS = 512, FLOOR = 10, NAME = 20, LONG_NAME = 40, WIDE = 120 };
enum { PREFIX = 8 + 1 + 7 + 1 + 1 + 6 + 1 }; // without the name

struct cell {
    struct seen_key key;
    uint64_t first, pages;
    struct seen_heat heat;
};
struct cells {
    const struct watch *watch;
    struct cell *all;
    size_t count, room;
};
struct state {
    unsigned lines; // since the heading
    uint64_t before_ns;
};

static int add_cell(void *context, const struct seen_cell *seen, const struct seen_heat *heat)
{
    struct cells *cells = context;
    struct cell cell = {
        .key = {.process = seen->process, .segment = seen->segment, .store = seen->store},
        .first = (uint64_t)seen->index << seen->shift,
        .pages = UINT64_C(1) << seen->shift,
        .heat = *heat};
    if (!watch_shows(cells->watch, &cell.key)) {
        return 0;
    }
    if (cells->count == cells->room) {
        size_t room = 2 * cells->room + 256;
        struct cell *more = reallocarray(cells->all, room, sizeof *more);
        if (more == NULL) {
            return -ENOMEM;
        }
        cells->all = more;
        cells->room = room;
    }
    cells->all[cells->count++] = cell;
    return 0;
}

static int by_place(const void *left, const void *right)
{
    const struct cell *a = left, *b = right;
    if (a->key.process != b->key.process) {
        return a->key.process < b->key.process ? -1 : 1;
    }
    if (a->key.segment != b->key.segment) {
        return a->key.segment < b->key.segment ? -1 : 1;
    }
    return a->first < b->first ? -1 : (a->first > b->first ? 1 : 0);
}

// How many cells from this one on are of the same segment; its servers are shown together.
static size_t same_segment(const struct cells *cells, size_t from)
{
    const struct seen_key *key = &cells->all[from].key;
    size_t count = 1;
    while (from + count < cells->count && cells->all[from + count].key.process == key->process &&
           cells->all[from + count].key.segment == key->segment) {
        count++;
    }
    return count;
}

// The segment's pages, or as many as have been met of one that has no name.
static uint64_t reach(const struct cell *cells, size_t count, uint64_t pages)
{
    return pages != 0 ? pages : cells[count - 1].first + cells[count - 1].pages;
}

// ---- for people ----

static int name_width(void)
{
    return draw_width() >= WIDE ? LONG_NAME : NAME;
}

// Its faults, over the columns that it covers.
static void spread(const struct cell *cell, uint64_t pages, unsigned width, double *columns)
{
    double scale = (double)width / (double)pages;
    double from = (double)cell->first * scale;
    double to = (double)(cell->first + cell->pages) * scale;
    to = to > width ? width : to;
    for (unsigned i = (unsigned)from; i < width && i < to; i++) {
        double left = from > i ? from : i;
        double right = to < i + 1 ? to : i + 1;
        columns[i] += (double)cell->heat.hard * (right - left) / (to - from);
    }
}

static void print_shades(const double *columns, unsigned width)
{
    double most = 0;
    for (unsigned i = 0; i < width; i++) {
        most = columns[i] > most ? columns[i] : most;
    }
    (void)putchar('|');
    for (unsigned i = 0; i < width; i++) {
        (void)fputs(draw_shade(most > 0 ? columns[i] / most : 0), stdout);
    }
    (void)puts("|");
}

static void print_line(const struct watch *watch, const struct cell *cells, size_t count,
                       double seconds)
{
    double columns[MOST_COLUMNS] = {0};
    uint64_t hard = 0;
    struct watch_name name;
    char clock[16], rate[16];
    time_t now = time(NULL);
    struct tm local;
    unsigned terminal = draw_width();
    unsigned used = PREFIX + (unsigned)name_width() + 2;
    unsigned room = terminal > used + FLOOR ? terminal - used : FLOOR;
    unsigned width = room < MOST_COLUMNS ? room : MOST_COLUMNS;
    watch_name(watch, &cells[0].key, &name);
    uint64_t pages = reach(cells, count, name.pages);
    for (size_t i = 0; i < count; i++) {
        hard += cells[i].heat.hard;
        spread(&cells[i], pages, width, columns);
    }
    (void)strftime(clock, sizeof clock, "%T", localtime_r(&now, &local));
    printf("%s %7u %-*.*s %6s ", clock, cells[0].key.process, name_width(), name_width(),
           name.segment, stat_rate_text((double)hard / seconds, rate));
    print_shades(columns, width);
}

static void print_heading(void)
{
    char line[256];
    (void)snprintf(line, sizeof line, "%-8s %7s %-*s %6s  first page ... last page", "TIME", "PID",
                   name_width(), "SEGMENT", "FLT/s");
    printf("%.*s\n", (int)draw_width(), line);
}

static void print_text(const struct watch *watch, struct state *state, const struct cells *cells,
                       double seconds)
{
    for (size_t i = 0; i < cells->count;) {
        size_t count = same_segment(cells, i);
        if (stat_heading_due(&state->lines)) {
            print_heading();
        }
        print_line(watch, &cells->all[i], count, seconds);
        i += count;
    }
}

// ---- for programs ----

static json_t *segment_json(const struct watch *watch, const struct cell *cells, size_t count)
{
    json_t *object = json_object();
    json_t *list = json_array();
    struct watch_name name;
    uint64_t hard = 0, soft = 0;
    watch_name(watch, &cells[0].key, &name);
    sums_name_json(watch, &cells[0].key, object);
    for (size_t i = 0; i < count; i++) {
        const struct cell *cell = &cells[i];
        hard += cell->heat.hard;
        soft += cell->heat.soft;
        (void)json_array_append_new(
            list, json_pack("[I, I, I, I]", (json_int_t)cell->first, (json_int_t)cell->pages,
                            (json_int_t)cell->heat.hard, (json_int_t)cell->heat.soft));
    }
    (void)json_object_set_new(object, "pages", tool_json_number(reach(cells, count, name.pages)));
    (void)json_object_set_new(object, "page_bytes", tool_json_number(name.page_bytes));
    (void)json_object_set_new(object, "faults", tool_json_number(hard));
    (void)json_object_set_new(object, "soft", tool_json_number(soft));
    (void)json_object_set_new(object, "cells", list);
    return object;
}

static void print_json(const struct watch *watch, const struct cells *cells, double seconds)
{
    json_t *object = json_object();
    json_t *segments = json_array();
    for (size_t i = 0; i < cells->count;) {
        size_t count = same_segment(cells, i);
        (void)json_array_append_new(segments, segment_json(watch, &cells->all[i], count));
        i += count;
    }
    (void)json_object_set_new(object, "time", json_real(tool_wall_clock()));
    (void)json_object_set_new(object, "seconds", json_real(seconds));
    (void)json_object_set_new(object, "segments", segments);
    (void)json_object_set_new(object, "lost", sums_losses_json(watch));
    (void)tool_json_print(object, false);
}

static void csv_heading(void)
{
    (void)puts("time," SUMS_NAME_CSV ",seconds,first_page,pages,faults,soft");
}

static void print_csv(const struct watch *watch, const struct cells *cells, double seconds)
{
    for (size_t i = 0; i < cells->count; i++) {
        const struct cell *cell = &cells->all[i];
        printf("%.3f,", tool_wall_clock());
        sums_name_csv(watch, &cell->key);
        printf(",%.3f,%" PRIu64 ",%" PRIu64 ",%llu,%llu\n", seconds, cell->first, cell->pages,
               cell->heat.hard, cell->heat.soft);
    }
}

// ---- samples ----

static int show(struct watch *watch, void *context, struct failure *failure)
{
    struct state *state = context;
    struct cells cells = {.watch = watch};
    uint64_t now = stat_now_ns();
    uint64_t before = state->before_ns != 0 ? state->before_ns : watch->since_ns;
    double seconds = (double)(now - before) / 1e9;
    int error = seen_take_heat(watch->seen, add_cell, &cells);
    state->before_ns = now;
    if (error == 0 && cells.count > 0) {
        qsort(cells.all, cells.count, sizeof *cells.all, by_place);
    }
    if (error != 0) {
        (void)failure_set(failure, error, "the kernel's map cannot be read: %s", strerror(-error));
    } else if (watch->options->format == STAT_JSON) {
        print_json(watch, &cells, seconds);
    } else if (watch->options->format == STAT_CSV) {
        print_csv(watch, &cells, seconds);
    } else {
        print_text(watch, state, &cells, seconds);
    }
    free(cells.all);
    return error;
}

int watch_heat(const struct stat_options *options)
{
    struct state state = {0};
    struct failure failure;
    struct stat_options often = *options;
    if (options->interval_s <= 0) { // a picture has more than one line
        often.interval_s = 1;
        often.count = UINT64_MAX;
    }
    const struct watch_view view = {.wanted = SEEN_HEAT,
                                    .begin = options->format == STAT_CSV ? csv_heading : NULL,
                                    .show = show,
                                    .state = &state};
    int error = watch_run(&often, &view, &failure);
    if (error == -EPERM || error == -EOPNOTSUPP) {
        return watch_refused(options, &failure, "where in segments faults happen, and when");
    }
    return watch_result(error, &failure);
}
