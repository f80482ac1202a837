// SPDX-License-Identifier: Apache-2.0
//
// Owners, readers, leases: every rule of who may open what, before and after a restart, with the
// time moved by hand.
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sched.h>

#include "tests/unit/catalog_rig.h"

static void assert_named(const struct world *world, const char *holder)
{
    if (strstr(world->failure.text, holder) == NULL) {
        fail_msg("\"%s\" does not name %s", world->failure.text, holder);
    }
}

static void test_one_writer(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    struct catalog_session *two = session_of(world, 2);
    assert_int_equal(create(world, one, "a", 1), WIRE_OK);
    uint64_t id = world->view.record.id;
    assert_int_equal(world->view.record.epoch, 1);
    assert_true(world->view.writer);
    assert_int_equal(touch(world, one, id, 1, WIRE_DISCARD), WIRE_OK);
    assert_int_equal(open_as(world, two, "a", true), WIRE_BUSY);
    assert_named(world, "process-1");
    assert_int_equal(open_as(world, two, "a", false), WIRE_BUSY);
    assert_named(world, "process-1");
    assert_int_equal(touch(world, two, id, 1, WIRE_READ), WIRE_NOT_OPEN);
    assert_int_equal(open_as(world, one, "a", true), WIRE_OK); // it did not hear the answer
    assert_int_equal(world->view.record.epoch, 1);
    assert_int_equal(open_as(world, one, "a", false), WIRE_BUSY);
    assert_named(world, "already open in this process");
    assert_int_equal(resume(world, one, id, true, 1), WIRE_OK);
    assert_int_equal(catalog_segment_close(world->catalog, one, id), WIRE_OK);
    assert_int_equal(catalog_segment_close(world->catalog, one, id), WIRE_NOT_OPEN);
    assert_int_equal(touch(world, one, id, 1, WIRE_READ), WIRE_NOT_OPEN);
    assert_int_equal(open_as(world, two, "a", true), WIRE_OK);
    assert_int_equal(world->view.record.epoch, 1); // closed in order: nothing to fence
    put(world, one);
    put(world, two);
}

static void test_many_readers(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    struct catalog_session *two = session_of(world, 2);
    struct catalog_session *three = session_of(world, 3);
    assert_int_equal(create(world, one, "a", 1), WIRE_OK);
    uint64_t id = world->view.record.id;
    assert_int_equal(catalog_segment_close(world->catalog, one, id), WIRE_OK);
    assert_int_equal(open_as(world, two, "a", false), WIRE_OK);
    assert_int_equal(open_as(world, three, "a", false), WIRE_OK);
    assert_int_equal(world->view.readers, 2);
    assert_int_equal(touch(world, two, id, 1, WIRE_READ), WIRE_OK);
    assert_int_equal(touch(world, two, id, 1, WIRE_DISCARD), WIRE_NOT_ALLOWED);
    assert_int_equal(open_as(world, one, "a", true), WIRE_BUSY);
    assert_int_equal(take_over(world, one, "a"), WIRE_BUSY); // a takeover is from a writer
    assert_int_equal(catalog_segment_close(world->catalog, three, id), WIRE_OK);
    assert_int_equal(open_as(world, one, "a", true), WIRE_BUSY);
    assert_named(world, "process-2");
    assert_int_equal(catalog_segment_close(world->catalog, two, id), WIRE_OK);
    assert_int_equal(open_as(world, one, "a", true), WIRE_OK);
    assert_int_equal(world->view.record.epoch, 1);
    put(world, one);
    put(world, two);
    put(world, three);
}

static void test_lapsed_writer(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    struct catalog_session *two = session_of(world, 2);
    assert_int_equal(create(world, one, "a", 1), WIRE_OK);
    uint64_t id = world->view.record.id;
    world->now += LEASE + 1;
    catalog_expire(world->catalog, world->now);                        // it has a lane: it stays
    assert_int_equal(touch(world, one, id, 1, WIRE_DISCARD), WIRE_OK); // takeable, not taken
    catalog_session_renew(one, world->now);
    assert_int_equal(open_as(world, two, "a", true), WIRE_BUSY); // alive again
    world->now += LEASE + 1;
    catalog_session_renew(two, world->now);
    assert_int_equal(open_as(world, two, "a", true), WIRE_OK);
    assert_int_equal(world->view.record.epoch, 2);
    assert_int_equal(touch(world, one, id, 1, WIRE_DISCARD), WIRE_FENCED);
    assert_int_equal(touch(world, one, id, 1, WIRE_READ), WIRE_FENCED);
    assert_int_equal(resume(world, one, id, true, 1), WIRE_FENCED);
    assert_int_equal(catalog_segment_close(world->catalog, one, id), WIRE_OK);
    assert_int_equal(touch(world, two, id, 2, WIRE_DISCARD), WIRE_OK);
    assert_int_equal(touch(world, two, id, 1, WIRE_DISCARD), WIRE_FENCED);
    assert_int_equal(open_as(world, one, "a", true), WIRE_BUSY);
    put(world, one);
    put(world, two);
}

static void test_takeover(void **state)
{
    struct world *world = *state;
    const struct key_grant stranger = grant_of(9, "bob");
    struct catalog_session *one = session_of(world, 1);
    struct catalog_session *two = session_of(world, 2);
    struct catalog_session *bob = session_with(world, 9, &stranger);
    assert_int_equal(create(world, one, "a", 1), WIRE_OK);
    uint64_t id = world->view.record.id;
    assert_int_equal(take_over(world, bob, "a"), WIRE_NO_SEGMENT);
    assert_int_equal(touch(world, bob, id, 1, WIRE_READ), WIRE_NOT_OPEN);
    assert_int_equal(take_over(world, two, "a"), WIRE_OK);
    assert_int_equal(world->view.record.epoch, 2);
    assert_int_equal(touch(world, one, id, 1, WIRE_DISCARD), WIRE_FENCED);
    assert_int_equal(take_over(world, one, "a"), WIRE_OK); // and back, over its fenced hold
    assert_int_equal(world->view.record.epoch, 3);
    assert_int_equal(touch(world, one, id, 3, WIRE_DISCARD), WIRE_OK);
    assert_int_equal(touch(world, two, id, 2, WIRE_DISCARD), WIRE_FENCED);
    put(world, one);
    put(world, two);
    put(world, bob);
}

static void test_lapsed_reader(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    struct catalog_session *two = session_of(world, 2);
    assert_int_equal(create(world, one, "a", 1), WIRE_OK);
    uint64_t id = world->view.record.id;
    assert_int_equal(catalog_segment_close(world->catalog, one, id), WIRE_OK);
    assert_int_equal(open_as(world, two, "a", false), WIRE_OK);
    world->now += LEASE + 1;
    catalog_session_renew(one, world->now);
    assert_int_equal(open_as(world, one, "a", true), WIRE_OK);
    assert_int_equal(world->view.record.epoch, 2); // the reader may still hold pages
    assert_int_equal(touch(world, two, id, 1, WIRE_READ), WIRE_FENCED);
    assert_int_equal(resume(world, two, id, false, 1), WIRE_FENCED);
    put(world, one);
    put(world, two);
}

// A reader that comes in over a lapsed writer takes its hold and not its epoch.
static void test_reader_over_lapsed_writer(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    struct catalog_session *two = session_of(world, 2);
    assert_int_equal(create(world, one, "a", 1), WIRE_OK);
    uint64_t id = world->view.record.id;
    world->now += LEASE + 1;
    catalog_session_renew(two, world->now);
    assert_int_equal(open_as(world, two, "a", false), WIRE_OK);
    assert_int_equal(world->view.record.epoch, 1);
    assert_int_equal(touch(world, one, id, 1, WIRE_DISCARD), WIRE_NOT_OPEN);
    assert_int_equal(resume(world, one, id, true, 1), WIRE_BUSY);
    assert_named(world, "process-2");
    assert_int_equal(catalog_segment_close(world->catalog, two, id), WIRE_OK);
    assert_int_equal(resume(world, one, id, true, 1), WIRE_OK);
    assert_int_equal(world->view.record.epoch, 1);
    assert_int_equal(touch(world, one, id, 1, WIRE_DISCARD), WIRE_OK);
    put(world, one);
    put(world, two);
}

// The same, but the reader is lost too: it must not go on with old pages after the writer came
// back.
static void test_lost_reader_is_fenced(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    struct catalog_session *two = session_of(world, 2);
    assert_int_equal(create(world, one, "a", 1), WIRE_OK);
    uint64_t id = world->view.record.id;
    world->now += LEASE + 1;
    catalog_session_renew(two, world->now);
    assert_int_equal(open_as(world, two, "a", false), WIRE_OK);
    put(world, two);
    world->now += LEASE + 1;
    catalog_expire(world->catalog, world->now); // two has no lane and no lease
    catalog_session_renew(one, world->now);
    assert_int_equal(resume(world, one, id, true, 1), WIRE_OK);
    assert_int_equal(world->view.record.epoch, 2);
    assert_int_equal(catalog_segment_close(world->catalog, one, id), WIRE_OK);
    two = session_of(world, 2);
    assert_int_equal(resume(world, two, id, false, 1), WIRE_FENCED);
    put(world, one);
    put(world, two);
}

static void test_restart_with_writer(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    assert_int_equal(create(world, one, "a", 1), WIRE_OK);
    uint64_t id = world->view.record.id;
    put(world, one);
    world_restart(world);
    struct catalog_session *two = session_of(world, 2);
    assert_int_equal(open_as(world, two, "a", true), WIRE_BUSY); // presumed alive
    assert_named(world, "process-1");
    assert_int_equal(open_as(world, two, "a", false), WIRE_BUSY);
    assert_int_equal(remove_as(world, two, "a", 7), WIRE_BUSY);
    one = session_of(world, 1);
    assert_int_equal(touch(world, one, id, 1, WIRE_DISCARD), WIRE_NOT_OPEN);
    // An older copy of the same epoch: not for a moment is it open.
    assert_int_equal(resume_written(world, one, id, 1, 1), WIRE_NO_SEGMENT);
    assert_named(world, "older copy");
    assert_int_equal(touch(world, one, id, 1, WIRE_READ), WIRE_NOT_OPEN);
    assert_int_equal(resume(world, one, id, true, 1), WIRE_OK);
    assert_int_equal(world->view.record.epoch, 1);
    assert_int_equal(touch(world, one, id, 1, WIRE_DISCARD), WIRE_OK);
    put(world, one);
    put(world, two);
    world_restart(world); // and now it does not come back in time
    world->now += LEASE;
    two = session_of(world, 2);
    assert_int_equal(open_as(world, two, "a", true), WIRE_OK);
    assert_int_equal(world->view.record.epoch, 2);
    one = session_of(world, 1);
    assert_int_equal(resume(world, one, id, true, 1), WIRE_FENCED);
    assert_int_equal(resume(world, one, id, true, 9), WIRE_NO_SEGMENT); // an older store than known
    put(world, one);
    put(world, two);
}

static void test_restart_takeover(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    assert_int_equal(create(world, one, "a", 1), WIRE_OK);
    put(world, one);
    world_restart(world);
    struct catalog_session *two = session_of(world, 2);
    assert_int_equal(take_over(world, two, "a"), WIRE_OK);
    assert_int_equal(world->view.record.epoch, 2);
    put(world, two);
}

static void test_restart_with_readers(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    struct catalog_session *two = session_of(world, 2);
    assert_int_equal(create(world, one, "a", 1), WIRE_OK);
    uint64_t id = world->view.record.id;
    assert_int_equal(catalog_segment_close(world->catalog, one, id), WIRE_OK);
    assert_int_equal(open_as(world, two, "a", false), WIRE_OK);
    put(world, one);
    put(world, two);
    world_restart(world);
    one = session_of(world, 1);
    two = session_of(world, 2);
    assert_int_equal(open_as(world, one, "a", true), WIRE_BUSY); // whoever they are
    assert_int_equal(resume(world, two, id, false, 1), WIRE_OK);
    assert_int_equal(catalog_segment_close(world->catalog, two, id), WIRE_OK);
    assert_int_equal(open_as(world, one, "a", true), WIRE_BUSY); // others may have been there
    world->now += LEASE;
    catalog_session_renew(one, world->now);
    assert_int_equal(open_as(world, one, "a", true), WIRE_OK);
    assert_int_equal(world->view.record.epoch, 2);
    assert_int_equal(resume(world, two, id, false, 1), WIRE_FENCED);
    put(world, one);
    put(world, two);
}

static void test_session_ends(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    struct catalog_session *two = session_of(world, 2);
    assert_int_equal(create(world, one, "a", 1), WIRE_OK);
    uint64_t id = world->view.record.id;
    put(world, one); // no lane, but a segment and a lease
    catalog_expire(world->catalog, world->now);
    assert_int_equal(open_as(world, two, "a", true), WIRE_BUSY);
    one = session_of(world, 1);
    assert_int_equal(touch(world, one, id, 1, WIRE_DISCARD), WIRE_OK); // it was still there
    put(world, one);
    world->now += LEASE + 1;
    catalog_expire(world->catalog, world->now);
    one = session_of(world, 1);
    assert_int_equal(touch(world, one, id, 1, WIRE_DISCARD), WIRE_NOT_OPEN);
    assert_int_equal(resume(world, one, id, true, 1), WIRE_OK); // nobody took it
    put(world, one);
    world->now += LEASE + 1;
    catalog_expire(world->catalog, world->now);
    catalog_session_renew(two, world->now);
    assert_int_equal(open_as(world, two, "a", true), WIRE_OK);
    assert_int_equal(world->view.record.epoch, 2); // the vanished writer is fenced all the same
    put(world, two);
}

struct opener {
    struct world *world;
    struct catalog_session *session;
    struct catalog_segment_view view;
    enum wire_status status;
    _Atomic bool done;
};

static void *open_in_thread(void *argument)
{
    struct opener *opener = argument;
    const struct catalog_open_request request = {.name = "a", .write = true, .takeover = true};
    opener->status = catalog_segment_open(opener->world->catalog, opener->session, &request,
                                          opener->world->now, &opener->view, NULL);
    atomic_store(&opener->done, true);
    return NULL;
}

// A write that was let in before the takeover is over before the takeover is answered.
static void test_takeover_waits(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    struct catalog_session *three = session_of(world, 3);
    struct opener opener = {.world = world, .session = session_of(world, 2)};
    assert_int_equal(create(world, one, "a", 1), WIRE_OK);
    uint64_t id = world->view.record.id;
    const struct wire_header write = {
        .op = WIRE_WRITE, .segment = id, .epoch = 1, .count = 1, .version = 1};
    struct catalog_hold hold;
    assert_int_equal(catalog_enter(world->catalog, one, &write, &hold), WIRE_OK);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, open_in_thread, &opener), 0);
    while (touch(world, one, id, 1, WIRE_DISCARD) != WIRE_FENCED) {
        (void)sched_yield();
    }
    assert_int_equal(open_as(world, three, "a", true), WIRE_BUSY); // somebody is about to have it
    assert_named(world, "process-2");
    assert_false(atomic_load(&opener.done));
    catalog_exit(world->catalog, &hold);
    (void)pthread_join(thread, NULL);
    assert_int_equal(opener.status, WIRE_OK);
    assert_int_equal(opener.view.record.epoch, 2);
    put(world, one);
    put(world, opener.session);
    put(world, three);
}

// A former holder's operation that does not end delays an open for a bounded time, and does not let
// it through.
static void test_takeover_gives_up(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    struct catalog_session *two = session_of(world, 2);
    assert_int_equal(create(world, one, "a", 1), WIRE_OK);
    uint64_t id = world->view.record.id;
    const struct wire_header write = {
        .op = WIRE_WRITE, .segment = id, .epoch = 1, .count = 1, .version = 1};
    struct catalog_hold hold;
    assert_int_equal(catalog_enter(world->catalog, one, &write, &hold), WIRE_OK);
    assert_int_equal(take_over(world, two, "a"), WIRE_BUSY);
    assert_int_equal(touch(world, two, id, 2, WIRE_DISCARD), WIRE_NOT_OPEN);
    catalog_exit(world->catalog, &hold);
    assert_int_equal(take_over(world, two, "a"), WIRE_OK);
    assert_int_equal(touch(world, two, id, world->view.record.epoch, WIRE_DISCARD), WIRE_OK);
    put(world, one);
    put(world, two);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_one_writer),
        CASE(test_many_readers),
        CASE(test_lapsed_writer),
        CASE(test_takeover),
        CASE(test_lapsed_reader),
        CASE(test_reader_over_lapsed_writer),
        CASE(test_lost_reader_is_fenced),
        CASE(test_restart_with_writer),
        CASE(test_restart_takeover),
        CASE(test_restart_with_readers),
        CASE(test_session_ends),
        CASE(test_takeover_waits),
        CASE(test_takeover_gives_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
