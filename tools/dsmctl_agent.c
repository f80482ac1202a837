// SPDX-License-Identifier: Apache-2.0
//
// dsmctl agent: the service on each host that lets tasks come. Here are its arguments, its log and its start; what it does is in
// dsmctl_agent_listen.c (who comes in) and dsmctl_agent_move.c (what then happens).
//
// The log goes to standard error, a line with one write, so that those of several processes do not mix. Where that is the
// journal, a line begins with its priority, which the journal takes off. What there is no room for is dropped: peers can cause
// lines, and whoever stops reading them must not stop the one thread that takes connections and signals.
#include "tools/dsmctl_agent.h"

#include <argp.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "tools/dsmctl.h"

enum { OPTION_CHECK = 256, OPTION_READY_FD, LINE_BYTES = 1024 };

struct request {
    struct dsmctl_words words;
    const char *config;
    bool check;
    int ready_fd;
};

void agent_log(enum agent_level level, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list arguments;
    const char *words = level == AGENT_ERROR     ? "error"
                        : level == AGENT_WARNING ? "warning"
                                                 : "info";
    int at = getenv("JOURNAL_STREAM") != NULL
                 ? snprintf(line, sizeof line, "<%d>", (int)level)
                 : snprintf(line, sizeof line, "dsmctl agent: %s: ", words);
    int begin = at;
    va_start(arguments, format);
    at += vsnprintf(line + at, sizeof line - (size_t)at - 1, format, arguments);
    va_end(arguments);
    at = at < LINE_BYTES - 2 ? at : LINE_BYTES - 2;
    for (char *c = line + begin; c < line + at; c++) { // what came from outside writes no lines
        *c = (char)(*c < ' ' || *c > '~' ? '?' : *c);
    }
    line[at++] = '\n';
    struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&room, 1, 0) == 1 && (room.revents & POLLOUT) != 0) {
        ssize_t written = write(STDERR_FILENO, line, (size_t)at);
        (void)written; // nobody reads it
    }
}

static error_t parse(int key, char *argument, struct argp_state *state)
{
    struct request *request = state->input;
    char *end = NULL;
    switch (key) {
    case 'c':
        request->config = argument;
        return 0;
    case OPTION_CHECK:
        request->check = true;
        return 0;
    case OPTION_READY_FD:
        request->ready_fd = (int)strtol(argument, &end, 10);
        if (*argument < '0' || *argument > '9' || *end != 0) {
            argp_error(state, "--ready-fd is \"%s\": it must be a descriptor", argument);
        }
        return 0;
    default:
        return dsmctl_parse_words(key, argument, state, &request->words);
    }
}

int dsmctl_agent(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"config", 'c', "FILE", 0, "The configuration (default " AGENT_CONFIG_PATH ")", 0},
        {"check", OPTION_CHECK, NULL, 0, "Look at the configuration and all it names, then end", 0},
        {"ready-fd", OPTION_READY_FD, "FD", 0,
         "Descriptor on which READY is said once tasks can come", 0},
        {0}};
    const struct argp argp = {
        .options = options,
        .parser = parse,
        .doc = "Lets tasks come to this host: receives them from \"dsmctl migrate\", starts the "
               "program of each as an unprivileged user, and hands it its task. Runs until "
               "SIGTERM; tasks go on."};
    struct request request = {.words = {.most = 0}, .config = AGENT_CONFIG_PATH};
    struct failure failure = {.text = ""};
    if (argp_parse(&argp, argc, argv, 0, NULL, &request) != 0) {
        return DSMCTL_USAGE;
    }
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    struct agent_config *config = malloc(sizeof *config);
    int error = config == NULL ? failure_set(&failure, -ENOMEM, "There is no memory to start with.")
                               : agent_config_read(request.config, config, &failure);
    if (error == 0 && !request.check) {
        error = agent_listen(config, request.ready_fd, &failure);
    }
    free(config);
    return dsmctl_end(argv, error, &failure);
}
