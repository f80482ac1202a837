// SPDX-License-Identifier: Apache-2.0
//
// See the header. Addresses are tried one after the other, and all share the deadline: a host that is silent on one of them uses it
// up. (Trying them at the same time was rejected: a memory server or an agent has one address in most networks, and a list of
// hosts says which.) The lookup itself has no deadline: the system's resolver has its own.
//
// Each piece of what is sent or received is moved without waiting, and what could not be is waited for by poll(), which looks at the
// deadline: a descriptor that blocks would wait in send() until the last byte is taken.
//
// Not for signal handlers. No states, no threads.
#include "rpc/tcp.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/deadline.h"

static int wait_connected(int fd, int64_t deadline)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    struct timespec left;
    int error = 0;
    socklen_t bytes = sizeof error;
    int ready = -1;
    do {
        if (!deadline_left(deadline, &left)) {
            return -ETIMEDOUT;
        }
        ready = ppoll(&p, 1, &left, NULL);
    } while (ready == 0 || (ready < 0 && errno == EINTR));
    if (ready < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0) {
        return -errno;
    }
    return -error;
}

static int connect_one(const struct addrinfo *to, int64_t deadline)
{
    int on = 1;
    int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    int error = connect(fd, to->ai_addr, to->ai_addrlen) == 0 ? 0 : -errno;
    error = error == -EINPROGRESS ? wait_connected(fd, deadline) : error;
    if (error != 0) {
        (void)close(fd);
        return error;
    }
    return fd;
}

int tcp_connect(const char *host, const char *port, int64_t deadline, const char **unknown)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int lookup = getaddrinfo(host, port, &hints, &list);
    *unknown = lookup != 0 ? gai_strerror(lookup) : NULL;
    if (lookup != 0) {
        return -ENOENT;
    }
    int fd = -ECONNREFUSED;
    for (const struct addrinfo *to = list; to != NULL && fd < 0; to = to->ai_next) {
        fd = connect_one(to, deadline);
    }
    freeaddrinfo(list);
    return fd;
}

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

int tcp_send(int fd, const void *from, size_t count, int64_t deadline)
{
    const char *at = from;
    int error = 0;
    while (count > 0 && error == 0) {
        ssize_t sent = send(fd, at, count, MSG_DONTWAIT | MSG_NOSIGNAL);
        error = judge(fd, sent, POLLOUT, deadline);
        at += sent > 0 ? sent : 0;
        count -= sent > 0 ? (size_t)sent : 0;
    }
    return error;
}

int tcp_receive(int fd, void *to, size_t count, int64_t deadline)
{
    char *at = to;
    int error = 0;
    while (count > 0 && error == 0) {
        ssize_t got = recv(fd, at, count, MSG_DONTWAIT);
        error = judge(fd, got, POLLIN, deadline);
        at += got > 0 ? got : 0;
        count -= got > 0 ? (size_t)got : 0;
    }
    return error;
}

void tcp_reset_at_close(int fd)
{
    static const struct linger none = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
}
