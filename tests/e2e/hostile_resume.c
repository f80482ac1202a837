// SPDX-License-Identifier: Apache-2.0
//
// dsmd is killed and started again; the keeper opens the segment anew. As soon as the server has it
// open, a data lane may write and be acknowledged, before the answer to the open is here. That
// answer's highest write is then below what was acknowledged, and must not be taken for an older
// store. The moment is made certain: the linker puts a function of this file before
// control_resume(), which acknowledges a write after the server has answered.
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dsm/dsm.h>

#include "libdsm/backing/control.h"
#include "tests/e2e/server_rig.h"

static _Atomic unsigned resumed;

int __real_control_resume(struct backing_lane *lane, const struct backing_segment *segment,
                          bool write, struct control_segment *info, int64_t deadline);
int __wrap_control_resume(struct backing_lane *lane, const struct backing_segment *segment,
                          bool write, struct control_segment *info, int64_t deadline);

int __wrap_control_resume(struct backing_lane *lane, const struct backing_segment *segment,
                          bool write, struct control_segment *info, int64_t deadline)
{
    int error = __real_control_resume(lane, segment, write, info, deadline);
    if (error == 0) {
        struct backing_segment *written = (struct backing_segment *)(uintptr_t)segment;
        atomic_store(&written->acknowledged, info->highest + 1);
        (void)atomic_fetch_add(&resumed, 1);
    }
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

int main(int argc, char **argv)
{
    if (argc > 1) {
        (void)setenv("DSMD", argv[1], 1);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_write_overtakes_the_resume, server_setup,
                                        server_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
