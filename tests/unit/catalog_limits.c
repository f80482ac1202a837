// SPDX-License-Identifier: Apache-2.0
//
// The limits of the catalog that only a crowd reaches: sessions of a principal and of all, images that are remembered.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/image_rig.h"

static int enter(struct world *world, unsigned number, const char *principal,
                 struct catalog_session **session)
{
    const struct key_grant grant = grant_of(1, principal);
    uint8_t instance[WIRE_ID_BYTES] = {0x77};
    memcpy(instance + 1, &number, sizeof number);
    return catalog_session_get(world->catalog, instance, &grant, "one of many", world->now,
                               session);
}

static void test_sessions(void **state)
{
    const struct stage *stage = *state;
    struct world *world = stage->world;
    static struct catalog_session *sessions[LIMIT_CONNECTIONS];
    struct catalog_session *more = NULL;
    unsigned count = 0;
    for (unsigned i = 0; count < LIMIT_CONNECTIONS; i++) {
        char principal[16];
        (void)snprintf(principal, sizeof principal, "p%u", i);
        for (unsigned k = 0; k < LIMIT_CONNECTIONS_PER_KEY; k++, count++) {
            assert_int_equal(enter(world, count, principal, &sessions[count]), 0);
        }
        assert_int_equal(enter(world, UINT32_MAX, principal, &more), -EUSERS);
    }
    assert_int_equal(enter(world, UINT32_MAX, "another", &more), -EUSERS);
    assert_null(more);
    put(world, sessions[--count]);
    assert_int_equal(enter(world, UINT32_MAX, "another", &more), 0);
    put(world, more);
    while (count > 0) {
        put(world, sessions[--count]);
    }
}

static void test_images(void **state)
{
    struct stage *stage = *state;
    struct catalog_session *source = process(stage, SOURCE);
    stage_image(stage, source);
    for (unsigned i = 0; i < LIMIT_IMAGES_PER_PRINCIPAL; i++) {
        memcpy(stage->image.image + 4, &i, sizeof i);
        assert_int_equal(park(stage, source), WIRE_OK);
        assert_int_equal(abort_image(stage, source), WIRE_OK);
        take_epochs(stage);
    }
    memset(stage->image.image, 0xee, sizeof stage->image.image);
    assert_int_equal(park(stage, source), WIRE_TOO_MANY);
    catalog_image_expire(stage->world->catalog, stage->world->now,
                         TODAY + LIFETIME + LIMIT_IMAGE_KEPT_MS + 1);
    assert_int_equal(park(stage, source), WIRE_OK); // the others are forgotten
    assert_int_equal(abort_image(stage, source), WIRE_OK);
    put(stage->world, source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sessions, stage_setup, stage_teardown),
        cmocka_unit_test_setup_teardown(test_images, stage_setup, stage_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
