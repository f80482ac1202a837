// SPDX-License-Identifier: Apache-2.0
//
// spoil_proxy LISTEN-ADDRESS SERVER-ADDRESS SERVER-PORT SEED RATE: a wire that spoils what goes over it from
// SIGUSR1 on. Prints its port; at SIGTERM it prints how often it did what, and ends.
//
// Of a million portions that it moves, RATE meet each of these: held back (and merged with what follows), split into
// pieces of a few bytes with pauses between, one bit flipped, cut off in the middle with the connection, closed in one
// direction while the other goes on. Of the connections, a hundred times as many are doubled: what the client said at
// first is said to the server again on a connection of its own, up to the same byte.
//
// One thread and poll(). What is drawn from the seed is the sequence of choices; which bytes they meet is the machine's doing.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    LINKS = 512,
    BUFFER_BYTES = 64 << 10,
    FIRST_BYTES = 2048,
    MILLION = 1000000,
    DOUBLE_MS = 3000,
    PIECES = 40
};

enum deed { HELD, SPLIT, FLIPPED, CUT, HALF_CLOSED, DOUBLED, DEEDS };
static const char *const deed_names[DEEDS] = {"held", "split",       "flipped",
                                              "cut",  "half-closed", "doubled"};
static uint64_t deeds[DEEDS];

struct way { // one direction of a connection
    int from, to;
    uint8_t bytes[BUFFER_BYTES];
    size_t start, end;
    int64_t not_before; // ms
    size_t pieces;      // that are still to be small
    bool cut, shut;     // the connection ends once this is out; this direction does
    bool ended;
};

static struct link {
    bool used;
    struct way ways[2]; // to the server, to the client
    uint8_t first[FIRST_BYTES];
    size_t first_bytes;
    bool copy; // of another's beginning: the server's answers go nowhere
    int64_t ends;
} * links;

static struct sockaddr_in server;
static uint64_t random_state, rate;
static volatile sig_atomic_t over, spoils;

static uint64_t below(uint64_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % limit;
}

static bool happens(enum deed deed, uint64_t often)
{
    bool now = spoils && below(MILLION) < rate * often;
    deeds[deed] += now;
    return now;
}

static int64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int connect_server(void)
{
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&server, sizeof server) != 0) {
        (void)close(fd);
        return -1;
    }
    if (fd >= 0) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    }
    return fd;
}

static void end_link(struct link *link)
{
    (void)close(link->ways[0].from);
    if (link->ways[0].to >= 0) {
        (void)close(link->ways[0].to);
    }
    link->used = false;
}

static struct link *make_link(int near)
{
    struct link *link = links;
    while (link < links + LINKS && link->used) {
        link++;
    }
    int far = link == links + LINKS ? -1 : connect_server();
    if (far < 0) {
        (void)close(near);
        return NULL;
    }
    link->used = true;
    link->copy = false;
    link->first_bytes = 0;
    for (int i = 0; i < 2; i++) {
        struct way *way = &link->ways[i];
        way->from = i == 0 ? near : far;
        way->to = i == 0 ? far : near;
        way->start = way->end = way->pieces = 0;
        way->not_before = 0;
        way->cut = way->shut = way->ended = false;
    }
    return link;
}

// What was said at first, once more, by nobody.
static void double_link(const struct link *link)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
        return;
    }
    struct link *copy = make_link(ends[0]);
    if (copy != NULL) {
        (void)send(ends[1], link->first, link->first_bytes, MSG_NOSIGNAL);
        copy->copy = true;
        copy->ends = now_ms() + DOUBLE_MS;
    }
    (void)close(ends[1]);
}

static void spoil(struct link *link, struct way *way, size_t bytes)
{
    if (way == &link->ways[0] && link->first_bytes < FIRST_BYTES && !link->copy) {
        size_t room = FIRST_BYTES - link->first_bytes;
        size_t kept = bytes < room ? bytes : room;
        memcpy(link->first + link->first_bytes, way->bytes + way->end - bytes, kept);
        link->first_bytes += kept;
        if (happens(DOUBLED, 100)) {
            double_link(link);
        }
    }
    if (happens(HELD, 1)) {
        way->not_before = now_ms() + 1 + (int64_t)below(200);
    }
    if (happens(SPLIT, 1)) {
        way->pieces = PIECES;
    }
    if (happens(FLIPPED, 1)) {
        way->bytes[way->end - 1 - below(bytes)] ^= (uint8_t)(1u << below(8));
    }
    if (happens(CUT, 1)) {
        way->end -= below(bytes);
        way->cut = true;
    }
    if (happens(HALF_CLOSED, 1)) {
        way->shut = true;
    }
}

// False: the connection is over.
static bool read_way(struct link *link, struct way *way)
{
    ssize_t n = recv(way->from, way->bytes + way->end, BUFFER_BYTES - way->end, 0);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    if (n == 0) {
        way->ended = true;
        way->shut = !link->copy;
        return true;
    }
    way->end += (size_t)n;
    spoil(link, way, (size_t)n);
    return true;
}

static bool write_way(struct way *way, int64_t now)
{
    size_t bytes = way->end - way->start;
    bool small = way->pieces > 0;
    if (bytes > 0) {
        bytes = small && bytes > 7 ? 1 + below(7) : bytes;
        ssize_t n = send(way->to, way->bytes + way->start, bytes, MSG_NOSIGNAL);
        if (n < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        way->start += (size_t)n;
        if (way->start == way->end) {
            way->start = way->end = 0;
        }
        if (small) {
            way->pieces--;
            way->not_before = below(16) == 0 ? now + 1 : 0;
        }
    }
    if (way->start == way->end && way->cut) {
        return false;
    }
    if (way->start == way->end && way->shut) {
        (void)shutdown(way->to, SHUT_WR);
        way->shut = false;
        way->ended = true;
    }
    return true;
}

static bool move(struct link *link, struct way *way, short ready_from, short ready_to, int64_t now)
{
    if ((ready_from & (POLLIN | POLLHUP | POLLERR)) != 0 && way->end < BUFFER_BYTES &&
        !way->ended && !way->cut && !way->shut && !read_way(link, way)) {
        return false;
    }
    bool some = way->end > way->start || way->cut || way->shut;
    return !some || (ready_to & POLLOUT) == 0 || now < way->not_before || write_way(way, now);
}

static void serve_link(struct link *link, const struct pollfd polled[2], int64_t now)
{
    bool well = move(link, &link->ways[0], polled[0].revents, polled[1].revents, now) &&
                move(link, &link->ways[1], polled[1].revents, polled[0].revents, now);
    bool both = link->ways[0].ended && link->ways[1].ended;
    if (!well || (both && link->ways[0].start == link->ways[0].end) ||
        (link->copy && now > link->ends)) {
        end_link(link);
    }
}

static short wanted(const struct link *link, int end, int64_t now)
{
    const struct way *in = &link->ways[end];
    const struct way *out = &link->ways[1 - end];
    bool some = out->end > out->start || out->cut || out->shut;
    return (short)((in->end < BUFFER_BYTES && !in->ended && !in->cut && !in->shut ? POLLIN : 0) |
                   (some && now >= out->not_before ? POLLOUT : 0));
}

static void serve(int listener)
{
    static struct pollfd polled[1 + 2 * LINKS];
    while (!over) {
        int64_t now = now_ms();
        polled[0] = (struct pollfd){.fd = listener, .events = POLLIN};
        for (int i = 0; i < LINKS; i++) {
            for (int end = 0; end < 2; end++) {
                short events = 0;
                if (links[i].used) {
                    events = wanted(&links[i], end, now);
                }
                polled[1 + 2 * i + end] = (struct pollfd){
                    .fd = links[i].used && events != 0 ? links[i].ways[end].from : -1,
                    .events = events};
            }
        }
        if (poll(polled, 1 + 2 * LINKS, 2) < 0 && errno != EINTR) {
            return;
        }
        for (int i = 0; i < LINKS; i++) {
            if (links[i].used) {
                serve_link(&links[i], &polled[1 + 2 * i], now);
            }
        }
        int near = (polled[0].revents & POLLIN) != 0
                       ? accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
                       : -1;
        if (near >= 0) {
            int one = 1;
            (void)setsockopt(near, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            (void)make_link(near);
        }
    }
}

static void told(int number)
{
    if (number == SIGUSR1) {
        spoils = 1;
    } else {
        over = 1;
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in own = {.sin_family = AF_INET};
    socklen_t bytes = sizeof own;
    server.sin_family = AF_INET;
    if (argc != 6 || inet_pton(AF_INET, argv[1], &own.sin_addr) != 1 ||
        inet_pton(AF_INET, argv[2], &server.sin_addr) != 1) {
        (void)fprintf(stderr,
                      "usage: spoil_proxy LISTEN-ADDRESS SERVER-ADDRESS SERVER-PORT SEED RATE\n");
        return 2;
    }
    server.sin_port = htons((uint16_t)strtoul(argv[3], NULL, 10));
    random_state = strtoull(argv[4], NULL, 10) * 2 + 1;
    rate = strtoull(argv[5], NULL, 10);
    links = calloc(LINKS, sizeof *links);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const struct sigaction action = {.sa_handler = told};
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGUSR1, &action, NULL);
    if (links == NULL || listener < 0 ||
        bind(listener, (const struct sockaddr *)&own, sizeof own) != 0 ||
        listen(listener, 256) != 0 || getsockname(listener, (struct sockaddr *)&own, &bytes) != 0) {
        perror("spoil_proxy");
        return 2;
    }
    (void)printf("%u\n", ntohs(own.sin_port));
    (void)fflush(stdout);
    serve(listener);
    for (int i = 0; i < DEEDS; i++) {
        (void)printf("%s %llu\n", deed_names[i], (unsigned long long)deeds[i]);
    }
    return 0;
}
