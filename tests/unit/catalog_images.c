// SPDX-License-Identifier: Apache-2.0
//
// Process images change hands: park, commit, abort, expiry, each with what it refuses; across restarts of the server, also one that is
// killed between any two steps (then exactly one owner is found); a thousand hops. What is parked moves to another principal's quota.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/images.h"
#include "tests/unit/catalog_rig.h"

enum { SEGMENTS = 3, LIFETIME = 5000, SOURCE = 1, DESTINATION = 2, OTHER = 3 };
static const uint64_t today = 1700000000000; // ms since 1970

static const char *const names[SEGMENTS] = {"heap", "stack", "data"};
static const uint32_t types[SEGMENTS] = {STORE_SEGMENT_HEAP, STORE_SEGMENT_STACK,
                                         STORE_SEGMENT_DATA};

struct stage {
    struct world *world;
    struct catalog_image_request image;
    struct catalog_image_view view;
};

static struct key_grant migrating(uint8_t key, const char *principal)
{
    struct key_grant grant = grant_of(key, principal);
    grant.rights |= KEY_RIGHT_MIGRATE;
    return grant;
}

static struct catalog_session *process(struct stage *stage, uint8_t number)
{
    const struct key_grant grant = migrating(number, "alice");
    return session_with(stage->world, number, &grant);
}

static void digest_of(uint8_t token, uint8_t digest[WIRE_DIGEST_BYTES])
{
    memset(digest, 0x40 + token, WIRE_DIGEST_BYTES);
}

static void stage_setup_image(struct stage *stage, struct catalog_session *session)
{
    struct world *world = stage->world;
    stage->image = (struct catalog_image_request){
        .image = {9}, .count = SEGMENTS, .lifetime_ms = LIFETIME, .principal = ""};
    digest_of(1, stage->image.digest);
    for (unsigned i = 0; i < SEGMENTS; i++) {
        uint8_t operation[WIRE_ID_BYTES] = {(uint8_t)(100 + i)};
        assert_int_equal(catalog_segment_create(world->catalog, session, operation, names[i],
                                                4 * PAGE, PAGE, types[i], 0, &world->view,
                                                &world->failure),
                         WIRE_OK);
        stage->image.members[i].segment = world->view.record.id;
        stage->image.members[i].epoch = world->view.record.epoch;
    }
}

static int setup(void **state)
{
    struct stage *stage = calloc(1, sizeof *stage);
    void *world = NULL;
    assert_non_null(stage);
    assert_int_equal(world_setup(&world), 0);
    stage->world = world;
    *state = stage;
    return 0;
}

static int teardown(void **state)
{
    struct stage *stage = *state;
    void *world = stage->world;
    rig_check(&stage->world->rig);
    assert_int_equal(world_teardown(&world), 0);
    free(stage);
    return 0;
}

static enum wire_status park(struct stage *stage, struct catalog_session *session)
{
    return catalog_image_park(stage->world->catalog, session, &stage->image, today, &stage->view,
                              &stage->world->failure);
}

static enum wire_status commit_at(struct stage *stage, struct catalog_session *session,
                                  uint8_t token, uint64_t unix_ms)
{
    uint8_t digest[WIRE_DIGEST_BYTES];
    digest_of(token, digest);
    return catalog_image_commit(stage->world->catalog, session, stage->image.image, digest, unix_ms,
                                &stage->view, &stage->world->failure);
}

static enum wire_status commit(struct stage *stage, struct catalog_session *session, uint8_t token)
{
    return commit_at(stage, session, token, today);
}

static enum wire_status abort_image(struct stage *stage, struct catalog_session *session)
{
    return catalog_image_abort(stage->world->catalog, session, &stage->image, today, &stage->view,
                               &stage->world->failure);
}

static enum wire_status write_to(struct stage *stage, struct catalog_session *session, unsigned i,
                                 uint64_t epoch)
{
    return touch(stage->world, session, stage->image.members[i].segment, epoch, WIRE_DISCARD);
}

// The answer's epochs are those under which the image goes on.
static void take_epochs(struct stage *stage)
{
    assert_int_equal(stage->view.count, SEGMENTS);
    for (unsigned i = 0; i < SEGMENTS; i++) {
        assert_int_equal(stage->view.segments[i].record.id, stage->image.members[i].segment);
        stage->image.members[i].epoch = stage->view.segments[i].record.epoch;
    }
}

static void says(const struct stage *stage, const char *text)
{
    if (strstr(stage->world->failure.text, text) == NULL) {
        fail_msg("\"%s\" is not in: %s", text, stage->world->failure.text);
    }
}

static void owned_by(struct stage *stage, struct catalog_session *session)
{
    for (unsigned i = 0; i < SEGMENTS; i++) {
        assert_int_equal(write_to(stage, session, i, stage->image.members[i].epoch), WIRE_OK);
    }
}

static void test_hand_over(void **state)
{
    struct stage *stage = *state;
    struct world *world = stage->world;
    struct catalog_session *source = process(stage, SOURCE);
    struct catalog_session *destination = process(stage, DESTINATION);
    stage_setup_image(stage, source);
    assert_int_equal(catalog_image_check(world->catalog, source, &stage->image, &world->failure),
                     WIRE_OK);
    owned_by(stage, source);
    assert_int_equal(park(stage, source), WIRE_OK);
    assert_int_equal(stage->view.expires_ms, today + LIFETIME);
    assert_int_equal(park(stage, source), WIRE_OK); // the answer was lost
    assert_int_equal(stage->view.segments[0].record.epoch, 2);
    assert_int_equal(write_to(stage, source, 0, 1), WIRE_FENCED);
    assert_int_equal(write_to(stage, source, 0, 2), WIRE_FENCED);
    assert_int_equal(open_as(world, source, "heap", true), WIRE_BUSY);
    says(stage, "in a capsule, where process-1 put it");
    assert_int_equal(open_as(world, destination, "stack", false), WIRE_BUSY);
    assert_int_equal(take_over(world, destination, "stack"), WIRE_BUSY);
    assert_int_equal(remove_as(world, source, "data", 7), WIRE_BUSY);
    assert_int_equal(resume(world, source, stage->image.members[1].segment, true, 1), WIRE_FENCED);
    assert_int_equal(commit(stage, destination, 2), WIRE_NOT_ALLOWED);
    assert_int_equal(commit(stage, destination, 1), WIRE_OK);
    take_epochs(stage);
    assert_int_equal(stage->image.members[0].epoch, 2);
    owned_by(stage, destination);
    assert_int_equal(commit(stage, destination, 1), WIRE_OK); // the answer was lost
    assert_int_equal(commit(stage, source, 1), WIRE_USED);
    says(stage, "used before, by process-2");
    for (unsigned i = 0; i < SEGMENTS; i++) {
        stage->image.members[i].epoch = 1;
    }
    assert_int_equal(abort_image(stage, source), WIRE_USED);
    says(stage, "process-2 has it");
    assert_int_equal(park(stage, source), WIRE_FENCED);
    put(world, source);
    put(world, destination);
}

static void test_shared(void **state)
{
    struct stage *stage = *state;
    struct world *world = stage->world;
    struct catalog_session *source = process(stage, SOURCE);
    struct catalog_session *other = process(stage, OTHER);
    const struct key_grant plain = grant_of(4, "alice");
    struct catalog_session *unable = session_with(world, 4, &plain);
    stage_setup_image(stage, source);
    assert_int_equal(catalog_image_check(world->catalog, unable, &stage->image, &world->failure),
                     WIRE_NOT_ALLOWED);
    assert_int_equal(catalog_image_check(world->catalog, other, &stage->image, &world->failure),
                     WIRE_BUSY);
    says(stage, "open by process-1");
    uint64_t heap = stage->image.members[0].segment;
    assert_int_equal(catalog_segment_close(world->catalog, source, heap), WIRE_OK);
    assert_int_equal(park(stage, source), WIRE_NOT_OPEN);
    assert_int_equal(open_as(world, source, "heap", false), WIRE_OK);
    assert_int_equal(park(stage, source), WIRE_BUSY);
    says(stage, "for reading only");
    assert_int_equal(open_as(world, other, "heap", false), WIRE_OK);
    assert_int_equal(park(stage, source), WIRE_BUSY);
    says(stage, "\"heap\" is shared");
    says(stage, "open by process-3");
    for (unsigned i = 1; i < SEGMENTS; i++) { // the rest goes on
        assert_int_equal(write_to(stage, source, i, 1), WIRE_OK);
    }
    put(world, other);
    put(world, unable);
    put(world, source);
}

static void test_members(void **state)
{
    struct stage *stage = *state;
    struct world *world = stage->world;
    struct catalog_session *source = process(stage, SOURCE);
    stage_setup_image(stage, source);
    const struct catalog_image_request good = stage->image;
    stage->image.count = 1; // no stack
    assert_int_equal(park(stage, source), WIRE_INVALID);
    stage->image = good;
    stage->image.members[2] = stage->image.members[0];
    assert_int_equal(park(stage, source), WIRE_INVALID);
    stage->image = good;
    stage->image.members[1].epoch = 2;
    assert_int_equal(park(stage, source), WIRE_INVALID);
    stage->image.members[1].epoch = 0;
    assert_int_equal(park(stage, source), WIRE_FENCED);
    stage->image = good;
    stage->image.members[1].segment = 999;
    assert_int_equal(park(stage, source), WIRE_NO_SEGMENT);
    stage->image = good;
    stage->image.lifetime_ms = 0;
    assert_int_equal(park(stage, source), WIRE_INVALID);
    stage->image.lifetime_ms = UINT32_MAX;
    assert_int_equal(park(stage, source), WIRE_INVALID);
    stage->image = good;
    owned_by(stage, source); // nothing is locked
    assert_int_equal(park(stage, source), WIRE_OK);
    digest_of(7, stage->image.digest);
    assert_int_equal(park(stage, source), WIRE_BUSY); // in another capsule
    put(world, source);
}

static void test_abort(void **state)
{
    struct stage *stage = *state;
    struct world *world = stage->world;
    struct catalog_session *source = process(stage, SOURCE);
    struct catalog_session *destination = process(stage, DESTINATION);
    stage_setup_image(stage, source);
    const struct catalog_image_request first = stage->image;
    assert_int_equal(park(stage, source), WIRE_OK);
    assert_int_equal(abort_image(stage, destination), WIRE_FENCED);
    assert_int_equal(abort_image(stage, source), WIRE_OK);
    assert_int_equal(abort_image(stage, source), WIRE_OK); // the answer was lost
    take_epochs(stage);
    owned_by(stage, source);
    assert_int_equal(write_to(stage, source, 0, 1), WIRE_FENCED); // late
    assert_int_equal(commit(stage, destination, 1), WIRE_USED);
    says(stage, "taken back");
    // A park that never came: the abort is before it.
    const struct catalog_image_request second = stage->image;
    assert_int_equal(abort_image(stage, source), WIRE_OK);
    take_epochs(stage);
    assert_int_equal(stage->image.members[0].epoch, 3);
    owned_by(stage, source);
    const struct catalog_image_request third = stage->image;
    stage->image = second;
    assert_int_equal(park(stage, source), WIRE_FENCED);
    stage->image = first;
    assert_int_equal(park(stage, source), WIRE_FENCED);
    stage->image = third;
    owned_by(stage, source);
    put(world, source);
    put(world, destination);
}

static void test_expiry(void **state)
{
    struct stage *stage = *state;
    struct world *world = stage->world;
    struct catalog_session *source = process(stage, SOURCE);
    struct catalog_session *destination = process(stage, DESTINATION);
    stage_setup_image(stage, source);
    struct catalog_image_request first = stage->image;
    assert_int_equal(park(stage, source), WIRE_OK);
    catalog_image_expire(world->catalog, world->now, today + LIFETIME - 1);
    assert_int_equal(open_as(world, destination, "heap", true), WIRE_BUSY);
    assert_int_equal(commit_at(stage, destination, 1, today + LIFETIME), WIRE_EXPIRED);
    catalog_image_expire(world->catalog, world->now, today + LIFETIME);
    assert_int_equal(commit_at(stage, destination, 1, today), WIRE_EXPIRED);
    assert_int_equal(abort_image(stage, source), WIRE_OK); // nobody was there before
    take_epochs(stage);
    owned_by(stage, source);
    digest_of(2, stage->image.digest);
    assert_int_equal(park(stage, source), WIRE_OK);
    first = stage->image;
    catalog_image_expire(world->catalog, world->now, today + LIFETIME);
    assert_int_equal(open_as(world, destination, "heap", true), WIRE_OK); // takeable
    assert_int_equal(abort_image(stage, source), WIRE_FENCED);
    assert_int_equal(write_to(stage, source, 0, first.members[0].epoch), WIRE_FENCED);
    catalog_image_expire(world->catalog, world->now, today + LIFETIME + LIMIT_IMAGE_KEPT_MS + 1);
    assert_int_equal(commit(stage, destination, 2), WIRE_NO_SEGMENT); // forgotten
    put(world, source);
    put(world, destination);
}

static void test_restarts(void **state)
{
    struct stage *stage = *state;
    struct world *world = stage->world;
    struct catalog_session *source = process(stage, SOURCE);
    stage_setup_image(stage, source);
    assert_int_equal(park(stage, source), WIRE_OK);
    put(world, source);
    world_restart(world);
    source = process(stage, SOURCE);
    struct catalog_session *destination = process(stage, DESTINATION);
    assert_int_equal(resume(world, source, stage->image.members[0].segment, true, 1), WIRE_FENCED);
    assert_int_equal(open_as(world, destination, "heap", true), WIRE_BUSY);
    assert_int_equal(park(stage, source), WIRE_OK); // again, across the restart
    assert_int_equal(commit(stage, destination, 1), WIRE_OK);
    take_epochs(stage);
    put(world, source);
    put(world, destination);
    world_restart(world);
    source = process(stage, SOURCE);
    destination = process(stage, DESTINATION);
    assert_int_equal(commit(stage, source, 1), WIRE_USED);
    assert_int_equal(open_as(world, source, "heap", true), WIRE_BUSY); // presumed alive
    assert_int_equal(commit(stage, destination, 1), WIRE_OK);          // again
    owned_by(stage, destination);
    // The next hop; then what the first one left is over.
    digest_of(2, stage->image.digest);
    assert_int_equal(park(stage, destination), WIRE_OK);
    assert_int_equal(commit(stage, source, 1), WIRE_NOT_ALLOWED);
    put(world, destination);
    put(world, source);
    world_restart(world);
    destination = process(stage, DESTINATION);
    assert_int_equal(abort_image(stage, destination), WIRE_OK);
    take_epochs(stage);
    owned_by(stage, destination);
    put(world, destination);
}

static void test_another_principal(void **state)
{
    struct stage *stage = *state;
    struct world *world = stage->world;
    struct key_grant bob = migrating(5, "bob");
    struct key_grant eve = migrating(6, "eve");
    struct catalog_sums sums;
    (void)strcpy(bob.prefix, "bobs/");
    bob.quota_bytes = 11 * PAGE;
    struct catalog_session *source = process(stage, SOURCE);
    struct catalog_session *to = session_with(world, 5, &bob);
    struct catalog_session *thief = session_with(world, 6, &eve);
    stage_setup_image(stage, source);
    stage->image.principal = "bob";
    assert_int_equal(park(stage, source), WIRE_OK);
    assert_int_equal(commit(stage, thief, 1), WIRE_NO_SEGMENT);
    assert_int_equal(commit(stage, source, 1), WIRE_NOT_ALLOWED);
    says(stage, "is for \"bob\"");
    assert_int_equal(commit(stage, to, 1), WIRE_OVER_QUOTA);
    bob.quota_bytes = 12 * PAGE;
    put(world, to);
    to = session_with(world, 5, &bob);
    assert_int_equal(commit(stage, to, 1), WIRE_OK);
    take_epochs(stage);
    owned_by(stage, to);
    for (unsigned round = 0; round < 2; round++) {
        catalog_sums(world->catalog, to, &sums);
        assert_int_equal(sums.charged_bytes, 12 * PAGE);
        assert_int_equal(sums.segments, 3);
        catalog_sums(world->catalog, source, &sums);
        assert_int_equal(sums.charged_bytes, 0);
        assert_int_equal(sums.segments, 0);
        assert_int_equal(open_as(world, source, "heap", true), WIRE_NO_SEGMENT);
        put(world, to);
        put(world, source);
        put(world, thief);
        world_restart(world);
        to = session_with(world, 5, &bob);
        source = process(stage, SOURCE);
        thief = session_with(world, 6, &eve);
        for (unsigned i = 0; i < SEGMENTS; i++) { // by its id, and its name of before
            assert_int_equal(resume(world, to, stage->image.members[i].segment, true, 2), WIRE_OK);
        }
        owned_by(stage, to);
    }
    stage->image.image[0] = 9;
    assert_int_equal(abort_image(stage, thief), WIRE_NO_SEGMENT);
    put(world, to);
    put(world, source);
    put(world, thief);
}

static unsigned file_count(const struct stage *stage, const char *folder)
{
    char command[256];
    unsigned count = 0;
    (void)snprintf(command, sizeof command, "ls %s/%s | wc -l", stage->world->rig.directory,
                   folder);
    FILE *pipe = popen(command, "re");
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%u", &count), 1);
    (void)pclose(pipe);
    return count;
}

static void test_thousand_hops(void **state)
{
    struct stage *stage = *state;
    struct world *world = stage->world;
    struct catalog_session *at[2] = {process(stage, SOURCE), process(stage, DESTINATION)};
    stage_setup_image(stage, at[0]);
    for (unsigned hop = 0; hop < 1000; hop++) {
        memset(stage->image.digest, (int)hop % 251, WIRE_DIGEST_BYTES);
        assert_int_equal(park(stage, at[hop % 2]), WIRE_OK);
        assert_int_equal(catalog_image_commit(world->catalog, at[(hop + 1) % 2], stage->image.image,
                                              stage->image.digest, today, &stage->view,
                                              &world->failure),
                         WIRE_OK);
        take_epochs(stage);
    }
    owned_by(stage, at[0]);
    assert_int_equal(stage->image.members[0].epoch, 1001);
    assert_int_equal(file_count(stage, "images"), 1);
    assert_int_equal(file_count(stage, "segments"), SEGMENTS);
    assert_int_equal(rig_facts(&world->rig).reserved_bytes, SEGMENTS * 4 * PAGE);
    for (unsigned i = 0; i < SEGMENTS; i++) { // nothing of it stays at either process
        uint64_t id = stage->image.members[i].segment;
        assert_int_equal(catalog_segment_close(world->catalog, at[0], id), WIRE_OK);
        assert_int_equal(catalog_segment_close(world->catalog, at[1], id), WIRE_OK);
        assert_int_equal(remove_as(world, at[1], names[i], (uint8_t)(30 + i)), WIRE_OK);
    }
    put(world, at[0]);
    put(world, at[1]);
}

// ---- the server is killed

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
        catalog_image_expire(stage->world->catalog, stage->world->now, today + LIFETIME);
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
        assert_int_equal(commit_at(stage, destination, 1, today + LIFETIME), WIRE_EXPIRED);
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
    stage_setup_image(stage, source);
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

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_hand_over),     CASE(test_shared),
        CASE(test_members),       CASE(test_abort),
        CASE(test_expiry),        CASE(test_restarts),
        CASE(test_killed),        CASE(test_another_principal),
        CASE(test_thousand_hops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
