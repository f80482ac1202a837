// SPDX-License-Identifier: Apache-2.0
//
// Readiness. A descriptor for scripts and tests, and sd_notify where libsystemd was found at build
// time; outside systemd sd_notify does nothing. The only file that knows libsystemd.
//
// Used by the main thread only.
#include "server/ready.h"

#include <dirent.h>
#include <stdio.h>
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
    notify("READY=1");
    if (fd > 0) {
        int bytes = snprintf(line, sizeof line, "READY %u 127.0.0.1:%u\n", port, port);
        ssize_t written = write(fd, line, (size_t)bytes);
        (void)written; // whoever asked is gone: its business
        (void)close(fd);
    }
}

void ready_stopping(void)
{
    notify("STOPPING=1");
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
