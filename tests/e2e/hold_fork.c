// SPDX-License-Identifier: Apache-2.0
//
// Children. A forked child has no session: calls say so, a touch ends it, and nothing that it does or leaves undone is
// noticed by its parent, who keeps faulting meanwhile. Children that exec another program are as always.
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/hold_rig.h"

enum { CACHE = 1 * MIB, PAGES = 8 * CACHE / PAGE, CHILDREN = 20 };

static dsm *session;
static dsm_segment *segment;
static atomic_bool stop;
static pthread_t threads[2];
static _Atomic uint64_t rounds;

static void *keep_faulting(void *number)
{
    uint64_t seed = (uintptr_t)number + 1;
    uint64_t half = PAGES / 2 * (uintptr_t)number; // each thread has its half
    while (!atomic_load(&stop)) {
        uint64_t page = half + (hold_random(&seed) >> 8) % (PAGES / 2);
        CHECK(hold_holds(segment, page, 1));
        if (page % 4 == 0) {
            hold_fill(segment, page, 1);
        }
        (void)atomic_fetch_add(&rounds, 1);
    }
    return NULL;
}

static void begin(void)
{
    session = hold_open(CACHE);
    segment = hold_create(session, "fork", PAGES, PAGE);
    hold_fill_all(segment, 1);
    for (uintptr_t i = 0; i < 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, keep_faulting, (void *)i) == 0);
    }
}

static void end(void)
{
    hold_pause_ms(200);
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    dsm_statistics statistics = hold_stats(session);
    printf("%lu rounds, %lu reconnects, %lu retries\n", (unsigned long)rounds,
           (unsigned long)statistics.reconnects, (unsigned long)statistics.retries);
    CHECK(statistics.reconnects == 0 && statistics.retries == 0, "a lane was disturbed");
    CHECK(rounds > 200, "nothing was tested");
    hold_check_all(segment, 1);
    OK(dsm_segment_close(segment));
    segment = hold_segment(session, "fork", 0); // control works, too
    hold_check_all(segment, 1);
    hold_close(session);
}

static void child_calls(void)
{
    dsm_segment *other;
    dsm_page_info info;
    dsm_statistics statistics = {.size = sizeof statistics};
    dsm *another;
    RESULT(dsm_clean(segment, hold_all(segment), NULL), -ECHILD);
    RESULT(dsm_swap_in(segment, hold_all(segment), 0, DSM_NO_PAGE), -ECHILD);
    RESULT(dsm_unpin(segment, hold_all(segment)), -ECHILD);
    RESULT(dsm_age(segment, hold_all(segment)), -ECHILD);
    RESULT(dsm_page_state(segment, 0, &info), -ECHILD);
    RESULT(dsm_segment_create(session, "child", PAGE, PAGE, 0, &other), -ECHILD);
    RESULT(dsm_segment_open(session, "child", 0, &other), -ECHILD);
    RESULT(dsm_segment_close(segment), -ECHILD);
    RESULT(dsm_segment_delete(session, "fork"), -ECHILD);
    RESULT(dsm_stats(session, &statistics), -ECHILD);
    RESULT(dsm_open(NULL, &another), -ECHILD);
    RESULT(dsm_close(session), -ECHILD);
    CHECK(strstr(dsm_error()->text, "forked") != NULL, "%s", dsm_error()->text);
}

static void run_calls(void)
{
    begin();
    for (int i = 0; i < CHILDREN; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            child_calls();
            if (i % 2 == 0) {
                _exit(0);
            }
            exit(0); // with all that runs at exit
        }
        hold_wait_well(child);
    }
    end();
}

static void run_touch(void)
{
    begin();
    for (int i = 0; i < CHILDREN; i++) {
        volatile uint64_t *at = hold_at(segment, (uint64_t)i * 50);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            if (i % 2 == 0) {
                at[0] = 99;
            }
            _exit(at[1] == 0 ? 1 : 2);
        }
        int status = hold_wait(child);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "the child's wait status is %#x",
              status);
    }
    end();
}

static void run_exec(void)
{
    begin();
    for (int i = 0; i < CHILDREN; i++) {
        hold_wait_well(hold_spawn("nothing"));
        FILE *pipe = popen("echo $((6 * 7))", "re"); // NOLINT(cert-env33-c): it is what is tried
        char line[16] = "";
        CHECK(pipe != NULL && fgets(line, sizeof line, pipe) != NULL && strcmp(line, "42\n") == 0);
        CHECK(pclose(pipe) == 0);
        CHECK(system("true") == 0); // NOLINT(cert-env33-c)
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            (void)execl("/bin/true", "true", NULL);
            _exit(1);
        }
        hold_wait_well(child);
    }
    end();
}

// The child lives on with its copies of the descriptors; the parent's session ends and begins again under it.
static void run_outliving(void)
{
    begin();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        hold_await("parent-done");
        _exit(0);
    }
    end();
    session = hold_open(CACHE);
    segment = hold_segment(session, "fork", 0);
    hold_check_all(segment, 1);
    hold_close(session);
    hold_say("parent-done");
    hold_wait_well(child);
}

static void nothing(void)
{
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"calls", run_calls},         {"touch", run_touch}, {"exec", run_exec},
        {"outliving", run_outliving}, {"nothing", nothing},
    };
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
