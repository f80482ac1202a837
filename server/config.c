// SPDX-License-Identifier: Apache-2.0
//
// One table, made from settings.def, says for each key its kind, default, range, and where its
// value lies in struct config. config_set() is the only way in, so that a value is checked in the
// same way wherever it comes from; argp's options are made from the same table, and a configuration
// file needs no more than to call config_set() for each line.
//
// Texts are owned by the struct. A value that is refused leaves the former one.
//
// Used by the main thread only, before any other is started.
#include "server/config.h"

#include <argp.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum kind { KIND_TEXT, KIND_SIZE, KIND_NUMBER, KIND_FLAG, KIND_LIST };

struct setting {
    const char *key, *initial, *argument, *meaning;
    uint64_t lowest, highest;
    size_t offset;
    enum kind kind;
};

static const struct setting settings[] = {
#define DSM_SETTING(field, key_, kind_, initial_, lowest_, highest_, argument_, meaning_)          \
    {.key = (key_),                                                                                \
     .initial = (initial_),                                                                        \
     .argument = (argument_),                                                                      \
     .meaning = (meaning_),                                                                        \
     .lowest = (lowest_),                                                                          \
     .highest = (highest_),                                                                        \
     .offset = offsetof(struct config, field),                                                     \
     .kind = KIND_##kind_},
#include "server/settings.def"
#undef DSM_SETTING
};
enum { SETTING_COUNT = sizeof settings / sizeof *settings, OPTION_BASE = 256 };

static void *value_of(struct config *config, const struct setting *setting)
{
    return (char *)config + setting->offset;
}

static int bad(struct failure *failure, const struct setting *setting, const char *value,
               const char *why)
{
    return failure_set(failure, -EINVAL, "\"%s\" is no value for %s: %s.", value, setting->key,
                       why);
}

// A number, and for sizes one letter behind it.
static int parse_number(const char *text, bool size, uint64_t *number)
{
    static const char letters[] = "KMGT";
    char *end;
    if (!isdigit((unsigned char)text[0])) {
        return -EINVAL;
    }
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    unsigned shift = 0;
    const char *letter =
        size && *end != '\0' ? strchr(letters, toupper((unsigned char)*end)) : NULL;
    if (letter != NULL) {
        shift = 10 * (unsigned)(letter - letters + 1);
        end++;
    }
    if (errno != 0 || *end != '\0' || value > UINT64_MAX >> shift) {
        return -EINVAL;
    }
    *number = (uint64_t)value << shift;
    return 0;
}

static int set_number(const struct setting *setting, const char *text, uint64_t *to,
                      struct failure *failure)
{
    uint64_t number;
    if (parse_number(text, setting->kind == KIND_SIZE, &number) != 0) {
        return bad(failure, setting, text,
                   setting->kind == KIND_SIZE ? "a size is a number with K, M, G or T behind it"
                                              : "it takes a number");
    }
    if (number < setting->lowest || number > setting->highest) {
        return failure_set(failure, -EINVAL,
                           "%s must be between %" PRIu64 " and %" PRIu64 ", not %" PRIu64 ".",
                           setting->key, setting->lowest, setting->highest, number);
    }
    *to = number;
    return 0;
}

static int set_text(char **to, const char *text, struct failure *failure)
{
    char *copy = strdup(text);
    if (copy == NULL) {
        return failure_set(failure, -ENOMEM, "There is no memory for the settings.");
    }
    free(*to);
    *to = copy;
    return 0;
}

static void clear_list(struct config_list *list)
{
    while (list->count > 0) {
        free(list->items[--list->count]);
        list->items[list->count] = NULL;
    }
}

static int add_to_list(const struct setting *setting, struct config_list *list, const char *text,
                       struct failure *failure)
{
    if (!list->given) {
        clear_list(list);
        list->given = true;
    }
    if (list->count == CONFIG_LIST_MAX) {
        return bad(failure, setting, text, "it was given too often");
    }
    int error = set_text(&list->items[list->count], text, failure);
    list->count += error == 0 ? 1 : 0;
    return error;
}

static int set_flag(const struct setting *setting, bool *to, const char *text,
                    struct failure *failure)
{
    bool on = strcmp(text, "yes") == 0;
    if (!on && strcmp(text, "no") != 0) {
        return bad(failure, setting, text, "say yes or no");
    }
    *to = on;
    return 0;
}

static int set(struct config *config, const struct setting *setting, const char *text,
               struct failure *failure)
{
    void *value = value_of(config, setting);
    switch (setting->kind) {
    case KIND_TEXT:
        return set_text(value, text, failure);
    case KIND_SIZE:
    case KIND_NUMBER:
        return set_number(setting, text, value, failure);
    case KIND_FLAG:
        return set_flag(setting, value, text, failure);
    case KIND_LIST:
        return add_to_list(setting, value, text, failure);
    }
    return -EINVAL;
}

int config_set(struct config *config, const char *key, const char *value, struct failure *failure)
{
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        if (strcmp(settings[i].key, key) == 0) {
            return set(config, &settings[i], value, failure);
        }
    }
    return failure_set(failure, -ENOENT, "There is no setting \"%s\".", key);
}

int config_init(struct config *config, struct failure *failure)
{
    memset(config, 0, sizeof *config);
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        const struct setting *setting = &settings[i];
        int error =
            setting->kind == KIND_FLAG ? 0 : set(config, setting, setting->initial, failure);
        if (error != 0) {
            config_clear(config);
            return error;
        }
        if (setting->kind == KIND_LIST) {
            ((struct config_list *)value_of(config, setting))->given = false;
        }
    }
    return 0;
}

void config_clear(struct config *config)
{
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        void *value = value_of(config, &settings[i]);
        if (settings[i].kind == KIND_TEXT) {
            free(*(char **)value);
        } else if (settings[i].kind == KIND_LIST) {
            clear_list(value);
        }
    }
    memset(config, 0, sizeof *config);
}

struct parsing {
    struct config *config;
    struct failure *failure;
};

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct parsing *parsing = state->input;
    if (key == ARGP_KEY_ARG) {
        return failure_set(parsing->failure, EINVAL, "\"%s\" is not an option.", text);
    }
    if (key < OPTION_BASE || key >= OPTION_BASE + (int)SETTING_COUNT) {
        return ARGP_ERR_UNKNOWN;
    }
    return -set(parsing->config, &settings[key - OPTION_BASE], text != NULL ? text : "yes",
                parsing->failure);
}

int config_arguments(struct config *config, int argc, char **argv, struct failure *failure)
{
    struct argp_option options[SETTING_COUNT + 1] = {0};
    for (int i = 0; i < (int)SETTING_COUNT; i++) {
        options[i].name = settings[i].key;
        options[i].key = OPTION_BASE + i;
        options[i].arg = settings[i].argument;
        options[i].doc = settings[i].meaning;
    }
    const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .doc = "Serves memory: keeps the pages of segments for programs on other nodes.",
    };
    struct parsing parsing = {.config = config, .failure = failure};
    return -argp_parse(&argp, argc, argv, 0, NULL, &parsing);
}
