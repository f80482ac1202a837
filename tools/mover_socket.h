// SPDX-License-Identifier: Apache-2.0
//
// Bytes and lines over a socket, with a deadline for all of it: another end that is silent, or does not read, costs that and no more,
// whether the descriptor blocks or not.
#ifndef TOOLS_MOVER_SOCKET_H
#define TOOLS_MOVER_SOCKET_H

#include <stddef.h>
#include <stdint.h>

enum { MOVER_LINE_BYTES = 1024 };

// All of these. 0, -ENODATA: the other end has gone; -ETIMEDOUT, -errno.
int mover_send(int fd, const void *from, size_t bytes, int64_t deadline);
int mover_receive(int fd, void *to, size_t bytes, int64_t deadline);
// A line, to which its end is added; one that is too long is cut.
int mover_say_line(int fd, const char *line, int64_t deadline);
// A line without its end; of what follows nothing is taken. -EBADMSG: it is too long.
int mover_hear_line(int fd, char line[MOVER_LINE_BYTES], int64_t deadline);

#endif
