// SPDX-License-Identifier: Apache-2.0
//
// dsm_exporter: what the programs of a node that use libdsm do, for Prometheus. It reads their statistics pages, as dsmstat
// does, without a word to them, and serves sums by program and user on /metrics.
//
// It looks every --interval, and when it is asked and the last look is a second old or more. Between two looks a
// process may come, work and go unseen; one that was seen once is counted to its end, since its page outlives it
// in our hands (dsmstat_clients.c). So the interval bounds what can be missed: processes that live for less.
//
// Its first look is before it serves; what was done before that is nobody's rate (dsm_exporter_groups.c).
//
// Threads: this one looks and waits for signals; that of metrics/http.c asks. The lock guards all of struct exporter but what
// is never changed. It is held over a look, which reads /proc and takes milliseconds.
//
// Exit codes: 0 ended by SIGTERM or SIGINT, 1 it cannot serve, 2 used wrongly.
#include <argp.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "metrics/http.h"
#include "server/ready.h"
#include "tools/dsm_exporter.h"

// argp in libc looks for this name, so it must be seen from there.
__attribute__((visibility("default"))) const char *argp_program_version =
    "dsm_exporter " DSM_VERSION;

enum { LIMIT_DEFAULT = 256, LIMIT_MOST = 512, INTERVAL_DEFAULT_S = 5, INTERVAL_MOST_S = 3600 };
static const uint64_t look_fresh_ns = 1000000000;

struct exporter {
    const char *address;
    unsigned interval_s;
    bool list;
    pthread_mutex_t lock;
    struct stat_sample sample;
    struct exporter_groups groups;
    struct exporter_facts facts;
};

static const struct argp_option option_list[] = {
    {"listen", 'l', "[HOST:]PORT", 0,
     "Serve /metrics here; a port alone: on 127.0.0.1. Default: 7414", 0},
    {"interval", 'i', "SECONDS", 0,
     "Look at all processes at least so often, so as not to miss those that live longer. Default: "
     "5",
     0},
    {"by-process", 'p', NULL, 0, "A group for each process, with its pid as a label", 0},
    {"limit", 'n', "N", 0, "Groups with series of their own, at most. Default: 256", 0},
    {"list", 'L', NULL, 0, "Print name, type, labels and meaning of what is served, and end", 0},
    {0}};

static unsigned long parse_number(const char *text, const char *what, unsigned long most,
                                  struct argp_state *state)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || number < 1 || number > most) {
        argp_error(state, "%s is \"%s\": it must be a whole number from 1 to %lu", what, text,
                   most);
    }
    return number;
}

static error_t parse(int key, char *argument, struct argp_state *state)
{
    struct exporter *exporter = state->input;
    switch (key) {
    case 'l':
        exporter->address = argument;
        return 0;
    case 'i':
        exporter->interval_s =
            (unsigned)parse_number(argument, "--interval", INTERVAL_MOST_S, state);
        return 0;
    case 'p':
        exporter->groups.by_process = true;
        return 0;
    case 'n':
        exporter->groups.limit = parse_number(argument, "--limit", LIMIT_MOST, state);
        return 0;
    case 'L':
        exporter->list = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "\"%s\" is one argument too many", argument);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void say(const char *text, const char *detail)
{
    (void)fprintf(stderr, "dsm_exporter: %s%s\n", text, detail);
}

// What reading other users' pages takes: to look into their /proc/PID/fd, and to open what is found there.
static bool sees_all(void)
{
    enum { DAC_OVERRIDE = 1, DAC_READ_SEARCH = 2, SYS_PTRACE = 19 };
    char line[256];
    unsigned long long has = 0;
    FILE *file = fopen("/proc/self/status", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "CapEff:", 7) == 0) {
            has = strtoull(line + 7, NULL, 16);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return (has >> SYS_PTRACE & 1) != 0 &&
           ((has >> DAC_OVERRIDE & 1) != 0 || (has >> DAC_READ_SEARCH & 1) != 0);
}

static int look_locked(struct exporter *exporter, struct failure *failure)
{
    bool first = exporter->facts.looks == 0;
    uint64_t begin_ns = stat_now_ns();
    int error = stat_sample_take(&exporter->sample, 0, failure);
    if (error == 0) {
        exporter_count(&exporter->groups, &exporter->sample, first);
        exporter->facts.looks++;
        exporter->facts.look_seconds = (double)(stat_now_ns() - begin_ns) / 1e9;
    }
    return error;
}

static int look(struct exporter *exporter, struct failure *failure)
{
    (void)pthread_mutex_lock(&exporter->lock);
    int error = look_locked(exporter, failure);
    (void)pthread_mutex_unlock(&exporter->lock);
    return error;
}

static void render(void *context, struct metrics_text *text)
{
    struct exporter *exporter = context;
    (void)pthread_mutex_lock(&exporter->lock);
    if (stat_now_ns() - exporter->sample.now_ns >= look_fresh_ns) {
        (void)look_locked(exporter, NULL); // else the numbers are those of before
    }
    exporter_say(text, &exporter->groups, &exporter->facts);
    (void)pthread_mutex_unlock(&exporter->lock);
}

static void wait_for_signals(struct exporter *exporter, const sigset_t *signals)
{
    struct failure failure = {""};
    for (;;) {
        const struct timespec interval = {.tv_sec = exporter->interval_s};
        int got = sigtimedwait(signals, NULL, &interval);
        if (got > 0) {
            return;
        }
        if (look(exporter, &failure) != 0) {
            say("", failure.text);
        }
    }
}

static void prepare(sigset_t *signals)
{
    struct rlimit descriptors; // each program that is seen takes one
    (void)sigemptyset(signals);
    (void)sigaddset(signals, SIGTERM);
    (void)sigaddset(signals, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0) {
        descriptors.rlim_cur = descriptors.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &descriptors);
    }
}

static void say_start(const struct exporter *exporter, const struct metrics_http *http)
{
    bool local;
    const char *address = metrics_http_address(http, &local);
    if (!exporter->facts.sees_all) {
        say("sees this user's programs alone; all of them takes CAP_SYS_PTRACE and "
            "CAP_DAC_READ_SEARCH",
            "");
    }
    if (!local) {
        say("warning: /metrics asks nobody who he is, and can be reached from other machines: ",
            address);
    }
    say("serves /metrics on ", address);
    ready_say(0, 0);
}

static int serve(struct exporter *exporter, struct failure *failure)
{
    struct metrics_http *http = NULL;
    sigset_t signals;
    const struct metrics_http_options options = {.address = exporter->address,
                                                 .prefix = "dsm_exporter",
                                                 .render = render,
                                                 .context = exporter};
    prepare(&signals);
    exporter->facts.sees_all = sees_all();
    int error = look(exporter, failure);
    error = error == 0 ? metrics_http_create(&options, &http, failure) : error;
    error = error == 0 ? metrics_http_start(http, failure) : error;
    if (error == 0) {
        say_start(exporter, http);
        wait_for_signals(exporter, &signals);
        ready_stopping();
    }
    metrics_http_destroy(&http);
    return error;
}

int main(int argc, char **argv)
{
    const struct argp argp = {
        .options = option_list,
        .parser = parse,
        .doc = "Serves to Prometheus what the programs of this node do whose memory lies on a "
               "memory server: those of this user; of everybody where it may look.",
    };
    struct exporter exporter = {.address = "7414",
                                .interval_s = INTERVAL_DEFAULT_S,
                                .lock = PTHREAD_MUTEX_INITIALIZER,
                                .groups = {.limit = LIMIT_DEFAULT}};
    struct failure failure = {""};
    argp_err_exit_status = DSMSTAT_USAGE;
    if (argp_parse(&argp, argc, argv, 0, NULL, &exporter) != 0) {
        return DSMSTAT_USAGE;
    }
    if (exporter.list) {
        exporter_list(stdout);
        return fflush(stdout) == 0 ? DSMSTAT_DONE : DSMSTAT_FAILED;
    }
    int error = serve(&exporter, &failure);
    if (error != 0) {
        say("", failure.text);
        ready_failed(error, failure.text);
    }
    exporter_groups_end(&exporter.groups);
    stat_sample_end(&exporter.sample);
    return error == 0 ? DSMSTAT_DONE : DSMSTAT_FAILED;
}
