// SPDX-License-Identifier: Apache-2.0
//
// Steps of which the transactions on images are made; catalog_image.c has them, catalog_handover.c puts them together. All under C.
#ifndef SERVER_IMAGE_STEPS_H
#define SERVER_IMAGE_STEPS_H

#include "server/catalog_internal.h"
#include "server/images.h"

struct catalog_image *image_find(const struct catalog *catalog, const uint8_t id[WIRE_ID_BYTES]);
// The image of this id, made when new, without a file yet. -EMFILE, -ENOMEM; -EEXIST: another principal's.
int image_get(struct catalog *catalog, const uint8_t id[WIRE_ID_BYTES], const char *principal,
              struct catalog_image **image);
void image_drop(struct catalog *catalog, struct catalog_image *image); // not its file

// Does this session have all members, alone, and may the image be moved?
enum wire_status image_check_members(struct catalog *catalog, struct catalog_session *session,
                                     const struct catalog_image_request *request,
                                     struct failure *failure);
// Replaces the image's file by this one, with the next number of moves. From here on it is decided.
enum wire_status image_decide(struct catalog *catalog, struct catalog_image *image,
                              const struct store_image *next, struct failure *failure);
// Waits until nothing of former holders is in flight, then brings the records up to the file. Lets go of C in between.
enum wire_status image_settle(struct catalog *catalog, struct catalog_image *image,
                              struct catalog_session *session, struct failure *failure);
struct catalog_segment *image_segment(const struct catalog *catalog,
                                      const struct catalog_image *image, uint32_t member);
// Closed: nobody may open or delete its members, nor delete its code. From each decision on; until they are held, or nobody's.
void image_set_closed(struct catalog *catalog, struct catalog_image *image, bool closed);
uint32_t image_moved(const struct catalog_image *image); // members without the code
void image_view(const struct catalog *catalog, const struct catalog_image *image,
                struct catalog_image_view *view);
// The owner that the file names gets its members open for writing, as far as it has them not yet.
enum wire_status image_hold(struct catalog *catalog, struct catalog_image *image,
                            struct catalog_session *session, struct failure *failure);

// catalog_charge.c: has the session's principal room for an image of another's; then it is charged for it.
enum wire_status image_check_room(const struct catalog *catalog, const struct catalog_image *image,
                                  const struct catalog_session *session, struct failure *failure);
void image_change_account(const struct catalog *catalog, const struct catalog_image *image,
                          const struct catalog_session *session);

#endif
