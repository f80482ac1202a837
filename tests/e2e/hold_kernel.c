// SPDX-License-Identifier: Apache-2.0
//
// What the program asks of the kernel beside us: threads that block SIGSEGV, and memory that is to be locked. In each case
// the manual says what happens (dsm(7), RULES), and here it does.
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/hold_rig.h"

enum { CACHE = 1 * MIB, PAGES = 8 * CACHE / PAGE };

static dsm_segment *filled(dsm *session)
{
    dsm_segment *segment = hold_create(session, "kernel", PAGES, PAGE);
    hold_fill_all(segment, 1);
    OK(dsm_clean(segment, hold_all(segment), NULL));
    return segment;
}

// ---- a thread that blocks the signals of faults ----

static void block_faults(void)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGSEGV);
    (void)sigaddset(&set, SIGBUS);
    CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
}

static void touch_blocked(void)
{
    dsm *session = hold_open(CACHE);
    dsm_segment *segment = filled(session);
    const volatile uint64_t *absent = hold_at(segment, hold_absent(segment, 0));
    block_faults();
    (void)*absent;
    CHECK(false, "the touch came back");
}

// Killed at once, by that signal: no hang, and nothing wrong is read.
static void run_blocked_sigsegv(void)
{
    int status = hold_wait(hold_spawn("touch-blocked"));
    const char *trap = getenv("DSM_TRAP");
    int signal = trap != NULL && strcmp(trap, "uffd") == 0 ? SIGBUS : SIGSEGV;
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == signal, "the child's wait status is %#x",
          status);
}

static void *use_what_is_in(void *at)
{
    block_faults();
    volatile uint64_t *words = at;
    for (int i = 0; i < 1000; i++) {
        words[i % (PAGE / 8)] += 1;
    }
    return NULL;
}

// Where its pages are pinned it may work on them all the same.
static void run_blocked_pinned(void)
{
    dsm *session = hold_open(CACHE);
    dsm_segment *segment = filled(session);
    dsm_interval one = {.page = PAGES / 2, .count = 1};
    OK(dsm_swap_in(segment, one, DSM_KILL | DSM_PIN | DSM_WRITE, DSM_NO_PAGE));
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, use_what_is_in, hold_at(segment, one.page)) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    OK(dsm_unpin(segment, one));
    CHECK(*(uint64_t *)hold_at(segment, one.page) == 2, "the stores were lost");
    hold_close(session);
}

// ---- mlockall ----

static uint64_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    char line[128] = "";
    CHECK(file != NULL && fgets(line, sizeof line, file) != NULL);
    (void)fclose(file);
    char *second = strchr(line, ' '); // total, resident, ...
    CHECK(second != NULL);
    return strtoull(second, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void work_under(int flags)
{
    dsm *session = hold_open(CACHE);
    CHECK(mlockall(flags) == 0, "%s", strerror(errno));
    uint64_t before = resident_bytes();
    dsm_segment *segment = filled(session);
    uint64_t grown = resident_bytes() - before;
    printf("memory grew by %lu KiB\n", (unsigned long)(grown >> 10));
    if ((flags & MCL_ONFAULT) != 0) {
        CHECK(grown < (uint64_t)4 * CACHE, "the segment was filled");
    }
    hold_check_all(segment, 1);
    hold_fill_all(segment, 2);
    OK(dsm_segment_close(segment));
    segment = hold_segment(session, "kernel", 0);
    hold_check_all(segment, 2);
    hold_close(session);
}

static void run_mlockall_onfault(void)
{
    work_under(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
}

static void run_mlockall(void)
{
    work_under(MCL_CURRENT | MCL_FUTURE);
}

static void run_mlockall_limit(void)
{
    dsm *session = hold_open(CACHE);
    char *code = calloc(PAGES, PAGE);
    CHECK(mlockall(MCL_FUTURE) == 0, "%s", strerror(errno));
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    limit.rlim_cur = (rlim_t)4 * MIB;
    CHECK(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    dsm_segment *segment;
    RESULT(dsm_segment_create(session, "kernel", (uint64_t)PAGES * PAGE, PAGE, 0, &segment),
           -EAGAIN);
    CHECK(strstr(dsm_error()->text, "MCL_ONFAULT") != NULL &&
              strstr(dsm_error()->text, "RLIMIT_MEMLOCK") != NULL,
          "%s", dsm_error()->text);
    // No other process makes it: there is nothing to wait for.
    RESULT(dsm_code_open(session, code, (uint64_t)PAGES * PAGE, PAGE, &segment), -EAGAIN);
    CHECK(strstr(dsm_error()->text, "RLIMIT_MEMLOCK") != NULL, "%s", dsm_error()->text);
    free(code);
    CHECK(munlockall() == 0);
    hold_close(session);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"blocked-sigsegv", run_blocked_sigsegv},
        {"touch-blocked", touch_blocked},
        {"blocked-pinned", run_blocked_pinned},
        {"mlockall-onfault", run_mlockall_onfault},
        {"mlockall", run_mlockall},
        {"mlockall-limit", run_mlockall_limit},
    };
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
