// SPDX-License-Identifier: Apache-2.0
//
// What the catalog's tests share: a store on a memory file system where there is one, a catalog, a
// time that the test moves, and sessions by number.
#ifndef TESTS_UNIT_CATALOG_RIG_H
#define TESTS_UNIT_CATALOG_RIG_H

#include "server/catalog.h"
#include "tests/unit/store_rig.h"

enum { LEASE = 60000, PAGE = 4096, MIB = 1 << 20 };

struct world {
    struct rig rig;
    struct catalog *catalog;
    int64_t now;
    struct failure failure;
    struct catalog_segment_view view;
};

int world_setup(void **state);
int world_teardown(void **state);
void world_restart(struct world *world); // of the server; sessions must have been put

struct key_grant grant_of(uint8_t key, const char *principal);
// The session of process `number`, of principal "alice" with key `number`; the caller puts it.
struct catalog_session *session_of(struct world *world, uint8_t number);
struct catalog_session *session_with(struct world *world, uint8_t number,
                                     const struct key_grant *grant);
void put(struct world *world, struct catalog_session *session);

enum wire_status create(struct world *world, struct catalog_session *session, const char *name,
                        uint8_t operation);
enum wire_status create_sized(struct world *world, struct catalog_session *session,
                              const char *name, uint8_t operation, uint64_t bytes, uint32_t flags);
enum wire_status open_as(struct world *world, struct catalog_session *session, const char *name,
                         bool write);
enum wire_status resume(struct world *world, struct catalog_session *session, uint64_t id,
                        bool write, uint64_t epoch);
enum wire_status resume_written(struct world *world, struct catalog_session *session, uint64_t id,
                                uint64_t epoch, uint64_t highest); // as a writer
enum wire_status take_over(struct world *world, struct catalog_session *session, const char *name);
enum wire_status remove_as(struct world *world, struct catalog_session *session, const char *name,
                           uint8_t operation);
// What a page operation of one page would be answered; it is over when this returns.
enum wire_status touch(struct world *world, struct catalog_session *session, uint64_t id,
                       uint64_t epoch, enum wire_op op);

#endif
