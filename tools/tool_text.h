// SPDX-License-Identifier: Apache-2.0
//
// How tools write: sizes, times, ids, JSON numbers, and tables that fit the terminal.
#ifndef TOOLS_TOOL_TEXT_H
#define TOOLS_TOOL_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "rpc/wire.h"

enum { TOOL_SIZE_BYTES = 32, TOOL_ID_BYTES = 2 * WIRE_ID_BYTES + 1, TOOL_MOST_COLUMNS = 24 };

// "0", "512", "64K", "1.5G": three digits and a binary unit; whole numbers without a point.
const char *tool_size(uint64_t bytes, char text[TOOL_SIZE_BYTES]);
// "12 s", "5 min", "3 h", "9 days".
const char *tool_duration(uint64_t ms, char text[TOOL_SIZE_BYTES]);
const char *tool_id(const uint8_t id[WIRE_ID_BYTES], char text[TOOL_ID_BYTES]);

double tool_wall_clock(void); // seconds since 1970

json_t *tool_json_number(uint64_t number); // null when JSON's 63 bits do not hold it: no limit
// One line (or indented, for people) on standard output. Takes the reference. 0 or -EIO.
int tool_json_print(json_t *value, bool indented);

// Of the terminal at `file`; 0 where there is none.
void tool_terminal(FILE *file, unsigned *columns, unsigned *rows);

struct tool_column {
    const char *title;
    bool left;     // aligned
    unsigned rank; // what is left out first when the terminal is too narrow: the highest; 0: never
};
struct tool_table;
// Borrows the columns. NULL: no memory.
struct tool_table *tool_table_create(const struct tool_column *columns, size_t count);
int tool_table_add(struct tool_table *table, const char *const *cells); // copies; 0 or -ENOMEM
void tool_table_print(const struct tool_table *table, FILE *to, unsigned terminal_columns);
void tool_table_destroy(struct tool_table **table);
// Leaves columns out, by rank, until the rest fits with `gap` spaces between; 0: everything fits.
void tool_columns_fit(const struct tool_column *columns, const size_t *widths, size_t count,
                      size_t gap, unsigned terminal_columns, bool *shown);

#endif
