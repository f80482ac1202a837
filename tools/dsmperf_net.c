// SPDX-License-Identifier: Apache-2.0
//
// Blocking sockets, and one way to spin: recv() that does not wait, again and again, until the time is over; then one that
// does. The first look is free of that, so what is there already is never waited for. On one core spinning takes the time
// from whoever should answer: then dsmperf is told not to (--spin 0).
#include "tools/dsmperf_net.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tools/dsmperf.h"

static cpu_set_t allowed; // at the first call
static bool allowed_known;

static bool know_allowed(void)
{
    if (!allowed_known) {
        allowed_known = sched_getaffinity(0, sizeof(allowed), &allowed) == 0;
    }
    return allowed_known;
}

// All threads of a process: each has a mask of its own.
static void place_threads(pid_t pid, const cpu_set_t *set)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%ld/task", (long)pid);
    DIR *tasks = opendir(path);
    for (const struct dirent *task; tasks != NULL && (task = readdir(tasks)) != NULL;) {
        long id = strtol(task->d_name, NULL, 10);
        if (id > 0) {
            (void)sched_setaffinity((pid_t)id, sizeof(*set), set);
        }
    }
    if (tasks != NULL) {
        (void)closedir(tasks);
    }
}

void perf_net_place(int end, pid_t pid)
{
    cpu_set_t one;
    size_t chosen = 0;
    bool found = false;
    if (!know_allowed()) {
        return;
    }
    for (size_t cpu = 0; cpu < CPU_SETSIZE && (end == 1 || !found); cpu++) {
        if (CPU_ISSET(cpu, &allowed)) {
            chosen = cpu;
            found = true;
        }
    }
    CPU_ZERO(&one);
    CPU_SET(chosen, &one);
    if (pid == 0) {
        (void)sched_setaffinity(0, sizeof(one), &one);
    } else {
        place_threads(pid, &one);
    }
}

void perf_net_place_anywhere(void)
{
    if (know_allowed()) {
        (void)sched_setaffinity(0, sizeof(allowed), &allowed);
    }
}

static int no_delay(int fd)
{
    int one = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
}

int perf_net_listen(uint16_t *port)
{
    struct sockaddr_in address = loopback(0);
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, length) == 0 && listen(fd, 512) == 0 &&
        getsockname(fd, (struct sockaddr *)&address, &length) == 0) {
        *port = ntohs(address.sin_port);
        return fd;
    }
    int error = -errno;
    if (fd >= 0) {
        close(fd);
    }
    return error;
}

int perf_net_connect(uint16_t port)
{
    struct sockaddr_in address = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
        return no_delay(fd);
    }
    int error = -errno;
    if (fd >= 0) {
        close(fd);
    }
    return error;
}

int perf_net_accept(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    return fd < 0 ? -errno : no_delay(fd);
}

int perf_net_pair(int fds[2])
{
    uint16_t port = 0;
    int listener = perf_net_listen(&port);
    if (listener < 0) {
        return listener;
    }
    fds[0] = perf_net_connect(port);
    fds[1] = fds[0] < 0 ? -1 : perf_net_accept(listener);
    close(listener);
    if (fds[0] < 0 || fds[1] >= 0) {
        return fds[0] < 0 ? fds[0] : 0;
    }
    close(fds[0]);
    return fds[1];
}

int perf_net_send(int fd, const void *from, size_t bytes)
{
    const uint8_t *at = from;
    while (bytes > 0) {
        ssize_t sent = send(fd, at, bytes, MSG_NOSIGNAL);
        if (sent < 0) {
            return -errno;
        }
        at += sent;
        bytes -= (size_t)sent;
    }
    return 0;
}

static ssize_t receive_some(int fd, void *to, size_t bytes, uint32_t spin_us)
{
    double end = 0;
    while (spin_us > 0) {
        ssize_t got = recv(fd, to, bytes, MSG_DONTWAIT);
        if (got >= 0 || errno != EAGAIN) {
            return got;
        }
        double now = perf_now_us();
        if (end > 0 && now >= end) {
            break;
        }
        end = end > 0 ? end : now + spin_us;
    }
    return recv(fd, to, bytes, 0);
}

int perf_net_receive(int fd, void *to, size_t bytes, uint32_t spin_us)
{
    uint8_t *at = to;
    while (bytes > 0) {
        ssize_t got = receive_some(fd, at, bytes, spin_us);
        if (got <= 0) {
            return got == 0 ? -ECONNRESET : -errno;
        }
        at += got;
        bytes -= (size_t)got;
    }
    return 0;
}
