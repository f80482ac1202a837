// SPDX-License-Identifier: Apache-2.0
//
// dsmctl settings: every setting of both ends, from the tables that the ends themselves read
// (libdsm/settings.def, server/settings.def), with what it is now and who said so.
//
// "Now" is what a program or a dsmd that is started here, as this user and with this environment,
// would have: the client's files and DSM_ variables, dsmd's file. What a running dsmd was given on
// its command line is not known here. When one end's file is bad, the other's settings are shown all
// the same, and the exit code tells.
//
// The manual's tables come from here too (--markdown, --scdoc): without values, since a page must
// not depend on where it was made.
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libdsm/settings.h"
#include "server/config.h"
#include "tools/dsmctl.h"
#include "tools/tool_text.h"

enum format { FORMAT_TEXT, FORMAT_JSON, FORMAT_MARKDOWN, FORMAT_SCDOC };
enum { OPTION_MARKDOWN = 256, OPTION_SCDOC, OPTION_CONFIG };

struct request {
    struct dsmctl_words words; // an end, or none for both
    enum format format;
    const char *config; // dsmd's file; NULL: where dsmd looks for it
};

// One end: its settings by number.
typedef bool view_setting(const void *settings, size_t index, struct setting_view *view);

struct end {
    const char *name, *title;
    view_setting *view;
    const void *settings;
};

static bool view_client(const void *settings, size_t index, struct setting_view *view)
{
    return settings_view(settings, index, view);
}

static bool view_server(const void *settings, size_t index, struct setting_view *view)
{
    return config_view(settings, index, view);
}

// ---- for people

static void print_text(const struct end *end)
{
    struct setting_view view;
    printf("%s\n", end->title);
    for (size_t i = 0; end->view(end->settings, i, &view); i++) {
        bool variable = view.variable[0] != '\0';
        printf("\n%-20s %-30s %s\n", view.key, view.value[0] != '\0' ? view.value : "\"\"",
               view.source);
        printf("    %s%s%s\n", view.meaning, view.choices[0] != '\0' ? "; one of " : "",
               view.choices);
        printf("    default %s", view.initial[0] != '\0' ? view.initial : "\"\"");
        printf("%s%s", variable ? ", variable " : "", view.variable);
        printf("%s%s\n", strcmp(view.change, "reload") == 0 ? ", SIGHUP changes it" : "",
               strcmp(view.change, "option") == 0 ? ", command line only" : "");
    }
}

// ---- for programs

static json_t *json_of(const struct end *end)
{
    struct setting_view view;
    json_t *list = json_array();
    for (size_t i = 0; end->view(end->settings, i, &view); i++) {
        json_t *one = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "key", view.key, "value",
                                view.value, "default", view.initial, "source", view.source,
                                "change", view.change, "meaning", view.meaning);
        if (one != NULL && view.variable[0] != '\0') {
            (void)json_object_set_new(one, "variable", json_string(view.variable));
        }
        if (one != NULL && view.choices[0] != '\0') {
            (void)json_object_set_new(one, "choices", json_string(view.choices));
        }
        (void)json_array_append_new(list, one); // of NULL: fails, and the list is short
    }
    return list;
}

// ---- for manuals

static void print_escaped(const char *text, const char *special)
{
    for (; *text != '\0'; text++) {
        if (strchr(special, *text) != NULL) {
            (void)putchar('\\');
        }
        (void)putchar(*text);
    }
}

static void print_meaning(const struct setting_view *view, const char *special)
{
    print_escaped(view->meaning, special);
    if (view->choices[0] != '\0') {
        (void)fputs("; one of ", stdout);
        print_escaped(view->choices, special);
    }
    if (strcmp(view->change, "option") == 0) {
        (void)fputs("; command line only", stdout);
    }
}

static void print_markdown(const struct end *end)
{
    static const char special[] = "|\\`*_";
    struct setting_view view;
    printf("| key | default | meaning |\n|---|---|---|\n");
    for (size_t i = 0; end->view(end->settings, i, &view); i++) {
        printf("| `%s`", view.key);
        printf(view.variable[0] != '\0' ? " `%s`" : "%s", view.variable);
        printf(view.initial[0] != '\0' ? " | `%s` | " : " | %s | ", view.initial);
        print_meaning(&view, special);
        printf(" |\n");
    }
}

static void print_scdoc(const struct end *end)
{
    static const char special[] = "\\_*|#";
    struct setting_view view;
    printf("[[ *key*\n:[ *default*\n:< *meaning*\n");
    for (size_t i = 0; end->view(end->settings, i, &view); i++) {
        printf("|[ *%s*", view.key);
        if (view.variable[0] != '\0') {
            (void)putchar(' ');
            print_escaped(view.variable, special);
        }
        printf("\n:[ ");
        print_escaped(view.initial[0] != '\0' ? view.initial : "none", special);
        printf("\n:< ");
        print_meaning(&view, special);
        printf("\n");
    }
}

// ---- the command

static error_t parse(int key, char *argument, struct argp_state *state)
{
    struct request *request = state->input;
    switch (key) {
    case 'j':
        request->format = FORMAT_JSON;
        return 0;
    case OPTION_MARKDOWN:
        request->format = FORMAT_MARKDOWN;
        return 0;
    case OPTION_SCDOC:
        request->format = FORMAT_SCDOC;
        return 0;
    case OPTION_CONFIG:
        request->config = argument;
        return 0;
    case ARGP_KEY_ARG:
        if (strcmp(argument, "client") != 0 && strcmp(argument, "dsmd") != 0) {
            argp_error(state, "\"%s\" is neither client nor dsmd", argument);
        }
        break;
    default:
        break;
    }
    return dsmctl_parse_words(key, argument, state, &request->words);
}

static int read_server(const struct request *request, struct config *config,
                       struct failure *failure)
{
    int error = config_init(config, failure);
    if (error == 0 && request->config != NULL) {
        error = config_set(config, "config", request->config, failure);
    }
    return error == 0 ? config_file(config, failure) : error;
}

static void print(const struct end *ends, size_t count, enum format format)
{
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            (void)putchar('\n');
        }
        if (format == FORMAT_MARKDOWN) {
            print_markdown(&ends[i]);
        } else if (format == FORMAT_SCDOC) {
            print_scdoc(&ends[i]);
        } else {
            print_text(&ends[i]);
        }
    }
}

static int print_json(const struct end *ends, size_t count)
{
    json_t *both = json_object();
    for (size_t i = 0; i < count; i++) {
        (void)json_object_set_new(both, ends[i].name, json_of(&ends[i]));
    }
    return tool_json_print(both, true);
}

static bool wanted(const struct request *request, const char *end)
{
    return request->words.count == 0 || strcmp(request->words.name[0], end) == 0;
}

int dsmctl_settings(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"json", 'j', NULL, 0, "Print JSON", 0},
        {"markdown", OPTION_MARKDOWN, NULL, 0, "Print keys, defaults and meanings as a table", 0},
        {"scdoc", OPTION_SCDOC, NULL, 0, "The same for a manual page", 0},
        {"config", OPTION_CONFIG, "FILE", 0,
         "dsmd's configuration file (default " CONFIG_PATH "; '' for none)", 0},
        {0}};
    const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "[client|dsmd]",
        .doc = "Shows every setting of programs (client) and of dsmd: what it would be for one "
               "that is started here and now, and who says so."};
    struct request request = {.words = {.most = 1}};
    struct failure failure = {.text = ""};
    struct settings client;
    struct config server = {0};
    struct end ends[2];
    size_t count = 0;
    int result = DSMCTL_DONE;
    if (argp_parse(&argp, argc, argv, 0, NULL, &request) != 0) {
        return DSMCTL_USAGE;
    }
    if (wanted(&request, "client")) {
        if (settings_read(&client, &failure) == 0) {
            ends[count++] = (struct end){"client", "Programs (client.conf, DSM_ variables)",
                                         view_client, &client};
        } else {
            result = dsmctl_fail(argv, &failure);
        }
    }
    if (wanted(&request, "dsmd")) {
        if (read_server(&request, &server, &failure) == 0) {
            ends[count++] = (struct end){"dsmd", "dsmd (dsmd.conf, options)", view_server, &server};
        } else {
            result = dsmctl_fail(argv, &failure);
        }
    }
    int error = 0;
    if (request.format == FORMAT_JSON) {
        error = print_json(ends, count);
    } else {
        print(ends, count, request.format);
    }
    config_clear(&server);
    error = dsmctl_end(argv, error, &failure);
    return result != DSMCTL_DONE ? result : error;
}
