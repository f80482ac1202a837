// SPDX-License-Identifier: Apache-2.0
//
// The catalog is tested over the real store, since the record that survives a restart is half of
// what it promises. The time is a number in the world: nothing here waits for a lease.
#include "tests/unit/catalog_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

int world_setup(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    rig_make(&world->rig, rig_medium_usable(RIG_TMPFS) ? RIG_TMPFS : RIG_DISK, 64 * MIB);
    rig_open(&world->rig);
    world->now = 1000000;
    assert_int_equal(catalog_create(world->rig.store, LEASE, world->now, &world->catalog), 0);
    *state = world;
    return 0;
}

int world_teardown(void **state)
{
    struct world *world = *state;
    catalog_destroy(&world->catalog);
    rig_end(&world->rig);
    free(world);
    return 0;
}

void world_restart(struct world *world)
{
    catalog_destroy(&world->catalog);
    rig_reopen(&world->rig);
    assert_int_equal(catalog_create(world->rig.store, LEASE, world->now, &world->catalog), 0);
}

struct key_grant grant_of(uint8_t key, const char *principal)
{
    struct key_grant grant = {
        .quota_bytes = UINT64_MAX,
        .rights = KEY_RIGHT_CREATE | KEY_RIGHT_READ | KEY_RIGHT_WRITE,
        .connections = LIMIT_CONNECTIONS_PER_KEY,
    };
    memset(grant.public_key, key, sizeof grant.public_key);
    (void)snprintf(grant.principal, sizeof grant.principal, "%s", principal);
    return grant;
}

struct catalog_session *session_with(struct world *world, uint8_t number,
                                     const struct key_grant *grant)
{
    uint8_t instance[WIRE_ID_BYTES];
    char holder[LIMIT_HOLDER_NAME_BYTES];
    struct catalog_session *session = NULL;
    memset(instance, number, sizeof instance);
    (void)snprintf(holder, sizeof holder, "process-%u", number);
    assert_int_equal(
        catalog_session_get(world->catalog, instance, grant, holder, world->now, &session), 0);
    return session;
}

struct catalog_session *session_of(struct world *world, uint8_t number)
{
    const struct key_grant grant = grant_of(number, "alice");
    return session_with(world, number, &grant);
}

void put(struct world *world, struct catalog_session *session)
{
    catalog_session_put(world->catalog, session, world->now);
}

enum wire_status create_sized(struct world *world, struct catalog_session *session,
                              const char *name, uint8_t operation, uint64_t bytes, uint32_t flags)
{
    uint8_t id[WIRE_ID_BYTES];
    memset(id, operation, sizeof id);
    return catalog_segment_create(world->catalog, session, id, name, bytes, PAGE, 0, flags,
                                  &world->view, &world->failure);
}

enum wire_status create(struct world *world, struct catalog_session *session, const char *name,
                        uint8_t operation)
{
    return create_sized(world, session, name, operation, 16 * PAGE, 0);
}

enum wire_status open_as(struct world *world, struct catalog_session *session, const char *name,
                         bool write)
{
    const struct catalog_open_request request = {.name = name, .write = write};
    return catalog_segment_open(world->catalog, session, &request, world->now, &world->view,
                                &world->failure);
}

enum wire_status take_over(struct world *world, struct catalog_session *session, const char *name)
{
    const struct catalog_open_request request = {.name = name, .write = true, .takeover = true};
    return catalog_segment_open(world->catalog, session, &request, world->now, &world->view,
                                &world->failure);
}

enum wire_status resume(struct world *world, struct catalog_session *session, uint64_t id,
                        bool write, uint64_t epoch)
{
    const struct catalog_open_request request = {.id = id, .write = write, .epoch = epoch};
    return catalog_segment_open(world->catalog, session, &request, world->now, &world->view,
                                &world->failure);
}

enum wire_status resume_written(struct world *world, struct catalog_session *session, uint64_t id,
                                uint64_t epoch, uint64_t highest)
{
    const struct catalog_open_request request = {
        .id = id, .write = true, .epoch = epoch, .highest = highest};
    return catalog_segment_open(world->catalog, session, &request, world->now, &world->view,
                                &world->failure);
}

enum wire_status remove_as(struct world *world, struct catalog_session *session, const char *name,
                           uint8_t operation)
{
    uint8_t id[WIRE_ID_BYTES];
    memset(id, operation, sizeof id);
    return catalog_segment_delete(world->catalog, session, id, name, world->now, &world->failure);
}

enum wire_status touch(struct world *world, struct catalog_session *session, uint64_t id,
                       uint64_t epoch, enum wire_op op)
{
    const struct wire_header request = {
        .op = (uint16_t)op, .segment = id, .epoch = epoch, .count = 1, .version = 1};
    struct catalog_hold hold;
    enum wire_status status = catalog_enter(world->catalog, session, &request, &hold);
    if (status == WIRE_OK) {
        catalog_exit(world->catalog, &hold);
    }
    return status;
}
