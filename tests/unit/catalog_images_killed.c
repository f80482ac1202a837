// SPDX-License-Identifier: Apache-2.0
//
// The server is killed at every step of a hand-over, between any two writes of the store: afterwards the image has exactly one owner, all
// segments the same, who can go on; the request that was cut, sent again, gets its answer.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/image_rig.h"

enum step { PARK, COMMIT, ABORT, ABORT_WHOLE, EXPIRE, STEPS };

// In the child: it dies at the point, or ends well.
static void run_step(struct stage *stage, enum step step)
{
    struct catalog_session *source = process(stage, SOURCE);
    struct catalog_session *destination = process(stage, DESTINATION);
    for (unsigned i = 0; i < SEGMENTS; i++) { // as the library does after a restart
        (void)resume(stage->world, source, stage->image.members[i].segment, true, 1);
    }
    if (step == PARK) {
        (void)park(stage, source);
    } else if (step == COMMIT) {
        (void)commit(stage, destination, 1);
    } else if (step == EXPIRE) {
        catalog_image_expire(stage->world->catalog, stage->world->now, TODAY + LIFETIME);
    } else {
        (void)abort_image(stage, source);
    }
}

static bool killed_in(struct stage *stage, enum step step, const char *point)
{
    int status = 0;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct failure failure;
        (void)setenv("DSM_FAILPOINT", point, 1);
        if (store_open(&stage->world->rig.options, &stage->world->rig.store, &failure) != 0 ||
            store_thread_register(stage->world->rig.store) != 0 ||
            catalog_create(stage->world->rig.store, LEASE, stage->world->now,
                           &stage->world->catalog) != 0) {
            _exit(2);
        }
        run_step(stage, step);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status);
}

static void start(struct stage *stage)
{
    struct world *world = stage->world;
    rig_open(&world->rig);
    assert_int_equal(catalog_create(world->rig.store, LEASE, world->now, &world->catalog), 0);
}

static void stop(struct stage *stage)
{
    catalog_destroy(&stage->world->catalog);
    assert_int_equal(store_close(&stage->world->rig.store), 0);
}

// After a crash: all segments have one owner, the source, the capsule, the destination or nobody; whoever it is can go on; others are
// refused. Ends with the image at the source, whole.
static void one_owner(struct stage *stage, enum step step)
{
    struct world *world = stage->world;
    unsigned sources = 0;
    unsigned destinations = 0;
    struct catalog_session *source = process(stage, SOURCE);
    struct catalog_session *destination = process(stage, DESTINATION);
    for (unsigned i = 0; i < SEGMENTS; i++) {
        uint64_t id = stage->image.members[i].segment;
        bool at_source = resume(world, source, id, true, 1) == WIRE_OK;
        bool at_destination = !at_source && resume(world, destination, id, true, 2) == WIRE_OK;
        sources += at_source ? 1 : 0;
        destinations += at_destination ? 1 : 0;
        assert_false(at_source && write_to(stage, destination, i, 2) == WIRE_OK);
    }
    assert_true(sources == 0 || sources == SEGMENTS);
    assert_true(destinations == 0 || destinations == SEGMENTS);
    assert_true(sources == 0 || step == PARK || step == ABORT_WHOLE);
    if (destinations == SEGMENTS) { // committed, or expired and opened by it
        assert_true(step == COMMIT || step == EXPIRE);
        for (unsigned i = 0; i < SEGMENTS; i++) {
            stage->image.members[i].epoch = 2;
        }
        owned_by(stage, destination);
    } else if (step == PARK && sources == 0) {
        assert_int_equal(park(stage, source), WIRE_OK); // parked: says it again
        assert_int_equal(commit(stage, destination, 1), WIRE_OK);
    } else if (step == COMMIT) {
        assert_int_equal(commit(stage, destination, 1), WIRE_OK);
    } else if (step == EXPIRE) {
        assert_int_equal(commit_at(stage, destination, 1, TODAY + LIFETIME), WIRE_EXPIRED);
    } else if (step != PARK) { // sent again
        assert_int_equal(abort_image(stage, source), WIRE_OK);
        take_epochs(stage);
        owned_by(stage, source);
        assert_int_equal(stage->image.members[0].epoch, 2);
    }
    put(world, source);
    put(world, destination);
}

// Makes the image anew, brings it to where the step begins, and stops.
static void prepare(struct stage *stage, enum step step)
{
    start(stage);
    struct catalog_session *source = process(stage, SOURCE);
    stage_image(stage, source);
    if (step == COMMIT || step == ABORT || step == EXPIRE) {
        assert_int_equal(park(stage, source), WIRE_OK);
    }
    put(stage->world, source);
    stop(stage);
}

static void test_killed(void **state)
{
    static const char *const points[] = {"image.begin:kill:1", "image.file:kill:1",
                                         "image.rename:kill:1", "update.begin:kill:%u",
                                         "update.record:kill:%u"};
    struct stage *stage = *state;
    struct world *world = stage->world;
    unsigned kills = 0;
    for (enum step step = PARK; step < STEPS; step++) {
        for (unsigned p = 0; p < sizeof points / sizeof *points; p++) {
            for (unsigned n = 1; n <= (p < 3 ? 1U : (unsigned)SEGMENTS); n++) {
                char point[64];
                (void)snprintf(point, sizeof point, points[p], n);
                catalog_destroy(&world->catalog);
                rig_end(&world->rig);
                rig_make(&world->rig, world->rig.medium, 64 * MIB);
                prepare(stage, step);
                kills += killed_in(stage, step, point) ? 1 : 0;
                start(stage);
                one_owner(stage, step);
                rig_check(&world->rig);
            }
        }
    }
    assert_int_equal(kills, STEPS * (3 + 2 * SEGMENTS)); // each point, each pass
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_killed, stage_setup, stage_teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
