// SPDX-License-Identifier: Apache-2.0
//
// The server's settings: keys and values as text, from wherever they come (the command line, a
// file), checked one by one, in a struct, each with its source. settings.def declares them.
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rpc/setting.h"

#define CONFIG_PATH "/etc/dsm/dsmd.conf"

enum { CONFIG_LIST_MAX = 16 };

struct config_list {
    char *items[CONFIG_LIST_MAX];
    size_t count;
};

#define CONFIG_TYPE_TEXT char *
#define CONFIG_TYPE_CHOICE char *
#define CONFIG_TYPE_SIZE uint64_t
#define CONFIG_TYPE_NUMBER uint64_t
#define CONFIG_TYPE_FLAG bool
#define CONFIG_TYPE_LIST struct config_list

enum config_index {
#define DSM_SETTING(field, key, kind, initial, lowest, highest, argument, change, meaning)         \
    CONFIG_INDEX_##field,
#include "server/settings.def"
#undef DSM_SETTING
    CONFIG_COUNT
};

struct config {
#define DSM_SETTING(field, key, kind, initial, lowest, highest, argument, change, meaning)         \
    CONFIG_TYPE_##kind field;
#include "server/settings.def"
#undef DSM_SETTING
    struct setting_source sources[CONFIG_COUNT];
    setting_path path; // of the file that was read; "": none
};

// All defaults. 0 or -ENOMEM.
int config_init(struct config *config, struct failure *failure);
void config_clear(struct config *config);
// Sets one key, as an option. -ENOENT: no such key; -EINVAL: not a value for it; each with a sentence.
int config_set(struct config *config, const char *key, const char *value, struct failure *failure);
// The command line. Prints help and ends the process where argp does (--help, --version, usage).
int config_arguments(struct config *config, int argc, char **argv, struct failure *failure);
// The file: --config, or CONFIG_PATH where there is one. What an option said stays.
int config_file(struct config *config, struct failure *failure);
// All of it: defaults, command line, file. On failure there is nothing to clear.
int config_read(struct config *config, int argc, char **argv, struct failure *failure);

// Gives `running` what `next` says and may change; `next` gets the former values. Into `later` go the
// keys that differ and count only after a restart, with ", " between them.
void config_exchange(struct config *running, struct config *next, char *later, size_t room);
// The setting of this number, for people; false: there are no more.
bool config_view(const struct config *config, size_t index, struct setting_view *view);

#endif
