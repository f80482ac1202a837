// SPDX-License-Identifier: Apache-2.0
//
// Requests for process images: what libdsm/migrate asks the server. An image is a set of segments that goes from process to
// process as one: one heap, one stack, more data segments, at most LIMIT_IMAGE_SEGMENTS, each open for writing in the process that
// has the image; and perhaps the code segment, which that process has open for reading and which is not moved but kept.
//
// The protocol, with who owns the image after each step, is in tests/model/handover.pml. The client's part:
//   image id   16 random bytes, made once for a process image, the same at every hop
//   token      32 random bytes, fresh for every park; they travel in the capsule alone; the catalog keeps their digest
//   epochs     of each member as the owner holds it; a park raises them by one, so does an abort. Whoever gets the image back
//              or takes it over writes under the epochs of the answer
// Every request may be sent again until it is answered: the same again is the same request. Who gave up a park that was not
// answered must abort: it cannot know.
//
// Errors, with a sentence: -EACCES (the key has no right "migrate", the token is not this image's, or it is for another principal),
// -EBUSY (shared, or a member is in use; the sentence names the holder), -DSM_EFENCED (another process has it by now), -ENOENT (no such
// image or segment here), -ETIME (expired), -EALREADY (used before, or taken back), -EDQUOT and -EMFILE (the destination's), -EINVAL,
// -EIO (the server's store), -ETIMEDOUT (no answer).
#ifndef LIBDSM_BACKING_CONTROL_IMAGE_H
#define LIBDSM_BACKING_CONTROL_IMAGE_H

#include "libdsm/backing/control.h"

struct image_member {
    uint64_t segment; // its id
    uint64_t epoch;
};

struct image_request { // who has the image asks
    uint8_t image[WIRE_ID_BYTES];
    uint32_t count;
    struct image_member members[LIMIT_IMAGE_SEGMENTS];
};

struct image_answer {         // the moved members in the order of the park, without the code
    uint64_t expires_unix_ms; // of the capsule; 0 when nothing is parked
    uint32_t count;
    struct control_segment segments[LIMIT_IMAGE_SEGMENTS]; // epoch: the one that counts from now on
};

// initiate: could it be parked now? Looks only; nothing changes, and nothing is held at the server.
int control_image_check(struct session *session, const struct image_request *request,
                        struct failure *failure);
// encap: the image belongs to the capsule from here on, until it is committed, aborted or expired. The source is fenced; what it had
// written before is there. principal: whose processes may commit; "" for the source's own.
int control_image_park(struct session *session, const struct image_request *request,
                       const uint8_t token[WIRE_TOKEN_BYTES], uint32_t lifetime_ms,
                       const char *principal, struct image_answer *answer, struct failure *failure);
// deencap/finish: this session owns the image, once. Its members are open for writing here.
int control_image_commit(struct session *session, const uint8_t image[WIRE_ID_BYTES],
                         const uint8_t token[WIRE_TOKEN_BYTES], struct image_answer *answer,
                         struct failure *failure);
// abort: back to the source, by the session that parked it (or tried to), with the epochs that it had then. Also of an expired capsule,
// unless somebody opened a member since.
int control_image_abort(struct session *session, const struct image_request *request,
                        struct image_answer *answer, struct failure *failure);

enum control_type { CONTROL_DATA, CONTROL_CODE, CONTROL_HEAP, CONTROL_STACK };

// As control_create, of a type other than code.
int control_create_typed(struct session *session, const char *name, uint64_t bytes,
                         uint32_t page_bytes, enum control_type type, uint32_t flags,
                         struct control_segment *segment, struct failure *failure);
// A segment that begins with the pages of one that this session has open; bytes 0: as many. A heap with a template is a clone of it.
int control_clone(struct session *session, const struct image_member *source, const char *name,
                  uint64_t bytes, enum control_type type, uint32_t flags,
                  struct control_segment *segment, struct failure *failure);
// Code by its digest. segment->writer: it was made, and is to be filled, cleaned and sealed by this session; else it is open for
// reading. -EBUSY: another process is filling it; ask again.
int control_code(struct session *session, const uint8_t identity[WIRE_DIGEST_BYTES], uint64_t bytes,
                 uint32_t page_bytes, struct control_segment *segment, struct failure *failure);
int control_seal(struct session *session, const struct image_member *code,
                 struct control_segment *segment, struct failure *failure);

#endif
