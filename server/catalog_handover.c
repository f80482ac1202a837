// SPDX-License-Identifier: Apache-2.0
//
// The hand-over of an image: park, commit, abort. Steps and their order are in catalog_image.c, the whole with all that can go wrong in
// tests/model/handover.pml.
//
//   parked      by commit  -> committed     the session that shows the token, once, of the principal that the park named
//               by abort   -> returned      the session that parked it
//               by time    -> expired       nobody; its principal may open the segments
//   expired     by abort   -> returned      unless somebody opened a segment since
//   committed, returned, and whatever was never parked: park by its owner -> parked
//
// The epoch rises with a park, and with an abort of what is not parked: so a park, a write or an open of before comes too late,
// however late it comes. A commit keeps the epoch, since nobody but the capsule had it; so does an abort of what was parked.
//
// A commit by another principal takes the segments out of the one's quota and into the other's, all or none, under their names.
//
// Locks: C; T for charges.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/image_steps.h"

static const struct store_segment_record *record_of(const struct catalog_segment *segment)
{
    return store_segment_record(segment->store);
}

static bool is_owner(const struct catalog_image *image, const struct catalog_session *session)
{
    return memcmp(image->file.owner, session->instance, WIRE_ID_BYTES) == 0;
}

// Are these the image's members, with epochs that are lower by one than those that count now?
static bool same_park(const struct catalog_image *image, const struct catalog_session *session,
                      const struct catalog_image_request *request)
{
    bool same = memcmp(image->file.source, session->instance, WIRE_ID_BYTES) == 0 &&
                image->file.count == request->count;
    for (uint32_t i = 0; i < request->count && same; i++) {
        const struct store_image_member *member = &image->file.members[i];
        same = member->segment == request->members[i].segment &&
               member->epoch == request->members[i].epoch + (member->code ? 0 : 1);
    }
    return same;
}

// The next file of an image that this session has: members with their next epochs, and the session as the source.
static void fill_file(const struct catalog *catalog, const struct catalog_session *session,
                      const struct catalog_image_request *request, struct store_image *file)
{
    *file = (struct store_image){.count = request->count};
    memcpy(file->id, request->image, sizeof file->id);
    memcpy(file->source, session->instance, sizeof file->source);
    memcpy(file->source_name, session->holder, sizeof file->source_name);
    memcpy(file->source_principal, session->account->principal, sizeof file->source_principal);
    memcpy(file->principal, session->account->principal, sizeof file->principal);
    for (uint32_t i = 0; i < request->count; i++) {
        const struct catalog_segment *segment =
            catalog_find_id_locked(catalog, request->members[i].segment);
        bool code = record_of(segment)->type == STORE_SEGMENT_CODE;
        file->members[i] = (struct store_image_member){
            .segment = request->members[i].segment,
            .epoch = request->members[i].epoch + (code ? 0 : 1),
            .code = code,
        };
    }
}

static enum wire_status no_more(struct failure *failure, int error)
{
    if (error == -EEXIST) {
        return catalog_say(failure, WIRE_EXISTS, "An image of this id belongs to somebody else.");
    }
    return error == -EMFILE
               ? catalog_say(failure, WIRE_TOO_MANY,
                             "This principal has as many images as are allowed.")
               : catalog_say(failure, WIRE_STORE_ERROR, "The server is out of memory.");
}

static enum wire_status being_moved(struct failure *failure)
{
    return catalog_say(failure, WIRE_BUSY, "The image is just changing hands; try again.");
}

enum wire_status catalog_image_check(struct catalog *catalog, struct catalog_session *session,
                                     const struct catalog_image_request *request,
                                     struct failure *failure)
{
    (void)pthread_mutex_lock(&catalog->lock);
    enum wire_status status = image_check_members(catalog, session, request, failure);
    (void)pthread_mutex_unlock(&catalog->lock);
    return status;
}

// ---- park

static void fence_all(struct catalog *catalog, const struct catalog_image *image)
{
    for (uint32_t i = 0; i < image->file.count; i++) {
        const struct catalog_segment *segment = image_segment(catalog, image, i);
        if (!image->file.members[i].code && segment != NULL && segment->writer != NULL) {
            catalog_holding_fence_locked(segment->writer);
        }
    }
}

// Of an image whose members this session has: what its next file says of them.
static enum wire_status begin_change(struct catalog *catalog, struct catalog_session *session,
                                     const struct catalog_image_request *request,
                                     struct catalog_image **image, struct store_image *file,
                                     struct failure *failure)
{
    enum wire_status status = image_check_members(catalog, session, request, failure);
    if (status != WIRE_OK) {
        return status;
    }
    int error = image_get(catalog, request->image, session->account->principal, image);
    if (error != 0) {
        return no_more(failure, error);
    }
    fill_file(catalog, session, request, file);
    return WIRE_OK;
}

// The file decides; from then on the epochs before it are refused. An image that was made for it goes with a failure.
static enum wire_status end_change(struct catalog *catalog, struct catalog_image *image,
                                   struct store_image *file, struct failure *failure)
{
    bool fresh = image->file.state == 0;
    enum wire_status status = image_decide(catalog, image, file, failure);
    if (status == WIRE_OK) {
        fence_all(catalog, image);
    } else if (fresh) {
        image_drop(catalog, image);
    }
    return status;
}

static enum wire_status park_new(struct catalog *catalog, struct catalog_session *session,
                                 const struct catalog_image_request *request, uint64_t unix_ms,
                                 struct catalog_image **parked, struct failure *failure)
{
    struct catalog_image *image = NULL;
    struct store_image file;
    enum wire_status status = begin_change(catalog, session, request, &image, &file, failure);
    if (status != WIRE_OK) {
        return status;
    }
    file.state = STORE_IMAGE_PARKED;
    file.expires_ms = unix_ms + request->lifetime_ms;
    memcpy(file.digest, request->digest, sizeof file.digest);
    const char *destination =
        request->principal[0] != '\0' ? request->principal : session->account->principal;
    (void)snprintf(file.destination, sizeof file.destination, "%s", destination);
    *parked = image;
    return end_change(catalog, image, &file, failure);
}

static enum wire_status park_locked(struct catalog *catalog, struct catalog_session *session,
                                    const struct catalog_image_request *request, uint64_t unix_ms,
                                    struct catalog_image_view *view, struct failure *failure)
{
    struct catalog_image *image = image_find(catalog, request->image);
    enum wire_status status = WIRE_OK;
    if (image != NULL && image->working) {
        return being_moved(failure);
    }
    bool again = image != NULL && image->file.state == STORE_IMAGE_PARKED;
    if (again && (!same_park(image, session, request) ||
                  memcmp(image->file.digest, request->digest, WIRE_DIGEST_BYTES) != 0)) {
        return catalog_say(failure, WIRE_BUSY, "The image is in another capsule.");
    }
    if (image != NULL && image->behind && !again) {
        status = image_settle(catalog, image, session, failure); // before its file is replaced
    }
    if (status == WIRE_OK && !again) {
        status = park_new(catalog, session, request, unix_ms, &image, failure);
    }
    if (status == WIRE_OK) {
        status = image_settle(catalog, image, session, failure);
    }
    if (status == WIRE_OK) {
        image_view(catalog, image, view);
    }
    return status;
}

enum wire_status catalog_image_park(struct catalog *catalog, struct catalog_session *session,
                                    const struct catalog_image_request *request, uint64_t unix_ms,
                                    struct catalog_image_view *view, struct failure *failure)
{
    if (request->lifetime_ms < LIMIT_CAPSULE_MIN_MS ||
        request->lifetime_ms > LIMIT_CAPSULE_MAX_MS ||
        strlen(request->principal) >= LIMIT_PRINCIPAL_NAME_BYTES) {
        return catalog_say(failure, WIRE_INVALID, "A capsule lives for %d ms to %d h.",
                           LIMIT_CAPSULE_MIN_MS, LIMIT_CAPSULE_MAX_MS / 3600000);
    }
    (void)pthread_mutex_lock(&catalog->lock);
    enum wire_status status = park_locked(catalog, session, request, unix_ms, view, failure);
    (void)pthread_mutex_unlock(&catalog->lock);
    return status;
}

// It is decided that this session has the image: the records follow, and it holds the segments.
static enum wire_status hand_over(struct catalog *catalog, struct catalog_image *image,
                                  struct catalog_session *session, struct catalog_image_view *view,
                                  struct failure *failure)
{
    enum wire_status status = WIRE_OK;
    if (image->behind) {
        status = image_settle(catalog, image, session, failure);
    }
    if (status == WIRE_OK) {
        status = image_hold(catalog, image, session, failure);
    }
    if (status == WIRE_OK) {
        image_set_closed(catalog, image, false);
        image_view(catalog, image, view);
    }
    return status;
}

// ---- commit

// The token is right: is the capsule still good, and for this session?
static enum wire_status check_capsule(const struct catalog_image *image,
                                      const struct catalog_session *session, uint64_t unix_ms,
                                      struct failure *failure)
{
    const struct store_image *file = &image->file;
    if (file->state == STORE_IMAGE_COMMITTED) {
        return catalog_say(failure, WIRE_USED, "The capsule was used before, by %s.",
                           file->owner_name);
    }
    if (file->state == STORE_IMAGE_RETURNED) {
        return catalog_say(failure, WIRE_USED, "The image was taken back by its source, %s.",
                           file->source_name);
    }
    if (file->state == STORE_IMAGE_EXPIRED || unix_ms >= file->expires_ms) {
        return catalog_say(failure, WIRE_EXPIRED,
                           "The capsule has expired; the image went back to \"%s\".",
                           file->source_principal);
    }
    if (strcmp(file->destination, session->account->principal) != 0) {
        return catalog_say(failure, WIRE_NOT_ALLOWED,
                           "The capsule is for \"%s\", this key is of \"%s\".", file->destination,
                           session->account->principal);
    }
    if (session->count + image_moved(image) > LIMIT_SESSION_SEGMENTS) {
        return catalog_say(failure, WIRE_TOO_MANY,
                           "This process has %d segments open, the most that is allowed.",
                           LIMIT_SESSION_SEGMENTS);
    }
    return WIRE_OK;
}

static enum wire_status commit_new(struct catalog *catalog, struct catalog_session *session,
                                   struct catalog_image *image, uint64_t unix_ms,
                                   struct failure *failure)
{
    enum wire_status status = check_capsule(image, session, unix_ms, failure);
    if (status == WIRE_OK && image->behind) { // its park had an error on the way
        status = image_settle(catalog, image, session, failure);
    }
    if (status != WIRE_OK) {
        return status;
    }
    bool other = strcmp(image->file.principal, session->account->principal) != 0;
    status = other ? image_check_room(catalog, image, session, failure) : WIRE_OK;
    if (status != WIRE_OK) {
        return status;
    }
    struct store_image next = image->file;
    next.state = STORE_IMAGE_COMMITTED;
    memcpy(next.owner, session->instance, sizeof next.owner);
    memcpy(next.owner_name, session->holder, sizeof next.owner_name);
    memcpy(next.principal, session->account->principal, sizeof next.principal);
    status = image_decide(catalog, image, &next, failure);
    if (status == WIRE_OK && other) {
        image_change_account(catalog, image, session);
    }
    return status;
}

static bool concerns(const struct catalog_image *image, const struct catalog_session *session)
{
    const char *principal = session->account->principal;
    return strcmp(image->file.source_principal, principal) == 0 ||
           strcmp(image->file.destination, principal) == 0 ||
           strcmp(image->file.principal, principal) == 0;
}

static enum wire_status commit_locked(struct catalog *catalog, struct catalog_session *session,
                                      const uint8_t id[WIRE_ID_BYTES],
                                      const uint8_t digest[WIRE_DIGEST_BYTES], uint64_t unix_ms,
                                      struct catalog_image_view *view, struct failure *failure)
{
    const unsigned need = KEY_RIGHT_MIGRATE | KEY_RIGHT_WRITE;
    if ((atomic_load(&session->rights) & need) != need) {
        return catalog_say(failure, WIRE_NOT_ALLOWED, "This key has no right to migrate.");
    }
    struct catalog_image *image = image_find(catalog, id);
    if (image == NULL || !concerns(image, session)) {
        return catalog_say(failure, WIRE_NO_SEGMENT, "There is no such image on this server.");
    }
    if (image->working) {
        return being_moved(failure);
    }
    if (memcmp(image->file.digest, digest, WIRE_DIGEST_BYTES) != 0) {
        return catalog_say(failure, WIRE_NOT_ALLOWED,
                           "That is not the token of the image's last capsule.");
    }
    enum wire_status status = WIRE_OK;
    if (image->file.state != STORE_IMAGE_COMMITTED || !is_owner(image, session)) {
        status = commit_new(catalog, session, image, unix_ms, failure);
    }
    return status == WIRE_OK && image != NULL ? hand_over(catalog, image, session, view, failure)
                                              : status;
}

enum wire_status catalog_image_commit(struct catalog *catalog, struct catalog_session *session,
                                      const uint8_t image[WIRE_ID_BYTES],
                                      const uint8_t digest[WIRE_DIGEST_BYTES], uint64_t unix_ms,
                                      struct catalog_image_view *view, struct failure *failure)
{
    (void)pthread_mutex_lock(&catalog->lock);
    enum wire_status status =
        commit_locked(catalog, session, image, digest, unix_ms, view, failure);
    (void)pthread_mutex_unlock(&catalog->lock);
    return status;
}

// ---- abort

// Did nobody open a member since the capsule expired?
static bool untouched(const struct catalog *catalog, const struct catalog_image *image)
{
    static const uint8_t nobody[WIRE_ID_BYTES];
    bool is = true;
    for (uint32_t i = 0; i < image->file.count && is; i++) {
        const struct catalog_segment *segment = image_segment(catalog, image, i);
        if (image->file.members[i].code) {
            continue;
        }
        is = segment != NULL && segment->opening == NULL && segment->writer == NULL &&
             segment->readers == NULL &&
             record_of(segment)->epoch == image->file.members[i].epoch &&
             record_of(segment)->had_readers == 0 &&
             memcmp(record_of(segment)->writer, nobody, WIRE_ID_BYTES) == 0;
    }
    return is;
}

// It was parked by this session, with these members and epochs.
static enum wire_status abort_parked(struct catalog *catalog, struct catalog_session *session,
                                     struct catalog_image *image, struct failure *failure)
{
    struct store_image next = image->file;
    if (next.state == STORE_IMAGE_RETURNED) {
        return WIRE_OK;
    }
    if (next.state == STORE_IMAGE_COMMITTED) {
        return catalog_say(failure, WIRE_USED, "The image goes on elsewhere: %s has it.",
                           next.owner_name);
    }
    if (next.state == STORE_IMAGE_EXPIRED && !untouched(catalog, image)) {
        return catalog_say(failure, WIRE_FENCED,
                           "The capsule expired, and another process opened its segments.");
    }
    next.state = STORE_IMAGE_RETURNED;
    memcpy(next.owner, session->instance, sizeof next.owner);
    memcpy(next.owner_name, session->holder, sizeof next.owner_name);
    return image_decide(catalog, image, &next, failure);
}

// It was not parked: the session has it still. A park that is on its way comes too late, because the epochs rise.
static enum wire_status abort_whole(struct catalog *catalog, struct catalog_session *session,
                                    const struct catalog_image_request *request, uint64_t unix_ms,
                                    struct catalog_image **result, struct failure *failure)
{
    struct catalog_image *image = NULL;
    struct store_image file;
    enum wire_status status = begin_change(catalog, session, request, &image, &file, failure);
    if (status != WIRE_OK) {
        return status;
    }
    file.state = STORE_IMAGE_RETURNED;
    file.expires_ms = unix_ms;
    memcpy(file.owner, session->instance, sizeof file.owner);
    memcpy(file.owner_name, session->holder, sizeof file.owner_name);
    *result = image;
    return end_change(catalog, image, &file, failure); // held again with the new epochs at once
}

static enum wire_status abort_locked(struct catalog *catalog, struct catalog_session *session,
                                     const struct catalog_image_request *request, uint64_t unix_ms,
                                     struct catalog_image_view *view, struct failure *failure)
{
    const unsigned need = KEY_RIGHT_MIGRATE | KEY_RIGHT_WRITE;
    struct catalog_image *image = image_find(catalog, request->image);
    enum wire_status status = WIRE_OK;
    if ((atomic_load(&session->rights) & need) != need) {
        return catalog_say(failure, WIRE_NOT_ALLOWED, "This key has no right to migrate.");
    }
    if (image != NULL && image->working) {
        return being_moved(failure);
    }
    if (image != NULL && image->behind) {
        status = image_settle(catalog, image, session, failure);
    }
    if (status != WIRE_OK) {
        return status;
    }
    status = image != NULL && same_park(image, session, request)
                 ? abort_parked(catalog, session, image, failure)
                 : abort_whole(catalog, session, request, unix_ms, &image, failure);
    return status == WIRE_OK && image != NULL ? hand_over(catalog, image, session, view, failure)
                                              : status;
}

enum wire_status catalog_image_abort(struct catalog *catalog, struct catalog_session *session,
                                     const struct catalog_image_request *request, uint64_t unix_ms,
                                     struct catalog_image_view *view, struct failure *failure)
{
    (void)pthread_mutex_lock(&catalog->lock);
    enum wire_status status = abort_locked(catalog, session, request, unix_ms, view, failure);
    (void)pthread_mutex_unlock(&catalog->lock);
    return status;
}
