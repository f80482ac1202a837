// SPDX-License-Identifier: Apache-2.0
//
// What people read and what programs read, for all tools alike. People get three digits and a unit, and as many columns as their
// terminal is wide; programs get JSON or CSV with bytes, and every column. What goes into a pipe is not fitted to anything.
//
// Rejected: cutting long names to fit a line. A name that is cut cannot be copied into the next command; a column that is
// missing can be had by a wider window.
#include "tools/tool_text.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

const char *tool_size(uint64_t bytes, char text[TOOL_SIZE_BYTES])
{
    static const char units[] = " KMGTPE";
    unsigned unit = 0;
    double value = (double)bytes;
    while (value >= 1023.5 && unit < sizeof units - 2) {
        value /= 1024;
        unit++;
    }
    bool whole = bytes % (1ULL << (10 * unit)) == 0;
    int digits = whole || value >= 99.95 ? 0 : 1;
    (void)snprintf(text, TOOL_SIZE_BYTES, "%.*f%.1s", digits, value, unit == 0 ? "" : &units[unit]);
    return text;
}

const char *tool_duration(uint64_t ms, char text[TOOL_SIZE_BYTES])
{
    static const struct {
        uint64_t from_s, unit_s;
        const char *name;
    } units[] = {{172800, 86400, "days"}, {7200, 3600, "h"}, {120, 60, "min"}, {0, 1, "s"}};
    uint64_t seconds = ms / 1000;
    unsigned i = 0;
    while (seconds < units[i].from_s) {
        i++;
    }
    (void)snprintf(text, TOOL_SIZE_BYTES, "%" PRIu64 " %s", seconds / units[i].unit_s,
                   units[i].name);
    return text;
}

const char *tool_id(const uint8_t id[WIRE_ID_BYTES], char text[TOOL_ID_BYTES])
{
    for (size_t i = 0; i < WIRE_ID_BYTES; i++) {
        (void)snprintf(text + 2 * i, 3, "%02x", id[i]);
    }
    return text;
}

double tool_wall_clock(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

json_t *tool_json_number(uint64_t number)
{
    return number > INT64_MAX ? json_null() : json_integer((json_int_t)number);
}

int tool_json_print(json_t *value, bool indented)
{
    size_t flags = JSON_REAL_PRECISION(15) | (indented ? JSON_INDENT(2) : JSON_COMPACT);
    int error = value == NULL || json_dumpf(value, stdout, flags) != 0 || putchar('\n') == EOF ||
                        fflush(stdout) != 0
                    ? -EIO
                    : 0;
    json_decref(value);
    return error;
}

void tool_terminal(FILE *file, unsigned *columns, unsigned *rows)
{
    struct winsize size;
    *columns = *rows = 0;
    if (isatty(fileno(file)) != 0 && ioctl(fileno(file), TIOCGWINSZ, &size) == 0) {
        *columns = size.ws_col;
        *rows = size.ws_row;
    }
}
