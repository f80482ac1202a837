// SPDX-License-Identifier: Apache-2.0
//
// dsmstat hist: where swap-ins go and how long they take. The table says whose they are: process, segment, server; the
// pictures, how long faults took, how much of that was the wire and how much was waiting, and how many pages came at a time. For
// people, what happened in the interval; for programs, the sums since dsmstat attached, which are the programs' own
// counters, counted a second time by the kernel.
//
// Who may not attach gets what programs tell of themselves: one histogram for each, since their session was opened.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/dsmstat_hist.h"
#include "tools/tool_text.h"

enum { ROWS = 20, LABEL = 7, NUMBER = 10, SECONDS = 5 };

void hist_group_at(const struct hist_sample *sample, size_t i, struct hist_group *group)
{
    memcpy(&group->counts, sample->counts.values + i * sample->counts.words, sizeof group->counts);
    const uint64_t *hist = sums_find(&sample->hist, &sample->counts.keys[i]);
    memset(&group->hist, 0, sizeof group->hist);
    if (hist != NULL) {
        memcpy(&group->hist, hist, sizeof group->hist);
    }
}

static uint64_t runs_of(const struct seen_hist *hist)
{
    uint64_t runs = 0;
    for (size_t i = 0; i < SEEN_RUNS; i++) {
        runs += hist->runs[i];
    }
    return runs;
}

struct stat_latency hist_latency(const struct seen_times *times)
{
    struct stat_latency latency;
    _Static_assert(sizeof(struct seen_times) == sizeof(struct stat_latency), "the same buckets");
    memcpy(&latency, times, sizeof latency);
    return latency;
}

static uint64_t percentile(const struct seen_times *times, double percent)
{
    struct stat_latency latency = hist_latency(times);
    return latency_percentile(latency.buckets, percent);
}

// ---- for people ----

static void print_rows(const char *title, size_t first, size_t last, const uint64_t *counts,
                       char (*labels)[16])
{
    uint64_t most = 1;
    for (size_t i = first; i <= last; i++) {
        most = counts[i] > most ? counts[i] : most;
    }
    unsigned width = draw_width();
    unsigned room = width > LABEL + NUMBER + 4 ? width - LABEL - NUMBER - 4 : 1;
    (void)putchar('\n');
    draw_text(title);
    for (size_t i = first; i <= last; i++) {
        printf("%*s %*" PRIu64 " ", LABEL, labels[i], NUMBER, counts[i]);
        draw_bar((double)counts[i] / (double)most, room);
        (void)putchar('\n');
    }
}

// A row for each power of two: eight buckets would be more than a screen.
void hist_draw_times(const char *title, const struct seen_times *times)
{
    enum { POWERS = SEEN_LAST_POWER - SEEN_FIRST_POWER + 2 };
    uint64_t counts[POWERS] = {0};
    char labels[POWERS][16];
    size_t first = POWERS, last = 0;
    for (size_t i = 0; i < SEEN_BUCKETS; i++) {
        size_t row = i == 0 ? 0 : 1 + (i - 1) / SEEN_SPLIT;
        counts[row] += times->buckets[i];
        if (times->buckets[i] > 0) {
            first = row < first ? row : first;
            last = row;
        }
    }
    if (first == POWERS) {
        return;
    }
    for (size_t i = first; i <= last; i++) {
        char text[16];
        uint64_t from = UINT64_C(1) << (SEEN_FIRST_POWER + i - 1);
        (void)snprintf(labels[i], sizeof labels[i], "%s",
                       i == 0 ? "0" : stat_time_text(from, text));
    }
    print_rows(title, first, last, counts, labels);
}

static void print_runs(const struct seen_hist *hist)
{
    char labels[SEEN_RUNS][16] = {"1", "2"};
    size_t first = SEEN_RUNS, last = 0;
    for (size_t i = 0; i < SEEN_RUNS; i++) {
        if (i >= 2) {
            (void)snprintf(labels[i], sizeof labels[i], "%u-%u", (1U << (i - 1)) + 1, 1U << i);
        }
        if (hist->runs[i] > 0) {
            first = i < first ? i : first;
            last = i;
        }
    }
    if (first < SEEN_RUNS) {
        uint64_t counts[SEEN_RUNS];
        memcpy(counts, hist->runs, sizeof counts);
        print_rows("pages in a run, and how many runs of them were asked for by faults", first,
                   last, counts, labels);
    }
}

static const struct hist_sample *sorted;
static int by_traps(const void *left, const void *right)
{
    uint64_t a = sorted->counts.values[*(const size_t *)left * sorted->counts.words];
    uint64_t b = sorted->counts.values[*(const size_t *)right * sorted->counts.words];
    return a < b ? 1 : (a > b ? -1 : 0);
}

static int add_row(const struct watch *watch, const struct hist_sample *sample, size_t i,
                   struct tool_table *table)
{
    struct watch_name name;
    struct hist_group group;
    char pid[16], cells[6][24], times[3][16];
    hist_group_at(sample, i, &group);
    watch_name(watch, &sample->counts.keys[i], &name);
    const unsigned long long *outcomes = group.counts.outcomes;
    uint64_t runs = runs_of(&group.hist);
    (void)snprintf(pid, sizeof pid, "%u", sample->counts.keys[i].process);
    (void)snprintf(cells[0], 24, "%llu", outcomes[0] + outcomes[1]);
    (void)snprintf(cells[1], 24, "%llu", outcomes[2] + outcomes[3]);
    (void)snprintf(cells[2], 24, "%llu", outcomes[4]);
    (void)snprintf(cells[3], 24, "%llu", group.counts.swap_in[STAT_COUNTER_swap_in_reads]);
    (void)snprintf(cells[4], 24, "%.1f",
                   runs > 0 ? (double)group.counts.run_pages / (double)runs : 0.0);
    const char *row[] = {pid,
                         name.program,
                         name.segment,
                         name.server,
                         cells[0],
                         cells[1],
                         cells[2],
                         cells[3],
                         cells[4],
                         stat_time_text(percentile(&group.hist.fault, 50), times[0]),
                         stat_time_text(percentile(&group.hist.fault, 99), times[1]),
                         stat_time_text(percentile(&group.hist.wire, 50), times[2])};
    return tool_table_add(table, row);
}

static int print_table(const struct watch *watch, const struct hist_sample *sample)
{
    static const struct tool_column columns[] = {
        {"PID", false, 0},    {"PROGRAM", true, 5}, {"SEGMENT", true, 0}, {"SERVER", true, 9},
        {"FAULTS", false, 0}, {"SOFT", false, 6},   {"WAITED", false, 8}, {"READ", false, 4},
        {"PG/RUN", false, 3}, {"P50", false, 1},    {"P99", false, 2},    {"WIRE", false, 7}};
    enum { COLUMNS = sizeof columns / sizeof columns[0] };
    struct tool_table *table = tool_table_create(columns, COLUMNS);
    size_t *order = calloc(sample->counts.count + 1, sizeof *order);
    int error = table == NULL || order == NULL ? -ENOMEM : 0;
    for (size_t i = 0; error == 0 && i < sample->counts.count; i++) {
        order[i] = i;
    }
    sorted = sample;
    if (error == 0) {
        qsort(order, sample->counts.count, sizeof *order, by_traps);
    }
    for (size_t i = 0; error == 0 && i < sample->counts.count && i < ROWS; i++) {
        error = add_row(watch, sample, order[i], table);
    }
    if (error == 0) {
        unsigned width, rows;
        tool_terminal(stdout, &width, &rows);
        tool_table_print(table, stdout, width);
        if (sample->counts.count > ROWS) {
            printf("and %zu more with fewer traps\n", sample->counts.count - ROWS);
        }
    }
    free(order);
    tool_table_destroy(&table);
    return error;
}

static int print_text(const struct watch *watch, const struct hist_sample *sample)
{
    struct seen_hist total;
    printf("%.1f s\n", sample->seconds);
    if (sample->counts.count == 0) {
        printf("No fault was seen.\n\n");
        return 0;
    }
    int error = print_table(watch, sample);
    sums_total(&sample->hist, (uint64_t *)(void *)&total);
    hist_draw_times("how long faults took that waited for a page, and how many of them",
                    &total.fault);
    hist_draw_times("of this, the wire", &total.wire);
    hist_draw_times("of this, waiting for another thread", &total.wait);
    print_runs(&total);
    (void)putchar('\n');
    return error;
}

// ---- samples ----

static int take(const struct watch *watch, struct hist_sample *sample, struct failure *failure)
{
    int error = sums_read(watch, SUMS_HIST, &sample->hist, failure);
    if (error == 0) {
        error = sums_read(watch, SUMS_COUNTS, &sample->counts, failure);
    }
    return error;
}

static void forget(struct hist_sample *sample)
{
    sums_free(&sample->counts);
    sums_free(&sample->hist);
}

// The sample before is replaced by this one.
static int show(struct watch *watch, void *state, struct failure *failure)
{
    struct hist_sample *before = state;
    struct hist_sample now = {.seconds = (double)(stat_now_ns() - watch->since_ns) / 1e9};
    int error = take(watch, &now, failure);
    if (error == 0 && watch->options->format == STAT_JSON) {
        hist_print_json(watch, &now);
    } else if (error == 0 && watch->options->format == STAT_CSV) {
        hist_print_csv(watch, &now);
    } else if (error == 0) {
        struct hist_sample recent = {.seconds = now.seconds - before->seconds};
        error = sums_copy(&now.counts, &recent.counts);
        error = error == 0 ? sums_copy(&now.hist, &recent.hist) : error;
        sums_subtract(&recent.counts, &before->counts);
        sums_subtract(&recent.hist, &before->hist);
        error = error == 0 ? print_text(watch, &recent) : error;
        forget(&recent);
    }
    forget(before);
    *before = now;
    return error;
}

int watch_hist(const struct stat_options *options)
{
    struct hist_sample before = {0};
    struct failure failure;
    const struct watch_view view = {.wanted = SEEN_HIST,
                                    .begin = options->format == STAT_CSV ? hist_csv_heading : NULL,
                                    .show = show,
                                    .state = &before};
    int error = watch_run(options, &view, &failure);
    forget(&before);
    if (error == -EPERM || error == -EOPNOTSUPP) {
        return hist_of_pages(options, &failure);
    }
    return watch_result(error, &failure);
}
