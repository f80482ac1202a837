// SPDX-License-Identifier: Apache-2.0
//
// An address, looked up once at start. A port alone is on 127.0.0.1: who wants others to reach the page must say so, since
// nobody is asked who he is. Of a name that stands for several addresses the first that can be bound is taken: a page needs
// one. [::] takes IPv4 as well.
//
// dsmd's own listener (server/listener_bind.c) has another rule for each of these, which is why it is not shared.
#include "metrics/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HOST_BYTES = 256, PORT_MOST = 65535 };

union any_address {
    struct sockaddr any;
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
};

static int split(const char *address, char host[HOST_BYTES], const char **port,
                 struct failure *failure)
{
    const char *colon = strrchr(address, ':');
    const char *start = address;
    size_t bytes = colon != NULL ? (size_t)(colon - address) : 0;
    *port = colon != NULL ? colon + 1 : address;
    bool bracketed = bytes > 2 && address[0] == '[' && colon[-1] == ']';
    if (bracketed) {
        start++;
        bytes -= 2;
    }
    char *end;
    unsigned long number = strtoul(*port, &end, 10);
    bool six_bare = !bracketed && memchr(start, ':', bytes) != NULL; // which colon begins the port?
    if ((colon != NULL && bytes == 0) || bytes >= HOST_BYTES || six_bare || **port < '0' ||
        **port > '9' || *end != '\0' || number > PORT_MOST) {
        return failure_set(failure, -EINVAL,
                           "\"%s\" is no address for /metrics: say PORT, HOST:PORT or [IPV6]:PORT.",
                           address);
    }
    (void)snprintf(host, HOST_BYTES, "%.*s", (int)bytes, colon != NULL ? start : "");
    if (colon == NULL) {
        (void)snprintf(host, HOST_BYTES, "127.0.0.1");
    }
    return 0;
}

static int open_socket(const struct addrinfo *info, bool wildcard)
{
    int on = 1;
    int only = wildcard ? 0 : 1;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (info->ai_family == AF_INET6) {
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
    }
    if (bind(fd, info->ai_addr, info->ai_addrlen) != 0 || listen(fd, METRICS_BACKLOG) != 0) {
        int error = -errno;
        (void)close(fd);
        return error;
    }
    return fd;
}

static void describe(struct metrics_socket *made)
{
    union any_address bound;
    socklen_t bytes = sizeof bound;
    char host[INET6_ADDRSTRLEN] = "?";
    memset(&bound, 0, sizeof bound);
    (void)getsockname(made->fd, &bound.any, &bytes);
    if (bound.any.sa_family == AF_INET6) {
        made->local = IN6_IS_ADDR_LOOPBACK(&bound.in6.sin6_addr);
        (void)inet_ntop(AF_INET6, &bound.in6.sin6_addr, host, sizeof host);
        (void)snprintf(made->address, sizeof made->address, "[%s]:%u", host,
                       ntohs(bound.in6.sin6_port));
    } else {
        made->local = ntohl(bound.in4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
        (void)inet_ntop(AF_INET, &bound.in4.sin_addr, host, sizeof host);
        (void)snprintf(made->address, sizeof made->address, "%s:%u", host,
                       ntohs(bound.in4.sin_port));
    }
}

int metrics_listen(const char *address, struct metrics_socket *made, struct failure *failure)
{
    const struct addrinfo hints = {
        .ai_flags = AI_PASSIVE, .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    char host[HOST_BYTES];
    const char *port;
    int fd = split(address, host, &port, failure);
    if (fd != 0) {
        return fd;
    }
    int lookup = getaddrinfo(host, port, &hints, &found);
    if (lookup != 0) {
        return failure_set(failure, -EINVAL, "The address \"%s\" for /metrics is unknown: %s.",
                           host, gai_strerror(lookup));
    }
    fd = -EADDRNOTAVAIL;
    for (const struct addrinfo *info = found; made != NULL && info != NULL && fd < 0;
         info = info->ai_next) {
        fd = open_socket(info, strcmp(host, "::") == 0);
    }
    freeaddrinfo(found);
    if (made == NULL) {
        return 0;
    }
    if (fd < 0) {
        return failure_set(failure, fd, "Cannot serve /metrics on %s: %s.", address,
                           fd == -EADDRINUSE ? "another process listens there already"
                                             : strerror(-fd));
    }
    made->fd = fd;
    describe(made);
    return 0;
}
