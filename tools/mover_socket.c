// SPDX-License-Identifier: Apache-2.0
//
// See the header. Each piece is moved without waiting, and what could not be is waited for by poll(), which looks at the deadline: a
// descriptor that blocks would wait in send() until the last byte is taken.
//
// Lines come byte by byte, since what follows a line may be a capsule, which somebody else reads. They are few and short.
//
// States, threads: none.
#include "tools/mover_socket.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#include "rpc/deadline.h"

// What a transfer that gave `done` means: 0 go on, or why not. Waits where nothing could be moved.
static int judge(int fd, ssize_t done, short events, int64_t deadline)
{
    struct pollfd p = {.fd = fd, .events = events};
    struct timespec left;
    if (done > 0) {
        return 0;
    }
    if (done == 0 || errno == ECONNRESET || errno == EPIPE) {
        return -ENODATA;
    }
    if (errno != EAGAIN && errno != EINTR) {
        return -errno;
    }
    if (!deadline_left(deadline, &left)) {
        return -ETIMEDOUT;
    }
    return ppoll(&p, 1, &left, NULL) >= 0 || errno == EINTR ? 0 : -errno;
}

int mover_send(int fd, const void *from, size_t bytes, int64_t deadline)
{
    const char *at = from;
    int error = 0;
    while (bytes > 0 && error == 0) {
        ssize_t sent = send(fd, at, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
        error = judge(fd, sent, POLLOUT, deadline);
        at += sent > 0 ? sent : 0;
        bytes -= sent > 0 ? (size_t)sent : 0;
    }
    return error;
}

int mover_receive(int fd, void *to, size_t bytes, int64_t deadline)
{
    char *at = to;
    int error = 0;
    while (bytes > 0 && error == 0) {
        ssize_t got = recv(fd, at, bytes, MSG_DONTWAIT);
        error = judge(fd, got, POLLIN, deadline);
        at += got > 0 ? got : 0;
        bytes -= got > 0 ? (size_t)got : 0;
    }
    return error;
}

int mover_say_line(int fd, const char *line, int64_t deadline)
{
    char text[MOVER_LINE_BYTES];
    int bytes = snprintf(text, sizeof text, "%.*s\n", MOVER_LINE_BYTES - 2, line);
    return mover_send(fd, text, (size_t)bytes, deadline);
}

int mover_hear_line(int fd, char line[MOVER_LINE_BYTES], int64_t deadline)
{
    for (size_t bytes = 0; bytes < MOVER_LINE_BYTES; bytes++) {
        int error = mover_receive(fd, line + bytes, 1, deadline);
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
