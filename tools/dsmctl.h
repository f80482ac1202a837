// SPDX-License-Identifier: Apache-2.0
//
// dsmctl: what its commands share. A command is a function and a row of the table in dsmctl.c.
#ifndef TOOLS_DSMCTL_H
#define TOOLS_DSMCTL_H

#include "rpc/failure.h"

enum { DSMCTL_DONE = 0, DSMCTL_FAILED = 1, DSMCTL_USAGE = 2 }; // exit codes

// argv[0] is "dsmctl COMMAND". Returns an exit code.
typedef int dsmctl_command(int argc, char **argv);

dsmctl_command dsmctl_keygen;
dsmctl_command dsmctl_authorize;

// Says on standard error what went wrong, after the command's name; returns DSMCTL_FAILED.
int dsmctl_fail(char **argv, const struct failure *failure);

#endif
