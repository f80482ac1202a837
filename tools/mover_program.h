// SPDX-License-Identifier: Apache-2.0
//
// The programs of this host whose tasks can be moved, as libdsm/migrate_move.c listens for it.
#ifndef TOOLS_MOVER_PROGRAM_H
#define TOOLS_MOVER_PROGRAM_H

#include <stdbool.h>
#include <sys/types.h>

#include "tools/mover_link.h"

enum { MOVER_LINE_BYTES = 1024 };

struct mover_program {
    int fd; // its socket
    pid_t pid;
    struct mover_offer task;
};

// The one task of that name or process id that this user may move. -ENOENT; -EACCES; -EEXIST: there are several.
int mover_program_find(const char *wanted, struct mover_program *program, struct failure *failure);

// A line to the program, and one from it, without the end. 0, -ENODATA: it has gone, -ETIMEDOUT, -errno.
int mover_program_say(const struct mover_program *program, const char *line);
int mover_program_hear(const struct mover_program *program, char line[MOVER_LINE_BYTES],
                       int64_t deadline);
int mover_program_read(const struct mover_program *program, void *to, size_t bytes,
                       int64_t deadline);

#endif
