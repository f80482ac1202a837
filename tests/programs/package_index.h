// SPDX-License-Identifier: Apache-2.0
//
// Reads a Debian package index (as `apt-cache dumpavail` prints it), line by line.
#ifndef TESTS_PROGRAMS_PACKAGE_INDEX_H
#define TESTS_PROGRAMS_PACKAGE_INDEX_H

#include <stddef.h>

enum index_item {
    INDEX_PACKAGE,    // a stanza begins: its package's name
    INDEX_DEPENDENCY, // one name of Depends or Pre-Depends; each alternative by itself
    INDEX_PROVIDES,   // one name of Provides
};

struct index_parser { // start with {.visit = ..., .context = ...}
    void (*visit)(void *context, enum index_item item, const char *name, size_t bytes);
    void *context;
    int field; // of the last line, for its continuations; package_index.c's
};

// line: without its newline; may lie in managed memory. name is part of it.
void index_line(struct index_parser *parser, const char *line, size_t bytes);
// All lines of a text; a last line without a newline counts.
void index_text(struct index_parser *parser, const char *text, size_t bytes);

#endif
