// SPDX-License-Identifier: Apache-2.0
//
// The raw cost of the wire: a TCP connection on loopback between two processes, which wait as they are told: asleep in the
// kernel, or looking for a while before. A round trip is a request of a given size and an answer of a given size. A
// stream keeps two requests in flight and takes the answers of up to 1 MiB as they come; with a suite, each answer is
// sealed by one process in records of LIMIT_RECORD_DATA_BYTES and opened by the other, which is all that a
// cold scan has to do. An upload is the same the other way round, which is all that write-back has to do.
//
// The answering process is forked here and ends when the connection does. Requests say what they want in
// little words of 32 bits; both processes are the same program, so these are in the host's order.
#include "tools/dsmperf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rpc/limits.h"
#include "rpc/noise.h"
#include "tools/dsmperf_net.h"

enum { REQUEST_MAX = 16384, IN_FLIGHT = 2, SUITES = 3 };
enum { RECORD_SEALED_BYTES = LIMIT_RECORD_DATA_BYTES + LIMIT_SEAL_BYTES };

struct want {
    uint32_t request, answer, suite, upload,
        spin_us; // upload: sealed bytes that follow the request
};

struct perf_wire {
    int fd;
    pid_t pid;
    uint8_t *buffer, *sealed;
    // By suite; NULL where there is none. Answers: down, uploads: up.
    struct noise_cipher *down_seal[SUITES], *down_open[SUITES], *up_seal[SUITES], *up_open[SUITES];
};

static uint32_t part_of(uint32_t left)
{
    return left < LIMIT_RECORD_DATA_BYTES ? left : LIMIT_RECORD_DATA_BYTES;
}

static int send_sealed(const struct perf_wire *wire, struct noise_cipher *seal, uint32_t bytes)
{
    int result = 0;
    for (uint32_t done = 0; done < bytes && result == 0; done += part_of(bytes - done)) {
        uint32_t part = part_of(bytes - done);
        result = noise_seal(seal, wire->buffer + done, part, wire->sealed);
        if (result == 0) {
            result = perf_net_send(wire->fd, wire->sealed, part + LIMIT_SEAL_BYTES);
        }
    }
    return result;
}

static int receive_sealed(const struct perf_wire *wire, struct noise_cipher *open, uint32_t bytes,
                          uint32_t spin_us)
{
    int result = 0;
    for (uint32_t done = 0; done < bytes && result == 0; done += part_of(bytes - done)) {
        uint32_t part = part_of(bytes - done);
        result = perf_net_receive(wire->fd, wire->sealed, part + LIMIT_SEAL_BYTES, spin_us);
        if (result == 0) {
            result = noise_open(open, wire->sealed, part + LIMIT_SEAL_BYTES, wire->buffer + done);
        }
    }
    return result;
}

// Called when the way of waiting changes.
static void place(int end, uint32_t spin_us)
{
    if (spin_us > 0) {
        perf_net_place(end, 0);
    } else {
        perf_net_place_anywhere();
    }
}

static int answer(struct perf_wire *wire, struct want *want)
{
    uint8_t request[REQUEST_MAX];
    uint32_t spin_us = want->spin_us;
    int result = perf_net_receive(wire->fd, request, sizeof(*want), want->spin_us);
    if (result != 0) {
        return result;
    }
    memcpy(want, request, sizeof(*want));
    if (want->spin_us != spin_us) {
        place(1, want->spin_us);
    }
    result = perf_net_receive(wire->fd, request, want->request - sizeof(*want), want->spin_us);
    if (result == 0 && want->upload > 0) {
        result = receive_sealed(wire, wire->up_open[want->suite], want->upload, want->spin_us);
    }
    if (result == 0) {
        result = want->suite == 0 || want->upload > 0
                     ? perf_net_send(wire->fd, wire->buffer, want->answer)
                     : send_sealed(wire, wire->down_seal[want->suite], want->answer);
    }
    return result;
}

static _Noreturn void answer_until_closed(struct perf_wire *wire)
{
    struct want want = {.spin_us = 0};
    int result = 0;
    memset(wire->buffer, 0x5a, LIMIT_RUN_BYTES);
    while (result == 0) {
        result = answer(wire, &want);
    }
    _exit(result == -ECONNRESET ? 0 : 1);
}

static int ask(struct perf_wire *wire, const struct want *want)
{
    uint8_t request[REQUEST_MAX] = {0};
    memcpy(request, want, sizeof(*want));
    int result = perf_net_send(wire->fd, request, want->request);
    if (result == 0 && want->upload > 0) {
        result = send_sealed(wire, wire->up_seal[want->suite], want->upload);
    }
    return result;
}

static int take(struct perf_wire *wire, const struct want *want)
{
    return want->suite == 0 || want->upload > 0
               ? perf_net_receive(wire->fd, wire->buffer, want->answer, want->spin_us)
               : receive_sealed(wire, wire->down_open[want->suite], want->answer, want->spin_us);
}

static int wants(const struct perf_wire *wire, const struct perf_question *question,
                 struct want *want)
{
    uint32_t least = sizeof(*want);
    *want = (struct want){.request = question->request < least ? least : question->request,
                          .answer = question->bytes,
                          .spin_us = question->spin_us};
    if (question->kind != PERF_WIRE) {
        want->suite = question->suite;
    }
    if (question->kind == PERF_UPLOAD) {
        want->upload = question->bytes;
        want->answer = least;
    }
    bool right = want->request <= REQUEST_MAX && question->bytes <= LIMIT_RUN_BYTES &&
                 want->suite < SUITES &&
                 (want->suite == 0 || wire->down_seal[want->suite] != NULL) &&
                 (want->upload == 0 || want->suite != 0);
    return right ? 0 : -EINVAL;
}

// One sample for each answer: the time from its predecessor's end (in_flight 1: from its own request).
int perf_wire_measure(struct perf_wire *wire, const struct perf_question *question,
                      struct perf_samples *samples)
{
    struct want want;
    uint32_t ahead = question->kind == PERF_WIRE ? 1 : IN_FLIGHT;
    uint32_t asked = 0;
    int result = wants(wire, question, &want);
    place(0, question->spin_us);
    double last = perf_now_us();
    for (uint32_t taken = 0; taken < question->count && result == 0; taken++) {
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
        last = now;
    }
    place(0, 0);
    return result;
}

static int make_ciphers(struct perf_wire *wire)
{
    int result = 0;
    for (uint32_t suite = NOISE_AESGCM; suite <= NOISE_CHACHAPOLY && result == 0; suite++) {
        if (noise_suite_available((enum noise_suite)suite)) {
            result = perf_cipher_pair(suite, &wire->down_seal[suite], &wire->down_open[suite]);
        }
        if (result == 0 && wire->down_seal[suite] != NULL) {
            result = perf_cipher_pair(suite, &wire->up_seal[suite], &wire->up_open[suite]);
        }
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
    wire->buffer = malloc(LIMIT_RUN_BYTES);
    wire->sealed = malloc(RECORD_SEALED_BYTES);
    int result = wire->buffer == NULL || wire->sealed == NULL ? -ENOMEM : perf_net_pair(fds);
    if (result == 0) {
        result = make_ciphers(wire);
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
    for (int suite = 0; suite < SUITES; suite++) {
        noise_cipher_destroy(&wire->down_seal[suite]);
        noise_cipher_destroy(&wire->down_open[suite]);
        noise_cipher_destroy(&wire->up_seal[suite]);
        noise_cipher_destroy(&wire->up_open[suite]);
    }
    free(wire->buffer);
    free(wire->sealed);
    free(wire);
    *destroyed = NULL;
}
