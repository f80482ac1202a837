// SPDX-License-Identifier: Apache-2.0
//
// A keeper holds one end of a socket pair and reads; we hold the other. It reads the end when we say so, or when we have ended:
// there is no signal that a process could not be spared, and none that it is told of in time. Then it takes away what is left
// of us and ends, which is what perf_keeper_stop() waits for at our end of the pair.
//
// It is no child of ours (the process between ends at once), in a session of its own, and takes no signal but SIGKILL: whoever ends a tree or
// a group of processes ends us, and not what cleans up behind us. Children that we fork later have our end, too; so it is shut down rather
// than closed, and a child that lives on without us delays the keeper until it has ended as well.
#include "tools/dsmperf_keeper.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct perf_keeper {
    int fd;
};

static void wait_for_end(int fd)
{
    char byte;
    while (read(fd, &byte, 1) < 0 && errno == EINTR) {
    }
}

static _Noreturn void keep(int fd, void (*take_away)(const void *context), const void *context)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    (void)setsid();
    pid_t pid = fork();
    if (pid == 0) {
        wait_for_end(fd);
        take_away(context);
    }
    _exit(pid < 0 ? 1 : 0);
}

int perf_keeper_start(void (*take_away)(const void *context), const void *context,
                      struct perf_keeper **started, struct failure *failure)
{
    int ends[2] = {-1, -1};
    int status = 0;
    struct perf_keeper *keeper = malloc(sizeof(*keeper));
    if (keeper == NULL || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        free(keeper);
        return failure_set(failure, -ENOMEM, "no socket pair");
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        keep(ends[1], take_away, context);
    }
    close(ends[1]);
    keeper->fd = ends[0];
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
        close(ends[0]);
        free(keeper);
        return failure_set(failure, -EAGAIN, "no process that cleans up");
    }
    *started = keeper;
    return 0;
}

void perf_keeper_stop(struct perf_keeper **stopped)
{
    struct perf_keeper *keeper = *stopped;
    if (keeper == NULL) {
        return;
    }
    (void)shutdown(keeper->fd, SHUT_WR);
    wait_for_end(keeper->fd);
    close(keeper->fd);
    free(keeper);
    *stopped = NULL;
}

void perf_end_with(pid_t parent)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(1);
    }
}
