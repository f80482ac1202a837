// SPDX-License-Identifier: Apache-2.0
//
// See package_index.h. A field is "Name: value", with continuation lines that begin with a blank. A relation is a list
// of items separated by commas; an item is one or more alternatives separated by "|"; of an alternative only the name
// counts: not the architecture (":any", "[amd64]"), not the version in parentheses, not the profile "<...>".
//
// What is not understood is passed over: a package index is not ours to judge. No system call and no allocation
// here, so a text in managed memory is read by plain loads only.
#include "tests/programs/package_index.h"

#include <stdbool.h>
#include <string.h>

enum field { FIELD_OTHER, FIELD_PACKAGE, FIELD_DEPENDS, FIELD_PROVIDES };

static enum field field_named(const char *name, size_t bytes)
{
    static const struct {
        const char *name;
        enum field field;
    } fields[] = {{"Package", FIELD_PACKAGE},
                  {"Depends", FIELD_DEPENDS},
                  {"Pre-Depends", FIELD_DEPENDS},
                  {"Provides", FIELD_PROVIDES}};
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (strlen(fields[i].name) == bytes && memcmp(fields[i].name, name, bytes) == 0) {
            return fields[i].field;
        }
    }
    return FIELD_OTHER;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static bool ends_name(char c)
{
    return is_blank(c) || c == '(' || c == ':' || c == '[' || c == '<' || c == ',' || c == '|';
}

static void visit_relations(struct index_parser *parser, enum index_item item, const char *at,
                            const char *end)
{
    while (at < end) {
        while (at < end && (is_blank(*at) || *at == ',' || *at == '|')) {
            at++;
        }
        const char *name = at;
        while (at < end && !ends_name(*at)) {
            at++;
        }
        if (at > name) {
            parser->visit(parser->context, item, name, (size_t)(at - name));
        }
        while (at < end && *at != ',' && *at != '|') {
            at++;
        }
    }
}

static void visit_package(struct index_parser *parser, const char *at, const char *end)
{
    while (at < end && is_blank(*at)) {
        at++;
    }
    while (end > at && is_blank(end[-1])) {
        end--;
    }
    if (end > at) {
        parser->visit(parser->context, INDEX_PACKAGE, at, (size_t)(end - at));
    }
}

void index_line(struct index_parser *parser, const char *line, size_t bytes)
{
    const char *end = line + bytes;
    const char *value = line;
    if (bytes == 0) {
        parser->field = FIELD_OTHER;
        return;
    }
    bool continued = is_blank(*line);
    if (!continued) {
        const char *colon = memchr(line, ':', bytes);
        parser->field = FIELD_OTHER;
        if (colon != NULL) {
            parser->field = (int)field_named(line, (size_t)(colon - line));
        }
        value = colon == NULL ? end : colon + 1;
    }
    switch (parser->field) {
    case FIELD_PACKAGE:
        if (!continued) {
            visit_package(parser, value, end);
        }
        break;
    case FIELD_DEPENDS:
        visit_relations(parser, INDEX_DEPENDENCY, value, end);
        break;
    case FIELD_PROVIDES:
        visit_relations(parser, INDEX_PROVIDES, value, end);
        break;
    default:
        break;
    }
}

void index_text(struct index_parser *parser, const char *text, size_t bytes)
{
    const char *end = text + bytes;
    while (text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *stop = newline == NULL ? end : newline;
        index_line(parser, text, (size_t)(stop - text));
        text = newline == NULL ? end : newline + 1;
    }
}
