// SPDX-License-Identifier: Apache-2.0
//
// The raw cost of the wire: a TCP connection on loopback between two processes, both of which sleep in the kernel
// while they wait, as dsmd and libdsm do. A round trip is a request of a given size and an answer of a given size. A
// stream keeps two requests in flight and takes the answers of up to 1 MiB as they come; with a suite, each answer is
// sealed by one process in records of LIMIT_RECORD_DATA_BYTES and opened by the other, which is all that a
// cold scan has to do.
//
// The answering process is forked here and ends when the connection does. Requests say what they want in three
// little words of 32 bits; both processes are the same program, so these are in the host's order.
#include "tools/dsmperf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rpc/limits.h"
#include "rpc/noise.h"

enum { WANT_BYTES = 12, REQUEST_MAX = 4096, STREAM_IN_FLIGHT = 2 };
enum { RECORD_SEALED_BYTES = LIMIT_RECORD_DATA_BYTES + LIMIT_SEAL_BYTES };

struct want {
    uint32_t request, answer, suite;
};

struct perf_wire {
    int fd;
    pid_t pid;
    uint8_t *buffer;                           // LIMIT_RUN_BYTES and the seal of a record
    struct noise_cipher *send[3], *receive[3]; // by suite; NULL where there is none
};

static int send_all(int fd, const uint8_t *from, size_t bytes)
{
    while (bytes > 0) {
        ssize_t sent = send(fd, from, bytes, MSG_NOSIGNAL);
        if (sent < 0) {
            return -errno;
        }
        from += sent;
        bytes -= (size_t)sent;
    }
    return 0;
}

static int receive_all(int fd, uint8_t *to, size_t bytes)
{
    while (bytes > 0) {
        ssize_t got = recv(fd, to, bytes, 0);
        if (got <= 0) {
            return got == 0 ? -ECONNRESET : -errno;
        }
        to += got;
        bytes -= (size_t)got;
    }
    return 0;
}

static int send_sealed(struct perf_wire *wire, const uint8_t *plain, uint8_t *sealed,
                       const struct want *want)
{
    int result = 0;
    for (uint32_t done = 0; done < want->answer && result == 0;) {
        uint32_t part = want->answer - done;
        if (part > LIMIT_RECORD_DATA_BYTES) {
            part = LIMIT_RECORD_DATA_BYTES;
        }
        result = noise_seal(wire->send[want->suite], plain + done, part, sealed);
        if (result == 0) {
            result = send_all(wire->fd, sealed, part + LIMIT_SEAL_BYTES);
        }
        done += part;
    }
    return result;
}

static void answer_until_closed(struct perf_wire *wire)
{
    uint8_t request[REQUEST_MAX];
    uint8_t *sealed = malloc(RECORD_SEALED_BYTES);
    int result = sealed == NULL ? -ENOMEM : 0;
    memset(wire->buffer, 0x5a, LIMIT_RUN_BYTES);
    while (result == 0) {
        struct want want;
        result = receive_all(wire->fd, request, WANT_BYTES);
        if (result != 0) {
            break;
        }
        memcpy(&want, request, WANT_BYTES);
        result = receive_all(wire->fd, request, want.request - WANT_BYTES);
        if (result == 0) {
            result = want.suite == 0 ? send_all(wire->fd, wire->buffer, want.answer)
                                     : send_sealed(wire, wire->buffer, sealed, &want);
        }
    }
    free(sealed);
    _exit(result == -ECONNRESET ? 0 : 1);
}

static int ask(struct perf_wire *wire, const struct want *want)
{
    uint8_t request[REQUEST_MAX] = {0};
    memcpy(request, want, WANT_BYTES);
    return send_all(wire->fd, request, want->request);
}

static int receive_sealed(struct perf_wire *wire, const struct want *want)
{
    uint8_t *sealed = wire->buffer + LIMIT_RUN_BYTES; // opened straight into the frame
    int result = 0;
    for (uint32_t done = 0; done < want->answer && result == 0;) {
        uint32_t part = want->answer - done;
        if (part > LIMIT_RECORD_DATA_BYTES) {
            part = LIMIT_RECORD_DATA_BYTES;
        }
        result = receive_all(wire->fd, sealed, part + LIMIT_SEAL_BYTES);
        if (result == 0) {
            result = noise_open(wire->receive[want->suite], sealed, part + LIMIT_SEAL_BYTES,
                                wire->buffer + done);
        }
        done += part;
    }
    return result;
}

static int take(struct perf_wire *wire, const struct want *want)
{
    return want->suite == 0 ? receive_all(wire->fd, wire->buffer, want->answer)
                            : receive_sealed(wire, want);
}

// One sample for each answer: the time from its predecessor's end (in_flight 1: from its own request).
int perf_wire_measure(struct perf_wire *wire, const struct perf_question *question,
                      struct perf_samples *samples)
{
    bool stream = question->kind == PERF_STREAM;
    struct want want = {question->request < WANT_BYTES ? WANT_BYTES : question->request,
                        question->bytes, stream ? question->suite : 0};
    if (want.request > REQUEST_MAX || want.answer > LIMIT_RUN_BYTES || want.suite > 2 ||
        (want.suite != 0 && wire->send[want.suite] == NULL)) {
        return -EINVAL;
    }
    uint32_t ahead = stream ? STREAM_IN_FLIGHT : 1;
    uint32_t asked = 0;
    double last = perf_now_us();
    for (uint32_t taken = 0; taken < question->count; taken++) {
        int result = 0;
        while (asked < question->count && asked < taken + ahead && result == 0) {
            result = ask(wire, &want);
            asked++;
        }
        if (result == 0) {
            result = take(wire, &want);
        }
        double now = perf_now_us();
        if (result == 0) {
            result = perf_samples_add(samples, now - last);
        }
        if (result != 0) {
            return result;
        }
        last = now;
    }
    return 0;
}

static int loopback_pair(int fds[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int one = 1;
    int result = 0;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fds[1] = -1;
    if (listener < 0 || fds[0] < 0 || bind(listener, (struct sockaddr *)&address, length) != 0 ||
        listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0 ||
        connect(fds[0], (struct sockaddr *)&address, length) != 0 ||
        (fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0 ||
        setsockopt(fds[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 ||
        setsockopt(fds[1], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0) {
        result = -errno;
        if (fds[0] >= 0) {
            close(fds[0]);
        }
        if (fds[1] >= 0) {
            close(fds[1]);
        }
    }
    if (listener >= 0) {
        close(listener);
    }
    return result;
}

int perf_wire_create(struct perf_wire **created)
{
    int fds[2] = {-1, -1};
    struct perf_wire *wire = calloc(1, sizeof(*wire));
    if (wire == NULL) {
        return -ENOMEM;
    }
    wire->fd = -1;
    wire->pid = -1;
    wire->buffer = malloc(LIMIT_RUN_BYTES + RECORD_SEALED_BYTES);
    int result = wire->buffer == NULL ? -ENOMEM : loopback_pair(fds);
    for (uint32_t suite = NOISE_AESGCM; suite <= NOISE_CHACHAPOLY && result == 0; suite++) {
        if (noise_suite_available((enum noise_suite)suite)) {
            result = perf_cipher_pair(suite, &wire->send[suite], &wire->receive[suite]);
        }
    }
    if (result == 0) {
        wire->pid = fork();
        result = wire->pid < 0 ? -errno : 0;
    }
    if (wire->pid == 0) {
        close(fds[0]);
        wire->fd = fds[1];
        answer_until_closed(wire);
    }
    if (fds[1] >= 0) {
        close(fds[1]);
    }
    wire->fd = fds[0];
    if (result != 0) {
        perf_wire_destroy(&wire);
        return result;
    }
    *created = wire;
    return 0;
}

void perf_wire_destroy(struct perf_wire **destroyed)
{
    struct perf_wire *wire = *destroyed;
    if (wire == NULL) {
        return;
    }
    if (wire->fd >= 0) {
        close(wire->fd);
    }
    if (wire->pid > 0) {
        waitpid(wire->pid, NULL, 0);
    }
    for (int suite = 0; suite < 3; suite++) {
        noise_cipher_destroy(&wire->send[suite]);
        noise_cipher_destroy(&wire->receive[suite]);
    }
    free(wire->buffer);
    free(wire);
    *destroyed = NULL;
}
