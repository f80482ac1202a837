// SPDX-License-Identifier: Apache-2.0
//
// Readiness. A descriptor for scripts and tests, and sd_notify where libsystemd was found at build
// time; outside systemd sd_notify does nothing. The only file that knows libsystemd.
//
// A reload is announced with the time of its start, which Type=notify-reload asks for and
// Type=notify ignores; its end is READY again. The last word before a failed end is the sentence
// that says why, so that "systemctl status" shows it.
//
// Used by the main thread only.
#include "server/ready.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#ifdef DSM_WITH_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

static void notify(const char *state)
{
#ifdef DSM_WITH_SYSTEMD
    (void)sd_notify(0, state);
#else
    (void)state;
#endif
}

void ready_say(int fd, uint16_t port)
{
    char line[64];
    notify("READY=1\nSTATUS=serving");
    if (fd > 0) {
        int bytes = snprintf(line, sizeof line, "READY %u 127.0.0.1:%u\n", port, port);
        ssize_t written = write(fd, line, (size_t)bytes);
        (void)written; // whoever asked is gone: its business
        (void)close(fd);
    }
}

void ready_reloading(void)
{
    char state[96];
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    (void)snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%" PRId64,
                   (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    notify(state);
}

void ready_reloaded(void)
{
    notify("READY=1\nSTATUS=serving");
}

void ready_stopping(void)
{
    notify("STOPPING=1\nSTATUS=finishing requests");
}

void ready_failed(int error, const char *sentence)
{
    char state[512];
    (void)snprintf(state, sizeof state, "STATUS=%s\nERRNO=%d", sentence, -error);
    notify(state);
}

int ready_thread_count(void)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    if (tasks == NULL) {
        return 0;
    }
    for (const struct dirent *task; (task = readdir(tasks)) != NULL;) {
        count += task->d_name[0] != '.' ? 1 : 0;
    }
    (void)closedir(tasks);
    return count;
}
