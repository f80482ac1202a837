// SPDX-License-Identifier: Apache-2.0
//
// What the settings of both ends share: how a value is written, how a configuration file is read, and
// how a setting is shown. The settings themselves are declared in server/settings.def and
// libdsm/settings.def.
//
// A configuration file has a line "KEY = VALUE" for each setting. "#" or ";" begins a comment line, " ;"
// a comment behind a value. A key that is unknown or stands there twice is an error, as is a line that
// is too long: each with file and line.
#ifndef RPC_SETTING_H
#define RPC_SETTING_H

#include <stdint.h>
#include <stdio.h>

#include "rpc/failure.h"

enum setting_origin { // a later one overrides an earlier one
    SETTING_DEFAULT,
    SETTING_FILE,
    SETTING_ENVIRONMENT,
    SETTING_OPTION, // the command line, or dsm_open()
};

enum { SETTING_PATH_BYTES = 512, SETTING_VALUE_BYTES = 2048 };
typedef char setting_path[SETTING_PATH_BYTES];

struct setting_source {
    enum setting_origin origin;
    unsigned file, line; // of a file: which of those that were read, and where in it
};

struct setting_view { // a setting, for people
    char key[32];
    char initial[64];
    char choices[64]; // "a|b|c", or ""
    const char *variable, *meaning;
    const char *change; // when a new value counts: "start", "reload", "option" (only there)
    char value[SETTING_VALUE_BYTES];
    char source[SETTING_PATH_BYTES + 32];
};

// "64M" -> bytes; K, M, G, T in either case. A number without them. The index among "a|b|c". -EINVAL.
int setting_parse_size(const char *text, uint64_t *bytes);
int setting_parse_number(const char *text, uint64_t *number);
int setting_parse_choice(const char *choices, const char *text, uint64_t *index);
// The shortest text that is parsed to the same bytes.
void setting_format_size(uint64_t bytes, char *to, size_t room);
void setting_source_text(const struct setting_source *source, const setting_path files[], char *to,
                         size_t room);

// Takes one line of a file; a negative errno and a reason without the place when it is refused.
typedef int setting_take(void *context, const char *key, const char *value, unsigned line,
                         struct failure *reason);
// Reads a file that only root or this user can have written. -ENOENT, -EPERM, -EINVAL, ..., each with a
// sentence; what was taken before the bad line stays taken.
int setting_file_read(const char *path, setting_take *take, void *context, struct failure *failure);
// The same from a stream; path is for messages.
int setting_stream_read(FILE *stream, const char *path, setting_take *take, void *context,
                        struct failure *failure);

#endif
