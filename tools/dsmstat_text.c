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

enum column {
    PID,
    CLIENTS,
    FAULTS,
    SOFT,
    WAITS,
    PAGES_IN,
    PAGES_PER_RUN,
    CLEANED,
    DIRTY_VICTIMS,
    MB_IN,
    MB_OUT,
    RESIDENT,
    CACHE,
    PROGRAM,
    COLUMNS
};
static const struct tool_column columns[COLUMNS] = {
    [PID] = {"PID", false, 0},
    [CLIENTS] = {"CLIENTS", false, 5},
    [FAULTS] = {"FLT/s", false, 0},
    [SOFT] = {"SOFT/s", false, 9},
    [WAITS] = {"WAIT/s", false, 11},
    [PAGES_IN] = {"PGIN/s", false, 1},
    [PAGES_PER_RUN] = {"PG/RUN", false, 6},
    [CLEANED] = {"CLEAN/s", false, 7},
    [DIRTY_VICTIMS] = {"DIRTY/s", false, 10},
    [MB_IN] = {"MB/s-IN", false, 2},
    [MB_OUT] = {"MB/s-OUT", false, 3},
    [RESIDENT] = {"RESID", false, 4},
    [CACHE] = {"CACHE", false, 8},
    [PROGRAM] = {"PROGRAM", true, 5},
};
static const size_t widths[COLUMNS] = {7, 7, 6, 6, 6, 6, 6, 7, 7, 7, 8, 5, 5, 12};

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

bool stat_heading_due(unsigned *lines)
{
    unsigned width, rows;
    tool_terminal(stdout, &width, &rows);
    unsigned every = rows > 2 ? rows - 1 : HEADING_EVERY;
    bool due = *lines % every == 0;
    *lines = (due ? 1 : *lines) + 1;
    return due;
}

static void make_cells(const struct stat_line *line, char cells[COLUMNS][80])
{
    const double *rate = line->rate;
    double runs = rate[STAT_COUNTER_swap_in_physical_runs];
    char text[TOOL_SIZE_BYTES];
    const struct {
        enum column column;
        double value;
    } rates[] = {
        {FAULTS, rate[STAT_COUNTER_faults_read] + rate[STAT_COUNTER_faults_write]},
        {SOFT, rate[STAT_COUNTER_faults_soft] + rate[STAT_COUNTER_faults_upgrade]},
        {WAITS, rate[STAT_COUNTER_faults_waited]},
        {PAGES_IN, rate[STAT_COUNTER_swap_in_reads]},
        {PAGES_PER_RUN, runs > 0 ? rate[STAT_COUNTER_swap_in_reads] / runs : 0},
        {CLEANED, rate[STAT_COUNTER_clean_writes]},
        {DIRTY_VICTIMS, rate[STAT_COUNTER_victims_dirty]},
        {MB_IN, rate[STAT_COUNTER_bytes_read] / 1e6},
        {MB_OUT, rate[STAT_COUNTER_bytes_written] / 1e6},
    };
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        char number[16];
        (void)snprintf(cells[rates[i].column], 80, "%s", stat_rate_text(rates[i].value, number));
    }
    (void)snprintf(cells[PID], 80, "%ld", (long)line->pid);
    (void)snprintf(cells[CLIENTS], 80, "%u", line->clients);
    (void)snprintf(cells[RESIDENT], 80, "%s",
                   tool_size(line->value[STAT_COUNTER_resident_bytes], text));
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
        printf("%s, process %ld, server %s, for %.0f s%s\n", line->program, (long)line->pid,
               line->server, line->seconds, line->ended ? ", ended" : "");
    } else {
        printf("%u clients\n", line->clients);
    }
    for (size_t i = 0; i < STAT_COUNTERS; i++) {
        char rate[16];
        bool level = stat_is_level(i);
        printf("%16llu %7s%s  %-11s  %s: %s\n", (unsigned long long)line->value[i],
               level ? "" : stat_rate_text(line->rate[i], rate), level ? "  " : "/s",
               stat_counters[i].unit, stat_counters[i].name, stat_counters[i].meaning);
    }
}
