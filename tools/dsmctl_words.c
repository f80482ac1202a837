// SPDX-License-Identifier: Apache-2.0
//
// What commands have in common: their words, the connection, and how a refusal becomes a sentence with advice. The server
// says what is wrong; only the tool knows the command by which it may be put right.
#include <argp.h>
#include <errno.h>
#include <string.h>

#include "tools/dsmctl.h"

int dsmctl_parse_words(int key, char *argument, struct argp_state *state,
                       struct dsmctl_words *words)
{
    switch (key) {
    case ARGP_KEY_ARG:
        if (words->count == words->most) {
            argp_error(state, "\"%s\" is one argument too many", argument);
        } else {
            words->name[words->count++] = argument;
        }
        return 0;
    case ARGP_KEY_END:
        if (words->count < words->least) {
            argp_error(state, "too few arguments");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

void dsmctl_advise(struct failure *failure, const char *advice)
{
    size_t used = strlen(failure->text);
    const char *point = used > 0 && failure->text[used - 1] != '.' ? "." : "";
    (void)snprintf(failure->text + used, sizeof failure->text - used, "%s %s", point, advice);
}

static error_t parse_json(int key, char *argument, struct argp_state *state)
{
    struct dsmctl_input *input = state->input;
    if (key == 'j') {
        input->json = true;
        return 0;
    }
    return dsmctl_parse_words(key, argument, state, &input->words);
}

int dsmctl_parse_json(int argc, char **argv, const char *args_doc, const char *doc,
                      struct dsmctl_input *input)
{
    static const struct argp_option options[] = {
        {"json", 'j', NULL, 0, "Print JSON, with sizes in bytes", 0}, {0}};
    const struct argp argp = {
        .options = options, .parser = parse_json, .args_doc = args_doc, .doc = doc};
    return argp_parse(&argp, argc, argv, 0, NULL, input) == 0 ? 0 : -EINVAL;
}

int dsmctl_end(char **argv, int error, const struct failure *failure)
{
    if (error != 0) {
        return dsmctl_fail(argv, failure);
    }
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        (void)fprintf(stderr, "%s: The output cannot be written: %s\n", argv[0], strerror(errno));
        return DSMCTL_FAILED;
    }
    return DSMCTL_DONE;
}
