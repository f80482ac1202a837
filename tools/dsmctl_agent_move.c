// SPDX-License-Identifier: Apache-2.0
//
// One move, from the offer to the end of the task. The order is such that whatever can be refused is refused before the source freezes
// anything: the program is found, started, and has its connection to the memory server when READY is said. So the source's
// pause is the capsule's way and the commit, not a program's start.
//
// The capsule goes through; its key is made here, for this move alone, and handed to the program. What the agent says at the end is
// what the program said; should one of them be gone by then, the source asks the memory server whose the task is.
//
// Then the process stays as the program's parent, so that its end is in the log, and counts as one of the host's tasks.
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rpc/deadline.h"
#include "rpc/tcp.h"
#include "tools/dsmctl_agent.h"
#include "tools/mover_socket.h"

enum {
    OFFER_MS = 10000,
    START_MS = 60000,   // until the program waits for its task
    CAPSULE_MS = 60000, // between two pieces
    PASS_MS = 20000,    // for the program to read a piece; the source waits a little longer,
    TAKE_MS = 55000,    // and so it does here
    DISMISS_MS = 3000,
    ENDED_BYTES = 96,
};

struct arrival {
    const struct agent_config *config;
    struct mover_link *link;
    const char *who;
    struct mover_offer offer;
    setting_path path;
    pid_t pid;
    int program; // our end of its socket
    bool passed; // what came of the capsule: it may be all of it
};

static const char unseen[] = "nobody saw how it ended";

static const char *how_it_ended(int status, char text[ENDED_BYTES])
{
    if (WIFSIGNALED(status)) {
        (void)snprintf(text, ENDED_BYTES, "killed by signal %d (%s)", WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
    } else {
        (void)snprintf(text, ENDED_BYTES, "exit status %d", WEXITSTATUS(status));
    }
    return text;
}

static void wait_end(pid_t pid, char text[ENDED_BYTES])
{
    int status = 0;
    pid_t found;
    while ((found = waitpid(pid, &status, 0)) < 0 && errno == EINTR) {
    }
    if (found == pid) {
        (void)how_it_ended(status, text);
    } else {
        (void)snprintf(text, ENDED_BYTES, "%s", unseen);
    }
}

// It has no task, and is to have none: its socket is closed, so it ends by itself, or is ended. But not one that may have the task
// by now: that one is left alone.
static void dismiss(struct arrival *a, char text[ENDED_BYTES])
{
    int64_t deadline = deadline_after_ms(DISMISS_MS);
    (void)snprintf(text, ENDED_BYTES, "it did not end");
    if (a->program >= 0) {
        (void)close(a->program);
        a->program = -1;
    }
    for (bool killed = false; a->pid > 0;) {
        const struct timespec pause = {.tv_nsec = 10000000};
        int status = 0;
        pid_t found = waitpid(a->pid, &status, WNOHANG);
        if (found == a->pid) {
            (void)how_it_ended(status, text);
            a->pid = 0;
        } else if (found < 0 && errno != EINTR) { // its number may be another's by now
            (void)snprintf(text, ENDED_BYTES, "%s", unseen);
            a->pid = 0;
        } else if (deadline_now() >= deadline && a->passed) {
            return;
        } else if (deadline_now() >= deadline && !killed) {
            killed = agent_end(a->config, a->pid) == 0;
        }
        (void)nanosleep(&pause, NULL);
    }
}

static int program_gone(struct arrival *a, struct failure *failure)
{
    char text[ENDED_BYTES];
    dismiss(a, text);
    return failure_set(failure, -ECHILD,
                       "The program %s ended before it took the task (%s): what it said is in the "
                       "log of that host's agent.",
                       a->path, text);
}

static int start_program(struct arrival *a, struct failure *failure)
{
    char line[MOVER_LINE_BYTES];
    int error = agent_binary_find(a->config, &a->offer, &a->path, failure);
    error = error != 0 ? error : agent_start(a->config, a->path, &a->pid, &a->program, failure);
    if (error != 0) {
        return error;
    }
    error = mover_hear_line(a->program, line, deadline_after_ms(START_MS));
    if (error == 0 && strcmp(line, "WAITING") == 0) {
        return 0;
    }
    return error == -ENODATA
               ? program_gone(a, failure)
               : failure_set(failure, -ETIMEDOUT,
                             "The program %s does not wait for a task within %d s: does it call "
                             "dsm_task_receive()?",
                             a->path, START_MS / 1000);
}

// Until the source says something. A program that has nothing of the capsule yet has nothing to say: that is its end.
static int wait_for_source(struct arrival *a, bool first, struct failure *failure)
{
    int64_t deadline = deadline_after_ms(first ? (int64_t)a->config->wait * 1000 : CAPSULE_MS);
    struct pollfd both[2] = {{.fd = a->link->fd, .events = POLLIN},
                             {.fd = first ? a->program : -1, .events = POLLIN}};
    struct timespec left;
    while (both[0].revents == 0) {
        if (!deadline_left(deadline, &left)) {
            return failure_set(failure, -ETIMEDOUT, "The source sent nothing for too long.");
        }
        (void)ppoll(both, 2, &left, NULL);
        if (both[1].revents != 0) {
            return program_gone(a, failure);
        }
    }
    return 0;
}

static int pass(struct arrival *a, const void *piece, size_t bytes, struct failure *failure)
{
    int error = tcp_send(a->program, piece, bytes, deadline_after_ms(PASS_MS));
    a->passed = error == 0;
    if (error == -ETIMEDOUT) {
        return failure_set(failure, error, "The program %s stopped reading its task.", a->path);
    }
    return error != 0 ? program_gone(a, failure) : 0;
}

static int pass_capsule(struct arrival *a, const struct key_identity *identity,
                        struct failure *failure)
{
    uint8_t piece[MOVER_MOST_BYTES + 1];
    enum mover_message message = MOVER_CAPSULE;
    size_t count = 0, total = 0;
    for (;;) {
        int error = wait_for_source(a, total == 0, failure);
        if (error != 0) {
            return error;
        }
        error = mover_hear(a->link, deadline_after_ms(CAPSULE_MS), &message, piece, &count);
        if (error != 0 || (message != MOVER_CAPSULE && (message != MOVER_END || total == 0))) {
            return failure_set(failure, error != 0 ? error : -EBADMSG,
                               error == -ENODATA ? "The source took the move back."
                                                 : "The source's message makes no sense.");
        }
        if (message == MOVER_END) {
            return 0;
        }
        if (total == 0) {
            error = pass(a, identity->private_key, NOISE_KEY_BYTES, failure);
        }
        total += count;
        if (total > MOVER_CAPSULE_BYTES) {
            return failure_set(failure, -EFBIG, "The capsule is larger than any may be.");
        }
        error = error != 0 ? error : pass(a, piece, count, failure);
        if (error != 0) {
            return error;
        }
    }
}

static int take(struct arrival *a, struct failure *failure)
{
    char line[MOVER_LINE_BYTES];
    int error = mover_hear_line(a->program, line, deadline_after_ms(TAKE_MS));
    if (error == -ETIMEDOUT) {
        return failure_set(failure, error, "The program does not say whether it took the task.");
    }
    if (error == -ENODATA) {
        return program_gone(a, failure);
    }
    if (error == 0 && strcmp(line, "TAKEN") == 0) {
        return 0;
    }
    return failure_set(
        failure, -ECANCELED, "%s",
        error == 0 && strncmp(line, "REFUSED ", 8) == 0 ? line + 8 : "The program said nonsense.");
}

static int receive(struct arrival *a, struct failure *failure)
{
    struct key_identity *identity = NULL;
    int error = start_program(a, failure);
    if (error == 0) {
        error = key_identity_create(&identity);
        error = error != 0 ? failure_set(failure, error, "There is no memory for a key.")
                           : mover_say(a->link, MOVER_READY, identity->public_key, NOISE_KEY_BYTES);
    }
    error = error != 0 ? error : pass_capsule(a, identity, failure);
    key_identity_destroy(&identity);
    return error != 0 ? error : take(a, failure);
}

static int hear_offer(struct arrival *a, struct failure *failure)
{
    uint8_t text[MOVER_MOST_BYTES + 1];
    enum mover_message message = MOVER_OFFER;
    size_t count = 0;
    int error = mover_hear(a->link, deadline_after_ms(OFFER_MS), &message, text, &count);
    if (error == 0 && (message != MOVER_OFFER || mover_offer_decode(text, count, &a->offer) != 0)) {
        error = -EBADMSG;
    }
    return error != 0 ? failure_set(failure, error, "No offer came.") : 0;
}

int agent_move(const struct agent_config *config, struct mover_link *link, const char *who)
{
    struct arrival a = {.config = config, .link = link, .who = who, .program = -1};
    struct failure failure = {.text = ""};
    char text[ENDED_BYTES];
    int error = hear_offer(&a, &failure);
    const char *name = a.offer.name[0] != 0 ? a.offer.name : "?";
    error = error != 0 ? error : receive(&a, &failure);
    if (error != 0) {
        agent_log(AGENT_WARNING, "refused task %s of %s: %s", name, who, failure.text);
        (void)mover_say(link, MOVER_REFUSED, failure.text, strlen(failure.text));
        mover_link_end(link);
        dismiss(&a, text);
        if (a.pid > 0) { // it may have the task, whatever it did not say
            wait_end(a.pid, text);
            agent_log(AGENT_INFO, "task %s of %s, process %d: %s", name, who, a.pid, text);
        }
        return 1;
    }
    agent_log(AGENT_INFO, "task %s of %s goes on here: %s, process %d", name, who, a.path, a.pid);
    (void)mover_say(link, MOVER_TAKEN, NULL, 0);
    mover_link_end(link);
    (void)close(a.program);
    wait_end(a.pid, text);
    agent_log(AGENT_INFO, "task %s of %s, process %d: %s", name, who, a.pid, text);
    return 0;
}
