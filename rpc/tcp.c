// SPDX-License-Identifier: Apache-2.0
//
// See the header. Addresses are tried one after the other, and all share the deadline: a host that is silent on one of them uses it
// up. (Trying them at the same time was rejected: a memory server or an agent has one address in most networks, and a list of
// hosts says which.) The lookup itself has no deadline: the system's resolver has its own.
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
