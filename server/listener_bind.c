// SPDX-License-Identifier: Apache-2.0
//
// Addresses to listen on: "host:port" or "[v6]:port", resolved once at start. A name may stand for
// several addresses; all are bound. "[::]" takes IPv4 as well, and where the kernel has no IPv6 it
// falls back to 0.0.0.0. With port 0 the kernel chooses, once; further addresses get the same port.
//
// Used before the listener's thread starts.
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/listener_internal.h"

enum { HOST_BYTES = 256, BACKLOG = 4096 };

static int split(const char *address, char host[HOST_BYTES], const char **port,
                 struct failure *failure)
{
    const char *colon = strrchr(address, ':');
    const char *start = address;
    size_t bytes = colon != NULL ? (size_t)(colon - address) : 0;
    if (bytes >= 2 && address[0] == '[' && colon[-1] == ']') {
        start++;
        bytes -= 2;
    } else if (bytes > 0 && memchr(address, ':', bytes) != NULL) {
        bytes = 0; // an IPv6 address without brackets: which colon begins the port?
    }
    char *end;
    unsigned long number = colon != NULL ? strtoul(colon + 1, &end, 10) : 0;
    if (bytes == 0 || bytes >= HOST_BYTES || colon[1] < '0' || colon[1] > '9' || *end != '\0' ||
        number > 65535) {
        (void)failure_set(failure, -EINVAL,
                          "\"%s\" is no address to listen on: say HOST:PORT or [IPV6]:PORT.",
                          address);
        return -EINVAL;
    }
    memcpy(host, start, bytes);
    host[bytes] = '\0';
    *port = colon + 1;
    return 0;
}

static void set_port(struct addrinfo *info, uint16_t port)
{
    if (info->ai_family == AF_INET6) {
        ((struct sockaddr_in6 *)(void *)info->ai_addr)->sin6_port = htons(port);
    } else {
        ((struct sockaddr_in *)(void *)info->ai_addr)->sin_port = htons(port);
    }
}

static uint16_t bound_port(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
    } bound;
    socklen_t bytes = sizeof bound;
    memset(&bound, 0, sizeof bound);
    if (getsockname(fd, &bound.any, &bytes) != 0) {
        return 0;
    }
    return ntohs(bound.any.sa_family == AF_INET6 ? bound.in6.sin6_port : bound.in4.sin_port);
}

static int open_socket(const struct addrinfo *info, bool wildcard, int *fd)
{
    int on = 1;
    int off = 0;
    int made = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (made < 0) {
        return -errno;
    }
    (void)setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (info->ai_family == AF_INET6) {
        (void)setsockopt(made, IPPROTO_IPV6, IPV6_V6ONLY, wildcard ? &off : &on, sizeof on);
    }
    if (bind(made, info->ai_addr, info->ai_addrlen) != 0 || listen(made, BACKLOG) != 0) {
        int error = -errno;
        (void)close(made);
        return error;
    }
    *fd = made;
    return 0;
}

static int bind_one(struct listener *listener, struct addrinfo *info, bool any_port, bool wildcard)
{
    if (listener->socket_count == LISTENER_SOCKETS) {
        return -EMFILE;
    }
    if (any_port && listener->port != 0) {
        set_port(info, listener->port);
    }
    int error = open_socket(info, wildcard, &listener->sockets[listener->socket_count]);
    if (error == 0) {
        int fd = listener->sockets[listener->socket_count++];
        listener->port = listener->port != 0 ? listener->port : bound_port(fd);
    }
    return error;
}

int listener_check(const char *address, struct failure *failure)
{
    const struct addrinfo hints = {
        .ai_flags = AI_PASSIVE, .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    char host[HOST_BYTES];
    const char *port = NULL;
    int error = split(address, host, &port, failure);
    if (error != 0) {
        return error;
    }
    int lookup = getaddrinfo(host, port, &hints, &found);
    if (lookup != 0) {
        return failure_set(failure, -EINVAL, "The address \"%s\" to listen on is unknown: %s.",
                           host, gai_strerror(lookup));
    }
    freeaddrinfo(found);
    return 0;
}

static int bind_host(struct listener *listener, const char *host, const char *port,
                     struct failure *failure)
{
    const struct addrinfo hints = {
        .ai_flags = AI_PASSIVE, .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    int lookup = getaddrinfo(host, port, &hints, &found);
    if (lookup != 0) {
        return failure_set(failure, -EINVAL, "The address \"%s\" to listen on is unknown: %s.",
                           host, gai_strerror(lookup));
    }
    int error = 0;
    bool any_port = strtoul(port, NULL, 10) == 0;
    for (struct addrinfo *info = found; info != NULL && error == 0; info = info->ai_next) {
        error = bind_one(listener, info, any_port, strcmp(host, "::") == 0);
    }
    freeaddrinfo(found);
    return error;
}

int listener_bind(struct listener *listener, const char *address, struct failure *failure)
{
    char host[HOST_BYTES];
    const char *port = NULL;
    int error = split(address, host, &port, failure);
    if (error != 0) {
        return error;
    }
    failure->text[0] = '\0';
    error = bind_host(listener, host, port, failure);
    if (error == -EAFNOSUPPORT && strcmp(host, "::") == 0) {
        error = bind_host(listener, "0.0.0.0", port, failure);
    }
    if (error != 0 && failure->text[0] == '\0') {
        (void)failure_set(failure, error, "Cannot listen on %s: %s.", address,
                          error == -EADDRINUSE ? "another process listens there already"
                                               : strerror(-error));
    }
    return error;
}
