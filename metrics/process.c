// SPDX-License-Identifier: Apache-2.0
//
// Why these names without a prefix of ours: dashboards and alerts that know no program in particular ask for them.
//
// What cannot be told (no /proc) is left out, never 0. dsmd may have thousands of descriptors: counting them reads one
// directory of the kernel, a millisecond for 10,000, and http.c bounds how often.
//
// Safe on any thread, under dsmd's filter of system calls too.
#include "metrics/process.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static double clock_seconds(clockid_t clock)
{
    struct timespec now;
    return clock_gettime(clock, &now) == 0 ? (double)now.tv_sec + (double)now.tv_nsec / 1e9 : 0;
}

// The file's begin. "" when it cannot be read.
static void read_text(const char *path, char *text, size_t room)
{
    FILE *file = fopen(path, "re");
    size_t got = 0;
    if (file != NULL) {
        got = fread(text, 1, room - 1, file);
        (void)fclose(file);
    }
    text[got] = '\0';
}

// The number behind so many spaces. -1: there are not so many.
static int64_t field(const char *text, int spaces)
{
    for (; text != NULL && spaces > 0; spaces--) {
        text = strchr(text, ' ');
        text = text != NULL ? text + 1 : NULL;
    }
    return text != NULL && *text >= '0' && *text <= '9' ? strtoll(text, NULL, 10) : -1;
}

// /proc/self/stat counts in ticks since the system was started; behind the name come 19 fields, then that one.
double metrics_process_start(void)
{
    enum { FIELDS_BEHIND_NAME = 20 };
    char text[1024];
    read_text("/proc/self/stat", text, sizeof text);
    int64_t ticks = field(strrchr(text, ')'), FIELDS_BEHIND_NAME);
    double now = clock_seconds(CLOCK_REALTIME);
    double age = clock_seconds(CLOCK_BOOTTIME) - (double)ticks / (double)sysconf(_SC_CLK_TCK);
    return ticks >= 0 && age > 0 ? now - age : now;
}

static int open_descriptors(void)
{
    int count = -1; // the directory's own
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL) {
        return -1;
    }
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        count += entry->d_name[0] != '.' ? 1 : 0;
    }
    (void)closedir(directory);
    return count;
}

static int64_t resident_bytes(void)
{
    char text[256];
    read_text("/proc/self/statm", text, sizeof text);
    int64_t pages = field(text, 1);
    return pages < 0 ? -1 : pages * sysconf(_SC_PAGESIZE);
}

void metrics_process(struct metrics_text *text, double start)
{
    struct rlimit limit;
    int descriptors = open_descriptors();
    int64_t resident = resident_bytes();
    metrics_one(text, "process_start_time_seconds", METRICS_GAUGE,
                "When this process was started, since 1970.", start);
    metrics_one(text, "process_cpu_seconds_total", METRICS_COUNTER,
                "Processor time that this process has used.",
                clock_seconds(CLOCK_PROCESS_CPUTIME_ID));
    if (descriptors >= 0) {
        metrics_one(text, "process_open_fds", METRICS_GAUGE, "Open file descriptors.", descriptors);
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        metrics_one(text, "process_max_fds", METRICS_GAUGE,
                    "File descriptors that this process may have.", (double)limit.rlim_cur);
    }
    if (resident >= 0) {
        metrics_one(
            text, "process_resident_memory_bytes", METRICS_GAUGE,
            "Memory that this process has in use, pages of files that it has mapped among it.",
            (double)resident);
    }
}
