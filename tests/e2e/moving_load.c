// SPDX-License-Identifier: Apache-2.0
//
// One computation that stores into random pages of its memory at a given rate, in two forms: as an ordinary process, which CRIU may
// freeze and restore, and as a task, which moves to another process. It looks at the clock all the time, so it knows for how long it
// stood still, whoever moved it; the figures of both forms mean the same.
//
//   moving_load plain MIB RATE FILE          goes on until FILE is there
//   moving_load leave MIB RATE FILE clean|-  runs as a task, for a second; cleans once meanwhile, or not; leaves by the capsule $MOVE_CAPSULE
//   moving_load arrive MIB RATE FILE         waits for the capsule (a pipe), goes on until FILE is there
//
// MIB: of memory, all of it written once. RATE: MiB that are stored into a second, by whole pages.
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tests/e2e/task_rig.h"

enum { TICK_NS = 1000000, STACK_BYTES = 256 << 10, RUN_MS = 1000 };

struct load { // the memory's first page
    uint64_t pages, pages_a_tick, random;
    int64_t last_ns, next_ns, gap_ns;
    uint64_t ticks, stored;
    char end[256]; // a file: when it is there, it ends
};

static int64_t clock_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void set_up(struct load *load, uint64_t mib, uint64_t rate, const char *end)
{
    char *memory = (char *)load;
    for (uint64_t at = 0; at < mib * MIB; at += sizeof(uint64_t)) {
        memcpy(memory + at, &at, sizeof at); // nothing that compresses to zeros
    }
    *load = (struct load){.pages = mib * MIB / PAGE, .random = 88172645463325252};
    load->pages_a_tick = rate * MIB / PAGE * TICK_NS / 1000000000;
    (void)snprintf(load->end, sizeof load->end, "%s", end);
    load->last_ns = load->next_ns = clock_ns();
}

static void tick(struct load *load)
{
    int64_t now = clock_ns();
    load->gap_ns = now - load->last_ns > load->gap_ns ? now - load->last_ns : load->gap_ns;
    load->last_ns = now;
    for (uint64_t i = 0; i < load->pages_a_tick; i++) {
        uint64_t page = 1 + (hold_random(&load->random) >> 8) % (load->pages - 1);
        ((volatile uint64_t *)load)[page * PAGE / sizeof(uint64_t)] = load->random;
        load->stored++;
    }
    load->ticks++;
    load->next_ns = load->next_ns + TICK_NS > now ? load->next_ns + TICK_NS : now;
    const struct timespec until = {load->next_ns / 1000000000, load->next_ns % 1000000000};
    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static void run(struct load *load, void (*pause)(void))
{
    while (load->ticks % 64 != 0 || access(load->end, F_OK) != 0) {
        tick(load);
        pause();
    }
}

static void say_gap(const struct load *load)
{
    printf("gap_us %lld\nstored %llu\n", (long long)(load->gap_ns / 1000),
           (unsigned long long)load->stored);
}

static void no_pause(void)
{
}

static void plain(uint64_t mib, uint64_t rate, const char *end)
{
    struct load *load =
        mmap(NULL, mib * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(load != MAP_FAILED);
    set_up(load, mib, rate, end);
    run(load, no_pause);
    say_gap(load);
}

// ---- as a task

static uint64_t given_rate;
static const char *given_end;

static void work(void *heap, uint64_t heap_bytes)
{
    struct load *load = heap;
    set_up(load, heap_bytes / MIB, given_rate, given_end);
    run(load, dsm_task_yield);
    dsm_task_exit(0);
}

static dsm_task *task;
static int clean_before;

static void *stop_later(void *unused)
{
    dsm_segment *heap = dsm_task_segment(task, 0);
    const volatile uint64_t *ticks = &((struct load *)dsm_segment_base(heap))->ticks;
    while (*ticks == 0) {
        hold_pause_ms(10);
    }
    hold_pause_ms(RUN_MS / 2);
    if (clean_before != 0) {
        OK(dsm_clean(heap, hold_all(heap), NULL));
    }
    hold_pause_ms(RUN_MS / 2);
    dsm_task_stop(task);
    return unused;
}

static void leave(uint64_t mib, uint64_t rate, const char *end)
{
    pthread_t stopper;
    uint64_t capsule = 0;
    given_rate = rate;
    given_end = end;
    dsm *session = hold_open((mib + 64) * MIB);
    OK(dsm_task_create(session, "load", work, mib * MIB, STACK_BYTES, &task));
    CHECK(pthread_create(&stopper, NULL, stop_later, NULL) == 0);
    RESULT(dsm_task_run(task, NULL), 0);
    CHECK(pthread_join(stopper, NULL) == 0);
    OK(dsm_migrate_initiate(task, &capsule));
    int fd = open(hold_setting("MOVE_CAPSULE"), O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    OK(dsm_migrate_encap(task, fd, task_public_key(), 60));
    (void)close(fd);
    OK(dsm_migrate_finish(task));
    dsm_statistics stat = hold_stats(session);
    printf("capsule %llu\nbefore %llu\nfrozen_us %llu\n", (unsigned long long)capsule,
           (unsigned long long)stat.migrate_bytes_before,
           (unsigned long long)stat.migrate_freeze_ns / 1000);
    hold_close(session);
}

static void arrive(uint64_t mib)
{
    dsm *session = hold_open((mib + 64) * MIB);
    int fd = open(hold_setting("MOVE_CAPSULE"), O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    OK(dsm_migrate_deencap(session, fd, hold_setting("TASK_KEY"), &task));
    (void)close(fd);
    RESULT(dsm_task_run(task, NULL), 1);
    say_gap(dsm_segment_base(dsm_task_segment(task, 0)));
    dsm_statistics stat = hold_stats(session);
    printf("after %llu\nfaults %llu\n", (unsigned long long)stat.migrate_bytes_after,
           (unsigned long long)stat.migrate_faults_after);
    OK(dsm_task_destroy(task));
    hold_close(session);
}

int main(int argc, char **argv)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 5) {
        return 2;
    }
    uint64_t mib = strtoull(argv[2], NULL, 10), rate = strtoull(argv[3], NULL, 10);
    clean_before = argc > 5 && strcmp(argv[5], "clean") == 0;
    if (strcmp(argv[1], "plain") == 0) {
        plain(mib, rate, argv[4]);
    } else if (strcmp(argv[1], "leave") == 0) {
        leave(mib, rate, argv[4]);
    } else {
        arrive(mib);
    }
    return 0;
}
