// SPDX-License-Identifier: Apache-2.0
//
// Tables: columns as wide as their widest cell, and fewer of them on a narrow terminal. The whole table is kept until it is
// printed, since only then the widths are known; what has no end (dsmstat's lines) uses the fitting alone, with widths of its own.
//
// Threads: one owner.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/tool_text.h"

enum { GAP = 2 }; // spaces between columns

struct tool_table {
    const struct tool_column *columns;
    size_t count;
    char **cells; // row after row
    size_t used, room;
    size_t widths[TOOL_MOST_COLUMNS];
};

struct tool_table *tool_table_create(const struct tool_column *columns, size_t count)
{
    struct tool_table *table = count <= TOOL_MOST_COLUMNS ? calloc(1, sizeof *table) : NULL;
    if (table == NULL) {
        return NULL;
    }
    table->columns = columns;
    table->count = count;
    for (size_t i = 0; i < count; i++) {
        table->widths[i] = strlen(columns[i].title);
    }
    return table;
}

int tool_table_add(struct tool_table *table, const char *const *cells)
{
    if (table->used + table->count > table->room) {
        size_t room = 2 * table->room + 16 * table->count;
        char **more = reallocarray(table->cells, room, sizeof *more);
        if (more == NULL) {
            return -ENOMEM;
        }
        table->cells = more;
        table->room = room;
    }
    for (size_t i = 0; i < table->count; i++) {
        char *copy = strdup(cells[i]);
        if (copy == NULL) {
            while (i-- > 0) {
                free(table->cells[table->used + i]);
            }
            return -ENOMEM;
        }
        table->cells[table->used + i] = copy;
        size_t width = strlen(copy);
        table->widths[i] = width > table->widths[i] ? width : table->widths[i];
    }
    table->used += table->count;
    return 0;
}

void tool_columns_fit(const struct tool_column *columns, const size_t *widths, size_t count,
                      size_t gap, unsigned terminal_columns, bool *shown)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        shown[i] = true;
        total += widths[i] + (i > 0 ? gap : 0);
    }
    while (terminal_columns != 0 && total > terminal_columns) {
        size_t least = count;
        for (size_t i = 0; i < count; i++) {
            if (shown[i] && columns[i].rank > 0 &&
                (least == count || columns[i].rank > columns[least].rank)) {
                least = i;
            }
        }
        if (least == count) {
            return;
        }
        shown[least] = false;
        total -= widths[least] + gap;
    }
}

static void print_row(const struct tool_table *table, const bool *shown, FILE *to,
                      const char *const *cells)
{
    size_t owed = 0; // spaces that are written only when something follows
    for (size_t i = 0; i < table->count; i++) {
        if (!shown[i]) {
            continue;
        }
        size_t length = strlen(cells[i]);
        size_t pad = table->widths[i] - length;
        size_t before = owed + (table->columns[i].left ? 0 : pad);
        (void)fprintf(to, "%*s%s", (int)before, "", cells[i]);
        owed = GAP + (table->columns[i].left ? pad : 0);
    }
    (void)fputc('\n', to);
}

void tool_table_print(const struct tool_table *table, FILE *to, unsigned terminal_columns)
{
    bool shown[TOOL_MOST_COLUMNS];
    const char *titles[TOOL_MOST_COLUMNS];
    tool_columns_fit(table->columns, table->widths, table->count, GAP, terminal_columns, shown);
    for (size_t i = 0; i < table->count; i++) {
        titles[i] = table->columns[i].title;
    }
    print_row(table, shown, to, titles);
    for (size_t at = 0; at < table->used; at += table->count) {
        print_row(table, shown, to, (const char *const *)&table->cells[at]);
    }
}

void tool_table_destroy(struct tool_table **table)
{
    struct tool_table *gone = *table;
    if (gone == NULL) {
        return;
    }
    for (size_t i = 0; i < gone->used; i++) {
        free(gone->cells[i]);
    }
    free(gone->cells);
    free(gone);
    *table = NULL;
}
