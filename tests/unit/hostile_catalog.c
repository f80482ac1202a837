// SPDX-License-Identifier: Apache-2.0
//
// What a client with a key may do without end: segments made and deleted by the thousand, sparse
// segments of any size, pages that are zeros. All sums return to where they were, and nobody takes
// what no quota counts.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/catalog_rig.h"

enum { CYCLES = 10000, BLOCK_PAGES = 256 };

static void operation_of(uint32_t number, uint8_t id[WIRE_ID_BYTES])
{
    memset(id, 0x77, WIRE_ID_BYTES);
    memcpy(id, &number, sizeof number);
}

static uint64_t make(struct world *world, struct catalog_session *session, uint32_t number,
                     uint32_t flags)
{
    uint8_t id[WIRE_ID_BYTES];
    operation_of(2 * number, id);
    assert_int_equal(catalog_segment_create(world->catalog, session, id, "cycle", 16 * PAGE, PAGE,
                                            0, flags, &world->view, &world->failure),
                     WIRE_OK);
    return world->view.record.id;
}

static void change(struct world *world, struct catalog_session *session, uint64_t id, bool data)
{
    static uint8_t pages[3 * PAGE];
    struct wire_header write = {.op = WIRE_WRITE,
                                .segment = id,
                                .epoch = 1,
                                .count = 3,
                                .version = 1,
                                .length = 3 * PAGE,
                                .map = {7}};
    struct catalog_hold hold;
    uint32_t done = 0;
    memset(pages, data ? 0x11 : 0, sizeof pages);
    assert_int_equal(catalog_enter(world->catalog, session, &write, &hold), WIRE_OK);
    uint64_t charge = 3 * PAGE + store_segment_index_growth(hold.segment, 0, 3);
    if (hold.thin) {
        assert_int_equal(catalog_growth_charge(&hold, charge), WIRE_OK);
    }
    assert_int_equal(store_write(world->rig.store, hold.segment, 0, 3, 1, write.map, pages, &done),
                     0);
    if (hold.thin) {
        catalog_growth_settle(&hold, charge);
    }
    catalog_exit(world->catalog, &hold);
}

static void test_sums_return_to_zero(void **state)
{
    struct world *world = *state;
    struct key_grant grant = grant_of(1, "alice");
    struct catalog_sums sums;
    grant.quota_bytes = 16 * PAGE; // one too much left behind, and the next create is refused
    struct catalog_session *one = session_with(world, 1, &grant);
    for (uint32_t i = 1; i <= CYCLES; i++) {
        uint8_t operation[WIRE_ID_BYTES];
        uint64_t id = make(world, one, i, i % 2 != 0 ? STORE_SEGMENT_NORESERVE : 0);
        change(world, one, id, i % 4 < 2);
        assert_int_equal(catalog_segment_close(world->catalog, one, id), WIRE_OK);
        operation_of(2 * i + 1, operation);
        for (int again = 0; again < 2; again++) {
            assert_int_equal(catalog_segment_delete(world->catalog, one, operation, "cycle",
                                                    world->now, &world->failure),
                             WIRE_OK);
        }
    }
    catalog_sums(world->catalog, one, &sums);
    assert_int_equal(sums.charged_bytes, 0);
    assert_int_equal(sums.segments, 0);
    struct store_facts facts = rig_facts(&world->rig);
    assert_int_equal(facts.reserved_bytes, 0);
    assert_int_equal(facts.stored_bytes, 0);
    assert_int_equal(facts.headroom_free_bytes, LIMIT_HEADROOM_BYTES);
    put(world, one);
}

static void test_sizes_of_thin_segments_are_bounded(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    const struct key_grant other = grant_of(2, "bob");
    struct catalog_session *two = session_with(world, 2, &other);
    const uint64_t half = LIMIT_THIN_BYTES / 2;
    assert_int_equal(
        create_sized(world, one, "big", 1, LIMIT_THIN_BYTES + PAGE, STORE_SEGMENT_NORESERVE),
        WIRE_TOO_MANY);
    assert_int_equal(create_sized(world, one, "a", 2, half, STORE_SEGMENT_NORESERVE), WIRE_OK);
    uint64_t id = world->view.record.id;
    assert_int_equal(create_sized(world, one, "b", 3, half, STORE_SEGMENT_NORESERVE), WIRE_OK);
    assert_int_equal(create_sized(world, one, "c", 4, PAGE, STORE_SEGMENT_NORESERVE),
                     WIRE_TOO_MANY);
    assert_int_equal(create_sized(world, one, "c", 5, PAGE, 0), WIRE_OK);
    assert_int_equal(create_sized(world, two, "d", 6, half, STORE_SEGMENT_NORESERVE), WIRE_OK);
    assert_int_equal(catalog_segment_close(world->catalog, one, id), WIRE_OK);
    assert_int_equal(remove_as(world, one, "a", 7), WIRE_OK);
    put(world, one);
    put(world, two);
    world_restart(world); // counted again
    one = session_of(world, 1);
    assert_int_equal(create_sized(world, one, "e", 8, half + PAGE, STORE_SEGMENT_NORESERVE),
                     WIRE_TOO_MANY);
    assert_int_equal(create_sized(world, one, "e", 9, half, STORE_SEGMENT_NORESERVE), WIRE_OK);
    put(world, one);
}

// A page of zeros in each block of the index: no page is stored, and still it is not for nothing.
static void test_index_is_charged(void **state)
{
    struct world *world = *state;
    struct key_grant grant = grant_of(1, "alice");
    struct catalog_sums sums;
    grant.quota_bytes = 4 * PAGE;
    struct catalog_session *one = session_with(world, 1, &grant);
    assert_int_equal(create_sized(world, one, "t", 1, 64 * MIB, STORE_SEGMENT_NORESERVE), WIRE_OK);
    struct wire_header discard = {
        .op = WIRE_DISCARD, .segment = world->view.record.id, .epoch = 1, .count = 1, .version = 1};
    for (unsigned i = 0; i < 5; i++, discard.page += BLOCK_PAGES) {
        struct catalog_hold hold;
        assert_int_equal(catalog_enter(world->catalog, one, &discard, &hold), WIRE_OK);
        uint64_t growth = store_segment_index_growth(hold.segment, discard.page, 1);
        assert_int_equal(growth, PAGE);
        enum wire_status status = catalog_growth_charge(&hold, growth);
        assert_int_equal(status, i < 4 ? WIRE_OK : WIRE_OVER_QUOTA);
        if (status == WIRE_OK) {
            assert_int_equal(store_discard(world->rig.store, hold.segment, discard.page, 1, 1), 0);
            assert_int_equal(store_segment_index_growth(hold.segment, discard.page, 1), 0);
            catalog_growth_settle(&hold, growth);
        }
        catalog_exit(world->catalog, &hold);
    }
    put(world, one);
    world_restart(world);
    one = session_with(world, 1, &grant);
    catalog_sums(world->catalog, one, &sums);
    assert_int_equal(sums.charged_bytes, 4 * PAGE);
    put(world, one);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_sums_return_to_zero),
        CASE(test_sizes_of_thin_segments_are_bounded),
        CASE(test_index_is_charged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
