// SPDX-License-Identifier: Apache-2.0
//
// See package_source.h. The command is started without a shell. It may be started while a session is open:
// posix_spawn() does not copy the address space, and the child execs at once, which libdsm allows; its
// end of the pipe is the only descriptor that it gets.
#include "tests/programs/package_source.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int say_no_command(int error)
{
    fprintf(stderr,
            "pagerank: 'apt-cache dumpavail' failed%s%s. Where there is no apt, give a package "
            "index as FILE (a Packages file of a Debian mirror)\n",
            error != 0 ? ": " : "", error != 0 ? strerror(error) : "");
    return error != 0 ? -error : -EIO;
}

static int spawn_command(int output, pid_t *pid)
{
    static char name[] = "apt-cache";
    static char argument[] = "dumpavail";
    char *const arguments[] = {name, argument, NULL};
    posix_spawn_file_actions_t actions;
    int error = posix_spawn_file_actions_init(&actions);
    if (error != 0) {
        return error;
    }
    error = posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    if (error == 0) {
        error = posix_spawnp(pid, name, &actions, NULL, arguments, environ);
    }
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

static int open_command(struct package_source *source)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return say_no_command(errno);
    }
    int error = spawn_command(fds[1], &source->pid);
    close(fds[1]);
    if (error == 0) {
        source->stream = fdopen(fds[0], "r");
        error = source->stream == NULL ? errno : 0;
    }
    if (error != 0) {
        close(fds[0]);
        if (source->pid > 0) {
            waitpid(source->pid, NULL, 0);
        }
        return say_no_command(error);
    }
    return 0;
}

int package_source_open(struct package_source *source, const char *file)
{
    *source = (struct package_source){.file = file, .pid = -1};
    if (file == NULL) {
        return open_command(source);
    }
    source->stream = fopen(file, "re");
    if (source->stream == NULL) {
        int error = -errno;
        fprintf(stderr, "pagerank: %s: %s\n", file, strerror(-error));
        return error;
    }
    return 0;
}

int package_source_close(struct package_source *source)
{
    int status = 0;
    bool failed = ferror(source->stream) != 0;
    failed |= fclose(source->stream) != 0;
    if (source->pid > 0 && waitpid(source->pid, &status, 0) < 0) {
        status = -1;
    }
    if (source->file == NULL) {
        return failed || status != 0 ? say_no_command(0) : 0;
    }
    if (failed) {
        fprintf(stderr, "pagerank: %s could not be read\n", source->file);
        return -EIO;
    }
    return 0;
}
