// SPDX-License-Identifier: Apache-2.0
//
// Lines over a socket, with a deadline for all of one, as rpc/tcp.h has it.
#ifndef TOOLS_MOVER_SOCKET_H
#define TOOLS_MOVER_SOCKET_H

#include <stdint.h>

enum { MOVER_LINE_BYTES = 1024 };

// Results as tcp_send() and tcp_receive(). A line, to which its end is added; one that is too long is cut.
int mover_say_line(int fd, const char *line, int64_t deadline);
// A line without its end; of what follows nothing is taken. -EBADMSG: it is too long.
int mover_hear_line(int fd, char line[MOVER_LINE_BYTES], int64_t deadline);

#endif
