// SPDX-License-Identifier: Apache-2.0
//
// The library's settings. The table is generated from settings.def, so a setting that is declared is read, and one that is
// read is declared; its key in a file is its variable without "DSM_", in small letters, with "-" for "_".
//
// Order: defaults, files, environment, and then whoever calls takes dsm_open()'s options. Each value keeps its source, for
// "dsmctl settings" and for messages. The site's file comes before the user's, so that a site names the server
// and a user the key. $DSM_CONFIG stands for both: a job that names its file must not depend on what else a node has.
//
// secure_getenv(): a program with more rights than its user must not take the user's server for its own.
//
// No state; any thread, as far as nobody changes the environment meanwhile.
#include "libdsm/settings.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdsm/cache_size.h"

enum type { TYPE_text, TYPE_bytes, TYPE_cache, TYPE_number, TYPE_milliseconds, TYPE_choice };
enum { SETTINGS_KEY_BYTES = 32 };

struct row {
    const char *variable;
    enum type type;
    const char *fallback, *meaning;
    size_t offset;
};

static const struct row rows[SETTINGS_COUNT] = {
#define DSM_SETTING(field, variable, type, fallback, meaning)                                      \
    {#variable, TYPE_##type, fallback, meaning, offsetof(struct settings, field)},
#include "libdsm/settings.def"
#undef DSM_SETTING
};
// The keys in files: "server-key" for DSM_SERVER_KEY.
static void key_of(const struct row *row, char key[SETTINGS_KEY_BYTES])
{
    size_t i = 0;
    for (const char *at = row->variable + strlen("DSM_"); *at != 0 && i + 1 < SETTINGS_KEY_BYTES;
         at++) {
        key[i++] = (char)(*at == '_' ? '-' : tolower((unsigned char)*at));
    }
    key[i] = 0;
}

static int parse(const struct row *row, const char *text, void *field)
{
    uint64_t number = 0;
    int error;
    switch (row->type) {
    case TYPE_text:
        if (strlen(text) >= sizeof(settings_text)) {
            return -EINVAL;
        }
        memcpy(field, text, strlen(text) + 1);
        return 0;
    case TYPE_bytes:
        error = setting_parse_size(text, &number);
        break;
    case TYPE_cache: // 0 until all is read
        error = strcmp(text, "auto") == 0 ? 0 : setting_parse_size(text, &number);
        error = error == 0 && number == 0 && text[0] != 'a' ? -EINVAL : error;
        break;
    case TYPE_choice:
        error = setting_parse_choice(row->fallback, text, &number);
        break;
    case TYPE_milliseconds: // as nanoseconds it must fit
        error = setting_parse_number(text, &number);
        error = error == 0 && number > INT64_MAX / 1000000 ? -EINVAL : error;
        break;
    default:
        error = setting_parse_number(text, &number);
    }
    if (error == 0) {
        memcpy(field, &number, sizeof number);
    }
    return error;
}

static const char *expectation(const struct row *row)
{
    switch (row->type) {
    case TYPE_bytes:
        return "a size such as 512M";
    case TYPE_cache:
        return "a size such as 512M, or auto";
    case TYPE_choice:
        return row->fallback;
    case TYPE_text:
        return "a shorter text";
    default:
        return "a whole number";
    }
}

// name: what the user wrote it as.
static int take(struct settings *settings, size_t index, const char *name, const char *text,
                struct setting_source source, struct failure *failure)
{
    const struct row *row = &rows[index];
    if (parse(row, text, (char *)settings + row->offset) != 0) {
        return failure_set(failure, -EINVAL, "%s is '%.60s': it must be %s.", name, text,
                           expectation(row));
    }
    settings->sources[index] = source;
    return 0;
}

static int take_line(void *context, const char *key, const char *value, unsigned line,
                     struct failure *reason)
{
    struct settings *settings = context;
    char known[SETTINGS_KEY_BYTES];
    const struct setting_source source = {
        .origin = SETTING_FILE, .file = settings->file_count, .line = line};
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        const struct setting_source *before = &settings->sources[i];
        key_of(&rows[i], known);
        if (strcmp(known, key) != 0) {
            continue;
        }
        if (before->origin == SETTING_FILE && before->file == source.file) {
            return failure_set(reason, -EINVAL, "the key \"%s\" stands already on line %u.", key,
                               before->line);
        }
        return take(settings, i, key, value, source, reason);
    }
    return failure_set(reason, -EINVAL, "there is no key \"%s\" (see dsmctl settings).", key);
}

static int read_file(struct settings *settings, const char *path, bool must,
                     struct failure *failure)
{
    (void)snprintf(settings->files[settings->file_count], sizeof(setting_path), "%s", path);
    int error = setting_file_read(path, take_line, settings, failure);
    if (error == -ENOENT && !must) {
        failure->text[0] = 0;
        return 0;
    }
    settings->file_count++;
    return error;
}

static int read_files(struct settings *settings, struct failure *failure)
{
    char path[SETTING_PATH_BYTES];
    const char *only = secure_getenv("DSM_CONFIG");
    if (only != NULL) {
        return only[0] != 0 ? read_file(settings, only, true, failure) : 0;
    }
    int error = read_file(settings, SETTINGS_SYSTEM_FILE, false, failure);
    const char *folder = secure_getenv("XDG_CONFIG_HOME");
    const char *below = "";
    if (folder == NULL || folder[0] != '/') {
        folder = secure_getenv("HOME");
        below = "/.config";
    }
    // A home that cannot be entered is somebody else's: a program that gave up its rights still has HOME.
    if (error != 0 || folder == NULL || folder[0] != '/' || access(folder, X_OK) != 0) {
        return error;
    }
    int bytes = snprintf(path, sizeof path, "%s%s/dsm/client.conf", folder, below);
    return (size_t)bytes < sizeof path ? read_file(settings, path, false, failure) : 0;
}

static int read_environment(struct settings *settings, struct failure *failure)
{
    const struct setting_source source = {.origin = SETTING_ENVIRONMENT};
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        const struct row *row = &rows[i];
        const char *text = secure_getenv(row->variable);
        if (text == NULL || (*text == 0 && row->type != TYPE_text)) {
            continue;
        }
        int error = take(settings, i, row->variable, text, source, failure);
        if (error != 0) {
            return error;
        }
    }
    return 0;
}

int settings_read(struct settings *settings, struct failure *failure)
{
    memset(settings, 0, sizeof *settings);
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        if (rows[i].type != TYPE_choice) { // its first choice is 0 already
            (void)parse(&rows[i], rows[i].fallback, (char *)settings + rows[i].offset);
        }
    }
    int error = read_files(settings, failure);
    error = error != 0 ? error : read_environment(settings, failure);
    if (error == 0 && settings->cache_bytes == 0) {
        settings->cache_bytes = cache_size_default("", cache_size_ranks());
    }
    return error;
}

void settings_given(struct settings *settings, enum settings_index index)
{
    settings->sources[index] = (struct setting_source){.origin = SETTING_OPTION};
}

static void describe(const struct row *row, const void *field, char *to, size_t room)
{
    uint64_t number = 0;
    const char *at = row->fallback;
    if (row->type != TYPE_text) {
        memcpy(&number, field, sizeof number);
    }
    switch (row->type) {
    case TYPE_text:
        (void)snprintf(to, room, "%s", (const char *)field);
        break;
    case TYPE_bytes:
    case TYPE_cache:
        setting_format_size(number, to, room);
        break;
    case TYPE_choice:
        while (number-- > 0) {
            at += strcspn(at, "|") + 1;
        }
        (void)snprintf(to, room, "%.*s", (int)strcspn(at, "|"), at);
        break;
    default:
        (void)snprintf(to, room, "%" PRIu64, number);
    }
}

bool settings_view(const struct settings *settings, size_t index, struct setting_view *view)
{
    if (index >= SETTINGS_COUNT) {
        return false;
    }
    const struct row *row = &rows[index];
    *view = (struct setting_view){.variable = row->variable, .meaning = row->meaning};
    view->change = "start";
    key_of(row, view->key);
    (void)snprintf(
        view->initial, sizeof view->initial, "%.*s",
        (int)(row->type == TYPE_choice ? strcspn(row->fallback, "|") : strlen(row->fallback)),
        row->fallback);
    (void)snprintf(view->choices, sizeof view->choices, "%s",
                   row->type == TYPE_choice ? row->fallback : "");
    describe(row, (const char *)settings + row->offset, view->value, sizeof view->value);
    setting_source_text(&settings->sources[index], settings->files, view->source,
                        sizeof view->source);
    return true;
}
