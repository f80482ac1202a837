// SPDX-License-Identifier: Apache-2.0
//
// See the header. Lines come byte by byte, since what follows a line may be a capsule, which somebody else reads. They are few and
// short: a call of the kernel for each byte costs nothing that anybody waits for.
//
// States, threads: none.
#include "tools/mover_socket.h"

#include <errno.h>
#include <stdio.h>

#include "rpc/tcp.h"

int mover_say_line(int fd, const char *line, int64_t deadline)
{
    char text[MOVER_LINE_BYTES];
    int bytes = snprintf(text, sizeof text, "%.*s\n", MOVER_LINE_BYTES - 2, line);
    return tcp_send(fd, text, (size_t)bytes, deadline);
}

int mover_hear_line(int fd, char line[MOVER_LINE_BYTES], int64_t deadline)
{
    for (size_t bytes = 0; bytes < MOVER_LINE_BYTES; bytes++) {
        int error = tcp_receive(fd, line + bytes, 1, deadline);
        if (error != 0) {
            return error;
        }
        if (line[bytes] == '\n') {
            line[bytes] = 0;
            return 0;
        }
    }
    return -EBADMSG;
}
