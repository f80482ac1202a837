// SPDX-License-Identifier: Apache-2.0
//
// dsmstat [INTERVAL [COUNT]]: what programs that use the library are doing, from their statistics pages, without a word to
// them; dsmstat server: the same of a dsmd; dsmstat hist and the other words: more of them, by probes. Like vmstat: without INTERVAL one sample since the start; with it a sample each
// INTERVAL seconds, the first since the start.
//
// Samples are taken at fixed times, so a late one does not make all later ones late.
//
// Exit codes: 0 done, 1 the process or the server that was named is not there or refuses, 2 used wrongly. That nobody uses the
// library just now is no failure. A process that was named by -p and ends while it is watched ends the command in order.
#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "rpc/noise.h"
#include "tools/dsmstat_watch.h"

// argp in libc looks for this name, so it must be seen from there.
__attribute__((visibility("default"))) const char *argp_program_version = "dsmstat " DSM_VERSION;

enum { NS_PER_S = 1000000000, OPTION_LIBRARY = 256, OPTION_SEGMENT, OPTION_SERVER };

static const struct subject { // the first word
    const char *word;
    bool watches; // by probes
    int (*run)(const struct stat_options *options);
} subjects[] = {{"server", false, stat_server}, // the first: check()
                {"hist", true, watch_hist},
                {"why", true, watch_why},
                {"heat", true, watch_heat},
                {"trace", true, watch_trace}};

struct arguments {
    struct stat_options options;
    const struct subject *subject; // NULL: the counters of programs
    unsigned numbers;
};

static const struct argp_option option_list[] = {
    {"pid", 'p', "PID", 0, "Only this process; ends when it ends", 0},
    {"total", 't', NULL, 0, "One line for all processes together", 0},
    {"all", 'a', NULL, 0, "Every counter with its meaning", 0},
    {"json", 'j', NULL, 0, "Print a JSON object per sample, with the counters themselves", 0},
    {"csv", 'c', NULL, 0, "Print comma-separated values, with the counters themselves", 0},
    {"library", OPTION_LIBRARY, "FILE", 0, "Attach to this file, too, before a program uses it", 0},
    {"segment", OPTION_SEGMENT, "NAME", 0, "Only this segment, or #NUMBER", 0},
    {"server", OPTION_SERVER, "SERVER", 0, "Only this server: HOST:PORT, or its number", 0},
    {0}};

static double parse_interval(const char *text, struct argp_state *state)
{
    char *end;
    double seconds = strtod(text, &end);
    if (*end != '\0' || end == text || !isfinite(seconds) || seconds < 0.01 || seconds > 1e6) {
        argp_error(state, "the interval is \"%s\": it must be seconds, 0.01 or more", text);
    }
    return seconds;
}

static uint64_t parse_whole(const char *text, const char *what, uint64_t most,
                            struct argp_state *state)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || number < 1 ||
        number > most) {
        argp_error(state, "%s is \"%s\": it must be a whole number, 1 or more", what, text);
    }
    return number;
}

static const struct subject *find_subject(const char *word)
{
    for (size_t i = 0; i < sizeof subjects / sizeof subjects[0]; i++) {
        if (strcmp(word, subjects[i].word) == 0) {
            return &subjects[i];
        }
    }
    return NULL;
}

static void parse_word(struct arguments *arguments, char *word, struct argp_state *state)
{
    struct stat_options *options = &arguments->options;
    const struct subject *subject = state->arg_num == 0 ? find_subject(word) : NULL;
    if (subject != NULL) {
        arguments->subject = subject;
    } else if (arguments->subject == &subjects[0] && state->arg_num == 1 &&
               strchr(word, ':') != NULL) {
        options->server = word;
    } else if (arguments->numbers == 0) {
        options->interval_s = parse_interval(word, state);
        options->count = UINT64_MAX;
        arguments->numbers++;
    } else if (arguments->numbers == 1) {
        options->count = parse_whole(word, "the count", UINT64_MAX - 1, state);
        arguments->numbers++;
    } else {
        argp_error(state, "\"%s\" is one argument too many", word);
    }
}

static void check(const struct arguments *arguments, struct argp_state *state)
{
    const struct stat_options *options = &arguments->options;
    bool watches = arguments->subject != NULL && arguments->subject->watches;
    bool server = arguments->subject != NULL && !watches;
    if (server && (options->pid != 0 || options->total || options->all)) {
        argp_error(state, "--pid, --total and --all are about processes, not about a server");
    }
    if (watches && options->total) {
        argp_error(state, "--total is for counters: %s shows the sum anyway",
                   arguments->subject->word);
    }
    if (!watches && (options->segment != NULL || options->library_file != NULL ||
                     (!server && options->server != NULL))) {
        argp_error(state, "--segment, --server and --library are for hist, heat, why and trace");
    }
    if (options->pid != 0 && options->total) {
        argp_error(state, "--pid and --total exclude each other");
    }
    if (!watches && options->all && options->format != STAT_TEXT) {
        argp_error(state, "--json and --csv print every counter anyway");
    }
}

static void choose_format(struct stat_options *options, enum stat_format format,
                          struct argp_state *state)
{
    if (options->format != STAT_TEXT && options->format != format) {
        argp_error(state, "--json and --csv exclude each other");
    }
    options->format = format;
}

static error_t parse(int key, char *argument, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case 'p':
        arguments->options.pid = (pid_t)parse_whole(argument, "--pid", INT32_MAX, state);
        return 0;
    case 't':
        arguments->options.total = true;
        return 0;
    case 'a':
        arguments->options.all = true;
        return 0;
    case 'j':
        choose_format(&arguments->options, STAT_JSON, state);
        return 0;
    case 'c':
        choose_format(&arguments->options, STAT_CSV, state);
        return 0;
    case OPTION_LIBRARY:
        arguments->options.library_file = argument;
        return 0;
    case OPTION_SEGMENT:
        arguments->options.segment = argument;
        return 0;
    case OPTION_SERVER:
        arguments->options.server = argument;
        return 0;
    case ARGP_KEY_ARG:
        parse_word(arguments, argument, state);
        return 0;
    case ARGP_KEY_END:
        check(arguments, state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

void stat_complain(const struct failure *failure)
{
    (void)fprintf(stderr, "dsmstat: %s\n", failure->text);
}

void stat_wait(const struct stat_options *options, uint64_t start_ns, uint64_t number)
{
    uint64_t at = start_ns + (uint64_t)((double)number * options->interval_s * NS_PER_S);
    struct timespec until = {.tv_sec = (time_t)(at / NS_PER_S), .tv_nsec = (long)(at % NS_PER_S)};
    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static void say_when_nobody(const struct stat_sample *sample)
{
    if (sample->clients == NULL && sample->interval_s == 0) {
        struct failure nobody;
        (void)failure_set(&nobody, 0, "No process that you may look at has a session open.");
        stat_complain(&nobody);
    }
}

int stat_clients(const struct stat_options *options)
{
    struct stat_printer printer = {.options = options};
    struct stat_sample sample = {0};
    struct failure failure = {""};
    uint64_t start_ns = stat_now_ns();
    int error = 0;
    for (uint64_t i = 0; i < options->count; i++) {
        error = stat_sample_take(&sample, options->pid, &failure);
        if (error != 0) {
            break;
        }
        say_when_nobody(&sample);
        if (stat_print(&printer, &sample) != 0) {
            error =
                failure_set(&failure, -EIO, "The output cannot be written: %s.", strerror(errno));
            break;
        }
        bool over = options->pid != 0 && sample.clients->ended;
        if (over || i + 1 == options->count) {
            break;
        }
        stat_wait(options, start_ns, i + 1);
    }
    stat_sample_end(&sample);
    if (error != 0) {
        stat_complain(&failure);
    }
    return error == 0 ? DSMSTAT_DONE : DSMSTAT_FAILED;
}

int main(int argc, char **argv)
{
    const struct argp argp = {
        .options = option_list,
        .parser = parse,
        .args_doc = "[INTERVAL [COUNT]]\nserver [HOST:PORT] [INTERVAL [COUNT]]\n"
                    "hist|heat|why|trace [INTERVAL [COUNT]]",
        .doc = "Shows what programs whose memory lies on a memory server are doing (those of this "
               "user; of everybody when root), or what a server is doing. Without INTERVAL (in "
               "seconds) once, since the start; else again and again, the first time since the "
               "start.\v"
               "FLT faults on pages that were not in, SOFT on pages that were in but closed, WAIT "
               "on pages that were on their way; PGIN pages read, PG/RUN so many at a time; CLEAN "
               "pages written; DIRTY victims that had to be written first; RESID memory in use "
               "for pages, of at most CACHE. On a narrow terminal some columns are left out. "
               "A server is asked with the keys of DSM_SERVER_KEY and DSM_KEY_FILE, and is that "
               "of DSM_SERVER where none is named.",
    };
    struct arguments arguments = {.options = {.count = 1}};
    argp_err_exit_status = DSMSTAT_USAGE;
    if (argp_parse(&argp, argc, argv, 0, NULL, &arguments) != 0) {
        return DSMSTAT_USAGE;
    }
    if (noise_init() != 0) {
        (void)fprintf(stderr, "dsmstat: the random source or the crypto library does not work\n");
        return DSMSTAT_FAILED;
    }
    return arguments.subject != NULL ? arguments.subject->run(&arguments.options)
                                     : stat_clients(&arguments.options);
}
