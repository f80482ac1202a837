// SPDX-License-Identifier: Apache-2.0
//
// The watchdog of tests that look for deadlocks. What each thread does is read from /proc: its name, whether it runs or sleeps,
// the system call it is in with its arguments (a futex's address tells what it waits for), and, for root, the kernel's
// stack. It runs in the handler of SIGALRM and is not made for signal handlers; but the process ends there
// anyway, and a watchdog that hangs as well is ended by ctest.
#include "tests/model/watch.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void show(const char *task, const char *what)
{
    char path[300];
    char text[1024];
    (void)snprintf(path, sizeof path, "/proc/self/task/%s/%s", task, what);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0) {
        (void)close(fd);
    }
    if (n > 0) {
        text[n] = '\0';
        const char *state = strstr(text, "State:");
        int length = state != NULL ? (int)strcspn(state, "\n") : (int)strlen(text);
        dprintf(STDOUT_FILENO, "  %s: %.*s\n", what, length, state != NULL ? state : text);
    }
}

void watch_dump(void)
{
    DIR *tasks = opendir("/proc/self/task");
    if (tasks == NULL) {
        return;
    }
    for (const struct dirent *task; (task = readdir(tasks)) != NULL;) {
        if (task->d_name[0] != '.') {
            dprintf(STDOUT_FILENO, "thread %s\n", task->d_name);
            show(task->d_name, "comm");
            show(task->d_name, "status");
            show(task->d_name, "wchan");
            show(task->d_name, "syscall");
            show(task->d_name, "stack");
        }
    }
    (void)closedir(tasks);
}

static void too_late(int number)
{
    (void)number;
    static const char text[] = "HANGS: what each thread does:\n";
    (void)!write(STDOUT_FILENO, text, sizeof text - 1);
    watch_dump();
    _exit(1);
}

void watch_start(unsigned seconds)
{
    (void)signal(SIGALRM, too_late);
    (void)alarm(seconds);
}
