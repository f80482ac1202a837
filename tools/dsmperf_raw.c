// SPDX-License-Identifier: Apache-2.0
//
// The raw limit of faults at once. Each thread has a part of its process' region, a cache of an eighth of it (first in,
// first out), and a connection. A touch of an absent page is a signal in the thread that touched; its handler seals a request, sends
// it, waits as it was told, opens the answer, takes the oldest page out and puts the new one in. That is all that libdsm
// must do; whatever else it does is its own.
//
// The other end is one process, forked first, with a thread for each connection. Keys are made before any fork, in pairs: a
// connection says its number in its first bytes.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rpc/noise.h"
#include "rpc/wire.h"
#include "tools/dsmperf_crowd.h"
#include "tools/dsmperf_keeper.h"
#include "tools/dsmperf_net.h"

enum {
    PAGE_SEALED = PERF_PAGE_BYTES + LIMIT_SEAL_BYTES,
    ANSWER_BYTES = WIRE_HEADER_SEALED_BYTES + PAGE_SEALED,
    STACK_BYTES = 256 << 10,
};

struct pair { // of one connection
    struct noise_cipher *up_seal, *up_open, *down_seal, *down_open;
};
struct perf_raw {
    const struct perf_settings *settings;
    uint32_t processes, threads, pages, spin_us;
    uint16_t port;
    int listener;
    pid_t pid;
    struct pair *pairs;
};

struct part { // a thread's
    struct pair *pair;
    int fd;
    uint32_t first, cached, oldest;
    uint32_t *ring;
    uint8_t answer[ANSWER_BYTES], page[PERF_PAGE_BYTES];
};
struct side { // a process'
    struct perf_raw *raw;
    struct perf_region region;
    struct part *parts;
};

// ---- the end that answers ----

struct answering {
    struct perf_raw *raw;
    int fd;
};

static int answer(const struct answering *a, struct pair *pair, const uint8_t *page)
{
    uint8_t request[WIRE_HEADER_SEALED_BYTES];
    uint8_t header[WIRE_HEADER_BYTES] = {0};
    uint8_t sealed[ANSWER_BYTES];
    int result = perf_net_receive(a->fd, request, sizeof(request), a->raw->spin_us);
    if (result == 0) {
        result = noise_open(pair->up_open, request, sizeof(request), header);
    }
    if (result == 0) {
        result = noise_seal(pair->down_seal, header, sizeof(header), sealed);
    }
    if (result == 0) {
        result =
            noise_seal(pair->down_seal, page, PERF_PAGE_BYTES, sealed + WIRE_HEADER_SEALED_BYTES);
    }
    return result == 0 ? perf_net_send(a->fd, sealed, sizeof(sealed)) : result;
}

static void *answer_all(void *argument)
{
    struct answering *a = argument;
    uint8_t page[PERF_PAGE_BYTES];
    uint32_t number = 0;
    memset(page, 0x5a, sizeof(page));
    int result = perf_net_receive(a->fd, &number, sizeof(number), 0);
    while (result == 0) {
        result = answer(a, &a->raw->pairs[number], page);
    }
    close(a->fd);
    free(a);
    return NULL;
}

static _Noreturn void serve(struct perf_raw *raw, pid_t parent)
{
    pthread_attr_t attributes;
    perf_end_with(parent);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    for (;;) {
        pthread_t thread;
        struct answering *a = malloc(sizeof(*a));
        if (a == NULL) {
            _exit(2);
        }
        *a = (struct answering){raw, perf_net_accept(raw->listener)};
        perf_must(a->fd >= 0 && pthread_create(&thread, &attributes, answer_all, a) == 0);
    }
}

// ---- the end that touches ----

static struct side *active; // the handler's
static __thread struct part *volatile mine __attribute__((tls_model("initial-exec")));

static void fetch(struct part *part, uint32_t spin_us)
{
    uint8_t header[WIRE_HEADER_BYTES] = {0};
    uint8_t request[WIRE_HEADER_SEALED_BYTES];
    perf_must(noise_seal(part->pair->up_seal, header, sizeof(header), request) == 0);
    perf_must(perf_net_send(part->fd, request, sizeof(request)) == 0);
    perf_must(perf_net_receive(part->fd, part->answer, ANSWER_BYTES, spin_us) == 0);
    perf_must(noise_open(part->pair->down_open, part->answer, WIRE_HEADER_SEALED_BYTES, header) ==
              0);
    perf_must(noise_open(part->pair->down_open, part->answer + WIRE_HEADER_SEALED_BYTES,
                         PAGE_SEALED, part->page) == 0);
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)context;
    uint32_t page;
    int saved = errno;
    struct part *part = mine;
    if (part == NULL || !perf_region_page(&active->region, info->si_addr, &page)) {
        signal(number, SIG_DFL); // not ours: let it happen again without us
        return;
    }
    uint32_t most = active->raw->pages / 8;
    fetch(part, active->raw->spin_us);
    if (part->cached == most) {
        perf_region_evict(&active->region, part->ring[part->oldest]);
    }
    part->cached += part->cached < most;
    perf_region_show(&active->region, active->raw->settings->fill, page, part->page, false);
    part->ring[part->oldest] = page;
    part->oldest = (part->oldest + 1) % most;
    errno = saved;
}

static int raw_step(void *state, uint32_t thread, uint64_t *random)
{
    struct side *side = state;
    mine = &side->parts[thread];
    uint32_t page = mine->first + (uint32_t)(perf_random(random) >> 32) % side->raw->pages;
    (void)*(volatile uint8_t *)(side->region.view + page * side->region.page_bytes);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return 0;
}

static int open_part(struct side *side, uint32_t thread, uint32_t number)
{
    struct part *part = &side->parts[thread];
    part->pair = &side->raw->pairs[number];
    part->first = thread * side->raw->pages;
    part->ring = calloc(side->raw->pages / 8, sizeof(*part->ring));
    part->fd = perf_net_connect(side->raw->port);
    if (part->ring == NULL || part->fd < 0) {
        return part->ring == NULL ? -ENOMEM : part->fd;
    }
    return perf_net_send(part->fd, &number, sizeof(number));
}

// Every cache is full before the first round.
static void fill_caches(struct side *side)
{
    for (uint32_t thread = 0; thread < side->raw->threads; thread++) {
        mine = &side->parts[thread];
        for (uint32_t i = 0; i < side->raw->pages / 8; i++) {
            size_t at = (mine->first + i) * side->region.page_bytes;
            (void)*(volatile uint8_t *)(side->region.view + at);
        }
    }
    mine = NULL;
}

static int raw_open(void *context, uint32_t process, uint32_t threads, void **state,
                    struct failure *failure)
{
    struct perf_raw *raw = context;
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    struct side *side = calloc(1, sizeof(*side));
    int error =
        side == NULL || (side->parts = calloc(threads, sizeof(*side->parts))) == NULL
            ? -ENOMEM
            : perf_region_create(&side->region, raw->settings->trap_kind, raw->pages * threads);
    if (error != 0) {
        free(side == NULL ? NULL : side->parts);
        free(side);
        return failure_set(failure, error, "The region of a raw limit could not be made.");
    }
    *state = active = side;
    side->raw = raw;
    sigfillset(&action.sa_mask);
    error = sigaction(side->region.signal, &action, NULL) == 0 ? 0 : -errno;
    for (uint32_t i = 0; i < threads && error == 0; i++) {
        error = open_part(side, i, process * threads + i);
    }
    if (error == 0) {
        fill_caches(side);
    }
    return error == 0 ? 0 : failure_set(failure, error, "A raw limit could not connect.");
}

static void raw_close(void *state)
{
    (void)state; // its process ends
}

struct perf_body perf_raw_body(struct perf_raw *raw)
{
    return (struct perf_body){raw, raw_open, raw_step, raw_close};
}

int perf_raw_start(const struct perf_settings *settings, uint32_t processes, uint32_t threads,
                   uint32_t pages, uint32_t spin_us, struct perf_raw **started)
{
    uint32_t count = processes * threads;
    pid_t parent = getpid();
    struct perf_raw *raw = calloc(1, sizeof(*raw));
    if (raw == NULL || (raw->pairs = calloc(count, sizeof(*raw->pairs))) == NULL) {
        free(raw);
        return -ENOMEM;
    }
    raw->settings = settings;
    raw->processes = processes;
    raw->threads = threads;
    raw->pages = pages;
    raw->spin_us = spin_us;
    raw->pid = -1;
    raw->listener = perf_net_listen(&raw->port);
    int error = raw->listener < 0 ? raw->listener : 0;
    for (uint32_t i = 0; i < count && error == 0; i++) {
        struct pair *pair = &raw->pairs[i];
        error = perf_cipher_pair(perf_cipher_suite(), &pair->up_seal, &pair->up_open);
        if (error == 0) {
            error = perf_cipher_pair(perf_cipher_suite(), &pair->down_seal, &pair->down_open);
        }
    }
    if (error == 0) {
        raw->pid = fork();
        error = raw->pid < 0 ? -errno : 0;
    }
    if (raw->pid == 0) {
        serve(raw, parent);
    }
    if (error != 0) {
        perf_raw_stop(&raw);
        return error;
    }
    *started = raw;
    return 0;
}

void perf_raw_stop(struct perf_raw **stopped)
{
    struct perf_raw *raw = *stopped;
    if (raw == NULL) {
        return;
    }
    if (raw->pid > 0) {
        kill(raw->pid, SIGKILL);
        (void)waitpid(raw->pid, NULL, 0);
    }
    if (raw->listener >= 0) {
        close(raw->listener);
    }
    for (uint32_t i = 0; i < raw->processes * raw->threads; i++) {
        noise_cipher_destroy(&raw->pairs[i].up_seal);
        noise_cipher_destroy(&raw->pairs[i].up_open);
        noise_cipher_destroy(&raw->pairs[i].down_seal);
        noise_cipher_destroy(&raw->pairs[i].down_open);
    }
    free(raw->pairs);
    free(raw);
    *stopped = NULL;
}
