// SPDX-License-Identifier: Apache-2.0
//
// Bars and shades in plain lines, without a terminal's commands: what is drawn can go into a file or scroll away, and whoever is
// killed while drawing leaves a terminal as it was. Blocks of UTF-8 where the locale has them; ASCII elsewhere.
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "tools/dsmstat_sums.h"
#include "tools/tool_text.h"

enum { WIDTH_WITHOUT_TERMINAL = 80, EIGHTHS = 8 };

static bool blocks;

void draw_begin(void)
{
    (void)setlocale(LC_CTYPE, "");
    blocks = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

unsigned draw_width(void)
{
    unsigned columns, rows;
    tool_terminal(stdout, &columns, &rows);
    return columns != 0 ? columns : WIDTH_WITHOUT_TERMINAL;
}

void draw_text(const char *text)
{
    unsigned columns, rows;
    size_t at = 0;
    tool_terminal(stdout, &columns, &rows);
    while (*text != '\0') {
        size_t space = strspn(text, " ");
        size_t word = strcspn(text + space, " ");
        if (at > 0 && columns != 0 && at + space + word > columns) {
            (void)putchar('\n');
            at = 0;
            text += space;
            space = 0;
        }
        (void)fwrite(text, 1, space + word, stdout);
        at += space + word;
        text += space + word;
    }
    (void)putchar('\n');
}

void draw_bar(double share, unsigned width)
{
    static const char *const parts[EIGHTHS] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    double length = (share < 0 ? 0 : (share > 1 ? 1 : share)) * width;
    unsigned whole = (unsigned)length;
    unsigned eighths = (unsigned)((length - whole) * EIGHTHS);
    for (unsigned i = 0; i < whole; i++) {
        (void)fputs(blocks ? "█" : "#", stdout);
    }
    if (blocks && whole == 0 && eighths == 0 && share > 0) {
        eighths = 1; // little is not nothing
    }
    if (blocks) {
        (void)fputs(parts[eighths], stdout);
    } else if (whole == 0 && share > 0) {
        (void)putchar('.');
    }
}

const char *draw_shade(double share)
{
    static const char *const fine[] = {"░", "▒", "▓", "█"};
    static const char *const plain[] = {".", ":", "+", "#"};
    if (share <= 0) {
        return " ";
    }
    unsigned level = share >= 1 ? 3 : (unsigned)(share * 4);
    return blocks ? fine[level] : plain[level];
}
