// SPDX-License-Identifier: Apache-2.0
//
// Whose an image is, as the server says: the end of a move at either side. The segments are mapped, and frozen, when these are called.
#ifndef LIBDSM_MIGRATE_OWNER_H
#define LIBDSM_MIGRATE_OWNER_H

#include "libdsm/backing/control_image.h"
#include "libdsm/migrate/capsule.h"
#include "libdsm/session_api.h"

uint64_t owner_clock_ms(void); // since 1970
// Away: the keeper does not open them again when a connection comes anew. For those that the session lists.
void owner_set_away(dsm_segment *const *segments, uint32_t count, bool away);
// The source: it is the capsule's from here on. After an error nobody knows until it was taken back. The errors of control_image_park.
struct owner_capsule {
    const uint8_t *token;
    uint32_t lifetime_ms;
};
int owner_park(dsm *session, dsm_segment *const *segments, uint32_t count,
               const struct image_request *request, const struct owner_capsule *capsule,
               struct image_answer *answer, struct failure *failure);
// The destination: the image is this session's, once. Asks until it is known whether the commit was taken, or the capsule has
// expired. The errors of control_image_commit; -EMFILE; -EBADMSG: the server gave something else, and was given it back.
int owner_commit(dsm *session, dsm_segment *const *segments, uint32_t count,
                 const struct capsule *capsule, struct failure *failure);
// The source: back to this session, which parked it, or tried to. The errors of control_image_abort.
int owner_take_back(dsm *session, dsm_segment *const *segments, uint32_t count,
                    const struct image_request *request, struct failure *failure);

#endif
