// SPDX-License-Identifier: Apache-2.0
//
// The process that measures raw limits. It is forked before libdsm starts its threads and installs its handler:
// a raw trap measured inside the same process would go through libdsm's handler first, and a fork later on
// would leave a child that may not touch segments. So `fault` and `scan` can ask for a limit between two of
// their own rounds, A B A B, while the worker sleeps in recv() at all other times.
//
// A question goes over a socket pair, and the answer is a result, a count and that many doubles. The worker
// ends at the end of the connection, however the asking process ended.
#include "tools/dsmperf.h"
#include "tools/dsmperf_net.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct perf_worker {
    int fd;
    pid_t pid;
};

struct reply {
    int32_t result;
    uint32_t count;
};

static int measure(struct perf_wire *wire, struct perf_trap *trap,
                   const struct perf_question *question, struct perf_samples *samples)
{
    switch (question->kind) {
    case PERF_WIRE:
    case PERF_STREAM:
    case PERF_UPLOAD:
        return perf_wire_measure(wire, question, samples);
    case PERF_SEAL:
    case PERF_OPEN:
        return perf_cipher_measure(question, samples);
    case PERF_TRAP:
        return perf_trap_measure(trap, question, samples);
    }
    return -EINVAL;
}

static int serve(int fd, struct perf_wire *wire, struct perf_trap *trap)
{
    struct perf_question question;
    while (perf_net_receive(fd, &question, sizeof(question), 0) == 0) {
        struct perf_samples samples = {0};
        struct reply reply = {measure(wire, trap, &question, &samples), (uint32_t)samples.count};
        int result = perf_net_send(fd, &reply, sizeof(reply));
        if (result == 0) {
            result = perf_net_send(fd, samples.values, samples.count * sizeof(*samples.values));
        }
        perf_samples_free(&samples);
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

static int run_worker(int fd)
{
    struct perf_wire *wire = NULL;
    struct perf_trap *trap = NULL;
    int result = perf_wire_create(&wire);
    if (result == 0) {
        result = perf_trap_create(&trap);
    }
    struct reply ready = {result, 0};
    if (perf_net_send(fd, &ready, sizeof(ready)) == 0 && result == 0) {
        result = serve(fd, wire, trap);
    }
    perf_trap_destroy(&trap);
    perf_wire_destroy(&wire);
    return result;
}

int perf_worker_start(struct perf_worker **started)
{
    int fds[2];
    struct perf_worker *worker = calloc(1, sizeof(*worker));
    if (worker == NULL) {
        return -ENOMEM;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
        free(worker);
        return -errno;
    }
    worker->fd = fds[0];
    worker->pid = fork();
    if (worker->pid == 0) {
        close(fds[0]);
        _exit(run_worker(fds[1]) == 0 ? 0 : 1);
    }
    int result = worker->pid < 0 ? -errno : 0;
    close(fds[1]);
    struct reply ready = {0};
    if (result == 0) {
        result = perf_net_receive(worker->fd, &ready, sizeof(ready), 0);
    }
    if (result == 0) {
        result = ready.result;
    }
    if (result != 0) {
        perf_worker_stop(&worker);
        return result;
    }
    *started = worker;
    return 0;
}

int perf_worker_ask(struct perf_worker *worker, const struct perf_question *question,
                    struct perf_samples *samples)
{
    struct reply reply;
    int result = perf_net_send(worker->fd, question, sizeof(*question));
    if (result == 0) {
        result = perf_net_receive(worker->fd, &reply, sizeof(reply), 0);
    }
    for (uint32_t i = 0; result == 0 && i < reply.count; i++) {
        double value;
        result = perf_net_receive(worker->fd, &value, sizeof(value), 0);
        if (result == 0) {
            result = perf_samples_add(samples, value);
        }
    }
    return result != 0 ? result : reply.result;
}

void perf_worker_stop(struct perf_worker **stopped)
{
    struct perf_worker *worker = *stopped;
    if (worker == NULL) {
        return;
    }
    close(worker->fd);
    if (worker->pid > 0) {
        waitpid(worker->pid, NULL, 0);
    }
    free(worker);
    *stopped = NULL;
}
