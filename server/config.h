// SPDX-License-Identifier: Apache-2.0
//
// The server's settings: keys and values as text, from wherever they come (the command line today),
// checked one by one, in a struct. settings.def declares them.
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rpc/failure.h"

enum { CONFIG_LIST_MAX = 16 };

struct config_list {
    char *items[CONFIG_LIST_MAX];
    size_t count;
    bool given; // else it holds the default, which the first value replaces
};

#define CONFIG_TYPE_TEXT char *
#define CONFIG_TYPE_SIZE uint64_t
#define CONFIG_TYPE_NUMBER uint64_t
#define CONFIG_TYPE_FLAG bool
#define CONFIG_TYPE_LIST struct config_list

struct config {
#define DSM_SETTING(field, key, kind, initial, lowest, highest, argument, meaning)                 \
    CONFIG_TYPE_##kind field;
#include "server/settings.def"
#undef DSM_SETTING
};

// All defaults. 0 or -ENOMEM.
int config_init(struct config *config, struct failure *failure);
void config_clear(struct config *config);
// Sets one key. -ENOENT: no such key; -EINVAL: not a value for it; each with a sentence.
int config_set(struct config *config, const char *key, const char *value, struct failure *failure);
// The command line. Prints help and ends the process where argp does (--help, --version, usage).
int config_arguments(struct config *config, int argc, char **argv, struct failure *failure);

#endif
