// SPDX-License-Identifier: Apache-2.0
//
// A capsule's stream over a descriptor, whatever it is: a file, a pipe or a socket, and whether it blocks or not. With a deadline
// poll() comes before each piece: the other end of a socket may be silent, and whoever waits for it must not wait for ever.
// (A file never keeps poll waiting.) What poll() said can be written must then not wait, though the descriptor blocks: a socket takes
// what it has room for, and a pipe no more at a time than it has room for whenever it has any.
//
// A socket whose other end is gone is an error, not a SIGPIPE; of a pipe the signal is the program's to ignore.
//
// Only a file has an end that belongs to the capsule: what follows in a pipe or a socket is somebody else's.
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libdsm/migrate/capsule.h"
#include "rpc/deadline.h"

static int wait_for(const struct capsule_descriptor *descriptor, short events)
{
    struct timespec left = {0};
    struct pollfd poll_for = {descriptor->fd, events, 0};
    const struct timespec *timeout = descriptor->deadline == INT64_MAX ? NULL : &left;
    if (timeout != NULL && !deadline_left(descriptor->deadline, &left)) {
        return -ETIMEDOUT;
    }
    int ready = ppoll(&poll_for, 1, timeout, NULL);
    return ready > 0 || (ready < 0 && errno == EINTR) ? 0 : ready == 0 ? -ETIMEDOUT : -errno;
}

static ssize_t put_some(int fd, const void *from, size_t bytes)
{
    ssize_t sent = send(fd, from, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent < 0 && errno == ENOTSOCK ? write(fd, from, bytes < PIPE_BUF ? bytes : PIPE_BUF)
                                         : sent;
}

// What a call that transferred `done` bytes means: -EAGAIN to try again.
static int outcome(ssize_t done)
{
    return done > 0 ? 0 : done == 0 ? -ENODATA : errno == EINTR ? -EAGAIN : -errno;
}

static int put(void *context, const void *from, size_t bytes)
{
    const struct capsule_descriptor *descriptor = context;
    const char *at = from;
    while (bytes > 0) {
        int error = wait_for(descriptor, POLLOUT);
        if (error != 0) {
            return error;
        }
        ssize_t done = put_some(descriptor->fd, at, bytes);
        error = outcome(done);
        if (error == 0) {
            at += done;
            bytes -= (size_t)done;
        } else if (error != -EAGAIN) {
            return error == -ENODATA ? -EIO : error;
        }
    }
    return 0;
}

static int take(void *context, void *to, size_t bytes)
{
    const struct capsule_descriptor *descriptor = context;
    char *at = to;
    while (bytes > 0) {
        int error = wait_for(descriptor, POLLIN);
        if (error != 0) {
            return error;
        }
        ssize_t done = read(descriptor->fd, at, bytes);
        error = outcome(done);
        if (error == 0) {
            at += done;
            bytes -= (size_t)done;
        } else if (error != -EAGAIN) {
            return error;
        }
    }
    return 0;
}

struct capsule_stream capsule_stream_of(struct capsule_descriptor *descriptor)
{
    return (struct capsule_stream){.put = put, .take = take, .context = descriptor};
}

int capsule_descriptor_end(const struct capsule_descriptor *descriptor, struct failure *failure)
{
    struct stat status;
    char more;
    if (fstat(descriptor->fd, &status) != 0 || !S_ISREG(status.st_mode) ||
        read(descriptor->fd, &more, 1) <= 0) {
        return 0;
    }
    return failure_set(failure, -EBADMSG, "The file goes on after the capsule's end.");
}
