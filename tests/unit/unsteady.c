// SPDX-License-Identifier: Apache-2.0
//
// unsteady SEED LONGEST_US PROGRAM [ARGUMENT...]: runs the program, and stops its threads by the debugger's means: one at a time, any,
// at any time, for up to LONGEST_US. A machine whose processors are taken away does the same to a test now and then; here it
// comes some hundred times a second, so what holds only because a thread is in time falls in few runs. The seed decides which thread
// and for how long, though not where it is then.
//
// The exit code is the program's, 128 and its signal, or 77 where nobody may trace.
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    SKIPPED = 77,
    CANNOT_RUN = 127,
    SIGNALLED = 128,
    MOST_THREADS = 1024,
    LOOK_US = 20,
    PAUSE_US = 200
};
// One stop in four is of any length, the others are at most a twentieth of it: many are better than long.
enum { LONG_ONE_IN = 4, SHORT_PART = 20, PATIENCE_US = 1000000 };

static struct {
    pid_t pid;
    bool ended;
    int status;
    uint64_t seed, stops;
} program;

static uint64_t next_random(void)
{
    program.seed ^= program.seed << 13;
    program.seed ^= program.seed >> 7;
    program.seed ^= program.seed << 17;
    return program.seed >> 11;
}

static int64_t now_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void resume(pid_t thread, int signal)
{
    // NOLINTNEXTLINE(performance-no-int-to-ptr): how ptrace takes a signal
    (void)ptrace(PTRACE_CONT, thread, NULL, (void *)(intptr_t)signal);
}

// Whatever has stopped goes on, but for a stop of `victim` that is ours: then true.
static bool take_news(pid_t victim)
{
    int status;
    pid_t thread;
    while (!program.ended && (thread = waitpid(-1, &status, __WALL | WNOHANG)) > 0) {
        if (!WIFSTOPPED(status)) {
            if (thread == program.pid) {
                program.ended = true;
                program.status = status;
            }
            continue;
        }
        bool event = (unsigned)status >> 16 != 0; // ours, or a new thread's first
        if (event && thread == victim) {
            return true;
        }
        resume(thread, event ? 0 : WSTOPSIG(status));
    }
    return false;
}

static pid_t any_thread(void)
{
    char path[64];
    pid_t threads[MOST_THREADS];
    unsigned count = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/task", (int)program.pid);
    DIR *folder = opendir(path);
    const struct dirent *entry;
    while (folder != NULL && count < MOST_THREADS && (entry = readdir(folder)) != NULL) {
        pid_t thread = (pid_t)strtol(entry->d_name, NULL, 10);
        threads[count] = thread;
        count += thread > 0;
    }
    if (folder != NULL) {
        (void)closedir(folder);
    }
    return count > 0 ? threads[next_random() % count] : 0;
}

static void stop_one(uint64_t longest_us)
{
    pid_t victim = any_thread();
    if (victim == 0 || ptrace(PTRACE_INTERRUPT, victim, NULL, NULL) != 0) {
        return; // it ends
    }
    int64_t patience = now_us() + PATIENCE_US;
    while (!take_news(victim)) {
        if (program.ended || now_us() > patience) {
            return; // it has ended meanwhile
        }
        (void)usleep(LOOK_US);
    }
    uint64_t most = next_random() % LONG_ONE_IN == 0 ? longest_us : longest_us / SHORT_PART;
    int64_t until = now_us() + (int64_t)(next_random() % (most + 1));
    while (now_us() < until) { // the others go on
        (void)take_news(0);
        (void)usleep(LOOK_US);
    }
    resume(victim, 0);
    program.stops++;
}

static int begin(char **command)
{
    int go[2];
    char byte = 0;
    if (pipe(go) != 0 || (program.pid = fork()) < 0) {
        return CANNOT_RUN;
    }
    if (program.pid == 0) {
        (void)close(go[1]);
        (void)!read(go[0], &byte, 1);
        (void)close(go[0]);
        (void)execvp(command[0], command);
        perror(command[0]);
        _exit(CANNOT_RUN);
    }
    (void)close(go[0]);
    // NOLINTNEXTLINE(performance-no-int-to-ptr): how ptrace takes options
    if (ptrace(PTRACE_SEIZE, program.pid, NULL,
               (void *)(PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL)) != 0) {
        perror("unsteady: no process can be traced here");
        (void)kill(program.pid, SIGKILL);
        return SKIPPED;
    }
    (void)close(go[1]);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        (void)fprintf(stderr, "unsteady SEED LONGEST_US PROGRAM [ARGUMENT...]\n");
        return CANNOT_RUN;
    }
    program.seed = strtoull(argv[1], NULL, 10) * 0x9e3779b97f4a7c15u + 1;
    uint64_t longest_us = strtoull(argv[2], NULL, 10);
    int error = begin(argv + 3);
    if (error != 0) {
        return error;
    }
    while (!program.ended) {
        stop_one(longest_us);
        (void)usleep((useconds_t)(next_random() % PAUSE_US));
        (void)take_news(0);
    }
    (void)fprintf(stderr, "unsteady: seed %s, %llu stops\n", argv[1],
                  (unsigned long long)program.stops);
    return WIFSIGNALED(program.status) ? SIGNALLED + WTERMSIG(program.status)
                                       : WEXITSTATUS(program.status);
}
