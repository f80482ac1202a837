// SPDX-License-Identifier: Apache-2.0
//
// Lines for people, as vmstat prints them: one per sample, all of one width, with a heading once per screen, and only as many
// columns as the terminal has room for. What goes first on a narrow one is what explains a figure rather than shows it.
//
// MB are 1,000,000 bytes, as with networks; sizes of memory are in binary units.
#include <limits.h>

#include "tools/dsmstat.h"
#include "tools/tool_text.h"

enum { HEADING_EVERY = 24, GAP = 1 }; // lines, where no terminal says how many it has

enum how { RATE, MEGA, QUOTIENT, SIZE };
enum { // those of counters.def lie between
    PID,
    CLIENTS,
    FIRST,
    CACHE = FIRST + STAT_COLUMN_NONE,
    LATENCY,
    PROGRAM = LATENCY + STAT_PERCENTS,
    COLUMNS
};
static const struct tool_column columns[COLUMNS] = {
    {"PID", false, 0},   {"CLIENTS", false, 5},
#define DSM_COLUMN(name, title, width, goes, how, meaning) {title, false, goes},
#include <dsm/counters.def>
#undef DSM_COLUMN
    {"CACHE", false, 8}, {"P50", false, 13},    {"P90", false, 15},
    {"P99", false, 12},  {"P99.9", false, 14},  {"PROGRAM", true, 5},
};
static const size_t widths[COLUMNS] = {7, 7,
#define DSM_COLUMN(name, title, width, goes, how, meaning) width,
#include <dsm/counters.def>
#undef DSM_COLUMN
                                       5, 6, 6, 6, 6, 12};
static const enum how ways[STAT_COLUMN_NONE] = {
#define DSM_COLUMN(name, title, width, goes, how, meaning) how,
#include <dsm/counters.def>
#undef DSM_COLUMN
};

const char *stat_rate_text(double rate, char text[16])
{
    static const char units[] = " kMGTP";
    unsigned unit = 0;
    while (rate >= 99999.5 && unit < sizeof units - 2) {
        rate /= 1000;
        unit++;
    }
    int digits = rate > 0 && rate < 9.95 && (unit > 0 || rate < 9.95) ? 1 : 0;
    (void)snprintf(text, 16, "%.*f%.1s", digits, rate > 1e15 ? 0 : rate,
                   unit == 0 ? "" : &units[unit]);
    return text;
}

const char *stat_time_text(uint64_t ns, char text[16])
{
    static const char *const units[] = {"us", "ms", "s"};
    double value = (double)ns / 1e3;
    unsigned unit = 0;
    while (value >= 999.5 && unit < 2) {
        value /= 1000;
        unit++;
    }
    if (ns == 0) {
        (void)snprintf(text, 16, "-");
    } else {
        (void)snprintf(text, 16, "%.*f%s", value < 9.95 ? 1 : 0, value, units[unit]);
    }
    return text;
}

bool stat_heading_due(unsigned *lines)
{
    unsigned width, rows;
    tool_terminal(stdout, &width, &rows);
    unsigned every = rows > 2 ? rows - 1 : HEADING_EVERY;
    bool due = *lines % every == 0;
    *lines = (due ? 1 : *lines) + 1;
    return due;
}

// What the counters of each column come to.
static void add_up(const struct stat_line *line, double sums[STAT_COLUMN_NONE])
{
    for (size_t i = 0; i < STAT_COLUMN_NONE; i++) {
        sums[i] = 0;
    }
    for (size_t i = 0; i < STAT_COUNTERS; i++) {
        enum stat_column column = stat_counters[i].column;
        if (column != STAT_COLUMN_NONE) {
            sums[column] += ways[column] == SIZE ? (double)line->value[i] : line->rate[i];
        }
    }
}

static void make_cell(const double *sum, enum how how, char cell[80])
{
    char text[TOOL_SIZE_BYTES], number[16];
    switch (how) {
    case SIZE:
        (void)snprintf(cell, 80, "%s", tool_size((uint64_t)*sum, text));
        return;
    case MEGA:
        (void)snprintf(cell, 80, "%s", stat_rate_text(*sum / 1e6, number));
        return;
    case QUOTIENT:
        (void)snprintf(cell, 80, "%s", stat_rate_text(*sum > 0 ? sum[-1] / *sum : 0, number));
        return;
    default:
        (void)snprintf(cell, 80, "%s", stat_rate_text(*sum, number));
    }
}

static void make_cells(const struct stat_line *line, char cells[COLUMNS][80])
{
    double sums[STAT_COLUMN_NONE];
    char text[TOOL_SIZE_BYTES];
    add_up(line, sums);
    for (size_t i = 0; i < STAT_COLUMN_NONE; i++) {
        make_cell(&sums[i], ways[i], cells[FIRST + i]);
    }
    for (size_t i = 0; i < STAT_PERCENTS; i++) {
        char time[16];
        uint64_t ns = latency_percentile(line->recent.buckets, stat_percents[i].percent);
        (void)snprintf(cells[LATENCY + i], 80, "%s", stat_time_text(ns, time));
    }
    (void)snprintf(cells[PID], 80, "%ld", (long)line->pid);
    (void)snprintf(cells[CLIENTS], 80, "%u", line->clients);
    (void)snprintf(cells[CACHE], 80, "%s", tool_size(line->cache_bytes, text));
    (void)snprintf(cells[PROGRAM], 80, "%.63s%s", line->program, line->ended ? " (ended)" : "");
}

// Which columns: those of the line's kind that fit the terminal as it is now. Returns the terminal's columns, or 0.
static unsigned choose(const struct stat_printer *printer, bool shown[COLUMNS])
{
    struct tool_column some[COLUMNS];
    size_t place[COLUMNS], some_widths[COLUMNS];
    bool fits[COLUMNS];
    size_t count = 0;
    unsigned width, rows;
    for (size_t i = 0; i < COLUMNS; i++) {
        shown[i] = false;
        if (printer->options->total ? i != PID && i != PROGRAM : i != CLIENTS) {
            place[count] = i;
            some[count] = columns[i];
            some_widths[count++] = widths[i];
        }
    }
    tool_terminal(stdout, &width, &rows);
    tool_columns_fit(some, some_widths, count, GAP, width, fits);
    for (size_t i = 0; i < count; i++) {
        shown[place[i]] = fits[i];
    }
    return width;
}

// The last column, PROGRAM, gets what is left of the terminal's line: a line that wraps spoils all columns, and the pid is
// there to tell programs apart.
static void print_cells(const bool shown[COLUMNS], const char cells[COLUMNS][80],
                        unsigned terminal_columns)
{
    int used = 0;
    for (size_t i = 0; i < PROGRAM; i++) {
        if (shown[i]) {
            used += printf("%s%*s", used > 0 ? " " : "", (int)widths[i], cells[i]);
        }
    }
    if (shown[PROGRAM]) {
        int room = terminal_columns == 0 ? INT_MAX : (int)terminal_columns - used - GAP;
        printf(" %.*s", room > 0 ? room : 0, cells[PROGRAM]);
    }
    (void)putchar('\n');
}

void stat_print_text(struct stat_printer *printer, const struct stat_line *line)
{
    char cells[COLUMNS][80];
    bool shown[COLUMNS];
    unsigned width = choose(printer, shown);
    if (stat_heading_due(&printer->lines)) {
        for (size_t i = 0; i < COLUMNS; i++) {
            (void)snprintf(cells[i], sizeof cells[i], "%s", columns[i].title);
        }
        print_cells(shown, (const char(*)[80])cells, width);
    }
    make_cells(line, cells);
    print_cells(shown, (const char(*)[80])cells, width);
}

void stat_print_all(const struct stat_line *line)
{
    if (line->pid != 0) {
        printf("%s, process %ld, server %s%s%s, for %.0f s%s\n", line->program, (long)line->pid,
               line->server, line->trap[0] != 0 ? ", trap " : "", line->trap, line->seconds,
               line->ended ? ", ended" : "");
    } else {
        printf("%u clients\n", line->clients);
    }
    for (size_t i = 0; i < STAT_COUNTERS; i++) {
        char rate[16];
        bool level = stat_counters[i].level;
        printf("%16llu %7s%s  %-11s  %s: %s\n", (unsigned long long)line->value[i],
               level ? "" : stat_rate_text(line->rate[i], rate), level ? "  " : "/s",
               stat_counters[i].unit, stat_counters[i].name, stat_counters[i].meaning);
    }
    printf("%16llu           faults       waited for a page:",
           (unsigned long long)latency_count(line->latency.buckets));
    for (size_t i = 0; i < STAT_PERCENTS; i++) {
        char time[16];
        uint64_t ns = latency_percentile(line->latency.buckets, stat_percents[i].percent);
        printf(" %s %s", stat_percents[i].title, stat_time_text(ns, time));
    }
    (void)putchar('\n');
}
