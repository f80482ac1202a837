// SPDX-License-Identifier: Apache-2.0
//
// Process images change hands: park, commit, abort, expiry, each with what it refuses; across restarts of the server; a thousand
// hops; into another principal's quota.
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/image_rig.h"

static void test_hand_over(void **state)
{
    struct stage *stage = *state;
    struct world *world = stage->world;
    struct catalog_session *source = process(stage, SOURCE);
    struct catalog_session *destination = process(stage, DESTINATION);
    stage_image(stage, source);
    assert_int_equal(catalog_image_check(world->catalog, source, &stage->image, &world->failure),
                     WIRE_OK);
    owned_by(stage, source);
    assert_int_equal(park(stage, source), WIRE_OK);
    assert_int_equal(stage->view.expires_ms, TODAY + LIFETIME);
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
    stage_image(stage, source);
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
    stage_image(stage, source);
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
    stage_image(stage, source);
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
    stage_image(stage, source);
    assert_int_equal(park(stage, source), WIRE_OK);
    catalog_image_expire(world->catalog, world->now, TODAY + LIFETIME - 1);
    assert_int_equal(open_as(world, destination, "heap", true), WIRE_BUSY);
    assert_int_equal(commit_at(stage, destination, 1, TODAY + LIFETIME), WIRE_EXPIRED);
    catalog_image_expire(world->catalog, world->now, TODAY + LIFETIME);
    assert_int_equal(commit_at(stage, destination, 1, TODAY), WIRE_EXPIRED);
    assert_int_equal(abort_image(stage, source), WIRE_OK); // nobody was there before
    take_epochs(stage);
    owned_by(stage, source);
    digest_of(2, stage->image.digest);
    assert_int_equal(park(stage, source), WIRE_OK);
    const struct catalog_image_request first = stage->image;
    catalog_image_expire(world->catalog, world->now, TODAY + LIFETIME);
    assert_int_equal(open_as(world, destination, "heap", true), WIRE_OK); // takeable
    assert_int_equal(abort_image(stage, source), WIRE_FENCED);
    assert_int_equal(write_to(stage, source, 0, first.members[0].epoch), WIRE_FENCED);
    catalog_image_expire(world->catalog, world->now, TODAY + LIFETIME + LIMIT_IMAGE_KEPT_MS + 1);
    assert_int_equal(commit(stage, destination, 2), WIRE_NO_SEGMENT); // forgotten
    put(world, source);
    put(world, destination);
}

static void test_restarts(void **state)
{
    struct stage *stage = *state;
    struct world *world = stage->world;
    struct catalog_session *source = process(stage, SOURCE);
    stage_image(stage, source);
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
    stage_image(stage, source);
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
    char path[256];
    unsigned count = 0;
    rig_path(&stage->world->rig, folder, path);
    DIR *directory = opendir(path);
    const struct dirent *entry;
    assert_non_null(directory);
    while ((entry = readdir(directory)) != NULL) {
        count += entry->d_name[0] != '.' ? 1 : 0;
    }
    (void)closedir(directory);
    return count;
}

static void test_thousand_hops(void **state)
{
    struct stage *stage = *state;
    struct world *world = stage->world;
    struct catalog_session *at[2] = {process(stage, SOURCE), process(stage, DESTINATION)};
    stage_image(stage, at[0]);
    for (unsigned hop = 0; hop < 1000; hop++) {
        memset(stage->image.digest, (int)hop % 251, WIRE_DIGEST_BYTES);
        assert_int_equal(park(stage, at[hop % 2]), WIRE_OK);
        assert_int_equal(catalog_image_commit(world->catalog, at[(hop + 1) % 2], stage->image.image,
                                              stage->image.digest, TODAY, &stage->view,
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
        assert_int_equal(remove_as(world, at[1], image_names[i], (uint8_t)(30 + i)), WIRE_OK);
    }
    put(world, at[0]);
    put(world, at[1]);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, stage_setup, stage_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_hand_over),
        CASE(test_shared),
        CASE(test_members),
        CASE(test_abort),
        CASE(test_expiry),
        CASE(test_restarts),
        CASE(test_another_principal),
        CASE(test_thousand_hops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
