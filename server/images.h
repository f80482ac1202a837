// SPDX-License-Identifier: Apache-2.0
//
// Process images: the catalog's transactions that hand one over. An image is a set of segments that one session has open for writing
// (and perhaps its code, open for reading). Park: they change owner to a capsule, all at once; the former owner is fenced. Then one of
// three things happens, once: a session that shows the token takes them over, the source takes them back, or the capsule expires and
// its principal may open them. Each request may come again and is answered again. tests/model/handover.pml is the same in Promela.
#ifndef SERVER_IMAGES_H
#define SERVER_IMAGES_H

#include "server/catalog.h"

struct catalog_image_member {
    uint64_t segment, epoch; // as its owner holds it
};

struct catalog_image_request {
    uint8_t image[WIRE_ID_BYTES];
    uint32_t count;
    struct catalog_image_member members[LIMIT_IMAGE_SEGMENTS];
    // park:
    uint8_t digest[WIRE_DIGEST_BYTES]; // of the capsule's token
    uint32_t lifetime_ms;
    const char *principal; // who may commit; "": the session's own
};

struct catalog_image_view { // a copy; the moved members, without the code
    uint64_t expires_ms;    // since 1970; 0: not parked
    uint32_t count;
    struct catalog_segment_view segments[LIMIT_IMAGE_SEGMENTS];
};

// Could it be parked now? Changes nothing.
enum wire_status catalog_image_check(struct catalog *, struct catalog_session *,
                                     const struct catalog_image_request *, struct failure *failure);
enum wire_status catalog_image_park(struct catalog *, struct catalog_session *,
                                    const struct catalog_image_request *, uint64_t unix_ms,
                                    struct catalog_image_view *view, struct failure *failure);
enum wire_status catalog_image_commit(struct catalog *, struct catalog_session *,
                                      const uint8_t image[WIRE_ID_BYTES],
                                      const uint8_t digest[WIRE_DIGEST_BYTES], uint64_t unix_ms,
                                      struct catalog_image_view *view, struct failure *failure);
// By the session that parked it, or that tried to and does not know.
enum wire_status catalog_image_abort(struct catalog *, struct catalog_session *,
                                     const struct catalog_image_request *, uint64_t unix_ms,
                                     struct catalog_image_view *view, struct failure *failure);
// What capsules that expired have had goes back to the source's principal; images long past are forgotten. Call now and then.
void catalog_image_expire(struct catalog *, int64_t now_ms, uint64_t unix_ms);

#endif
