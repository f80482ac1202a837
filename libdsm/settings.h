// SPDX-License-Identifier: Apache-2.0
//
// The library's settings, declared once in settings.def and read when a session is opened: from files, then from the
// environment, then from dsm_open()'s options, each over what came before.
#ifndef LIBDSM_SETTINGS_H
#define LIBDSM_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rpc/setting.h"

#define SETTINGS_SYSTEM_FILE "/etc/dsm/client.conf"

typedef char settings_text[512];
typedef uint64_t settings_bytes;
typedef uint64_t settings_cache; // bytes; "auto": by what is free
typedef uint64_t settings_number;
typedef uint64_t settings_milliseconds;
typedef uint64_t settings_choice; // index among the choices; the first is the default

enum settings_index {
#define DSM_SETTING(field, variable, type, fallback, meaning) SETTINGS_INDEX_##field,
#include "libdsm/settings.def"
#undef DSM_SETTING
    SETTINGS_COUNT
};
enum { SETTINGS_FILES = 2 };

struct settings {
#define DSM_SETTING(field, variable, type, fallback, meaning) settings_##type field;
#include "libdsm/settings.def"
#undef DSM_SETTING
    struct setting_source sources[SETTINGS_COUNT];
    setting_path files[SETTINGS_FILES]; // that were read
    unsigned file_count;
};

enum { SETTINGS_SOCK = 0, SETTINGS_GRPC = 1, SETTINGS_PWRITE = 0, SETTINGS_ALIAS = 1 };
enum { SETTINGS_MPROTECT, SETTINGS_UFFD, SETTINGS_UFFD_SYNC, SETTINGS_AUTO_TRAP };
enum { SETTINGS_ON_IS_FIRST = 0 };

// The defaults; over them $DSM_CONFIG alone (empty: no file), or else SETTINGS_SYSTEM_FILE and then the user's
// ~/.config/dsm/client.conf, where they exist; over these the environment. -EINVAL and others, with a sentence that names
// the variable, or file and line.
int settings_read(struct settings *settings, struct failure *failure);
// dsm_open()'s options gave this one.
void settings_given(struct settings *settings, enum settings_index index);
// The setting of this number, for people; false: there are no more.
bool settings_view(const struct settings *settings, size_t index, struct setting_view *view);

static inline int settings_parse_bytes(const char *text, uint64_t *bytes)
{
    return setting_parse_size(text, bytes);
}

#endif
