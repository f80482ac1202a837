// SPDX-License-Identifier: Apache-2.0
//
// Clones and code in the catalog: who may clone what, twice, what it is charged for; a heap with a template; code that is found or made,
// by one of two who ask at once, and kept while somebody needs it.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/images.h"
#include "tests/unit/catalog_rig.h"

static enum wire_status clone_as(struct world *world, struct catalog_session *session,
                                 uint64_t source, uint64_t epoch, const char *name,
                                 uint8_t operation, uint64_t bytes, uint32_t flags)
{
    uint8_t id[WIRE_ID_BYTES];
    memset(id, operation, sizeof id);
    const struct catalog_clone_request request = {.operation = id,
                                                  .name = name,
                                                  .source = source,
                                                  .epoch = epoch,
                                                  .bytes = bytes,
                                                  .type = STORE_SEGMENT_HEAP,
                                                  .flags = flags};
    return catalog_segment_clone(world->catalog, session, &request, &world->view, &world->failure);
}

static uint64_t charged(struct world *world, struct catalog_session *session)
{
    struct catalog_sums sums;
    catalog_sums(world->catalog, session, &sums);
    return sums.charged_bytes;
}

static void test_clone(void **state)
{
    struct world *world = *state;
    struct key_grant grant = grant_of(1, "alice");
    grant.quota_bytes = 50 * PAGE;
    struct catalog_session *one = session_with(world, 1, &grant);
    struct key_grant second = grant_of(2, "alice");
    second.quota_bytes = grant.quota_bytes;
    struct catalog_session *two = session_with(world, 2, &second);
    assert_int_equal(create(world, one, "a", 1), WIRE_OK); // 16 pages
    uint64_t id = world->view.record.id;
    assert_int_equal(rig_write(&world->rig, rig_find(&world->rig, "a"), 0, 3, 7), 0);
    assert_int_equal(clone_as(world, two, id, 1, "b", 2, 0, 0), WIRE_NOT_OPEN);
    assert_int_equal(clone_as(world, one, id, 2, "b", 2, 0, 0), WIRE_INVALID);
    assert_int_equal(clone_as(world, one, id, 0, "b", 2, 0, 0), WIRE_FENCED);
    assert_int_equal(clone_as(world, one, id, 1, "b", 2, PAGE, 0), WIRE_INVALID); // smaller
    assert_int_equal(clone_as(world, one, id, 1, "", 2, 0, 0), WIRE_INVALID);
    assert_int_equal(clone_as(world, one, id, 1, "b", 2, 35 * PAGE, 0), WIRE_OVER_QUOTA);
    assert_int_equal(charged(world, one), 16 * PAGE);
    assert_int_equal(clone_as(world, one, id, 1, "b", 2, 34 * PAGE, 0), WIRE_OK);
    struct store_segment_record made = world->view.record;
    assert_int_equal(made.bytes, 34 * PAGE);
    assert_int_equal(made.type, STORE_SEGMENT_HEAP);
    assert_int_equal(world->view.highest, 7);
    assert_int_equal(world->view.stored_bytes, 3 * PAGE);
    assert_int_equal(charged(world, one), 50 * PAGE);
    assert_int_equal(touch(world, one, made.id, 1, WIRE_DISCARD), WIRE_OK);
    assert_int_equal(clone_as(world, one, id, 1, "b", 2, 34 * PAGE, 0), WIRE_OK); // the same again
    assert_int_equal(world->view.record.id, made.id);
    assert_int_equal(clone_as(world, one, id, 1, "b", 3, 34 * PAGE, 0), WIRE_EXISTS);
    put(world, one);
    put(world, two);
    world_restart(world);
    one = session_with(world, 1, &grant);
    assert_int_equal(charged(world, one), 50 * PAGE);
    assert_int_equal(resume(world, one, id, true, 1), WIRE_OK);
    assert_int_equal(clone_as(world, one, id, 1, "b", 2, 34 * PAGE, 0), WIRE_OK); // and again
    assert_int_equal(world->view.record.id, made.id);
    assert_int_equal(catalog_segment_close(world->catalog, one, id), WIRE_OK);
    assert_int_equal(remove_as(world, one, "a", 9), WIRE_OK); // the clone keeps what it has
    assert_int_equal(charged(world, one), 34 * PAGE);
    assert_int_equal(store_segment_stored_bytes(rig_find(&world->rig, "b")), 3 * PAGE);
    rig_check(&world->rig);
    put(world, one);
}

static void test_thin_clone(void **state)
{
    struct world *world = *state;
    struct key_grant grant = grant_of(1, "alice");
    grant.quota_bytes = 12 * PAGE;
    struct catalog_session *one = session_with(world, 1, &grant);
    assert_int_equal(create_sized(world, one, "t", 1, 100 * PAGE, STORE_SEGMENT_NORESERVE),
                     WIRE_OK);
    uint64_t id = world->view.record.id;
    const struct wire_header write = {
        .op = WIRE_WRITE, .segment = id, .epoch = 1, .count = 3, .version = 1};
    struct catalog_hold hold;
    struct wire_header full = write;
    full.map[0] = 7;
    full.length = 3 * PAGE;
    assert_int_equal(catalog_enter(world->catalog, one, &full, &hold), WIRE_OK);
    assert_int_equal(catalog_growth_charge(&hold, 4 * PAGE), WIRE_OK);
    assert_int_equal(rig_write(&world->rig, hold.segment, 0, 3, 1), 0);
    catalog_growth_settle(&hold, 4 * PAGE);
    catalog_exit(world->catalog, &hold);
    assert_int_equal(charged(world, one), 4 * PAGE); // three, and a block of the index
    assert_int_equal(clone_as(world, one, id, 1, "u", 2, 0, STORE_SEGMENT_NORESERVE), WIRE_OK);
    assert_int_equal(charged(world, one), 8 * PAGE);
    assert_int_equal(clone_as(world, one, id, 1, "v", 3, 0, STORE_SEGMENT_NORESERVE), WIRE_OK);
    assert_int_equal(clone_as(world, one, id, 1, "w", 4, 0, STORE_SEGMENT_NORESERVE),
                     WIRE_OVER_QUOTA);
    assert_int_equal(charged(world, one), 12 * PAGE);
    put(world, one);
    world_restart(world);
    one = session_with(world, 1, &grant);
    assert_int_equal(charged(world, one), 12 * PAGE);
    rig_check(&world->rig);
    put(world, one);
}

static enum wire_status code_as(struct world *world, struct catalog_session *session, uint8_t what)
{
    uint8_t identity[WIRE_DIGEST_BYTES];
    memset(identity, what, sizeof identity);
    return catalog_code_open(world->catalog, session, identity, 8 * PAGE, PAGE, world->now,
                             &world->view, &world->failure);
}

static void test_code(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    struct catalog_session *two = session_of(world, 2);
    const struct key_grant stranger = grant_of(3, "bob");
    struct catalog_session *three = session_with(world, 3, &stranger);
    assert_int_equal(code_as(world, one, 5), WIRE_OK);
    assert_true(world->view.writer); // it fills it
    uint64_t id = world->view.record.id;
    assert_int_equal(code_as(world, one, 5), WIRE_OK); // the answer was lost
    assert_true(world->view.writer);
    assert_int_equal(code_as(world, two, 5), WIRE_BUSY);
    assert_non_null(strstr(world->failure.text, "process-1"));
    assert_int_equal(code_as(world, three, 5), WIRE_OK); // another principal's is another
    assert_int_not_equal(world->view.record.id, id);
    assert_int_equal(touch(world, one, id, 1, WIRE_DISCARD), WIRE_OK);
    assert_int_equal(catalog_code_seal(world->catalog, two, id, 1, &world->view, &world->failure),
                     WIRE_NOT_OPEN);
    assert_int_equal(catalog_code_seal(world->catalog, one, id, 1, &world->view, &world->failure),
                     WIRE_OK);
    assert_int_equal(catalog_code_seal(world->catalog, one, id, 1, &world->view, &world->failure),
                     WIRE_OK);
    assert_int_equal(touch(world, one, id, 1, WIRE_DISCARD), WIRE_NOT_ALLOWED);
    assert_int_equal(touch(world, one, id, 1, WIRE_READ), WIRE_OK);
    assert_int_equal(code_as(world, two, 5), WIRE_OK);
    assert_false(world->view.writer); // found
    assert_int_equal(world->view.record.id, id);
    assert_int_equal(world->view.record.epoch, 1); // not raised
    char name[LIMIT_SEGMENT_NAME_BYTES];
    memcpy(name, world->view.record.name, sizeof name);
    assert_int_equal(open_as(world, one, name, true), WIRE_NOT_ALLOWED);
    assert_int_equal(take_over(world, one, name), WIRE_NOT_ALLOWED);
    assert_int_equal(create(world, one, "tmp/code/alice/x", 7), WIRE_NOT_ALLOWED);
    assert_int_equal(catalog_segment_close(world->catalog, one, id), WIRE_OK);
    assert_int_equal(touch(world, two, id, 1, WIRE_READ), WIRE_OK);
    assert_int_equal(catalog_segment_close(world->catalog, two, id), WIRE_OK);
    assert_int_equal(code_as(world, two, 5), WIRE_OK); // nobody had it: it went
    assert_true(world->view.writer);
    put(world, one);
    put(world, two);
    put(world, three);
}

// Who was to fill it is lost, or gives up: the next that asks does it.
static void test_creator_fails(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    struct catalog_session *two = session_of(world, 2);
    assert_int_equal(code_as(world, one, 5), WIRE_OK);
    uint64_t id = world->view.record.id;
    put(world, one);
    world->now += LEASE + 1;
    catalog_session_renew(two, world->now);
    assert_int_equal(code_as(world, two, 5), WIRE_OK);
    assert_true(world->view.writer);
    assert_int_equal(world->view.record.id, id);
    assert_int_equal(world->view.record.epoch, 2); // the first one comes too late
    assert_int_equal(catalog_segment_close(world->catalog, two, id), WIRE_OK); // gives up
    assert_int_equal(code_as(world, two, 5), WIRE_OK);
    assert_true(world->view.writer);
    put(world, two);
}

// An image in a capsule keeps its code.
static void test_code_of_image(void **state)
{
    struct world *world = *state;
    struct key_grant grant = grant_of(1, "alice");
    grant.rights |= KEY_RIGHT_MIGRATE;
    struct catalog_session *one = session_with(world, 1, &grant);
    struct catalog_image_request image = {
        .image = {3}, .count = 3, .lifetime_ms = 1000, .principal = ""};
    struct catalog_image_view view;
    assert_int_equal(code_as(world, one, 5), WIRE_OK);
    uint64_t code = world->view.record.id;
    assert_int_equal(create(world, one, "template", 1), WIRE_OK);
    assert_int_equal(clone_as(world, one, world->view.record.id, 1, "heap", 2, 0, 0), WIRE_OK);
    image.members[1] = (struct catalog_image_member){world->view.record.id, 1};
    const uint8_t operation[WIRE_ID_BYTES] = {66};
    assert_int_equal(catalog_segment_create(world->catalog, one, operation, "stack", PAGE, PAGE,
                                            STORE_SEGMENT_STACK, 0, &world->view, &world->failure),
                     WIRE_OK);
    image.members[2] = (struct catalog_image_member){world->view.record.id, 1};
    image.members[0] = (struct catalog_image_member){code, 1};
    assert_int_equal(catalog_image_park(world->catalog, one, &image, 5000, &view, &world->failure),
                     WIRE_BUSY); // not complete
    assert_int_equal(catalog_code_seal(world->catalog, one, code, 1, &world->view, &world->failure),
                     WIRE_OK);
    assert_int_equal(catalog_image_park(world->catalog, one, &image, 5000, &view, &world->failure),
                     WIRE_OK);
    assert_int_equal(view.count, 2);
    assert_int_equal(catalog_segment_close(world->catalog, one, code), WIRE_OK);
    catalog_expire(world->catalog, world->now);
    put(world, one);
    world_restart(world);
    world->now += LEASE + 1;
    catalog_expire(world->catalog, world->now);
    one = session_with(world, 1, &grant);
    assert_int_equal(code_as(world, one, 5), WIRE_OK);
    assert_false(world->view.writer);
    assert_int_equal(world->view.record.id, code);
    assert_int_equal(catalog_segment_close(world->catalog, one, code), WIRE_OK);
    catalog_image_expire(world->catalog, world->now, 6000);
    catalog_expire(world->catalog, world->now);
    assert_int_equal(code_as(world, one, 5), WIRE_OK); // nobody needs it any more
    assert_true(world->view.writer);
    put(world, one);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {CASE(test_clone), CASE(test_thin_clone), CASE(test_code),
                                       CASE(test_creator_fails), CASE(test_code_of_image)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
