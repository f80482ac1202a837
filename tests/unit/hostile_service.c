// SPDX-License-Identifier: Apache-2.0
//
// A key is taken away while its client attaches. Whichever comes first, nobody stays attached with
// a key that is gone: not with a lane that nobody ends, and not with the rights of before. And a
// key that is given to another principal ends what it had.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/clock.h"
#include "tests/unit/catalog_rig.h"
#include "tests/unit/service_rig.h"

enum { ROUNDS = 3000 };

static struct rig rig;
static struct service *service;

static struct key_grants *grants_of(const char *principal)
{
    char path[] = "/tmp/dsm-authorized-XXXXXX";
    char key[KEYFILE_TEXT_BYTES];
    const struct key_grant grant = grant_of(1, "");
    struct failure failure = {""};
    struct key_grants *grants = NULL;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    keyfile_encode(grant.public_key, key);
    if (principal != NULL) {
        assert_true(dprintf(fd, "%s %s\n", key, principal) > 0);
    }
    (void)close(fd);
    int error = key_grants_load(path, &grants, &failure);
    (void)unlink(path);
    if (error != 0) {
        fail_msg("%s", failure.text);
    }
    return grants;
}

static int setup(void **state)
{
    (void)state;
    rig_make(&rig, rig_medium_usable(RIG_TMPFS) ? RIG_TMPFS : RIG_DISK, 16 * MIB);
    rig_open(&rig);
    const struct service_options options = {
        .store = rig.store, .lease_ms = LEASE, .server_name = "test", .wake = rig_front_woken};
    struct key_grants *grants = grants_of("alice");
    return service_create(&options, &grants, &service);
}

static int teardown(void **state)
{
    (void)state;
    service_destroy(&service);
    rig_end(&rig);
    return 0;
}

static struct service_lane *attach(void)
{
    const struct key_grant grant = grant_of(1, "");
    const struct wire_attach hello = {.instance = {1}, .generation = 1, .holder = "tester"};
    struct wire_attached attached = {0};
    struct service_lane *lane = NULL;
    (void)service_attach(service, grant.public_key, &hello, clock_now_ms(), &lane, &attached);
    return lane;
}

static pthread_barrier_t together;

static void *attach_run(void *argument)
{
    (void)argument;
    (void)pthread_barrier_wait(&together);
    return attach();
}

static void test_key_goes_while_attaching(void **state)
{
    (void)state;
    assert_int_equal(pthread_barrier_init(&together, NULL, 2), 0);
    for (int i = 0; i < ROUNDS; i++) {
        struct key_grants *none = grants_of(NULL);
        struct key_grants *alice = grants_of("alice");
        pthread_t thread;
        void *lane = NULL;
        assert_int_equal(pthread_create(&thread, NULL, attach_run, NULL), 0);
        (void)pthread_barrier_wait(&together);
        for (volatile int pause = 0; pause < i % 64 * 16; pause++) {
        }
        service_regrant(service, &none);
        assert_int_equal(pthread_join(thread, &lane), 0);
        struct service_lane *attached = lane;
        if (attached != NULL) {
            assert_int_equal(service_lane_state(attached), SERVICE_LANE_REFUSED);
            service_lane_abandon(&attached);
        }
        service_regrant(service, &alice);
    }
    (void)pthread_barrier_destroy(&together);
}

static void test_key_changes_its_principal(void **state)
{
    (void)state;
    struct service_lane *lane = attach();
    assert_non_null(lane);
    assert_int_equal(service_lane_state(lane), SERVICE_LANE_READY);
    struct key_grants *same = grants_of("alice");
    service_regrant(service, &same);
    assert_int_equal(service_lane_state(lane), SERVICE_LANE_READY);
    struct key_grants *bob = grants_of("bob");
    service_regrant(service, &bob);
    assert_int_equal(service_lane_state(lane), SERVICE_LANE_REFUSED);
    service_lane_abandon(&lane);
    lane = attach(); // as bob now
    assert_non_null(lane);
    assert_int_equal(service_lane_state(lane), SERVICE_LANE_READY);
    service_lane_abandon(&lane);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_key_goes_while_attaching, setup, teardown),
        cmocka_unit_test_setup_teardown(test_key_changes_its_principal, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
