// SPDX-License-Identifier: Apache-2.0
//
// flood_connect HOST PORT SECONDS RATE: RATE new connections a second, each closed soon after, from thousands of addresses
// (10.66.0.0/16, which the attacker's namespace calls its own). What flood.py does as `connect`, for rates that Python does not reach
// beside a server on the same processors: here a connection costs its five system calls and nothing else.
//
// POURERS processes have a part each, so that they get as much of the processors as they need. The last KEPT connections of
// each are kept for the moment that a handshake of TCP takes. Who is late catches up, so the rate is the mean of all
// the time. Prints what was done.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { POURERS = 2, KEPT = 500, PAUSE_NS = 1000000 };

struct done {
    unsigned tried, made;
};

static double now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

// A connection that begins, from the next address; -1: none could be made.
static int begin(const struct sockaddr_in *to, unsigned number)
{
    static const int on = 1;
    uint32_t low = (number & 0xffff) % 0xfffe + 1;
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(10U << 24 | 66U << 16 | low)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (const struct sockaddr *)&from, sizeof from) != 0 ||
        (connect(fd, (const struct sockaddr *)to, sizeof *to) != 0 && errno != EINPROGRESS)) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static void pour(const struct sockaddr_in *to, unsigned part, double seconds, double rate,
                 struct done *done)
{
    static const struct timespec pause = {.tv_nsec = PAUSE_NS};
    static int kept[KEPT];
    double began = now();
    double passed = 0;
    while (passed < seconds) {
        for (unsigned due = (unsigned)(rate * passed); done->tried < due; done->tried++) {
            int fd = begin(to, done->tried * POURERS + part);
            if (fd >= 0) {
                int *place = &kept[done->made++ % KEPT];
                if (done->made > KEPT) {
                    (void)close(*place);
                }
                *place = fd;
            }
        }
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
        passed = now() - began;
    }
}

int main(int count, char **arguments)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    struct done *done = mmap(NULL, sizeof *done * POURERS, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (count != 5 || inet_pton(AF_INET, arguments[1], &to.sin_addr) != 1 || done == MAP_FAILED) {
        (void)fprintf(stderr, "flood_connect HOST PORT SECONDS RATE\n");
        return 2;
    }
    to.sin_port = htons((uint16_t)strtoul(arguments[2], NULL, 10));
    double seconds = strtod(arguments[3], NULL);
    double rate = strtod(arguments[4], NULL) / POURERS;
    for (unsigned part = 1; part < POURERS; part++) {
        if (fork() == 0) {
            pour(&to, part, seconds, rate, &done[part]);
            _exit(0);
        }
    }
    double began = now();
    pour(&to, 0, seconds, rate, &done[0]);
    while (wait(NULL) > 0) {
    }
    double took = now() - began;
    for (unsigned part = 1; part < POURERS; part++) {
        done[0].tried += done[part].tried;
        done[0].made += done[part].made;
    }
    printf("connect: %u connections in %.1f s (%.0f/s), %u not made\n", done[0].made, took,
           done[0].made / took, done[0].tried - done[0].made);
    return 0;
}
