// SPDX-License-Identifier: Apache-2.0
//
// `dsmperf probe`: what it costs to have probes, and to be watched. A probe that nobody is attached to is passed in a loop, beside the
// same loop without it. Then random faults are timed in turn: unwatched, counted by `dsmstat hist`, unwatched again, written down by
// `dsmstat trace --all`, and unwatched once more. Watched ones are compared with those before and after them, so that a ratio is of
// one moment of one machine.
//
// dsmstat watches this process alone, by its pid, so that nothing else on the machine pays. Its first line, the heading, says that it
// has attached. It ends by SIGINT, and detaching is waited for: it takes the kernel a while.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rpc/probe.h"
#include "tools/dsmperf_target.h"

#define PERF_PROBES(X) X(dsmperf, pass, "in the loop", (u64 number), (number))
PERF_PROBES(PROBE_DEFINE)
PERF_PROBES(PROBE_DECLARE)

enum { PASSES = 20000000, UNWATCHED = 0, COUNTED, TRACED, WAYS };

struct probe_run {
    const struct perf_settings *settings;
    struct perf_target target;
    uint64_t random;
    struct perf_samples medians[WAYS], ratios[WAYS]; // one of each round
    struct perf_samples with, without;               // ns of a pass
};
struct watcher {
    pid_t pid;
    int out;
};

static double loop(bool with)
{
    double start = perf_now_us();
    for (uint64_t i = 0; i < PASSES; i++) {
        __asm__ volatile("" : : "r"(i) : "memory");
        if (with) {
            probe_pass(i);
        }
    }
    return (perf_now_us() - start) * 1000 / PASSES;
}

static _Noreturn void execute(const char *path, const char *word, const char *pid, int out)
{
    int null = open("/dev/null", O_RDWR);
    (void)dup2(null, STDIN_FILENO);
    (void)dup2(out, STDOUT_FILENO);
    execl(path, path, word, "--csv", "--all", "--pid", pid, "0.5", (char *)NULL);
    _exit(127);
}

static int start_watcher(const char *word, struct watcher *watcher, struct failure *failure)
{
    char path[512], pid[16], first;
    int ends[2];
    int error = perf_target_beside("dsmstat", path, sizeof(path));
    if (error == 0 && pipe2(ends, O_CLOEXEC) != 0) {
        error = -errno;
    }
    if (error != 0) {
        return failure_set(failure, error, "dsmstat cannot be started.");
    }
    (void)fcntl(ends[1], F_SETPIPE_SZ, 1 << 20); // the lines of a round
    (void)snprintf(pid, sizeof(pid), "%ld", (long)getpid());
    watcher->pid = fork();
    if (watcher->pid == 0) {
        execute(path, word, pid, ends[1]);
    }
    close(ends[1]);
    watcher->out = ends[0];
    if (watcher->pid < 0 || read(ends[0], &first, 1) != 1) { // the heading
        close(ends[0]);
        (void)waitpid(watcher->pid, NULL, 0);
        return failure_set(failure, -EPERM, "%s %s cannot watch this process.", path, word);
    }
    (void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
    return 0;
}

static void stop_watcher(struct watcher *watcher)
{
    char text[4096];
    (void)kill(watcher->pid, SIGINT);
    (void)fcntl(watcher->out, F_SETFL, 0);
    while (read(watcher->out, text, sizeof(text)) > 0) {
    }
    close(watcher->out);
    (void)waitpid(watcher->pid, NULL, 0);
}

// Adds the median of a block of faults.
static int touch(struct probe_run *run, double *median, struct failure *failure)
{
    struct perf_samples samples = {0};
    int result =
        perf_target_touch(&run->target, &run->random, run->settings->samples, false, &samples);
    if (result != 0) {
        perf_target_failed(failure, "Touching pages", result);
    }
    *median = perf_percentile(&samples, 50);
    perf_samples_free(&samples);
    return result;
}

static int touch_watched(struct probe_run *run, int way, double *median, struct failure *failure)
{
    struct watcher watcher = {.pid = -1, .out = -1};
    int result = start_watcher(way == COUNTED ? "hist" : "trace", &watcher, failure);
    if (result == 0) {
        result = touch(run, median, failure);
        stop_watcher(&watcher);
    }
    return result;
}

static int add(struct probe_run *run, int way, double watched, double unwatched,
               struct failure *failure)
{
    int result = perf_samples_add(&run->medians[UNWATCHED], unwatched);
    if (result == 0) {
        result = perf_samples_add(&run->medians[way], watched);
    }
    if (result == 0) {
        result = perf_samples_add(&run->ratios[way], watched / unwatched);
    }
    return result == 0 ? 0 : failure_set(failure, result, "There is not enough memory.");
}

static int run_round(struct probe_run *run, struct failure *failure)
{
    int result = perf_samples_add(&run->without, loop(false));
    if (result == 0) {
        result = perf_samples_add(&run->with, loop(true));
    }
    double before = 0, watched = 0, after = 0;
    if (result == 0) {
        result = touch(run, &before, failure);
    }
    for (int way = COUNTED; way < WAYS && result == 0; way++) {
        result = touch_watched(run, way, &watched, failure);
        if (result == 0) {
            result = touch(run, &after, failure);
        }
        if (result == 0) {
            result = add(run, way, watched, (before + after) / 2, failure);
        }
        before = after;
    }
    return result;
}

static int report_rows(struct probe_run *run, struct perf_report *report)
{
    static const char *const ways[WAYS] = {"nobody attached", "dsmstat hist", "dsmstat trace"};
    struct perf_row row = {.test = "probe",
                           .trap = run->settings->trap_now,
                           .lanes = run->settings->lanes,
                           .waiting = perf_waiting(run->settings),
                           .unit = "ns",
                           .limit = (double)NAN};
    snprintf(row.metric, sizeof(row.metric), "a loop without a probe");
    int result = perf_report_spread(report, row, &run->without);
    row.limit = perf_percentile(&run->without, 50);
    snprintf(row.metric, sizeof(row.metric), "the loop with one, nobody attached");
    result = result == 0 ? perf_report_spread(report, row, &run->with) : result;
    row.unit = "us";
    row.limit = (double)NAN;
    for (int way = UNWATCHED; way < WAYS && result == 0; way++) {
        snprintf(row.metric, sizeof(row.metric), "p50 of a round, %s", ways[way]);
        result = perf_report_spread(report, row, &run->medians[way]);
        row.limit = perf_percentile(&run->medians[UNWATCHED], 50);
    }
    row.unit = "1";
    row.limit = (double)NAN;
    for (int way = COUNTED; way < WAYS && result == 0; way++) {
        snprintf(row.metric, sizeof(row.metric), "%s / nobody, round by round", ways[way]);
        result = perf_report_spread(report, row, &run->ratios[way]);
    }
    return result;
}

int perf_probe(const struct perf_settings *settings, struct perf_worker *worker,
               struct perf_report *report, struct failure *failure)
{
    struct probe_run run = {.settings = settings, .random = 0x9e3779b97f4a7c15};
    (void)worker;
    int result = perf_target_open(settings, &run.target, failure);
    if (result != 0) {
        return result;
    }
    // Shrinks what the sequential filling made the library read ahead.
    result = perf_target_touch(&run.target, &run.random, settings->samples, false, NULL);
    for (size_t round = 0; round < settings->rounds && result == 0; round++) {
        perf_progress("probe: rounds", round, settings->rounds);
        result = run_round(&run, failure);
    }
    if (result == 0 && (result = report_rows(&run, report)) != 0) {
        failure_set(failure, result, "There is not enough memory.");
    }
    perf_target_close(&run.target);
    for (int way = UNWATCHED; way < WAYS; way++) {
        perf_samples_free(&run.medians[way]);
        perf_samples_free(&run.ratios[way]);
    }
    perf_samples_free(&run.with);
    perf_samples_free(&run.without);
    return result;
}
