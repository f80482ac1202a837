// SPDX-License-Identifier: Apache-2.0
//
// Starting a task's program: as the configured user, with nothing of the agent's but its standard error and one socket. The
// environment is made anew: what the operator's shell or the service manager had in it is nobody's business there.
//
// Between fork and exec only what is safe there is called, though the agent has no threads: initgroups() reads files, so the
// groups are set before the descriptors go.
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/dsmctl_agent.h"

enum { TASK_FD = 3, VARIABLE_BYTES = 600 };

static int become(const struct agent_config *config)
{
    if (!config->switch_user) {
        return 0;
    }
    return initgroups(config->user_name, config->gid) == 0 &&
                   setresgid(config->gid, config->gid, config->gid) == 0 &&
                   setresuid(config->uid, config->uid, config->uid) == 0
               ? 0
               : -1;
}

static int put_descriptors(int socket)
{
    int none = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (none < 0 || dup2(none, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
        return -1;
    }
    if (socket == TASK_FD) {
        (void)fcntl(socket, F_SETFD, 0);
    } else if (dup2(socket, TASK_FD) < 0) {
        return -1;
    }
    return close_range(TASK_FD + 1, ~0U, 0);
}

// Does not come back.
static void run(const struct agent_config *config, const char *path, int socket)
{
    char home[VARIABLE_BYTES], user[VARIABLE_BYTES], logname[VARIABLE_BYTES];
    char search[] = "PATH=/usr/local/bin:/usr/bin:/bin", task[] = "DSM_TASK_FD=3";
    char *environment[AGENT_LIST_MOST + 6] = {search, task, home, user, logname};
    char *arguments[] = {(char *)(uintptr_t)path, NULL};
    sigset_t none;
    (void)sigemptyset(&none);
    (void)snprintf(home, sizeof home, "HOME=%s", config->home);
    (void)snprintf(user, sizeof user, "USER=%s", config->user_name);
    (void)snprintf(logname, sizeof logname, "LOGNAME=%s", config->user_name);
    for (unsigned i = 0; i < config->environment.count; i++) {
        environment[5 + i] = (char *)(uintptr_t)config->environment.items[i];
    }
    (void)umask(077);
    (void)setsid();
    if (become(config) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && chdir("/") == 0 &&
        put_descriptors(socket) == 0) {
        (void)signal(SIGPIPE, SIG_DFL);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        (void)execve(path, arguments, environment);
    }
    agent_log(AGENT_ERROR, "%s cannot be started as user %u: %s.", path, config->uid,
              strerror(errno));
    _exit(127);
}

// A root that may become other users need not be one that may end their programs: that is done as the user.
int agent_end(const struct agent_config *config, pid_t pid)
{
    pid_t child = fork();
    if (child == 0) {
        _exit(become(config) == 0 && kill(pid, SIGKILL) == 0 ? 0 : 1);
    }
    if (child < 0) { // waited for, -1 would be any child: the program itself
        return -errno;
    }
    (void)waitpid(child, NULL, 0);
    return 0;
}

int agent_start(const struct agent_config *config, const char *path, pid_t *pid, int *fd,
                struct failure *failure)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return failure_set(failure, -errno, "No socket for the program: %s.", strerror(errno));
    }
    pid_t child = fork();
    if (child == 0) {
        run(config, path, pair[1]);
    }
    int error = child < 0 ? -errno : 0;
    (void)close(pair[1]);
    if (error != 0) {
        (void)close(pair[0]);
        return failure_set(failure, error, "The program cannot be started: %s.", strerror(-error));
    }
    *pid = child;
    *fd = pair[0];
    return 0;
}
