// SPDX-License-Identifier: Apache-2.0
//
// Settings from the environment. One parser for each type; the table is generated from settings.def, so a setting that is
// declared is read, and one that is read is declared.
#include "libdsm/settings.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum type { TYPE_text, TYPE_bytes, TYPE_number, TYPE_milliseconds, TYPE_choice };

struct row {
    const char *variable;
    enum type type;
    const char *fallback;
    size_t offset;
};

static const struct row rows[] = {
#define DSM_SETTING(field, variable, type, fallback, meaning)                                      \
    {#variable, TYPE_##type, fallback, offsetof(struct settings, field)},
#include "libdsm/settings.def"
#undef DSM_SETTING
};

static int parse_number(const char *text, uint64_t *number, const char **rest)
{
    char *end;
    if (text[0] < '0' || text[0] > '9') {
        return -EINVAL;
    }
    errno = 0;
    *number = strtoull(text, &end, 10);
    *rest = end;
    return errno == 0 ? 0 : -EINVAL;
}

int settings_parse_bytes(const char *text, uint64_t *bytes)
{
    static const char suffixes[] = "KMGT";
    const char *rest;
    uint64_t n;
    if (parse_number(text, &n, &rest) != 0) {
        return -EINVAL;
    }
    unsigned shift = 0;
    const char *suffix = strchr(suffixes, *rest & ~0x20);
    if (suffix != NULL && *suffix != 0) {
        shift = 10 * (unsigned)(suffix - suffixes + 1);
        rest++;
    }
    if (*rest != 0 || (shift > 0 && n >> (64 - shift) != 0)) {
        return -EINVAL;
    }
    *bytes = n << shift;
    return 0;
}

static int parse_choice(const char *choices, const char *text, uint64_t *index)
{
    size_t length = strlen(text);
    *index = 0;
    for (const char *at = choices; *at != 0; (*index)++) {
        size_t n = strcspn(at, "|");
        if (n == length && strncmp(at, text, n) == 0) {
            return 0;
        }
        at += n + (at[n] == '|');
    }
    return -EINVAL;
}

static int parse(const struct row *row, const char *text, void *field)
{
    const char *rest = "";
    uint64_t number;
    switch (row->type) {
    case TYPE_text:
        if (strlen(text) >= sizeof(settings_text)) {
            return -EINVAL;
        }
        memcpy(field, text, strlen(text) + 1);
        return 0;
    case TYPE_bytes:
        return settings_parse_bytes(text, field);
    case TYPE_choice:
        return parse_choice(row->fallback, text, field);
    case TYPE_milliseconds:
        if (parse_number(text, &number, &rest) != 0 || number > INT64_MAX / 1000000) {
            return -EINVAL; // as nanoseconds it must fit
        }
        break;
    default:
        if (parse_number(text, &number, &rest) != 0) {
            return -EINVAL;
        }
    }
    memcpy(field, &number, sizeof number);
    return *rest == 0 ? 0 : -EINVAL;
}

static const char *expectation(const struct row *row)
{
    switch (row->type) {
    case TYPE_bytes:
        return "a size such as 512M";
    case TYPE_choice:
        return row->fallback;
    case TYPE_text:
        return "a shorter text";
    default:
        return "a whole number";
    }
}

int settings_read(struct settings *settings, struct failure *failure)
{
    *settings = (struct settings){0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *row = &rows[i];
        void *field = (char *)settings + row->offset;
        const char *text = getenv(row->variable);
        if (text == NULL || (*text == 0 && row->type != TYPE_text)) {
            if (row->type != TYPE_choice) { // its first choice is 0 already
                (void)parse(row, row->fallback, field);
            }
        } else if (parse(row, text, field) != 0) {
            return failure_set(failure, -EINVAL, "%s is '%.60s': it must be %s.", row->variable,
                               text, expectation(row));
        }
    }
    return 0;
}
