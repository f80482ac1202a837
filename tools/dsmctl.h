// SPDX-License-Identifier: Apache-2.0
//
// dsmctl: what its commands share. A command is a function and a row of the table in dsmctl.c.
#ifndef TOOLS_DSMCTL_H
#define TOOLS_DSMCTL_H

#include <stdbool.h>
#include <stdio.h>

#include "rpc/failure.h"

enum { DSMCTL_DONE = 0, DSMCTL_FAILED = 1, DSMCTL_USAGE = 2 }; // exit codes

// argv[0] is "dsmctl COMMAND". Returns an exit code.
typedef int dsmctl_command(int argc, char **argv);

dsmctl_command dsmctl_keygen;
dsmctl_command dsmctl_authorize;
dsmctl_command dsmctl_ping;
dsmctl_command dsmctl_segments;
dsmctl_command dsmctl_stat;
dsmctl_command dsmctl_create;
dsmctl_command dsmctl_delete;
dsmctl_command dsmctl_check;
dsmctl_command dsmctl_capsule;
dsmctl_command dsmctl_settings;
dsmctl_command dsmctl_migrate;
dsmctl_command dsmctl_agent;

// Says on standard error what went wrong, after the command's name; returns DSMCTL_FAILED.
int dsmctl_fail(char **argv, const struct failure *failure);
// How a command ends: dsmctl_fail when there is an error, or when its output could not be written.
int dsmctl_end(char **argv, int error, const struct failure *failure);

// ---- arguments (dsmctl_words.c) ----

enum { DSMCTL_WORDS_MAX = 7 };
struct dsmctl_words { // between `least` and `most` arguments
    const char *name[DSMCTL_WORDS_MAX];
    int count;
    int least;
    int most;
};
struct argp_state;
// For an argp parser: everything that is no option.
int dsmctl_parse_words(int key, char *argument, struct argp_state *state,
                       struct dsmctl_words *words);

struct dsmctl_input { // of a command whose only option is --json
    struct dsmctl_words words;
    bool json;
};
// 0 or -EINVAL.
int dsmctl_parse_json(int argc, char **argv, const char *args_doc, const char *doc,
                      struct dsmctl_input *input);

// Adds a sentence to the failure's own.
void dsmctl_advise(struct failure *failure, const char *advice);

#endif
