// SPDX-License-Identifier: Apache-2.0
//
// The library's settings, declared once in settings.def and read from the environment when a session is opened.
#ifndef LIBDSM_SETTINGS_H
#define LIBDSM_SETTINGS_H

#include <stddef.h>
#include <stdint.h>

#include "rpc/failure.h"

typedef char settings_text[512];
typedef uint64_t settings_bytes;
typedef uint64_t settings_number;
typedef uint64_t settings_milliseconds;
typedef uint64_t settings_choice; // index among the choices; the first is the default

struct settings {
#define DSM_SETTING(field, variable, type, fallback, meaning) settings_##type field;
#include "libdsm/settings.def"
#undef DSM_SETTING
};

enum { SETTINGS_SOCK = 0, SETTINGS_GRPC = 1, SETTINGS_PWRITE = 0, SETTINGS_ALIAS = 1 };
enum { SETTINGS_ON_IS_FIRST = 0 };

// From the environment, else the defaults. -EINVAL with a sentence that names the variable.
int settings_read(struct settings *settings, struct failure *failure);
// "64M" -> bytes. -EINVAL.
int settings_parse_bytes(const char *text, uint64_t *bytes);

#endif
