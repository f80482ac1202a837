// SPDX-License-Identifier: Apache-2.0
//
// Process images in the store: one small file each, images/<id in hex>, which says who owns the image. Replacing it is the one step by
// which an image changes hands, whole or not at all; the records of its segments follow, and `moves` tells which of them is behind.
#ifndef SERVER_STORE_IMAGE_H
#define SERVER_STORE_IMAGE_H

#include "server/store/store.h"

enum store_image_state {
    STORE_IMAGE_PARKED = 1,
    STORE_IMAGE_COMMITTED,
    STORE_IMAGE_RETURNED, // to the process that had parked it
    STORE_IMAGE_EXPIRED,  // to that one's principal
    STORE_IMAGE_STATES
};

struct store_image_member {
    uint64_t segment;
    uint64_t epoch; // from this step on
    bool code;      // not moved
};

struct store_image {
    uint8_t id[WIRE_ID_BYTES];
    uint64_t moves; // rises with each step; above that of every member's record
    enum store_image_state state;
    uint64_t expires_ms; // since 1970
    uint8_t digest[WIRE_DIGEST_BYTES];
    uint8_t source[WIRE_ID_BYTES]; // the instance that parked it
    char source_name[LIMIT_HOLDER_NAME_BYTES];
    char source_principal[LIMIT_PRINCIPAL_NAME_BYTES];
    char destination[LIMIT_PRINCIPAL_NAME_BYTES]; // the principal that may commit
    // Who has it after this step; an owner of zeros: nobody, or the capsule.
    uint8_t owner[WIRE_ID_BYTES];
    char owner_name[LIMIT_HOLDER_NAME_BYTES];
    char principal[LIMIT_PRINCIPAL_NAME_BYTES]; // whose segments they are
    uint32_t count;
    struct store_image_member members[LIMIT_IMAGE_SEGMENTS];
};

// Replaces the image's file. 0: that is decided; -EIO, -ENOSPC, ...: the file is the old one.
int store_image_write(struct store *store, const struct store_image *image);
int store_image_remove(struct store *store, const uint8_t id[WIRE_ID_BYTES]);
// At start, before anything else uses them: tells of each. -EINVAL with a sentence when one is damaged, visit's error.
int store_image_each(struct store *store, int (*visit)(void *context, const struct store_image *),
                     void *context, struct failure *failure);
// Brings a member's record up to the image. 0 when it was there.
int store_image_follow(struct store *store, const struct store_image *image,
                       const struct store_image_member *member, struct store_segment *segment);

#endif
