// SPDX-License-Identifier: Apache-2.0
//
// A program for dsmstat to look at. It works on a segment twice as large as its cache, prints its pid and its counters as the
// library tells them ("NAME NUMBER" lines between "counters" and "end"), and then does nothing until the file that it is
// given appears. Then it closes its segment, prints the counters once more, closes its session, and ends.
//
//   tools_client FILE             as said
//   tools_client FILE fork        with a forked child that lives as long, and has its parent's descriptors
#include <dsm/dsm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 2048, CACHE = PAGES / 2 * PAGE };

static int check(int result, const char *what)
{
    if (result != 0) {
        (void)fprintf(stderr, "%s: %s\n", what, dsm_error()->text);
        exit(1);
    }
    return result;
}

static void print_counters(dsm *session)
{
    dsm_statistics s = {.size = sizeof s};
    check(dsm_stats(session, &s), "dsm_stats");
    printf("counters\n");
#define DSM_COUNTER(name, ...) printf(#name " %llu\n", (unsigned long long)s.name);
#include <dsm/counters.def>
#undef DSM_COUNTER
    dsm_latency latency = {.size = sizeof latency};
    check(dsm_fault_latency(session, &latency), "dsm_fault_latency");
    printf("faults %llu\ntotal_ns %llu\n", (unsigned long long)latency.count,
           (unsigned long long)latency.total_ns);
    static const struct {
        const char *name;
        double percent;
    } percents[] = {{"p50_ns", 50}, {"p90_ns", 90}, {"p99_ns", 99}, {"p999_ns", 99.9}};
    for (size_t i = 0; i < sizeof percents / sizeof percents[0]; i++) {
        printf("%s %llu\n", percents[i].name,
               (unsigned long long)dsm_latency_percentile(&latency, percents[i].percent));
    }
    printf("end\n");
    (void)fflush(stdout);
}

static void work(dsm_segment *segment)
{
    volatile unsigned char *base = dsm_segment_base(segment);
    for (size_t page = 0; page < PAGES; page++) {
        base[page * PAGE] = (unsigned char)(page | 1);
    }
    for (size_t page = 0; page < PAGES; page++) {
        if (base[page * PAGE] != (unsigned char)(page | 1)) {
            (void)fprintf(stderr, "page %zu is wrong\n", page);
            exit(1);
        }
    }
    check(dsm_clean(segment, (dsm_interval){0, PAGES}, NULL), "dsm_clean");
}

// Counters of a library at rest: what its threads still had to do is done.
static void settle(dsm *session)
{
    dsm_statistics before = {.size = sizeof before};
    dsm_statistics now = {.size = sizeof now};
    check(dsm_stats(session, &now), "dsm_stats");
    do {
        before = now;
        (void)usleep(200000);
        check(dsm_stats(session, &now), "dsm_stats");
    } while (memcmp(&before, &now, sizeof now) != 0);
}

static void await(const char *path)
{
    while (access(path, F_OK) != 0) {
        (void)usleep(20000);
    }
}

int main(int argc, char **argv)
{
    dsm *session;
    dsm_segment *segment;
    const dsm_options options = {.size = sizeof options, .cache_bytes = CACHE};
    char name[64];
    pid_t child = 0;
    if (argc < 2) {
        return 2;
    }
    (void)snprintf(name, sizeof name, "tools/%ld", (long)getpid());
    check(dsm_open(&options, &session), "dsm_open");
    check(dsm_segment_create(session, name, (uint64_t)PAGES * PAGE, 0, 0, &segment), "create");
    work(segment);
    settle(session);
    if (argc > 2 && strcmp(argv[2], "fork") == 0) {
        child = fork();
        if (child == 0) {
            (void)pause();
            _exit(0);
        }
    }
    printf("pid %ld\nchild %ld\n", (long)getpid(), (long)child);
    print_counters(session);
    await(argv[1]);
    if (child > 0) {
        (void)kill(child, SIGTERM);
        (void)waitpid(child, NULL, 0);
    }
    check(dsm_segment_close(segment), "dsm_segment_close");
    check(dsm_segment_delete(session, name), "dsm_segment_delete");
    print_counters(session);
    check(dsm_close(session), "dsm_close");
    return 0;
}
