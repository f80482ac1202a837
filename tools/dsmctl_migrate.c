// SPDX-License-Identifier: Apache-2.0
//
// dsmctl migrate PROGRAM HOST: between a program on this host and the agent of another one. It has the user's key, so it connects;
// the program has the task, so it decides. What is refused is refused before the task stops; and should this tool be
// interrupted at any moment, the program asks the memory server whose the task is, and goes on if it is its own still.
//
// There are four ends: it moved; it was refused (it was never stopped); it stays (it was stopped, and goes on here); or
// nobody can say here, because the program itself is gone.
#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rpc/deadline.h"
#include "rpc/keyfile.h"
#include "rpc/tcp.h"
#include "tools/dsmctl.h"
#include "tools/mover_connect.h"
#include "tools/mover_program.h"
#include "tools/mover_socket.h"
#include "tools/tool_text.h"

enum {
    READY_MS = 90000, // until the program over there waits
    TAKEN_MS = 58000, // after the capsule; the program here waits a little longer
    LEFT_MS = 60000,
    SAY_MS = 10000, // a line
    WAIT_S = 60,
    LIFE_S = 60,
    MOST_WAIT_S = 86400,
    OPTION_AGENT_KEY = 256,
    OPTION_HOSTS,
    OPTION_LIFE,
};

enum outcome { MOVED, REFUSED, STAYS, UNKNOWN };
static const char *const outcomes[] = {"moved", "refused", "stays", "unknown"};

struct migrate {
    struct dsmctl_words words;
    const char *agent_key, *hosts;
    unsigned wait_s, life_s;
    bool json, progress;
    struct mover_program program;
    struct mover_host host;
    struct mover_link link;
    uint64_t capsule_bytes;
    int64_t began, stopped; // 0: not yet
    double seconds, away_seconds;
};

static void show(const struct migrate *m, const char *what)
{
    if (m->progress) {
        (void)fprintf(stderr, "\r\033[K%s to %s: %s", m->words.name[0], m->words.name[1], what);
        (void)fflush(stderr);
    }
}

// ---- the agent

static int agent_gone(const struct migrate *m, int error, struct failure *failure)
{
    return failure_set(failure, error, "The agent of host %s %s.", m->host.name,
                       error == -ETIMEDOUT ? "does not answer" : "is gone");
}

// What the agent says next: `expected`, or why not.
static int hear_agent(struct migrate *m, enum mover_message expected, int64_t deadline,
                      uint8_t answer[MOVER_MOST_BYTES + 1], struct failure *failure)
{
    enum mover_message message = MOVER_REFUSED;
    size_t count = 0;
    int error = mover_hear(&m->link, deadline, &message, answer, &count);
    if (error != 0) {
        return agent_gone(m, error, failure);
    }
    if (message == MOVER_REFUSED) {
        return failure_set(failure, -EACCES, "Host %s: %.*s", m->host.name,
                           (int)(count < 600 ? count : 600), (const char *)answer);
    }
    return message == expected ? 0 : failure_set(failure, -EBADMSG, "The agent says nonsense.");
}

static int offer(struct migrate *m, char key[KEYFILE_TEXT_BYTES], struct failure *failure)
{
    uint8_t text[MOVER_MOST_BYTES + 1];
    show(m, "asking its agent");
    int error = mover_host_find(m->words.name[1], m->hosts, m->agent_key, &m->host, failure);
    error = error != 0 ? error : mover_connect(&m->host, &m->link, failure);
    if (error != 0) {
        return error;
    }
    show(m, "the program starts there");
    error = mover_say(&m->link, MOVER_OFFER, text, mover_offer_encode(&m->program.task, text));
    error = error != 0 ? agent_gone(m, error, failure)
                       : hear_agent(m, MOVER_READY, deadline_after_ms(READY_MS), text, failure);
    if (error == 0) {
        keyfile_encode(text, key);
    }
    return error;
}

// ---- the program

static int program_gone(struct failure *failure)
{
    return failure_set(failure, -ESRCH,
                       "The program ended, or let go of its task: whether it moved is not known "
                       "here. \"dsmctl segments\" shows who holds it.");
}

// "CAPSULE BYTES", or why not.
static int stop(struct migrate *m, const char *key, char *why, enum outcome *outcome,
                struct failure *failure)
{
    char line[MOVER_LINE_BYTES];
    (void)snprintf(line, sizeof line, "MOVE %s %u", key, m->life_s);
    show(m, "waiting for its next yield");
    int error = mover_say_line(m->program.fd, line, deadline_after_ms(SAY_MS));
    error = error != 0
                ? error
                : mover_hear_line(m->program.fd, line, deadline_after_ms(m->wait_s * 1000LL));
    if (error == -ETIMEDOUT) {
        *outcome = REFUSED;
        return failure_set(failure, error,
                           "The task did not come to a yield within %u s: it goes on here.",
                           m->wait_s);
    }
    if (error != 0) {
        *outcome = UNKNOWN;
        return program_gone(failure);
    }
    m->stopped = deadline_now();
    *outcome = STAYS;
    if (strncmp(line, "STAYS", 5) == 0) {
        (void)snprintf(why, MOVER_LINE_BYTES, "%s", line[5] != 0 ? line + 6 : "");
        return failure_set(failure, -ECANCELED, "%s", why);
    }
    m->capsule_bytes = strncmp(line, "CAPSULE ", 8) == 0 ? strtoull(line + 8, NULL, 10) : 0;
    return m->capsule_bytes > 0 && m->capsule_bytes <= MOVER_CAPSULE_BYTES
               ? 0
               : failure_set(failure, -EBADMSG, "The program says nonsense.");
}

static int pass_capsule(struct migrate *m, struct failure *failure)
{
    uint8_t piece[MOVER_MOST_BYTES + 1];
    show(m, "its state is under way");
    for (uint64_t left = m->capsule_bytes; left > 0;) {
        size_t count = left < MOVER_MOST_BYTES ? (size_t)left : (size_t)MOVER_MOST_BYTES;
        int error = tcp_receive(m->program.fd, piece, count, deadline_after_ms(LEFT_MS));
        if (error != 0) {
            return program_gone(failure);
        }
        error = mover_say(&m->link, MOVER_CAPSULE, piece, count);
        if (error != 0) { // it takes no more; it may have said why
            return hear_agent(m, MOVER_REFUSED, deadline_after_ms(SAY_MS), piece, failure);
        }
        left -= count;
    }
    int error = mover_say(&m->link, MOVER_END, NULL, 0);
    return error != 0 ? agent_gone(m, error, failure)
                      : hear_agent(m, MOVER_TAKEN, deadline_after_ms(TAKEN_MS), piece, failure);
}

// The program's last word counts, whatever the agent said.
static enum outcome conclude(struct migrate *m, int error, struct failure *failure)
{
    char line[MOVER_LINE_BYTES + 16];
    char word[MOVER_LINE_BYTES];
    (void)snprintf(line, sizeof line, error == 0 ? "TAKEN" : "REFUSED %s", failure->text);
    (void)mover_say_line(m->program.fd, line, deadline_after_ms(SAY_MS));
    // It may have to wait for the memory server; it goes on waiting when we do not.
    if (mover_hear_line(m->program.fd, word, deadline_after_ms(LEFT_MS)) != 0) {
        (void)program_gone(failure);
        return UNKNOWN;
    }
    m->away_seconds = (double)(deadline_now() - m->stopped) / 1e9;
    if (strcmp(word, "LEFT") == 0) {
        return MOVED;
    }
    if (error == 0) {
        (void)failure_set(failure, -EBADMSG, "%.500s", word);
    }
    return STAYS;
}

static enum outcome run(struct migrate *m, struct failure *failure)
{
    char key[KEYFILE_TEXT_BYTES], why[MOVER_LINE_BYTES] = "";
    enum outcome outcome = REFUSED;
    if (mover_program_find(m->words.name[0], &m->program, failure) != 0) {
        return REFUSED;
    }
    if (offer(m, key, failure) == 0) {
        int error = stop(m, key, why, &outcome, failure);
        if (error == 0) {
            outcome = conclude(m, pass_capsule(m, failure), failure);
        }
    }
    (void)close(m->program.fd);
    mover_link_end(&m->link);
    return outcome;
}

// ---- the command

static int number(const char *name, const char *text, struct argp_state *state)
{
    char *end = NULL;
    unsigned long value = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != 0 || value < 1 || value > MOST_WAIT_S) {
        argp_error(state, "--%s is \"%s\": it must be 1 to %d", name, text, MOST_WAIT_S);
    }
    return (int)value;
}

static error_t parse(int key, char *argument, struct argp_state *state)
{
    struct migrate *m = state->input;
    switch (key) {
    case 'j':
        m->json = true;
        return 0;
    case 'w':
        m->wait_s = (unsigned)number("wait", argument, state);
        return 0;
    case OPTION_LIFE:
        m->life_s = (unsigned)number("life", argument, state);
        return 0;
    case OPTION_AGENT_KEY:
        m->agent_key = argument;
        return 0;
    case OPTION_HOSTS:
        m->hosts = argument;
        return 0;
    default:
        return dsmctl_parse_words(key, argument, state, &m->words);
    }
}

static int print_json(const struct migrate *m, enum outcome outcome, const struct failure *failure)
{
    json_t *value = json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:o, s:f, s:f}", "outcome", outcomes[outcome], "program",
        m->words.name[0], "host", m->words.name[1], "task",
        m->program.task.name[0] != 0 ? json_string(m->program.task.name) : json_null(), "pid",
        m->program.pid > 0 ? json_integer(m->program.pid) : json_null(), "capsule_bytes",
        tool_json_number(m->capsule_bytes), "seconds", m->seconds, "away_seconds", m->away_seconds);
    if (value != NULL && outcome != MOVED) {
        (void)json_object_set_new(value, "reason", json_string(failure->text));
    }
    return tool_json_print(value, true);
}

static int say_outcome(char **argv, const struct migrate *m, enum outcome outcome,
                       const struct failure *failure)
{
    char size[TOOL_SIZE_BYTES];
    if (m->json) {
        (void)print_json(m, outcome, failure);
    } else if (outcome == MOVED) {
        printf("task %s moved to %s: %.0f ms between its stop here and its going on there, %s of "
               "state\n",
               m->program.task.name, m->host.name, m->away_seconds * 1000,
               tool_size(m->capsule_bytes, size));
    } else {
        (void)fprintf(stderr, "%s: %s%s\n", argv[0], failure->text,
                      outcome == STAYS ? " The task goes on here." : "");
    }
    int result = dsmctl_end(argv, 0, failure);
    return result != DSMCTL_DONE ? result : outcome == MOVED ? DSMCTL_DONE : DSMCTL_FAILED;
}

int dsmctl_migrate(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"agent-key", OPTION_AGENT_KEY, "KEY", 0,
         "The agent's public key, or its .pub file; HOST is an address then", 0},
        {"hosts", OPTION_HOSTS, "FILE", 0,
         "The list of hosts (default ~/.config/dsm/hosts, then /etc/dsm/hosts)", 0},
        {"json", 'j', NULL, 0, "Print JSON", 0},
        {"life", OPTION_LIFE, "SECONDS", 0,
         "How long the task is its new host's alone (default 60)", 0},
        {"wait", 'w', "SECONDS", 0, "How long to wait for the task's next yield (default 60)", 0},
        {0}};
    const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "PROGRAM HOST",
        .doc = "Moves a running task to another host, at its next yield. PROGRAM is the task's "
               "name or its process id; HOST one of the list of hosts. If anything fails the task "
               "goes on here."};
    struct migrate m = {.words = {.least = 2, .most = 2}, .wait_s = WAIT_S, .life_s = LIFE_S};
    struct failure failure = {.text = ""};
    m.link.fd = -1;
    if (argp_parse(&argp, argc, argv, 0, NULL, &m) != 0) {
        return DSMCTL_USAGE;
    }
    m.progress = !m.json && isatty(STDERR_FILENO);
    m.began = deadline_now();
    enum outcome outcome = run(&m, &failure);
    m.seconds = (double)(deadline_now() - m.began) / 1e9;
    if (m.progress) {
        (void)fputs("\r\033[K", stderr);
    }
    return say_outcome(argv, &m, outcome, &failure);
}
