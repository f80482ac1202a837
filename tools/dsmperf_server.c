// SPDX-License-Identifier: Apache-2.0
//
// A dsmd for one measurement: started on a loopback port that the kernel picks, with keys made for it and thrown away
// after it, and a store in a directory of its own, on the memory file system where there is one (a memory
// server is what is to be measured, not a disk).
//
// The directory is ours alone (mkdtemp, mode 0700). perf_server_stop() ends the process by its id, and a keeper removes the directory
// then. If dsmperf itself is killed, dsmd is killed by the parent-death signal, and the keeper does the same.
#include "tools/dsmperf.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tools/dsmperf_keeper.h"

enum { READY_TEXT_BYTES = 64, STOP_STEPS = 500, STOP_STEP_MS = 10 };

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status;
    (void)kind;
    (void)walk;
    return remove(path);
}

// Again and again, for as long as a dsmd that was killed is still writing there.
static void remove_directory(const void *context)
{
    static const struct timespec step = {.tv_nsec = STOP_STEP_MS * 1000000L};
    const struct perf_server *server = context;
    for (int i = 0; i < STOP_STEPS; i++) {
        (void)nftw(server->directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
        if (access(server->directory, F_OK) != 0) {
            return;
        }
        nanosleep(&step, NULL);
    }
}

static int make_directory(struct perf_server *server, struct failure *failure)
{
    const char *parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : getenv("TMPDIR");
    snprintf(server->directory, sizeof(server->directory), "%s/dsmperf-XXXXXX",
             parent != NULL ? parent : "/tmp");
    if (mkdtemp(server->directory) == NULL) {
        int error = -errno;
        failure_set(failure, error, "No directory could be made at %s.", server->directory);
        return error;
    }
    int error = perf_keeper_start(remove_directory, server, &server->keeper, failure);
    if (error != 0) {
        remove_directory(server);
    }
    return error;
}

static int make_keys(struct perf_server *server, struct failure *failure)
{
    char path[320];
    char client_key[KEYFILE_TEXT_BYTES];
    snprintf(path, sizeof(path), "%s/server.key", server->directory);
    int result = keyfile_generate(path, server->server_key, failure);
    if (result != 0) {
        return result;
    }
    snprintf(server->client_key_file, sizeof(server->client_key_file), "%s/client.key",
             server->directory);
    result = keyfile_generate(server->client_key_file, client_key, failure);
    if (result != 0) {
        return result;
    }
    snprintf(path, sizeof(path), "%s/authorized", server->directory);
    char line[KEYFILE_TEXT_BYTES + sizeof(" dsmperf")];
    snprintf(line, sizeof(line), "%s dsmperf", client_key);
    return key_grants_append(path, line, failure);
}

// In the child; returns only on failure.
static void execute(const char *program, const struct perf_server *server, uint64_t capacity,
                    const char *spin, int fd, pid_t parent)
{
    char store[320], key[320], authorized[320], size[32], ready[16];
    snprintf(store, sizeof(store), "%s/store", server->directory);
    snprintf(key, sizeof(key), "%s/server.key", server->directory);
    snprintf(authorized, sizeof(authorized), "%s/authorized", server->directory);
    snprintf(size, sizeof(size), "%lluM", (unsigned long long)(capacity >> 20));
    snprintf(ready, sizeof(ready), "%d", fd);
    perf_end_with(parent);
    fcntl(fd, F_SETFD, 0);
    execl(program, program, "--store", store, "--capacity", size, "--listen", "127.0.0.1:0",
          "--config", "", "--key", key, "--authorized", authorized, "--ready-fd", ready,
          "--log-level", "warning", spin != NULL ? "--spin" : (char *)NULL, spin, (char *)NULL);
}

// Reads "READY <port>\n"; the end of the pipe without it means that the server ended.
static int wait_ready(int fd, struct perf_server *server)
{
    char text[READY_TEXT_BYTES] = "";
    size_t length = 0;
    while (length < sizeof(text) - 1 && strchr(text, '\n') == NULL) {
        ssize_t got = read(fd, text + length, sizeof(text) - 1 - length);
        if (got <= 0) {
            return -ECHILD;
        }
        length += (size_t)got;
        text[length] = '\0';
    }
    static const char ready[] = "READY ";
    unsigned long port = 0;
    if (strncmp(text, ready, strlen(ready)) == 0) {
        port = strtoul(text + strlen(ready), NULL, 10);
    }
    if (port == 0 || port > 65535) {
        return -EPROTO;
    }
    snprintf(server->address, sizeof(server->address), "127.0.0.1:%lu", port);
    return 0;
}

int perf_server_start(const char *program, uint64_t capacity, const char *spin,
                      struct perf_server *server, struct failure *failure)
{
    int fds[2];
    *server = (struct perf_server){.pid = -1};
    int result = make_directory(server, failure);
    if (result == 0) {
        result = make_keys(server, failure);
    }
    if (result == 0 && pipe2(fds, O_CLOEXEC) != 0) {
        result = failure_set(failure, -errno, "No pipe could be made.");
    }
    if (result != 0) {
        perf_server_stop(server);
        return result;
    }
    pid_t parent = getpid();
    server->pid = fork();
    if (server->pid == 0) {
        execute(program, server, capacity, spin, fds[1], parent);
        fprintf(stderr, "dsmperf: %s: %s\n", program, strerror(errno));
        _exit(127);
    }
    result = server->pid < 0 ? -errno : 0;
    close(fds[1]);
    if (result == 0) {
        result = wait_ready(fds[0], server);
    }
    close(fds[0]);
    if (result != 0) {
        failure_set(failure, result,
                    "%s did not start. Give --dsmd PATH, or a server in DSM_SERVER.", program);
        perf_server_stop(server);
    }
    return result;
}

void perf_server_stop(struct perf_server *server)
{
    if (server->pid > 0) {
        static const struct timespec step = {.tv_nsec = STOP_STEP_MS * 1000000L};
        kill(server->pid, SIGTERM);
        int left = STOP_STEPS;
        while (left > 0 && waitpid(server->pid, NULL, WNOHANG) == 0) {
            nanosleep(&step, NULL);
            left--;
        }
        if (left == 0) {
            kill(server->pid, SIGKILL);
            waitpid(server->pid, NULL, 0);
        }
        server->pid = -1;
    }
    perf_keeper_stop(&server->keeper);
}
