// SPDX-License-Identifier: Apache-2.0
//
// Running a test program: its closing table comes as JSON over a pipe, and of what it says to people only the last line is
// kept, for the sentence of a failure. Of the table some fields are looked for by their names; that it ends in "verified"
// is what its exit code says as well.
#include "tools/dsmperf_run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/dsmperf_keeper.h"

enum { TEXT_BYTES = 8192 };

static _Noreturn void execute(const struct perf_run *run, int out, int errors, pid_t parent)
{
    perf_end_with(parent);
    if (run->swap != NULL && perf_swap_enter(run->swap) != 0) {
        _exit(126);
    }
    if (run->server != NULL && (setenv("DSM_SERVER", run->server->address, 1) != 0 ||
                                setenv("DSM_SERVER_KEY", run->server->server_key, 1) != 0 ||
                                setenv("DSM_KEY_FILE", run->server->client_key_file, 1) != 0)) {
        _exit(126);
    }
    (void)dup2(out, STDOUT_FILENO);
    (void)dup2(errors, STDERR_FILENO);
    execv(run->arguments[0], (char *const *)(uintptr_t)run->arguments);
    _exit(127);
}

static void read_all(int fd, char text[TEXT_BYTES])
{
    size_t length = 0;
    ssize_t got;
    while (length < TEXT_BYTES - 1 &&
           (got = read(fd, text + length, TEXT_BYTES - 1 - length)) > 0) {
        length += (size_t)got;
    }
    text[length] = '\0';
}

static bool number(const char *text, const char *name, double *value)
{
    char quoted[64];
    (void)snprintf(quoted, sizeof(quoted), "\"%s\":", name);
    const char *at = strstr(text, quoted);
    if (at == NULL) {
        return false;
    }
    *value = strtod(at + strlen(quoted), NULL);
    return true;
}

static int ended_badly(const struct perf_run *run, int status, int errors, struct failure *failure)
{
    static const char killed[] = "it was killed: too little memory for its limit";
    char text[TEXT_BYTES];
    (void)lseek(errors, 0, SEEK_SET);
    read_all(errors, text);
    size_t length = strlen(text);
    while (length > 0 && text[length - 1] == '\n') {
        text[--length] = '\0';
    }
    const char *last = strrchr(text, '\n') == NULL ? text : strrchr(text, '\n') + 1;
    if (WIFSIGNALED(status)) {
        return failure_set(failure, -ECHILD, "%s: %s", run->arguments[0],
                           WTERMSIG(status) == SIGKILL ? killed : strsignal(WTERMSIG(status)));
    }
    if (WEXITSTATUS(status) == 127) {
        return failure_set(failure, -ENOENT, "%s cannot be run", run->arguments[0]);
    }
    return failure_set(failure, -ECHILD, "%s: exit code %d: %s", run->arguments[0],
                       WEXITSTATUS(status), last);
}

int perf_run(struct perf_run *run, struct failure *failure)
{
    char text[TEXT_BYTES];
    int ends[2];
    int status = 0;
    double bytes = 0;
    int errors = memfd_create("errors", MFD_CLOEXEC);
    if (errors < 0 || pipe2(ends, O_CLOEXEC) != 0) {
        return failure_set(failure, -errno, "No pipe could be made.");
    }
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        execute(run, ends[1], errors, parent);
    }
    close(ends[1]);
    read_all(ends[0], text);
    close(ends[0]);
    int result = pid < 0 || waitpid(pid, &status, 0) != pid ? -errno : 0;
    if (result != 0) {
        failure_set(failure, result, "%s could not be started.", run->arguments[0]);
    } else if (status != 0) {
        result = ended_badly(run, status, errors, failure);
    } else if (!number(text, "work_seconds", &run->seconds) ||
               !number(text, "segment_bytes", &bytes)) {
        result = failure_set(failure, -EPROTO, "%s says nothing of its time.", run->arguments[0]);
    }
    close(errors);
    if (result == 0) {
        run->data_bytes = (uint64_t)bytes;
    }
    return result;
}
