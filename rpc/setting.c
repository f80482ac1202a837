// SPDX-License-Identifier: Apache-2.0
//
// Values of settings as text. There is one parser of numbers and sizes for files, environment and
// command line of both ends, so that "64M" is the same everywhere and nothing that one of them refuses
// is taken by another: no sign, no blanks, no hexadecimal, no overflow.
//
// strtoull alone would take "-1" for the largest number; hence the look at the first character.
//
// Pure functions; any thread.
#include "rpc/setting.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char suffixes[] = "KMGT";

static int parse_digits(const char *text, uint64_t *number, const char **rest)
{
    char *end;
    if (text[0] < '0' || text[0] > '9') {
        return -EINVAL;
    }
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0) {
        return -EINVAL;
    }
    *number = value;
    *rest = end;
    return 0;
}

int setting_parse_number(const char *text, uint64_t *number)
{
    const char *rest;
    uint64_t value;
    if (parse_digits(text, &value, &rest) != 0 || *rest != '\0') {
        return -EINVAL;
    }
    *number = value;
    return 0;
}

int setting_parse_size(const char *text, uint64_t *bytes)
{
    const char *rest;
    uint64_t value;
    unsigned shift = 0;
    if (parse_digits(text, &value, &rest) != 0) {
        return -EINVAL;
    }
    const char *suffix = *rest != '\0' ? strchr(suffixes, *rest & ~0x20) : NULL;
    if (suffix != NULL && *suffix != '\0') {
        shift = 10 * (unsigned)(suffix - suffixes + 1);
        rest++;
    }
    if (*rest != '\0' || value > UINT64_MAX >> shift) {
        return -EINVAL;
    }
    *bytes = value << shift;
    return 0;
}

int setting_parse_choice(const char *choices, const char *text, uint64_t *index)
{
    size_t length = strlen(text);
    uint64_t at = 0;
    while (*choices != '\0') {
        size_t bytes = strcspn(choices, "|");
        if (bytes == length && strncmp(choices, text, bytes) == 0) {
            *index = at;
            return 0;
        }
        choices += bytes + (choices[bytes] == '|' ? 1 : 0);
        at++;
    }
    return -EINVAL;
}

void setting_format_size(uint64_t bytes, char *to, size_t room)
{
    unsigned steps = 0;
    while (bytes != 0 && bytes % 1024 == 0 && steps < sizeof suffixes - 1) {
        bytes /= 1024;
        steps++;
    }
    const char suffix[2] = {(char)(steps > 0 ? suffixes[steps - 1] : '\0'), '\0'};
    (void)snprintf(to, room, "%" PRIu64 "%s", bytes, suffix);
}

void setting_source_text(const struct setting_source *source, const setting_path files[], char *to,
                         size_t room)
{
    static const char *const names[] = {
        [SETTING_DEFAULT] = "default",
        [SETTING_ENVIRONMENT] = "environment",
        [SETTING_OPTION] = "option",
    };
    if (source->origin == SETTING_FILE) {
        (void)snprintf(to, room, "%s:%u", files[source->file], source->line);
    } else {
        (void)snprintf(to, room, "%s", names[source->origin]);
    }
}
