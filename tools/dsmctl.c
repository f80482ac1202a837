// SPDX-License-Identifier: Apache-2.0
//
// dsmctl COMMAND ...: the operator's tool.
//
// A command is a row of the table below and a function in a file of its subject (keys:
// dsmctl_keys.c); help comes from the rows. Each command reads its own options with argp, so
// "dsmctl COMMAND --help" works for each. Exit codes are the same for all: 0 done, 1 refused or
// failed, 2 used wrongly. Results go to standard output, so that they can be piped; everything
// else to standard error.
#include "tools/dsmctl.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/noise.h"

static const struct {
    const char *name;
    const char *summary;
    dsmctl_command *run;
} commands[] = {
    {"keygen", "make a private key and its public half", dsmctl_keygen},
    {"authorize", "let a client's key in: add it to a server's authorized file", dsmctl_authorize},
    {"ping", "see whether the server is there, who it is, and how far away", dsmctl_ping},
    {"segments", "list segments", dsmctl_segments},
    {"stat", "show the server's room and load, and what you have of them", dsmctl_stat},
    {"create", "make a segment", dsmctl_create},
    {"delete", "delete a segment and its pages", dsmctl_delete},
    {"check", "check a store that no dsmd uses", dsmctl_check},
    {"capsule", "show a capsule: the sealed state of a program on its way", dsmctl_capsule},
    {"migrate", "move a running task to another host", dsmctl_migrate},
    {"agent", "let tasks come to this host: a service", dsmctl_agent},
    {"settings", "show every setting of both ends, with its value and who set it", dsmctl_settings},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

// argp in libc looks for this name, so it must be seen from there.
__attribute__((visibility("default"))) const char *argp_program_version = "dsmctl " DSM_VERSION;

int dsmctl_fail(char **argv, const struct failure *failure)
{
    (void)fprintf(stderr, "%s: %s\n", argv[0], failure->text);
    return DSMCTL_FAILED;
}

static dsmctl_command *command_find(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return commands[i].run;
        }
    }
    return NULL;
}

// The list of commands, as the end of --help. argp frees it.
static char *help_filter(int key, const char *text, void *input)
{
    (void)input;
    if (key != ARGP_KEY_HELP_POST_DOC) {
        return (char *)text; // argp's convention: the same pointer, unchanged
    }
    char *list = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&list, &bytes);
    if (out == NULL) {
        return NULL;
    }
    (void)fputs("Commands (dsmctl COMMAND --help says more):\n", out);
    for (size_t i = 0; i < COMMANDS; i++) {
        (void)fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].summary);
    }
    (void)fclose(out);
    return list;
}

struct choice {
    int first; // where the command's own arguments begin
    dsmctl_command *run;
};

static error_t parse(int key, char *argument, struct argp_state *state)
{
    struct choice *choice = state->input;
    switch (key) {
    case ARGP_KEY_ARG:
        choice->run = command_find(argument);
        if (choice->run == NULL) {
            argp_error(state, "there is no command \"%s\"", argument);
        }
        choice->first = state->next - 1;
        state->next = state->argc; // what follows is the command's
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "say which command");
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv)
{
    const struct argp argp = {
        .parser = parse,
        .args_doc = "COMMAND [ARGUMENT...]",
        .doc =
            "Manages keys, servers, segments and stores of a distributed shared memory. Commands "
            "that ask a server take it from the environment, as programs do: DSM_SERVER, "
            "DSM_SERVER_KEY, DSM_KEY_FILE.\v",
        .help_filter = help_filter,
    };
    struct choice choice = {0, NULL};
    argp_err_exit_status = DSMCTL_USAGE;
    error_t error = argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &choice);
    if (error != 0 || choice.run == NULL) {
        return DSMCTL_USAGE;
    }
    if (noise_init() != 0) {
        (void)fprintf(stderr, "dsmctl: the random source or the crypto library does not work\n");
        return DSMCTL_FAILED;
    }
    char name[64];
    (void)snprintf(name, sizeof name, "dsmctl %s", argv[choice.first]);
    argv[choice.first] = name;
    return choice.run(argc - choice.first, argv + choice.first);
}
