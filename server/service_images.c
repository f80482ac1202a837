// SPDX-License-Identifier: Apache-2.0
//
// Control operations on process images, and on segments made from others: fields are checked for their lengths and counts here, for what
// they mean in the catalog. Of a token only the digest goes further, and that is compared and kept, so neither memory nor store
// ever hold what would redeem a capsule.
//
// Threads: the fronts' own; nothing is shared here.
#include <rpc/dsm.pb-c.h>
#include <string.h>

#include "rpc/noise.h"
#include "server/clock.h"
#include "server/images.h"
#include "server/service_control.h"

static struct catalog *catalog_of(const struct control *control)
{
    return control->lane->service->catalog;
}

static enum wire_status clone_segment(struct control *control, const Dsm__Clone *clone)
{
    if (clone->operation.len != WIRE_ID_BYTES) {
        return control_invalid(control, "The operation id must have 16 bytes.");
    }
    const struct catalog_clone_request request = {
        .operation = clone->operation.data,
        .name = clone->name,
        .source = clone->segment,
        .epoch = clone->epoch,
        .bytes = clone->bytes,
        .type = clone->type,
        .flags = clone->flags,
    };
    struct catalog_segment_view view;
    enum wire_status status = catalog_segment_clone(catalog_of(control), control->lane->session,
                                                    &request, &view, &control->failure);
    return control_answer_segment(control, status, &view);
}

static enum wire_status code(struct control *control, const Dsm__Code *request)
{
    if (request->identity.len != WIRE_DIGEST_BYTES) {
        return control_invalid(control, "The identity of code must have 32 bytes.");
    }
    struct catalog_segment_view view;
    enum wire_status status = catalog_code_open(
        catalog_of(control), control->lane->session, request->identity.data, request->bytes,
        request->page_bytes, control->now_ms, &view, &control->failure);
    return control_answer_segment(control, status, &view);
}

static enum wire_status seal(struct control *control, const Dsm__Seal *request)
{
    struct catalog_segment_view view;
    enum wire_status status =
        catalog_code_seal(catalog_of(control), control->lane->session, request->segment,
                          request->epoch, &view, &control->failure);
    return control_answer_segment(control, status, &view);
}

// image NULL: none is wanted.
static enum wire_status take_request(struct control *control, const ProtobufCBinaryData *image,
                                     size_t count, Dsm__ImageMember *const *members,
                                     struct catalog_image_request *request)
{
    *request = (struct catalog_image_request){.principal = ""};
    if (image != NULL && image->len != WIRE_ID_BYTES) {
        return control_invalid(control, "The image's id must have 16 bytes.");
    }
    if (count == 0 || count > LIMIT_IMAGE_SEGMENTS) {
        return control_invalid(control, "An image has 1 to 64 segments.");
    }
    if (image != NULL) {
        memcpy(request->image, image->data, WIRE_ID_BYTES);
    }
    request->count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        request->members[i].segment = members[i]->segment;
        request->members[i].epoch = members[i]->epoch;
    }
    return WIRE_OK;
}

static enum wire_status answer_image(struct control *control, enum wire_status status,
                                     const uint8_t image[WIRE_ID_BYTES],
                                     const struct catalog_image_view *view)
{
    if (status != WIRE_OK) {
        return status;
    }
    Dsm__ImageInfo *info = control_alloc(control, sizeof *info);
    Dsm__SegmentInfo **segments =
        control_alloc(control, LIMIT_IMAGE_SEGMENTS * sizeof(Dsm__SegmentInfo *));
    uint8_t *id = control_alloc(control, WIRE_ID_BYTES);
    if (info == NULL || segments == NULL || id == NULL) {
        return control_invalid(control, "The request is too large.");
    }
    dsm__image_info__init(info);
    memcpy(id, image, WIRE_ID_BYTES);
    info->image = (ProtobufCBinaryData){.len = WIRE_ID_BYTES, .data = id};
    info->expires_ms = view->expires_ms;
    info->segment = segments;
    for (uint32_t i = 0; i < view->count; i++) {
        segments[i] = control_describe(control, &view->segments[i]);
        if (segments[i] == NULL) {
            return control_invalid(control, "The request is too large.");
        }
        info->n_segment++;
    }
    control->answer.image = info;
    control->answer.body_case = DSM__CONTROL_ANSWER__BODY_IMAGE;
    return WIRE_OK;
}

static enum wire_status park(struct control *control, const Dsm__ImagePark *message,
                             struct catalog_image_view *view)
{
    struct catalog_image_request request;
    enum wire_status status =
        take_request(control, &message->image, message->n_member, message->member, &request);
    if (status != WIRE_OK) {
        return status;
    }
    if (message->digest.len != WIRE_DIGEST_BYTES) {
        return control_invalid(control, "The token's digest must have 32 bytes.");
    }
    memcpy(request.digest, message->digest.data, WIRE_DIGEST_BYTES);
    request.lifetime_ms = message->lifetime_ms;
    request.principal = message->principal;
    status = catalog_image_park(catalog_of(control), control->lane->session, &request,
                                clock_unix_ms(), view, &control->failure);
    return answer_image(control, status, request.image, view);
}

static enum wire_status commit(struct control *control, const Dsm__ImageCommit *message,
                               struct catalog_image_view *view)
{
    uint8_t digest[WIRE_DIGEST_BYTES];
    if (message->image.len != WIRE_ID_BYTES || message->token.len != WIRE_TOKEN_BYTES) {
        return control_invalid(control, "The image's id must have 16 bytes, the token 32.");
    }
    noise_digest(message->token.data, WIRE_TOKEN_BYTES, digest);
    enum wire_status status =
        catalog_image_commit(catalog_of(control), control->lane->session, message->image.data,
                             digest, clock_unix_ms(), view, &control->failure);
    return answer_image(control, status, message->image.data, view);
}

static enum wire_status abort_move(struct control *control, const Dsm__ImageAbort *message,
                                   struct catalog_image_view *view)
{
    struct catalog_image_request request;
    enum wire_status status =
        take_request(control, &message->image, message->n_member, message->member, &request);
    if (status == WIRE_OK) {
        status = catalog_image_abort(catalog_of(control), control->lane->session, &request,
                                     clock_unix_ms(), view, &control->failure);
    }
    return answer_image(control, status, request.image, view);
}

static enum wire_status check(struct control *control, const Dsm__ImageCheck *message)
{
    struct catalog_image_request request;
    enum wire_status status =
        take_request(control, NULL, message->n_member, message->member, &request);
    return status == WIRE_OK ? catalog_image_check(catalog_of(control), control->lane->session,
                                                   &request, &control->failure)
                             : status;
}

enum wire_status control_images(struct control *control, const Dsm__Control *message)
{
    struct catalog_image_view *view = control_alloc(control, sizeof *view);
    if (view == NULL) {
        return control_invalid(control, "The request is too large.");
    }
    switch (message->body_case) {
    case DSM__CONTROL__BODY_CLONE:
        return clone_segment(control, message->clone);
    case DSM__CONTROL__BODY_CODE:
        return code(control, message->code);
    case DSM__CONTROL__BODY_SEAL:
        return seal(control, message->seal);
    case DSM__CONTROL__BODY_IMAGE_CHECK:
        return check(control, message->image_check);
    case DSM__CONTROL__BODY_IMAGE_PARK:
        return park(control, message->image_park, view);
    case DSM__CONTROL__BODY_IMAGE_COMMIT:
        return commit(control, message->image_commit, view);
    default:
        return abort_move(control, message->image_abort, view);
    }
}
