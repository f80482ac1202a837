// SPDX-License-Identifier: Apache-2.0
//
// dsmperf: how fast this machine moves pages, beside how fast it could. A figure alone says little, since machines are
// shared and noisy; so every subcommand measures the raw limit in the same run, in turn with the product (A B A B), with
// the cache full, and prints the ratio.
//
//   limit    the raw limits alone: TCP, cipher, and the trap's cycle of fill and evict; needs no server
//   fault    random touches of absent pages, against the sum of the limits that such a touch must pay
//   scan     a sequential scan of a cold segment, against a sealed TCP stream
//   clean    write-back of a cache full of changed pages, against sealed uploads
//   threads  random touches by many threads, against as many raw ones; clients: the same by many processes
//   apps     whole programs with less and less local memory, beside the kernel's swap
//   probe    what the library's probes cost, with nobody attached and with dsmstat
//
// This file only reads options and the environment, starts the limits' worker (before anything makes a thread),
// and prints. DSM_TRAP, DSM_FILL and DSM_FAULT_LANES are set to what the output says where they were unset, so that the
// output cannot speak of another setting than the library's.
#include "tools/dsmperf.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/noise.h"

static const struct subcommand {
    const char *name;
    int (*run)(const struct perf_settings *, struct perf_worker *, struct perf_report *,
               struct failure *);
} subcommands[] = {{"limit", perf_limit}, {"fault", perf_fault},     {"scan", perf_scan},
                   {"clean", perf_clean}, {"threads", perf_threads}, {"clients", perf_clients},
                   {"apps", perf_apps},   {"probe", perf_probe}};

__attribute__((visibility("default"))) const char *argp_program_version = "dsmperf 0.1.0";
static const char documentation[] =
    "Measures remote memory beside the raw limit of the same run.\v"
    "  limit     raw limits: TCP round trips, cipher, the trap's fill and evict\n"
    "  fault     random page faults with the cache full, at 1/8 of the segment\n"
    "  scan      sequential scan of a cold segment\n"
    "  clean     write-back of a cache full of changed pages\n"
    "  threads   random touches by 1 to 16 threads\n"
    "  clients   the same by 1 to 256 processes\n"
    "  apps      programs with less and less local memory, beside the kernel's swap\n"
    "  probe     random page faults watched by dsmstat, against unwatched ones (as root)\n\n"
    "The ratio is value / limit: for times, 1 is perfect and more is worse; for rates, less is "
    "worse. All but limit use the server of DSM_SERVER, or start a dsmd of their own when that is "
    "unset or --dsmd is given.\n\n"
    "Environment: DSM_TRAP=mprotect|uffd|auto, DSM_FAULT_LANES=sock|grpc, "
    "DSM_FILL=alias|pwrite, DSM_SPIN=auto|off|on, and DSM_SERVER, DSM_SERVER_KEY, "
    "DSM_KEY_FILE, ... as for every program that uses libdsm.";

enum {
    OPTION_JSON = 256,
    OPTION_DSMD,
    OPTION_WRITE,
    OPTION_TRAP,
    OPTION_SPIN,
    OPTION_DISK,
    OPTION_DISK_SIZE,
    OPTION_PLOT,
    OPTION_MOST,
    OPTION_WINDOW,
    OPTION_APPS,
    OPTION_LOCAL,
    OPTION_HINTS,
    OPTION_PROGRAMS
};
static const struct argp_option options[] = {
    {"json", OPTION_JSON, NULL, 0, "Print an array of objects", 0},
    {"rounds", 'r', "N", 0, "Rounds, at least 5 (default 7)", 0},
    {"samples", 'n', "N", 0, "Samples of a metric in a round (default 2000)", 0},
    {"size", 's', "MIB", 0, "Size of the segment in MiB (default 256)", 0},
    {"write", OPTION_WRITE, NULL, 0, "fault: stores, with changed pages as victims", 0},
    {"apps", OPTION_APPS, "LIST", 0, "apps: which (default gups,stream,bfs,pagerank,sort)", 0},
    {"local", OPTION_LOCAL, "LIST", 0, "apps: percentages (default 100,75,50,25,12.5)", 0},
    {"hints", OPTION_HINTS, NULL, 0, "apps: stream and pagerank, which say what comes", 0},
    {"programs", OPTION_PROGRAMS, "DIRECTORY", 0, "apps: where they are (default: beside dsmperf)",
     0},
    {"most", OPTION_MOST, "N", 0, "threads, clients: the last step (default 16, 256)", 0},
    {"window", OPTION_WINDOW, "MS", 0, "threads, clients: for which all touch (default 300)", 0},
    {"trap", OPTION_TRAP, "KIND", 0, "mprotect, uffd or auto (default: DSM_TRAP, or auto)", 0},
    {"spin", OPTION_SPIN, "WHEN", 0, "auto, off or on, at both ends (default: DSM_SPIN)", 0},
    {"disk", OPTION_DISK, "PATH", 0,
     "fault: a directory on the local disk, or a file or device to be read; apps: a directory "
     "(default: TMPDIR, or /var/tmp)",
     0},
    {"disk-size", OPTION_DISK_SIZE, "MIB", 0,
     "fault: of the file that is made there (default 1024)", 0},
    {"plot", OPTION_PLOT, "FILE", 0, "fault, apps: draw the results as SVG", 0},
    {"dsmd", OPTION_DSMD, "PATH", 0, "Start this dsmd (default: the one beside dsmperf)", 0},
    {0}};

struct arguments {
    struct perf_settings settings;
    const struct subcommand *subcommand;
};

static uint64_t parse_count(struct argp_state *state, const char *text, uint64_t least,
                            uint64_t most)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < least || value > most) {
        argp_error(state, "'%s' is not a number from %llu to %llu", text, (unsigned long long)least,
                   (unsigned long long)most);
    }
    return value;
}

static void parse_subcommand(struct argp_state *state, struct arguments *arguments,
                             const char *name)
{
    if (arguments->subcommand != NULL) {
        argp_error(state, "one subcommand only");
    }
    for (size_t i = 0; i < sizeof(subcommands) / sizeof(subcommands[0]); i++) {
        if (strcmp(name, subcommands[i].name) == 0) {
            arguments->subcommand = &subcommands[i];
            return;
        }
    }
    argp_error(state, "'%s' is none of limit, fault, scan, clean, threads, clients, apps, probe",
               name);
}

// Of three words, for the library to read.
static void parse_word(struct argp_state *state, const char *variable, const char *word,
                       const char *first, const char *second, const char *third)
{
    if (strcmp(word, first) != 0 && strcmp(word, second) != 0 && strcmp(word, third) != 0) {
        argp_error(state, "'%s' is none of %s, %s, %s", word, first, second, third);
    }
    if (setenv(variable, word, 1) != 0) {
        argp_failure(state, 2, errno, "%s cannot be set", variable);
    }
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    struct perf_settings *settings = &arguments->settings;
    switch (key) {
    case OPTION_JSON:
        settings->json = true;
        break;
    case OPTION_WRITE:
        settings->write = true;
        break;
    case OPTION_TRAP:
        parse_word(state, "DSM_TRAP", argument, "mprotect", "uffd", "auto");
        break;
    case OPTION_SPIN:
        parse_word(state, "DSM_SPIN", argument, "auto", "off", "on");
        settings->spin = argument;
        break;
    case OPTION_DISK:
        settings->disk = argument;
        break;
    case OPTION_DISK_SIZE:
        settings->disk_bytes = parse_count(state, argument, 1, 1 << 24) << 20;
        break;
    case OPTION_PLOT:
        settings->plot = argument;
        break;
    case OPTION_DSMD:
        settings->dsmd = argument;
        break;
    case OPTION_APPS:
        settings->apps = argument;
        break;
    case OPTION_LOCAL:
        settings->local = argument;
        break;
    case OPTION_HINTS:
        settings->hints = true;
        break;
    case OPTION_PROGRAMS:
        settings->programs = argument;
        break;
    case OPTION_MOST:
        settings->most = (uint32_t)parse_count(state, argument, 1, 1024);
        break;
    case OPTION_WINDOW:
        settings->window_ms = (uint32_t)parse_count(state, argument, 10, 60000);
        break;
    case 'r':
        settings->rounds = parse_count(state, argument, PERF_ROUNDS_MIN, 1000);
        break;
    case 'n':
        settings->samples = parse_count(state, argument, 10, 1000000);
        break;
    case 's':
        settings->bytes = parse_count(state, argument, 8, 1 << 20) << 20;
        break;
    case ARGP_KEY_ARG:
        parse_subcommand(state, arguments, argument);
        break;
    case ARGP_KEY_END:
        if (arguments->subcommand == NULL) {
            argp_usage(state);
        }
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

// Takes a setting from the environment, or puts the first there.
static int read_choice(const char *variable, const char *const words[3], const char **choice)
{
    const char *text = getenv(variable);
    if (text == NULL || *text == '\0') {
        *choice = words[0];
        return setenv(variable, words[0], 1) == 0 ? 0 : -errno;
    }
    for (int i = 0; i < 3 && words[i] != NULL; i++) {
        if (strcmp(text, words[i]) == 0) {
            *choice = words[i];
            return 0;
        }
    }
    fprintf(stderr, "dsmperf: %s is '%s'; it must be %s, %s%s%s\n", variable, text, words[0],
            words[1], words[2] != NULL ? " or " : "", words[2] != NULL ? words[2] : "");
    return -EINVAL;
}

// The trap that `auto` comes to is what serves the raw limits, too.
static enum perf_trap_kind trap_of(const char *choice)
{
    struct perf_region try;
    if (strcmp(choice, "auto") == 0 && perf_region_create(&try, PERF_TRAP_UFFD, 16) == 0) {
        perf_region_destroy(&try);
        return PERF_TRAP_UFFD;
    }
    return strcmp(choice, "uffd") == 0 ? PERF_TRAP_UFFD : PERF_TRAP_MPROTECT;
}

static int read_environment(struct perf_settings *settings)
{
    static const char *const fills[3] = {"pwrite", "alias"};
    static const char *const lanes[3] = {"sock", "grpc"};
    static const char *const traps[3] = {"auto", "mprotect", "uffd"};
    static const char *const spins[3] = {"auto", "off", "on"};
    static const char *const names[2][2] = {{"mprotect/alias", "mprotect/pwrite"},
                                            {"uffd/alias", "uffd/pwrite"}};
    const char *fill = fills[0];
    const char *trap = traps[0];
    const char *spin = spins[0];
    int result = read_choice("DSM_FILL", fills, &fill);
    if (result == 0) {
        result = read_choice("DSM_FAULT_LANES", lanes, &settings->lanes);
    }
    if (result == 0) {
        result = read_choice("DSM_TRAP", traps, &trap);
    }
    if (result == 0 && getenv("DSM_SPIN") != NULL) {
        result = read_choice("DSM_SPIN", spins, &spin);
        settings->spin = spin;
    }
    if (result == 0) {
        settings->fill = strcmp(fill, "alias") == 0 ? PERF_FILL_ALIAS : PERF_FILL_PWRITE;
        settings->trap_kind = trap_of(trap);
        settings->trap_now = names[settings->trap_kind][settings->fill];
    }
    return result;
}

int main(int argc, char **argv)
{
    static const struct argp parser = {.options = options,
                                       .parser = parse_option,
                                       .args_doc =
                                           "limit|fault|scan|clean|threads|clients|apps|probe",
                                       .doc = documentation};
    struct arguments arguments = {
        .settings = {.rounds = 7, .samples = 2000, .bytes = UINT64_C(256) << 20, .window_ms = 300}};
    struct perf_worker *worker = NULL;
    struct perf_report report = {0};
    struct failure failure = {.text = "The process that measures raw limits could not be started."};
    argp_parse(&parser, argc, argv, 0, NULL, &arguments);
    if (read_environment(&arguments.settings) != 0) {
        return 2;
    }
    int result = noise_init();
    if (result == 0) {
        result = perf_worker_start(&worker);
    }
    if (result == 0) {
        result = arguments.subcommand->run(&arguments.settings, worker, &report, &failure);
    }
    perf_progress_end();
    if (result == 0) {
        perf_report_print(&report, arguments.settings.json);
    } else {
        fprintf(stderr, "dsmperf %s: %s (%s)\n", arguments.subcommand->name, failure.text,
                result > -4000 ? strerror(-result) : "see above");
    }
    perf_worker_stop(&worker);
    perf_report_free(&report);
    return result == 0 ? 0 : 2;
}
