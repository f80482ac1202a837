// SPDX-License-Identifier: Apache-2.0
//
// One table, made from settings.def, says for each key its kind, default, range, and where its
// value lies in struct config. config_take() is the only way in, so that a value is checked in the
// same way wherever it comes from; argp's options are made from the same table, and the
// configuration file (config_file.c) is one more caller.
//
// Each value keeps its source, and a source of higher rank wins whichever comes first: the command
// line is read before the file that it names. A value of lower rank is checked all the same, so
// that a file that would not do without the options is not taken for a good one. The values of a
// list come from one source; the first of a higher rank replaces those that are there.
//
// Texts are owned by the struct. A value that is refused leaves the former one.
//
// Used by the main thread only.
#include "server/config_table.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

const struct config_row config_rows[CONFIG_COUNT] = {
#define DSM_SETTING(field, key_, kind_, initial_, lowest_, highest_, argument_, change_, meaning_) \
    {.key = (key_),                                                                                \
     .initial = (initial_),                                                                        \
     .argument = (argument_),                                                                      \
     .meaning = (meaning_),                                                                        \
     .lowest = (lowest_),                                                                          \
     .highest = (highest_),                                                                        \
     .offset = offsetof(struct config, field),                                                     \
     .kind = KIND_##kind_,                                                                         \
     .change = CHANGE_##change_},
#include "server/settings.def"
#undef DSM_SETTING
};
enum { OPTION_BASE = 256 };

void *config_value(struct config *config, size_t index)
{
    return (char *)config + config_rows[index].offset;
}

size_t config_find(const char *key)
{
    size_t index = 0;
    while (index < CONFIG_COUNT && strcmp(config_rows[index].key, key) != 0) {
        index++;
    }
    return index;
}

static int bad(struct failure *failure, const struct config_row *row, const char *value,
               const char *why)
{
    return failure_set(failure, -EINVAL, "\"%s\" is no value for %s: %s.", value, row->key, why);
}

static int check_number(const struct config_row *row, const char *text, uint64_t *to,
                        struct failure *failure)
{
    uint64_t number;
    bool size = row->kind == KIND_SIZE;
    if ((size ? setting_parse_size(text, &number) : setting_parse_number(text, &number)) != 0) {
        return bad(failure, row, text,
                   size ? "a size is a number with K, M, G or T behind it" : "it takes a number");
    }
    if (number < row->lowest || number > row->highest) {
        return failure_set(failure, -EINVAL,
                           "%s must be between %" PRIu64 " and %" PRIu64 ", not %" PRIu64 ".",
                           row->key, row->lowest, row->highest, number);
    }
    *to = number;
    return 0;
}

static int check_choice(const struct config_row *row, const char *text, struct failure *failure)
{
    uint64_t index;
    if (setting_parse_choice(row->argument, text, &index) != 0) {
        return failure_set(failure, -EINVAL, "\"%s\" is no value for %s: it is one of %s.", text,
                           row->key, row->argument);
    }
    return 0;
}

static int check_flag(const struct config_row *row, const char *text, struct failure *failure)
{
    return strcmp(text, "yes") == 0 || strcmp(text, "no") == 0
               ? 0
               : bad(failure, row, text, "say yes or no");
}

// Without changing anything.
static int check(const struct config_row *row, const char *text, uint64_t *number,
                 struct failure *failure)
{
    switch (row->kind) {
    case KIND_SIZE:
    case KIND_NUMBER:
        return check_number(row, text, number, failure);
    case KIND_CHOICE:
        return check_choice(row, text, failure);
    case KIND_FLAG:
        return check_flag(row, text, failure);
    case KIND_TEXT:
    case KIND_LIST:
        return 0;
    }
    return -EINVAL;
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

static int add_to_list(const struct config_row *row, struct config_list *list, bool more,
                       const char *text, struct failure *failure)
{
    if (!more) {
        clear_list(list);
    }
    if (list->count == CONFIG_LIST_MAX) {
        return bad(failure, row, text, "it was given too often");
    }
    int error = set_text(&list->items[list->count], text, failure);
    list->count += error == 0 ? 1 : 0;
    return error;
}

int config_take(struct config *config, size_t index, const char *text,
                const struct setting_source *source, struct failure *failure)
{
    const struct config_row *row = &config_rows[index];
    enum setting_origin before = config->sources[index].origin;
    void *value = config_value(config, index);
    uint64_t number = 0;
    int error = check(row, text, &number, failure);
    if (error != 0 || source->origin < before) {
        return error;
    }
    switch (row->kind) {
    case KIND_SIZE:
    case KIND_NUMBER:
        *(uint64_t *)value = number;
        break;
    case KIND_FLAG:
        *(bool *)value = text[0] == 'y';
        break;
    case KIND_TEXT:
    case KIND_CHOICE:
        error = set_text(value, text, failure);
        break;
    case KIND_LIST:
        error = add_to_list(row, value, before == source->origin, text, failure);
        break;
    }
    if (error == 0) {
        config->sources[index] = *source;
    }
    return error;
}

int config_set(struct config *config, const char *key, const char *value, struct failure *failure)
{
    const struct setting_source option = {.origin = SETTING_OPTION};
    size_t index = config_find(key);
    if (index == CONFIG_COUNT) {
        return failure_set(failure, -ENOENT, "There is no setting \"%s\".", key);
    }
    return config_take(config, index, value, &option, failure);
}

int config_init(struct config *config, struct failure *failure)
{
    const struct setting_source initial = {.origin = SETTING_DEFAULT};
    memset(config, 0, sizeof *config);
    for (size_t i = 0; i < CONFIG_COUNT; i++) {
        int error = config_rows[i].kind == KIND_FLAG
                        ? 0
                        : config_take(config, i, config_rows[i].initial, &initial, failure);
        if (error != 0) {
            config_clear(config);
            return error;
        }
    }
    return 0;
}

void config_clear(struct config *config)
{
    for (size_t i = 0; i < CONFIG_COUNT; i++) {
        void *value = config_value(config, i);
        if (config_rows[i].kind == KIND_TEXT || config_rows[i].kind == KIND_CHOICE) {
            free(*(char **)value);
        } else if (config_rows[i].kind == KIND_LIST) {
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
    const struct setting_source option = {.origin = SETTING_OPTION};
    struct parsing *parsing = state->input;
    if (key == ARGP_KEY_ARG) {
        return failure_set(parsing->failure, EINVAL, "\"%s\" is not an option.", text);
    }
    if (key < OPTION_BASE || key >= OPTION_BASE + (int)CONFIG_COUNT) {
        return ARGP_ERR_UNKNOWN;
    }
    return -config_take(parsing->config, (size_t)key - OPTION_BASE, text != NULL ? text : "yes",
                        &option, parsing->failure);
}

int config_arguments(struct config *config, int argc, char **argv, struct failure *failure)
{
    struct argp_option options[CONFIG_COUNT + 1] = {0};
    for (int i = 0; i < (int)CONFIG_COUNT; i++) {
        options[i].name = config_rows[i].key;
        options[i].key = OPTION_BASE + i;
        options[i].arg = config_rows[i].argument;
        options[i].doc = config_rows[i].meaning;
    }
    const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .doc = "Serves memory: keeps the pages of segments for programs on other nodes.",
    };
    struct parsing parsing = {.config = config, .failure = failure};
    return -argp_parse(&argp, argc, argv, 0, NULL, &parsing);
}
