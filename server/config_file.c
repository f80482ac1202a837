// SPDX-License-Identifier: Apache-2.0
//
// dsmd's configuration file: where it lies, and what its keys may be. Reading it a second time
// (SIGHUP) makes a whole new struct, and only when all of it is good does the running one get from
// it what may change; a bad file changes nothing.
//
// The file is found where the command line says, else at CONFIG_PATH, where it may be absent. An
// empty --config reads none: for servers that must not depend on what the machine has. An embedded
// server is such a one.
//
// Used by the main thread only.
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "server/config_table.h"

static int take_line(void *context, const char *key, const char *value, unsigned line,
                     struct failure *reason)
{
    struct config *config = context;
    const struct setting_source source = {.origin = SETTING_FILE, .line = line};
    size_t index = config_find(key);
    if (index == CONFIG_COUNT || config_rows[index].change == CHANGE_OPTION) {
        return failure_set(reason, -EINVAL, "there is no key \"%s\" (see dsmctl settings).", key);
    }
    const struct setting_source *before = &config->sources[index];
    if (before->origin == SETTING_FILE && config_rows[index].kind != KIND_LIST) {
        return failure_set(reason, -EINVAL, "the key \"%s\" stands already on line %u.", key,
                           before->line);
    }
    return config_take(config, index, value, &source, reason);
}

int config_file(struct config *config, struct failure *failure)
{
    bool named = config->sources[CONFIG_INDEX_config].origin == SETTING_OPTION;
    const char *path = named ? config->config : CONFIG_PATH;
    if (config->embedded != 0 || path[0] == '\0' ||
        (!named && access(path, F_OK) != 0 && errno == ENOENT)) {
        return 0;
    }
    if (strlen(path) >= sizeof config->path) {
        return failure_set(failure, -ENAMETOOLONG, "The path of the configuration is too long.");
    }
    memcpy(config->path, path, strlen(path) + 1);
    return setting_file_read(path, take_line, config, failure);
}

int config_read(struct config *config, int argc, char **argv, struct failure *failure)
{
    int error = config_init(config, failure);
    if (error != 0) {
        return error;
    }
    error = config_arguments(config, argc, argv, failure);
    error = error != 0 ? error : config_file(config, failure);
    if (error != 0) {
        config_clear(config);
    }
    return error;
}

void config_text(const struct config *config, size_t index, char *to, size_t room)
{
    const struct config_row *row = &config_rows[index];
    const void *value = (const char *)config + row->offset;
    size_t used = 0;
    to[0] = '\0';
    switch (row->kind) {
    case KIND_TEXT:
    case KIND_CHOICE:
        (void)snprintf(to, room, "%s", *(char *const *)value);
        break;
    case KIND_SIZE:
        setting_format_size(*(const uint64_t *)value, to, room);
        break;
    case KIND_NUMBER:
        (void)snprintf(to, room, "%" PRIu64, *(const uint64_t *)value);
        break;
    case KIND_FLAG:
        (void)snprintf(to, room, "%s", *(const bool *)value ? "yes" : "no");
        break;
    case KIND_LIST: {
        const struct config_list *list = value;
        for (size_t i = 0; i < list->count && used < room; i++) {
            used +=
                (size_t)snprintf(to + used, room - used, "%s%s", i > 0 ? ", " : "", list->items[i]);
        }
        break;
    }
    }
}

static void exchange_text(struct config *a, struct config *b, size_t index)
{
    char **left = config_value(a, index);
    char **right = config_value(b, index);
    char *text = *left;
    struct setting_source source = a->sources[index];
    *left = *right;
    *right = text;
    a->sources[index] = b->sources[index];
    b->sources[index] = source;
}

void config_exchange(struct config *running, struct config *next, char *later, size_t room)
{
    char now[SETTING_VALUE_BYTES];
    char then[SETTING_VALUE_BYTES];
    size_t used = 0;
    later[0] = '\0';
    for (size_t i = 0; i < CONFIG_COUNT; i++) {
        const struct config_row *row = &config_rows[i];
        config_text(running, i, now, sizeof now);
        config_text(next, i, then, sizeof then);
        if (strcmp(now, then) == 0) {
            continue;
        }
        if (row->change == CHANGE_RELOAD) { // texts and choices, all of them
            exchange_text(running, next, i);
        } else if (used < room) {
            used +=
                (size_t)snprintf(later + used, room - used, "%s%s", used > 0 ? ", " : "", row->key);
        }
    }
}

bool config_view(const struct config *config, size_t index, struct setting_view *view)
{
    static const char *const changes[] = {
        [CHANGE_START] = "start", [CHANGE_RELOAD] = "reload", [CHANGE_OPTION] = "option"};
    if (index >= CONFIG_COUNT) {
        return false;
    }
    const struct config_row *row = &config_rows[index];
    *view = (struct setting_view){
        .variable = "", .meaning = row->meaning, .change = changes[row->change]};
    (void)snprintf(view->key, sizeof view->key, "%s", row->key);
    (void)snprintf(view->initial, sizeof view->initial, "%s",
                   row->kind == KIND_FLAG ? "no" : row->initial);
    (void)snprintf(view->choices, sizeof view->choices, "%s",
                   row->kind == KIND_CHOICE ? row->argument : "");
    config_text(config, index, view->value, sizeof view->value);
    setting_source_text(&config->sources[index], &config->path, view->source, sizeof view->source);
    return true;
}
