// SPDX-License-Identifier: Apache-2.0
//
// What the tests of process images share: an image of three segments, its source and its destination, and the requests on it.
#ifndef TESTS_UNIT_IMAGE_RIG_H
#define TESTS_UNIT_IMAGE_RIG_H

#include "server/images.h"
#include "tests/unit/catalog_rig.h"

enum { SEGMENTS = 3, LIFETIME = 5000, SOURCE = 1, DESTINATION = 2, OTHER = 3 };
#define TODAY 1700000000000ULL // ms since 1970

struct stage {
    struct world *world;
    struct catalog_image_request image;
    struct catalog_image_view view;
};
extern const char *const image_names[SEGMENTS];

int stage_setup(void **state);
int stage_teardown(void **state); // audits the store
struct key_grant migrating(uint8_t key, const char *principal);
struct catalog_session *process(struct stage *stage, uint8_t number); // of "alice", who may migrate
void stage_image(struct stage *stage, struct catalog_session *session); // makes it, of session
enum wire_status park(struct stage *stage, struct catalog_session *session);
void digest_of(uint8_t token, uint8_t digest[WIRE_DIGEST_BYTES]);
enum wire_status commit_at(struct stage *stage, struct catalog_session *session, uint8_t token,
                           uint64_t unix_ms);
enum wire_status commit(struct stage *stage, struct catalog_session *session, uint8_t token);
enum wire_status abort_image(struct stage *stage, struct catalog_session *session);
// What a write to member i under this epoch would be answered.
enum wire_status write_to(struct stage *stage, struct catalog_session *session, unsigned i,
                          uint64_t epoch);
void take_epochs(struct stage *stage); // those of the last answer
void says(const struct stage *stage, const char *text);
void owned_by(struct stage *stage, struct catalog_session *session);

#endif
