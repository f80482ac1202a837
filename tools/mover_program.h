// SPDX-License-Identifier: Apache-2.0
//
// The programs of this host whose tasks can be moved, as libdsm/migrate_move.c listens for it.
#ifndef TOOLS_MOVER_PROGRAM_H
#define TOOLS_MOVER_PROGRAM_H

#include <stdbool.h>
#include <sys/types.h>

#include "tools/mover_link.h"

struct mover_program {
    int fd; // its socket
    pid_t pid;
    struct mover_offer task;
};

// The one task of that name or process id that this user may move. -ENOENT; -EACCES; -EEXIST: there
// are several; -ETIMEDOUT: that process does not answer (without its id such a one is passed over).
int mover_program_find(const char *wanted, struct mover_program *program, struct failure *failure);

#endif
