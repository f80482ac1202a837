// SPDX-License-Identifier: Apache-2.0
//
// Requests for process images, and for segments that are made from others. Each is sent again after a cut, as it was: the server
// knows an image's step by its members and epochs, a clone by its operation id, code by its identity.
//
// After a restart of the server the keeper opens the session's segments again; a request that comes before that is answered "not open", and
// asks once more a little later, for as long as a failover may take. But not a park or an abort: the keeper leaves alone what is away,
// so who asks these opens it again (migrate_owner.c).
//
// The token is wiped nowhere here: it is the caller's, and goes into one message, whose bytes are sealed by the lane.
#include "libdsm/backing/control_image.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "libdsm/sync/futex.h"
#include "rpc/dsm.pb-c.h"

#include "libdsm/backing/control_internal.h"

enum { AGAIN_MS = 20 };

static int take_answer(void *context, const Dsm__ControlAnswer *answer)
{
    struct image_answer *to = context;
    const Dsm__ImageInfo *from = answer->image;
    if (answer->body_case != DSM__CONTROL_ANSWER__BODY_IMAGE ||
        from->n_segment > LIMIT_IMAGE_SEGMENTS) {
        return -EBADMSG;
    }
    to->expires_unix_ms = from->expires_ms;
    to->count = (uint32_t)from->n_segment;
    for (uint32_t i = 0; i < to->count; i++) {
        int error = control_take_segment(from->segment[i], &to->segments[i]);
        if (error != 0) {
            return error;
        }
    }
    return 0;
}

// Until the keeper has opened the segments again.
static int operate(struct session *session, const Dsm__Control *control,
                   const struct control_result *result, struct failure *failure)
{
    const int64_t deadline = sync_after_ms(LIMIT_FAILOVER_MS);
    int error;
    while ((error = control_operate(session, control, result, failure)) == -EBADF &&
           sync_after_ms(0) < deadline) {
        const struct timespec pause = {.tv_nsec = AGAIN_MS * 1000000L};
        (void)nanosleep(&pause, NULL);
    }
    return error;
}

struct member_list {
    Dsm__ImageMember members[LIMIT_IMAGE_SEGMENTS];
    Dsm__ImageMember *pointers[LIMIT_IMAGE_SEGMENTS];
};

static int list_members(const struct image_request *request, struct member_list *list,
                        struct failure *failure)
{
    if (request->count == 0 || request->count > LIMIT_IMAGE_SEGMENTS) {
        return failure_set(failure, -EINVAL, "An image has 1 to %d segments.",
                           LIMIT_IMAGE_SEGMENTS);
    }
    for (uint32_t i = 0; i < request->count; i++) {
        dsm__image_member__init(&list->members[i]);
        list->members[i].segment = request->members[i].segment;
        list->members[i].epoch = request->members[i].epoch;
        list->pointers[i] = &list->members[i];
    }
    return 0;
}

static ProtobufCBinaryData bytes_of(const uint8_t *bytes, size_t count)
{
    return (ProtobufCBinaryData){.len = count, .data = (uint8_t *)(uintptr_t)bytes};
}

int control_image_check(struct session *session, const struct image_request *request,
                        struct failure *failure)
{
    struct member_list list;
    int error = list_members(request, &list, failure);
    if (error != 0) {
        return error;
    }
    Dsm__ImageCheck check = DSM__IMAGE_CHECK__INIT;
    check.n_member = request->count;
    check.member = list.pointers;
    Dsm__Control control = DSM__CONTROL__INIT;
    control.body_case = DSM__CONTROL__BODY_IMAGE_CHECK;
    control.image_check = &check;
    const struct control_result nothing = {.segment = NULL};
    return operate(session, &control, &nothing, failure);
}

int control_image_park(struct session *session, const struct image_request *request,
                       const uint8_t token[WIRE_TOKEN_BYTES], uint32_t lifetime_ms,
                       const char *principal, struct image_answer *answer, struct failure *failure)
{
    struct member_list list;
    uint8_t digest[WIRE_DIGEST_BYTES];
    int error = list_members(request, &list, failure);
    if (error != 0) {
        return error;
    }
    noise_digest(token, WIRE_TOKEN_BYTES, digest);
    Dsm__ImagePark park = DSM__IMAGE_PARK__INIT;
    park.image = bytes_of(request->image, sizeof request->image);
    park.n_member = request->count;
    park.member = list.pointers;
    park.digest = bytes_of(digest, sizeof digest);
    park.lifetime_ms = lifetime_ms;
    park.principal = (char *)(uintptr_t)principal;
    Dsm__Control control = DSM__CONTROL__INIT;
    control.body_case = DSM__CONTROL__BODY_IMAGE_PARK;
    control.image_park = &park;
    const struct control_result result = {.take = take_answer, .context = answer};
    return control_operate(session, &control, &result, failure);
}

int control_image_commit(struct session *session, const uint8_t image[WIRE_ID_BYTES],
                         const uint8_t token[WIRE_TOKEN_BYTES], struct image_answer *answer,
                         struct failure *failure)
{
    Dsm__ImageCommit commit = DSM__IMAGE_COMMIT__INIT;
    commit.image = bytes_of(image, WIRE_ID_BYTES);
    commit.token = bytes_of(token, WIRE_TOKEN_BYTES);
    Dsm__Control control = DSM__CONTROL__INIT;
    control.body_case = DSM__CONTROL__BODY_IMAGE_COMMIT;
    control.image_commit = &commit;
    const struct control_result result = {.take = take_answer, .context = answer};
    return operate(session, &control, &result, failure);
}

int control_image_abort(struct session *session, const struct image_request *request,
                        struct image_answer *answer, struct failure *failure)
{
    struct member_list list;
    int error = list_members(request, &list, failure);
    if (error != 0) {
        return error;
    }
    Dsm__ImageAbort back = DSM__IMAGE_ABORT__INIT;
    back.image = bytes_of(request->image, sizeof request->image);
    back.n_member = request->count;
    back.member = list.pointers;
    Dsm__Control control = DSM__CONTROL__INIT;
    control.body_case = DSM__CONTROL__BODY_IMAGE_ABORT;
    control.image_abort = &back;
    const struct control_result result = {.take = take_answer, .context = answer};
    return control_operate(session, &control, &result, failure);
}

int control_create_typed(struct session *session, const char *name, uint64_t bytes,
                         uint32_t page_bytes, enum control_type type, uint32_t flags,
                         struct control_segment *segment, struct failure *failure)
{
    uint8_t id[WIRE_ID_BYTES];
    noise_random(id, sizeof id);
    Dsm__Create create = DSM__CREATE__INIT;
    create.operation = bytes_of(id, sizeof id);
    create.name = (char *)(uintptr_t)name;
    create.bytes = bytes;
    create.page_bytes = page_bytes;
    create.type = type;
    create.flags = flags;
    Dsm__Control control = DSM__CONTROL__INIT;
    control.body_case = DSM__CONTROL__BODY_CREATE;
    control.create = &create;
    const struct control_result result = {.segment = segment};
    return operate(session, &control, &result, failure);
}

int control_clone(struct session *session, const struct image_member *source, const char *name,
                  uint64_t bytes, enum control_type type, uint32_t flags,
                  struct control_segment *segment, struct failure *failure)
{
    uint8_t id[WIRE_ID_BYTES];
    noise_random(id, sizeof id);
    Dsm__Clone clone = DSM__CLONE__INIT;
    clone.operation = bytes_of(id, sizeof id);
    clone.segment = source->segment;
    clone.epoch = source->epoch;
    clone.name = (char *)(uintptr_t)name;
    clone.bytes = bytes;
    clone.type = type;
    clone.flags = flags;
    Dsm__Control control = DSM__CONTROL__INIT;
    control.body_case = DSM__CONTROL__BODY_CLONE;
    control.clone = &clone;
    const struct control_result result = {.segment = segment};
    return operate(session, &control, &result, failure);
}

int control_code(struct session *session, const uint8_t identity[WIRE_DIGEST_BYTES], uint64_t bytes,
                 uint32_t page_bytes, struct control_segment *segment, struct failure *failure)
{
    Dsm__Code code = DSM__CODE__INIT;
    code.identity = bytes_of(identity, WIRE_DIGEST_BYTES);
    code.bytes = bytes;
    code.page_bytes = page_bytes;
    Dsm__Control control = DSM__CONTROL__INIT;
    control.body_case = DSM__CONTROL__BODY_CODE;
    control.code = &code;
    const struct control_result result = {.segment = segment};
    return operate(session, &control, &result, failure);
}

int control_seal(struct session *session, const struct image_member *code,
                 struct control_segment *segment, struct failure *failure)
{
    Dsm__Seal seal = DSM__SEAL__INIT;
    seal.segment = code->segment;
    seal.epoch = code->epoch;
    Dsm__Control control = DSM__CONTROL__INIT;
    control.body_case = DSM__CONTROL__BODY_SEAL;
    control.seal = &seal;
    const struct control_result result = {.segment = segment};
    return operate(session, &control, &result, failure);
}
