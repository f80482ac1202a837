// SPDX-License-Identifier: Apache-2.0
//
// dsmd is killed and started again; the keeper opens the segment anew. As soon as the server has it
// open, the data lanes go on, before the keeper has the answer to the open. The linker puts a
// function of this file before control_resume(), which makes that moment certain.
//
// 1. A write may be acknowledged in it. The answer's highest write is then below what was
//    acknowledged, and must not be taken for an older store.
// 2. When the store is an older copy, a read must not be answered in it.
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <dsm/dsm.h>

#include "libdsm/backing/control.h"
#include "tests/e2e/server_rig.h"

enum { PAGES = 2048, CACHE_PAGES = 256, MOMENT_MS = 500 };

static _Atomic unsigned resumed;
static bool acknowledge_in_between;
static sigjmp_buf out;

int __real_control_resume(struct backing_lane *lane, const struct backing_segment *segment,
                          bool write, struct control_segment *info, int64_t deadline);
int __wrap_control_resume(struct backing_lane *lane, const struct backing_segment *segment,
                          bool write, struct control_segment *info, int64_t deadline);

int __wrap_control_resume(struct backing_lane *lane, const struct backing_segment *segment,
                          bool write, struct control_segment *info, int64_t deadline)
{
    int error = __real_control_resume(lane, segment, write, info, deadline);
    if (error == 0 && acknowledge_in_between) {
        struct backing_segment *written = (struct backing_segment *)(uintptr_t)segment;
        atomic_store(&written->acknowledged, info->highest + 1);
    } else {
        (void)poll(NULL, 0, MOMENT_MS); // the lanes are at it
    }
    (void)atomic_fetch_add(&resumed, 1);
    return error;
}

static dsm *session_of(const struct server *server)
{
    char address[64], path[128];
    dsm *session = NULL;
    server_path(server, "client-0.key", path);
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", server->port);
    assert_int_equal(setenv("DSM_SERVER", address, 1), 0);
    assert_int_equal(setenv("DSM_SERVER_KEY", server->server_key, 1), 0);
    assert_int_equal(setenv("DSM_KEY_FILE", path, 1), 0);
    assert_int_equal(dsm_open(NULL, &session), 0);
    return session;
}

static void test_a_write_overtakes_the_resume(void **state)
{
    struct server *server = *state;
    dsm_segment *segment = NULL;
    acknowledge_in_between = true;
    server_start(server);
    dsm *session = session_of(server);
    assert_int_equal(dsm_segment_create(session, "data", 16 * PAGE, PAGE, 0, &segment), 0);
    volatile uint8_t *base = dsm_segment_base(segment);
    const dsm_interval whole = {.page = 0, .count = 16};
    base[0] = 0x5a;
    assert_int_equal(dsm_clean(segment, whole, NULL), 0);
    server_kill(server);
    server_start(server);
    for (int i = 0; i < 2000 && atomic_load(&resumed) == 0; i++) {
        (void)poll(NULL, 0, 10);
    }
    assert_true(atomic_load(&resumed) > 0);
    base[PAGE] = 0xa5;
    assert_int_equal(dsm_clean(segment, whole, NULL), 0);
    assert_int_equal(base[0], 0x5a);
    assert_int_equal(dsm_segment_close(segment), 0);
    assert_int_equal(dsm_close(session), 0);
    assert_int_equal(server_stop(server), 0);
}

static void copy_tree(const char *from, const char *to)
{
    char *arguments[] = {"cp", "-a", (char *)(uintptr_t)from, (char *)(uintptr_t)to, NULL};
    pid_t pid = fork();
    if (pid == 0) {
        (void)execvp(arguments[0], arguments);
        _exit(127);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void leap(int signal)
{
    siglongjmp(out, signal);
}

static void fill(dsm_segment *segment, uint8_t with)
{
    for (size_t page = 0; page < PAGES; page++) {
        memset((uint8_t *)dsm_segment_base(segment) + page * PAGE, with, PAGE);
    }
    assert_int_equal(dsm_clean(segment, (dsm_interval){0, PAGES}, NULL), 0);
}

// What each page holds that can be read; the others say so by a signal.
static void check_not_stale(dsm_segment *segment, uint8_t with)
{
    volatile size_t lost = 0;
    for (volatile size_t page = 0; page < PAGES; page++) {
        const volatile uint8_t *at = dsm_segment_base(segment);
        if (sigsetjmp(out, 1) == 0) {
            assert_int_equal(at[page * PAGE], with);
        } else {
            lost++;
        }
    }
    assert_true(lost >= PAGES - CACHE_PAGES);
}

static void test_an_older_copy_answers_nothing(void **state)
{
    struct server *server = *state;
    char store[128], copy[128], away[128];
    dsm_segment *segment = NULL;
    acknowledge_in_between = false;
    assert_int_equal(setenv("DSM_CACHE", "1M", 1), 0);
    server_path(server, "store", store);
    server_path(server, "copy", copy);
    server_path(server, "away", away);
    server_start(server);
    assert_true(signal(SIGBUS, leap) != SIG_ERR); // before the library's, where it has one
    dsm *session = session_of(server);
    assert_int_equal(
        dsm_segment_create(session, "older", (uint64_t)PAGES * PAGE, PAGE, 0, &segment), 0);
    fill(segment, 1);
    assert_int_equal(server_stop(server), 0);
    copy_tree(store, copy);
    server_start(server);
    fill(segment, 2);
    assert_int_equal(server_stop(server), 0);
    assert_int_equal(rename(store, away), 0);
    assert_int_equal(rename(copy, store), 0);
    server_start(server);
    check_not_stale(segment, 2);
    assert_int_equal(dsm_segment_close(segment), -DSM_ELOST);
    assert_int_equal(dsm_close(session), 0);
    (void)signal(SIGBUS, SIG_DFL);
    assert_int_equal(server_stop(server), 0);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        (void)setenv("DSMD", argv[1], 1);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_write_overtakes_the_resume, server_setup,
                                        server_teardown),
        cmocka_unit_test_setup_teardown(test_an_older_copy_answers_nothing, server_setup,
                                        server_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
