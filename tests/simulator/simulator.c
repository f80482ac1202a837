// SPDX-License-Identifier: Apache-2.0
//
// simulator [--seeds COUNT] [--first SEED]     a run of each seed, in processes of their own
// simulator --seed SEED                        that one again, with what happened in it
// simulator --exactly-once OPERATIONS [--seed SEED]
// simulator --late-writers ROUNDS [--seed SEED]
// With --capture DIRECTORY: messages of a run become seeds for fuzzing there.
//
// The product's client and server in one process, without a network and without waiting: see virtual_time.h and network.h.
// Exit code 0: every run held; 1: one did not, and which, and why, is on standard error.
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/simulator/capture.h"
#include "tests/simulator/network.h"
#include "tests/simulator/program.h"
#include "tests/simulator/runs.h"
#include "tests/simulator/virtual_time.h"

enum { CPU_SECONDS = 120 }; // after which a run goes in circles

struct run_totals run_totals;
uint64_t run_amount;

static void settings(void)
{
    (void)setenv("DSM_CONFIG", "", 1);
    (void)setenv("DSM_SERVER", "server:1", 1);
    (void)setenv("DSM_STAT", "off", 1);
    (void)setenv("DSM_TRAP", "mprotect",
                 1); // the other one has a thread whose descriptors are its own
}

static void add_totals(struct run_totals *sum)
{
    int64_t begun = 1000;
    sum->seconds += (uint64_t)(vt_now() / 1000000000 - begun);
    sum->operations += run_totals.operations;
    sum->refused_late += run_totals.refused_late;
    sum->faults_timed_out += program_totals.faults_timed_out;
    sum->fenced += program_totals.fenced;
    sum->lost += program_totals.lost;
    sum->messages += network_totals.messages;
    sum->cut += network_totals.cut;
    sum->unanswered += network_totals.lost;
    sum->late += network_totals.late;
    sum->spoiled += network_totals.spoiled;
    sum->repeated += network_totals.repeated;
    sum->connections += network_totals.connections;
    sum->no_memory += network_totals.no_memory;
}

static _Noreturn void child(uint64_t seed, void (*body)(void), struct run_totals *sum)
{
    const struct rlimit limit = {CPU_SECONDS, CPU_SECONDS};
    (void)setrlimit(RLIMIT_CPU, &limit);
    settings();
    vt_start(seed);
    vt_run(body);
    add_totals(sum);
    _exit(0);
}

// False: the run did not hold.
static bool run(uint64_t seed, void (*body)(void), struct run_totals *sum)
{
    (void)snprintf(sim_server.directory, sizeof sim_server.directory, "/dev/shm/dsm-simulator.%d",
                   (int)getpid());
    server_remove();
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        child(seed, body, sum);
    }
    int status = -1;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    server_remove();
    if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return true;
    }
    if (WIFSIGNALED(status)) {
        (void)fprintf(stderr, "seed %" PRIu64 ": %s\n", seed, strsignal(WTERMSIG(status)));
    }
    return false;
}

static void show(const struct run_totals *t, uint64_t runs)
{
    (void)printf("%" PRIu64 " runs, %" PRIu64 " operations in %" PRIu64 " simulated seconds\n",
                 runs, t->operations, t->seconds);
    (void)printf("%" PRIu64 " messages on %" PRIu64 " connections: %" PRIu64 " cut, %" PRIu64
                 " never answered, %" PRIu64 " late, %" PRIu64 " spoiled, %" PRIu64 " doubled\n",
                 t->messages, t->connections, t->cut, t->unanswered, t->late, t->spoiled,
                 t->repeated);
    (void)printf("%" PRIu64 " faults timed out, segments taken from the program %" PRIu64
                 " times, lost %" PRIu64 " times, %" PRIu64 " late writes refused, %" PRIu64
                 " allocations failed\n",
                 t->faults_timed_out, t->fenced, t->lost, t->refused_late, t->no_memory);
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 10);
    if (*text == '\0' || *end != '\0') {
        (void)fprintf(stderr, "simulator: '%s' is not a number.\n", text);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"seeds", 1, NULL, 'n'},
                                            {"first", 1, NULL, 'f'},
                                            {"seed", 1, NULL, 's'},
                                            {"exactly-once", 1, NULL, 'e'},
                                            {"late-writers", 1, NULL, 'l'},
                                            {"capture", 1, NULL, 'c'},
                                            {NULL, 0, NULL, 0}};
    uint64_t seeds = 1, first = 1, failed = 0;
    void (*body)(void) = run_weather;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'n':
            seeds = number(optarg);
            break;
        case 'f':
        case 's':
            first = number(optarg);
            break;
        case 'c':
            capture_directory = optarg;
            break;
        case 'e':
        case 'l':
            run_amount = number(optarg);
            body = option == 'e' ? run_exactly_once : run_late_writers;
            break;
        default:
            return 2;
        }
    }
    struct run_totals *sum =
        mmap(NULL, sizeof *sum, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sum == MAP_FAILED) {
        return 2;
    }
    for (uint64_t i = 0; i < seeds && failed < 3; i++) {
        failed += !run(first + i, body, sum);
    }
    show(sum, seeds);
    if (failed > 0) {
        (void)fprintf(stderr, "%" PRIu64 " runs failed; each repeats exactly: %s --seed SEED\n",
                      failed, argv[0]);
    }
    return failed > 0;
}
