// SPDX-License-Identifier: Apache-2.0
//
// Ephemeral segments: each way in which the last holder can go deletes them, nothing else does, and their space comes back.
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/catalog_rig.h"

enum { EPHEMERAL = STORE_SEGMENT_EPHEMERAL };

static uint64_t charged(struct world *world, struct catalog_session *session)
{
    struct catalog_sums sums;
    catalog_sums(world->catalog, session, &sums);
    return sums.charged_bytes;
}

static void sweep(struct world *world, int64_t later)
{
    world->now += later;
    catalog_expire(world->catalog, world->now);
}

static void test_close_deletes(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    assert_int_equal(create_sized(world, one, "e", 1, 16 * PAGE, EPHEMERAL), WIRE_OK);
    uint64_t id = world->view.record.id;
    assert_int_equal(create_sized(world, one, "kept", 2, 16 * PAGE, 0), WIRE_OK);
    uint64_t kept = world->view.record.id;
    sweep(world, LEASE / 2); // while it is open nothing happens to it
    assert_int_equal(touch(world, one, id, 1, WIRE_READ), WIRE_OK);
    assert_int_equal(charged(world, one), 32 * PAGE);
    assert_int_equal(catalog_segment_close(world->catalog, one, id), WIRE_OK);
    assert_int_equal(catalog_segment_close(world->catalog, one, kept), WIRE_OK);
    assert_int_equal(open_as(world, one, "e", true), WIRE_NO_SEGMENT);
    assert_int_equal(open_as(world, one, "kept", true), WIRE_OK);
    assert_int_equal(charged(world, one), 16 * PAGE);
    assert_int_equal(create_sized(world, one, "e", 3, 16 * PAGE, EPHEMERAL), WIRE_OK);
    put(world, one);
}

static void test_reader_keeps_it(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    struct catalog_session *two = session_of(world, 2);
    assert_int_equal(create_sized(world, one, "e", 1, 16 * PAGE, EPHEMERAL), WIRE_OK);
    uint64_t id = world->view.record.id;
    put(world, one); // lost
    world->now += LEASE + 1;
    assert_int_equal(open_as(world, two, "e", false), WIRE_OK);
    sweep(world, 1);
    assert_int_equal(touch(world, two, id, 1, WIRE_READ), WIRE_OK);
    assert_int_equal(catalog_segment_close(world->catalog, two, id), WIRE_OK);
    assert_int_equal(open_as(world, two, "e", false), WIRE_NO_SEGMENT);
    put(world, two);
}

static void test_lost_holder(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    struct catalog_session *two = session_of(world, 2);
    assert_int_equal(create_sized(world, one, "e", 1, 16 * PAGE, EPHEMERAL), WIRE_OK);
    put(world, one);
    sweep(world, LEASE); // it may come back until its lease has lapsed
    assert_int_equal(charged(world, two), 16 * PAGE);
    sweep(world, 1);
    assert_int_equal(charged(world, two), 0);
    assert_int_equal(open_as(world, two, "e", true), WIRE_NO_SEGMENT);
    put(world, two);
}

static void test_restart(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    assert_int_equal(create_sized(world, one, "back", 1, 16 * PAGE, EPHEMERAL), WIRE_OK);
    uint64_t back = world->view.record.id;
    assert_int_equal(create_sized(world, one, "gone", 2, 16 * PAGE, EPHEMERAL), WIRE_OK);
    put(world, one);
    world_restart(world);
    one = session_of(world, 1);
    sweep(world, LEASE - 1);
    assert_int_equal(resume(world, one, back, true, 1), WIRE_OK);
    sweep(world, 1);
    assert_int_equal(touch(world, one, back, 1, WIRE_READ), WIRE_OK);
    assert_int_equal(open_as(world, one, "gone", true), WIRE_NO_SEGMENT);
    assert_int_equal(charged(world, one), 16 * PAGE);
    put(world, one);
}

static void test_in_flight(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    struct catalog_hold hold;
    assert_int_equal(create_sized(world, one, "e", 1, 16 * PAGE, EPHEMERAL), WIRE_OK);
    const struct wire_header read = {
        .op = WIRE_READ, .segment = world->view.record.id, .epoch = 1, .count = 1};
    assert_int_equal(catalog_enter(world->catalog, one, &read, &hold), WIRE_OK);
    assert_int_equal(catalog_segment_close(world->catalog, one, read.segment), WIRE_OK);
    sweep(world, 1);
    assert_int_equal(charged(world, one), 16 * PAGE); // its pages may be on their way just now
    catalog_exit(world->catalog, &hold);
    sweep(world, 1);
    assert_int_equal(charged(world, one), 0);
    put(world, one);
}

struct closer {
    struct world *world;
    struct catalog_session *session;
    uint64_t id;
    enum wire_status status;
};

static void *close_in_thread(void *argument)
{
    struct closer *closer = argument;
    closer->status = catalog_segment_close(closer->world->catalog, closer->session, closer->id);
    return NULL;
}

// A read whose answer has left is not quite over when the program closes the segment, and makes another of its name.
static void test_the_name_is_free_after_the_close(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    struct catalog_session *two = session_of(world, 2);
    struct catalog_hold hold;
    assert_int_equal(create_sized(world, one, "e", 1, 16 * PAGE, EPHEMERAL), WIRE_OK);
    struct closer closer = {.world = world, .session = one, .id = world->view.record.id};
    const struct wire_header read = {.op = WIRE_READ, .segment = closer.id, .epoch = 1, .count = 1};
    assert_int_equal(catalog_enter(world->catalog, one, &read, &hold), WIRE_OK);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, close_in_thread, &closer), 0);
    while (touch(world, one, closer.id, 1, WIRE_READ) != WIRE_NOT_OPEN) {
        (void)sched_yield();
    }
    assert_int_equal(open_as(world, two, "e", true), WIRE_BUSY); // about to go
    catalog_exit(world->catalog, &hold);
    (void)pthread_join(thread, NULL);
    assert_int_equal(closer.status, WIRE_OK);
    assert_int_equal(create_sized(world, one, "e", 2, 16 * PAGE, EPHEMERAL), WIRE_OK);
    put(world, one);
    put(world, two);
}

static void test_scratch_names(void **state)
{
    struct world *world = *state;
    struct key_grant grant = grant_of(1, "alice");
    struct key_grant other = grant_of(2, "bob");
    (void)strcpy(grant.prefix, "alice/");
    struct catalog_session *one = session_with(world, 1, &grant);
    struct catalog_session *two = session_with(world, 2, &other);
    assert_int_equal(create_sized(world, one, "tmp/a", 1, 16 * PAGE, 0), WIRE_NOT_ALLOWED);
    assert_int_equal(create_sized(world, one, "scratch", 2, 16 * PAGE, EPHEMERAL),
                     WIRE_NOT_ALLOWED);
    assert_int_equal(create_sized(world, one, "tmp/a", 3, 16 * PAGE, EPHEMERAL), WIRE_OK);
    uint64_t id = world->view.record.id;
    assert_int_equal(open_as(world, two, "tmp/a", false), WIRE_NO_SEGMENT);
    put(world, one);
    put(world, two);
    world_restart(world);
    one = session_with(world, 1, &grant);
    assert_int_equal(resume(world, one, id, true, 1), WIRE_OK);
    put(world, one);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_close_deletes),
        CASE(test_reader_keeps_it),
        CASE(test_lost_holder),
        CASE(test_restart),
        CASE(test_in_flight),
        CASE(test_scratch_names),
        CASE(test_the_name_is_free_after_the_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
