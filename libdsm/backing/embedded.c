// SPDX-License-Identifier: Apache-2.0
//
// The embedded server: for laptops and tests, a program that names no server gets one of its own. It is the same dsmd over
// the same lanes with the same handshake; only the sockets come from here, as pairs, one end of which travels over a
// control socket (rpc/embedded.h). So nothing else in this library knows of it.
//
//   started   posix_spawn in a session of its own, all signals as at birth, no descriptor of the program but the control
//             socket; dsmd forks and its first process is waited for here, so the program has no child left to wait for.
//             (A program that has a handler of SIGCHLD sees one.)
//   ends      when the control socket ends or the pidfd that it was given says that this process has. Every way in which a
//             process can end does that.
//
// exec closes the socket (close-on-exec), a forked child closes its copy in the library's fork handler; where that
// did not run (vfork, clone) the pidfd counts.
//
// dsmd is looked for beside the library, not in PATH: it must be of the same release. In a program that runs with other
// rights than its caller's, the caller's DSM_DSMD does not count.
//
// A name in the abstract name space and a thread of this process as the server were rejected: the first lets strangers
// in, the second would share malloc, signals and the address space with the faults that it serves.
#include "libdsm/backing/embedded.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libdsm/sync/futex.h"
#include "rpc/embedded.h"

enum { CONTROL_FD = 3 }; // in dsmd
extern char **environ;

// ---- whether ----

// What the launchers of batch systems and of MPI set. There, a server for each process is hardly what was meant.
static const char *batch_variable(void)
{
    static const char *const variables[] = {
        "SLURM_JOB_ID",         "PBS_JOBID", "LSB_JOBID", "FLUX_JOB_ID", "COBALT_JOBID",
        "OMPI_COMM_WORLD_SIZE", "PMI_SIZE",  "PMIX_RANK",
    };
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        if (getenv(variables[i]) != NULL) {
            return variables[i];
        }
    }
    return NULL;
}

int embedded_wanted(const struct settings *settings, struct failure *failure)
{
    if (strcmp(settings->server, "embedded") == 0) {
        return 1;
    }
    if (settings->server[0] != 0) {
        return 0;
    }
    if (settings->server_key[0] != 0 || settings->key_file[0] != 0) {
        return failure_set(failure, -EINVAL,
                           "%s is set, but DSM_SERVER is not: set it to the server's HOST:PORT, or "
                           "to \"embedded\" for a server of this program's own.",
                           settings->server_key[0] != 0 ? "DSM_SERVER_KEY" : "DSM_KEY_FILE");
    }
    const char *batch = batch_variable();
    if (batch != NULL) {
        return failure_set(failure, -EINVAL,
                           "DSM_SERVER is not set, and this is a batch job (%s is set): set "
                           "DSM_SERVER, DSM_SERVER_KEY and DSM_KEY_FILE, or DSM_SERVER=embedded "
                           "for a server of each process' own.",
                           batch);
    }
    return 1;
}

// ---- where ----

static bool runnable(const char *path)
{
    return access(path, X_OK) == 0;
}

static int find_dsmd(const struct settings *settings, char path[PATH_MAX], struct failure *failure)
{
    static const char *const places[] = {"../bin", "../sbin", "../../bin", "../../sbin"};
    Dl_info library;
    char folder[PATH_MAX] = "";
    if (settings->dsmd[0] != 0 && getauxval(AT_SECURE) == 0) {
        (void)snprintf(path, PATH_MAX, "%s", settings->dsmd);
        return runnable(path) ? 0
                              : failure_set(failure, -ENOENT, "DSM_DSMD is %.200s: %s.", path,
                                            strerror(errno));
    }
    if (dladdr(batch_variable, &library) != 0 && realpath(library.dli_fname, folder) != NULL) {
        *strrchr(folder, '/') = 0;
    }
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        int bytes = snprintf(path, PATH_MAX, "%s/%s/dsmd", folder, places[i]);
        if (bytes < PATH_MAX && runnable(path)) {
            return 0;
        }
    }
    return failure_set(failure, -ENOENT,
                       "No server is named, and there is no dsmd beside the library (%.120s): set "
                       "DSM_SERVER, or DSM_DSMD to the path of dsmd.",
                       folder);
}

// ---- start ----

static int prepare_files(posix_spawn_file_actions_t *files, int control)
{
    int error = posix_spawn_file_actions_adddup2(files, control, CONTROL_FD);
    error = error != 0
                ? error
                : posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    error = error != 0
                ? error
                : posix_spawn_file_actions_addopen(files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    error =
        error != 0 ? error : posix_spawn_file_actions_adddup2(files, STDOUT_FILENO, STDERR_FILENO);
    return error != 0 ? error : posix_spawn_file_actions_addclosefrom_np(files, CONTROL_FD + 1);
}

static int prepare_attributes(posix_spawnattr_t *attributes)
{
    sigset_t all;
    sigset_t none;
    (void)sigfillset(&all);
    (void)sigemptyset(&none);
    int error = posix_spawnattr_setsigdefault(attributes, &all);
    error = error != 0 ? error : posix_spawnattr_setsigmask(attributes, &none);
    return error != 0
               ? error
               : posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF |
                                                          POSIX_SPAWN_SETSIGMASK);
}

static int spawn(const char *path, int control, pid_t *child, struct failure *failure)
{
    char name[] = "dsmd";
    char config[] = "--config=";
    char option[] = "--embedded=3";
    char *arguments[] = {name, config, option, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    int error = posix_spawn_file_actions_init(&files);
    if (error != 0) {
        return failure_set(failure, -error, "No memory to start dsmd.");
    }
    error = posix_spawnattr_init(&attributes);
    if (error == 0) {
        error = prepare_files(&files, control);
        error = error != 0 ? error : prepare_attributes(&attributes);
        error =
            error != 0 ? error : posix_spawn(child, path, &files, &attributes, arguments, environ);
        (void)posix_spawnattr_destroy(&attributes);
    }
    (void)posix_spawn_file_actions_destroy(&files);
    return error == 0 ? 0
                      : failure_set(failure, -error, "%.200s cannot be started: %s.", path,
                                    strerror(error));
}

static int wait_for(int control, short events, int64_t deadline)
{
    for (;;) {
        struct pollfd wait = {.fd = control, .events = events};
        int64_t left_ms = (deadline - sync_now()) / 1000000;
        int ready = left_ms > 0 ? poll(&wait, 1, (int)left_ms) : 0;
        if (ready != 0 && (ready > 0 || errno != EINTR)) {
            return ready > 0 ? 0 : -errno;
        }
        if (ready == 0) {
            return -ETIMEDOUT;
        }
    }
}

static int say_hello(struct session *session)
{
    uint8_t message[EMBEDDED_HELLO_BYTES];
    struct embedded_hello hello = {.size_bytes = session->settings->embedded_bytes};
    memcpy(hello.client_key, session->identity->public_key, sizeof hello.client_key);
    embedded_hello_encode(&hello, message);
    int self = pidfd_open(getpid(), 0); // where there is none, the end of the socket must do
    int error = embedded_send(session->control, message, sizeof message, self);
    if (self >= 0) {
        (void)close(self);
    }
    return error;
}

static int take_answer(struct session *session, const char *path, struct failure *failure)
{
    uint8_t answer[EMBEDDED_ANSWER_MOST_BYTES];
    struct failure said = {.text = ""};
    int fd = -1;
    int error = wait_for(session->control, POLLIN, sync_after_ms(LIMIT_EMBEDDED_START_MS));
    ssize_t got =
        error == 0 ? embedded_receive(session->control, answer, sizeof answer, &fd) : error;
    if (fd >= 0) {
        (void)close(fd);
    }
    if (got > 0) {
        error = embedded_answer_decode(answer, (size_t)got, session->client.server_key, &said);
        return said.text[0] == 0 || error == 0
                   ? error
                   : failure_set(failure, error, "The embedded server could not start: %s",
                                 said.text);
    }
    return failure_set(failure, got == 0 ? -ECONNABORTED : (int)got,
                       got == 0 ? "%.200s ended at its start: try it in a shell."
                                : "%.200s does not answer: is it dsmd of this release?",
                       path);
}

// The process that was started has ended already, or is not what it should be.
static void reap(pid_t child, bool kill_first)
{
    if (kill_first) {
        (void)kill(child, SIGKILL);
    }
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {
    }
}

// The process that was started, or -errno.
static pid_t talk(struct session *session, const char *path, int theirs, struct failure *failure)
{
    pid_t child = -1;
    int error = say_hello(session); // it waits in the socket
    if (error != 0) {
        return failure_set(failure, error, "The embedded server cannot be talked to: %s.",
                           strerror(-error));
    }
    error = spawn(path, theirs, &child, failure);
    return error != 0 ? error : child;
}

int embedded_start(struct session *session, struct failure *failure)
{
    char path[PATH_MAX];
    int pair[2];
    int error = find_dsmd(session->settings, path, failure);
    if (error != 0) {
        return error;
    }
    error = key_identity_create(&session->identity);
    if (error != 0) {
        return failure_set(failure, error, "No memory for a key.");
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        return failure_set(failure, -errno, "No socket for the embedded server: %s.",
                           strerror(errno));
    }
    session->control = pair[0];
    session->embedded = true;
    pid_t child = talk(session, path, pair[1], failure);
    (void)close(pair[1]);
    error = child > 0 ? take_answer(session, path, failure) : child;
    if (child > 0) {
        reap(child, error != 0);
    }
    if (error != 0) {
        embedded_forget(session);
    }
    return error;
}

// ---- use and end ----

static int send_end(struct session *session, int end, int64_t deadline)
{
    static const uint8_t byte = 'C';
    int error;
    while ((error = embedded_send(session->control, &byte, sizeof byte, end)) == -EAGAIN) {
        error = wait_for(session->control, POLLOUT, deadline);
        if (error != 0) {
            break;
        }
    }
    return error;
}

int embedded_connect(struct session *session, int64_t deadline, struct failure *failure)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
        return failure_set(failure, -errno, "No socket for a connection: %s.", strerror(errno));
    }
    int error = send_end(session, pair[1], deadline);
    (void)close(pair[1]);
    if (error == 0) {
        return pair[0];
    }
    (void)close(pair[0]);
    if (error == -EPIPE) {
        return failure_set(
            failure, -EOWNERDEAD,
            "The embedded server has ended, and what it held is lost. Was it killed, "
            "or out of memory?");
    }
    return failure_set(failure, error, "The embedded server takes no connection: %s.",
                       strerror(-error));
}

void embedded_stop(struct session *session)
{
    if (!session->embedded) {
        return;
    }
    (void)shutdown(session->control, SHUT_WR);
    (void)wait_for(session->control, POLLIN, sync_after_ms(LIMIT_EMBEDDED_END_MS));
    embedded_forget(session);
}

void embedded_forget(struct session *session)
{
    if (session->embedded) {
        session->embedded = false;
        (void)close(session->control);
    }
}
