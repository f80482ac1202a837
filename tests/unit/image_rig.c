// SPDX-License-Identifier: Apache-2.0
//
// An image over the real catalog and store; the time is a number, as in catalog_rig.c.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/image_rig.h"

const char *const image_names[SEGMENTS] = {"heap", "stack", "data"};
static const uint32_t types[SEGMENTS] = {STORE_SEGMENT_HEAP, STORE_SEGMENT_STACK,
                                         STORE_SEGMENT_DATA};

struct key_grant migrating(uint8_t key, const char *principal)
{
    struct key_grant grant = grant_of(key, principal);
    grant.rights |= KEY_RIGHT_MIGRATE;
    return grant;
}

struct catalog_session *process(struct stage *stage, uint8_t number)
{
    const struct key_grant grant = migrating(number, "alice");
    return session_with(stage->world, number, &grant);
}

void digest_of(uint8_t token, uint8_t digest[WIRE_DIGEST_BYTES])
{
    memset(digest, 0x40 + token, WIRE_DIGEST_BYTES);
}

void stage_image(struct stage *stage, struct catalog_session *session)
{
    struct world *world = stage->world;
    stage->image = (struct catalog_image_request){
        .image = {9}, .count = SEGMENTS, .lifetime_ms = LIFETIME, .principal = ""};
    digest_of(1, stage->image.digest);
    for (unsigned i = 0; i < SEGMENTS; i++) {
        uint8_t operation[WIRE_ID_BYTES] = {(uint8_t)(100 + i)};
        assert_int_equal(catalog_segment_create(world->catalog, session, operation, image_names[i],
                                                4 * PAGE, PAGE, types[i], 0, &world->view,
                                                &world->failure),
                         WIRE_OK);
        stage->image.members[i].segment = world->view.record.id;
        stage->image.members[i].epoch = world->view.record.epoch;
    }
}

int stage_setup(void **state)
{
    struct stage *stage = calloc(1, sizeof *stage);
    void *world = NULL;
    assert_non_null(stage);
    assert_int_equal(world_setup(&world), 0);
    stage->world = world;
    *state = stage;
    return 0;
}

int stage_teardown(void **state)
{
    struct stage *stage = *state;
    void *world = stage->world;
    rig_check(&stage->world->rig);
    assert_int_equal(world_teardown(&world), 0);
    free(stage);
    return 0;
}

enum wire_status park(struct stage *stage, struct catalog_session *session)
{
    return catalog_image_park(stage->world->catalog, session, &stage->image, TODAY, &stage->view,
                              &stage->world->failure);
}

enum wire_status commit_at(struct stage *stage, struct catalog_session *session, uint8_t token,
                           uint64_t unix_ms)
{
    uint8_t digest[WIRE_DIGEST_BYTES];
    digest_of(token, digest);
    return catalog_image_commit(stage->world->catalog, session, stage->image.image, digest, unix_ms,
                                &stage->view, &stage->world->failure);
}

enum wire_status commit(struct stage *stage, struct catalog_session *session, uint8_t token)
{
    return commit_at(stage, session, token, TODAY);
}

enum wire_status abort_image(struct stage *stage, struct catalog_session *session)
{
    return catalog_image_abort(stage->world->catalog, session, &stage->image, TODAY, &stage->view,
                               &stage->world->failure);
}

enum wire_status write_to(struct stage *stage, struct catalog_session *session, unsigned i,
                          uint64_t epoch)
{
    return touch(stage->world, session, stage->image.members[i].segment, epoch, WIRE_DISCARD);
}

// The answer's epochs are those under which the image goes on.
void take_epochs(struct stage *stage)
{
    assert_int_equal(stage->view.count, SEGMENTS);
    for (unsigned i = 0; i < SEGMENTS; i++) {
        assert_int_equal(stage->view.segments[i].record.id, stage->image.members[i].segment);
        stage->image.members[i].epoch = stage->view.segments[i].record.epoch;
    }
}

void says(const struct stage *stage, const char *text)
{
    if (strstr(stage->world->failure.text, text) == NULL) {
        fail_msg("\"%s\" is not in: %s", text, stage->world->failure.text);
    }
}

void owned_by(struct stage *stage, struct catalog_session *session)
{
    for (unsigned i = 0; i < SEGMENTS; i++) {
        assert_int_equal(write_to(stage, session, i, stage->image.members[i].epoch), WIRE_OK);
    }
}
