// SPDX-License-Identifier: Apache-2.0
//
// Images: the table, what the store brought along at start, what sharing forbids, and the steps of a hand-over. Each step is: decide
// (the image's file is replaced: the one moment at which the owner changes), mark and fence in memory, wait for operations in
// flight, let the segments' records follow, answer. A crash after the decision is mended by the next start, before anybody is served; an
// error after it leaves the image `behind`, which the next request mends, and its members closed to everybody until then.
//
// An image is `working` while a step waits for operations in flight and has let go of C; other steps are told to try again.
//
// Kept past its capsule's time so that a late commit is told why it is refused; forgotten by the sweep then. The next park of the same
// image replaces it, so a process that hops for ever leaves one small file.
//
// Locks: C throughout; S by way of the holdings.
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/image_steps.h"

static const struct store_segment_record *record_of(const struct catalog_segment *segment)
{
    return store_segment_record(segment->store);
}

struct catalog_image *image_find(const struct catalog *catalog, const uint8_t id[WIRE_ID_BYTES])
{
    struct catalog_image *image = catalog->images;
    while (image != NULL && memcmp(image->file.id, id, WIRE_ID_BYTES) != 0) {
        image = image->next;
    }
    return image;
}

int image_get(struct catalog *catalog, const uint8_t id[WIRE_ID_BYTES], const char *principal,
              struct catalog_image **image)
{
    unsigned count = 0;
    *image = image_find(catalog, id);
    if (*image != NULL) {
        return strcmp((*image)->file.principal, principal) == 0 ? 0 : -EEXIST;
    }
    for (const struct catalog_image *i = catalog->images; i != NULL; i = i->next) {
        count += strcmp(i->file.source_principal, principal) == 0 ? 1 : 0;
    }
    if (count >= LIMIT_IMAGES_PER_PRINCIPAL) {
        return -EMFILE;
    }
    struct catalog_image *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return -ENOMEM;
    }
    memcpy(made->file.id, id, WIRE_ID_BYTES);
    made->next = catalog->images;
    catalog->images = made;
    *image = made;
    return 0;
}

void image_drop(struct catalog *catalog, struct catalog_image *image)
{
    struct catalog_image **link = &catalog->images;
    while (*link != image) {
        link = &(*link)->next;
    }
    *link = image->next;
    free(image);
}

void catalog_images_free(struct catalog *catalog)
{
    while (catalog->images != NULL) {
        image_drop(catalog, catalog->images);
    }
}

struct catalog_segment *image_segment(const struct catalog *catalog,
                                      const struct catalog_image *image, uint32_t member)
{
    return catalog_find_id_locked(catalog, image->file.members[member].segment);
}

uint32_t image_moved(const struct catalog_image *image)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < image->file.count; i++) {
        count += image->file.members[i].code ? 0 : 1;
    }
    return count;
}

void image_set_closed(struct catalog *catalog, struct catalog_image *image, bool closed)
{
    if (image->closed == closed) {
        return;
    }
    image->closed = closed;
    for (uint32_t i = 0; i < image->file.count; i++) {
        struct catalog_segment *segment = image_segment(catalog, image, i);
        if (segment == NULL) {
            continue;
        }
        if (image->file.members[i].code) {
            segment->parked += closed ? 1U : (uint32_t)-1;
        } else {
            segment->image = closed ? image : NULL;
        }
    }
}

void image_view(const struct catalog *catalog, const struct catalog_image *image,
                struct catalog_image_view *view)
{
    view->expires_ms = image->file.state == STORE_IMAGE_PARKED ? image->file.expires_ms : 0;
    view->count = 0;
    for (uint32_t i = 0; i < image->file.count; i++) {
        const struct catalog_segment *segment = image_segment(catalog, image, i);
        if (segment != NULL && !image->file.members[i].code) {
            catalog_view_locked(segment, &view->segments[view->count++]);
        }
    }
}

// ---- at start

struct loading {
    struct catalog *catalog;
    int error;
};

static struct store_segment *store_find(struct store *store, uint64_t id)
{
    struct store_segment *segment = NULL;
    while ((segment = store_segment_next(store, segment)) != NULL &&
           store_segment_record(segment)->id != id) {
    }
    return segment;
}

static int load_one(void *context, const struct store_image *file)
{
    struct catalog *catalog = context;
    struct catalog_image *image = calloc(1, sizeof *image);
    if (image == NULL) {
        return -ENOMEM;
    }
    image->file = *file;
    image->next = catalog->images;
    catalog->images = image;
    int error = 0;
    for (uint32_t i = 0; i < file->count && error == 0; i++) {
        struct store_segment *segment = store_find(catalog->store, file->members[i].segment);
        if (segment != NULL) {
            error = store_image_follow(catalog->store, file, &file->members[i], segment);
        }
    }
    return error;
}

int catalog_images_load(struct catalog *catalog)
{
    struct failure failure;
    return store_image_each(catalog->store, load_one, catalog, &failure);
}

void catalog_images_link(struct catalog *catalog)
{
    for (struct catalog_image *image = catalog->images; image != NULL; image = image->next) {
        if (image->file.state == STORE_IMAGE_PARKED) {
            image_set_closed(catalog, image, true);
        }
    }
}

// ---- who may park

static const struct holding *other_reader(const struct catalog_segment *segment,
                                          const struct catalog_session *session)
{
    const struct holding *reader = segment->readers;
    while (reader != NULL && reader->session == session) {
        reader = reader->next_reader;
    }
    return reader;
}

static enum wire_status shared(const struct catalog_segment *segment,
                               const struct catalog_session *session, struct failure *failure)
{
    const struct holding *other =
        segment->writer != NULL ? segment->writer : other_reader(segment, session);
    return catalog_say(failure, WIRE_BUSY,
                       "Segment \"%s\" is shared, so its image cannot move: it is open by %s.",
                       record_of(segment)->name,
                       other != NULL ? other->session->holder : "this process for reading only");
}

static enum wire_status check_member(const struct catalog *catalog,
                                     const struct catalog_session *session,
                                     const struct catalog_image_member *member,
                                     struct catalog_segment **found, struct failure *failure)
{
    const struct holding *own = catalog_holding_find(session, member->segment);
    struct catalog_segment *segment = catalog_find_id_locked(catalog, member->segment);
    if (segment == NULL || !catalog_visible(session, segment)) {
        return catalog_say(failure, WIRE_NO_SEGMENT, "There is no segment of id %" PRIu64 ".",
                           member->segment);
    }
    const struct store_segment_record *record = record_of(segment);
    if (member->epoch < record->epoch || (own != NULL && own->segment == NULL)) {
        return catalog_say(failure, WIRE_FENCED, "Segment \"%s\" was taken by another process.",
                           record->name);
    }
    if (segment->image != NULL || segment->opening != NULL) {
        return catalog_say(failure, WIRE_BUSY, "Segment \"%s\" is changing hands.", record->name);
    }
    if (own == NULL) {
        return segment->writer != NULL || segment->readers != NULL
                   ? shared(segment, session, failure)
                   : catalog_say(failure, WIRE_NOT_OPEN, "Segment \"%s\" is not open here.",
                                 record->name);
    }
    if (member->epoch > record->epoch) {
        return catalog_say(failure, WIRE_INVALID, "That is no epoch of segment \"%s\".",
                           record->name);
    }
    if (own->write == (record->type == STORE_SEGMENT_CODE)) {
        return own->write ? catalog_say(failure, WIRE_BUSY, "Code \"%s\" is not complete yet.",
                                        record->name)
                          : shared(segment, session, failure);
    }
    *found = segment;
    return WIRE_OK;
}

enum wire_status image_check_members(struct catalog *catalog, struct catalog_session *session,
                                     const struct catalog_image_request *request,
                                     struct failure *failure)
{
    unsigned of_type[STORE_SEGMENT_STACK + 1] = {0};
    const unsigned need = KEY_RIGHT_MIGRATE | KEY_RIGHT_WRITE;
    if ((atomic_load(&session->rights) & need) != need) {
        return catalog_say(failure, WIRE_NOT_ALLOWED, "This key has no right to migrate.");
    }
    for (uint32_t i = 0; i < request->count; i++) {
        struct catalog_segment *segment = NULL;
        for (uint32_t j = 0; j < i; j++) {
            if (request->members[i].segment == request->members[j].segment) {
                return catalog_say(failure, WIRE_INVALID, "An image has each segment once.");
            }
        }
        enum wire_status status =
            check_member(catalog, session, &request->members[i], &segment, failure);
        if (status != WIRE_OK || segment == NULL) {
            return status;
        }
        of_type[record_of(segment)->type]++;
    }
    if (of_type[STORE_SEGMENT_CODE] > 1 || of_type[STORE_SEGMENT_HEAP] != 1 ||
        of_type[STORE_SEGMENT_STACK] != 1) {
        return catalog_say(failure, WIRE_INVALID,
                           "An image has one heap and one stack, and at most one code segment.");
    }
    return WIRE_OK;
}

// ---- steps

static uint64_t next_moves(const struct catalog *catalog, const struct catalog_image *image,
                           const struct store_image *next)
{
    uint64_t moves = image->file.moves;
    for (uint32_t i = 0; i < next->count; i++) {
        const struct catalog_segment *segment =
            catalog_find_id_locked(catalog, next->members[i].segment);
        uint64_t of_segment = segment != NULL ? record_of(segment)->moves : 0;
        moves = of_segment > moves ? of_segment : moves;
    }
    return moves + 1;
}

enum wire_status image_decide(struct catalog *catalog, struct catalog_image *image,
                              const struct store_image *next, struct failure *failure)
{
    struct store_image file = *next;
    file.moves = next_moves(catalog, image, next);
    if (store_image_write(catalog->store, &file) != 0) {
        return catalog_say(failure, WIRE_STORE_ERROR, "The store could not record the image.");
    }
    image_set_closed(catalog, image, false); // of the members that it had
    image->file = file;
    image->behind = true;
    image_set_closed(catalog, image, true);
    return WIRE_OK;
}

static int drain(struct catalog *catalog, const struct catalog_image *image,
                 struct catalog_session *session)
{
    int error = 0;
    for (uint32_t i = 0; i < image->file.count && error == 0; i++) {
        struct catalog_segment *segment = image_segment(catalog, image, i);
        if (segment != NULL && !image->file.members[i].code) {
            segment->opening = session;
            error = catalog_drain_locked(catalog, segment, true);
            segment->opening = NULL;
        }
    }
    return error; // nobody came in between: they are closed
}

static int follow(struct catalog *catalog, struct catalog_image *image)
{
    int error = 0;
    for (uint32_t i = 0; i < image->file.count && error == 0; i++) {
        const struct catalog_segment *segment = image_segment(catalog, image, i);
        if (segment != NULL) {
            error = store_image_follow(catalog->store, &image->file, &image->file.members[i],
                                       segment->store);
        }
    }
    image->behind = error != 0;
    return error;
}

enum wire_status image_settle(struct catalog *catalog, struct catalog_image *image,
                              struct catalog_session *session, struct failure *failure)
{
    image->working = true;
    int error = drain(catalog, image, session);
    image->working = false;
    if (error != 0) {
        return catalog_say(failure, WIRE_BUSY,
                           "Requests of the image's former owner are still being finished; try "
                           "again.");
    }
    if (follow(catalog, image) != 0) {
        return catalog_say(failure, WIRE_STORE_ERROR,
                           "The store could not record the owner of the image's segments.");
    }
    return WIRE_OK;
}

static enum wire_status hold_one(struct catalog_segment *segment, struct catalog_session *session,
                                 struct failure *failure)
{
    const struct store_segment_record *record = record_of(segment);
    struct holding *own = catalog_holding_find(session, record->id);
    if (own != NULL && own->segment != NULL) {
        return WIRE_OK;
    }
    if (segment->writer != NULL || segment->readers != NULL || segment->opening != NULL ||
        memcmp(record->writer, session->instance, WIRE_ID_BYTES) != 0) {
        return catalog_say(failure, WIRE_FENCED, "Segment \"%s\" was taken by another process.",
                           record->name);
    }
    struct holding *holding = calloc(1, sizeof *holding);
    if (holding == NULL) {
        return catalog_say(failure, WIRE_STORE_ERROR, "The server is out of memory.");
    }
    if (own != NULL) {
        catalog_holding_end_locked(own);
    }
    *holding = (struct holding){
        .segment = segment, .id = record->id, .epoch = record->epoch, .write = true};
    catalog_holding_add_locked(session, holding);
    segment->lost_readers = false;
    segment->presumed_until_ms = INT64_MIN;
    return WIRE_OK;
}

enum wire_status image_hold(struct catalog *catalog, struct catalog_image *image,
                            struct catalog_session *session, struct failure *failure)
{
    enum wire_status status = WIRE_OK;
    for (uint32_t i = 0; i < image->file.count && status == WIRE_OK; i++) {
        struct catalog_segment *segment = image_segment(catalog, image, i);
        if (segment != NULL && !image->file.members[i].code) {
            status = hold_one(segment, session, failure);
        }
    }
    return status;
}

// ---- time

static void expire(struct catalog *catalog, struct catalog_image *image, int64_t now_ms)
{
    struct store_image next = image->file;
    next.state = STORE_IMAGE_EXPIRED;
    memset(next.owner, 0, sizeof next.owner);
    memset(next.owner_name, 0, sizeof next.owner_name);
    memcpy(next.principal, next.source_principal, sizeof next.principal);
    if (image_decide(catalog, image, &next, NULL) != WIRE_OK) {
        return; // the next sweep tries again
    }
    if (follow(catalog, image) != 0) {
        return;
    }
    image_set_closed(catalog, image, false);
    for (uint32_t i = 0; i < image->file.count; i++) {
        struct catalog_segment *segment = image_segment(catalog, image, i);
        if (segment != NULL && segment->ephemeral && !image->file.members[i].code) {
            segment->presumed_until_ms = now_ms + catalog->lease_ms; // to be opened meanwhile
        }
    }
}

void catalog_image_expire(struct catalog *catalog, int64_t now_ms, uint64_t unix_ms)
{
    (void)pthread_mutex_lock(&catalog->lock);
    struct catalog_image *next;
    for (struct catalog_image *image = catalog->images; image != NULL; image = next) {
        next = image->next;
        bool past = unix_ms >= image->file.expires_ms;
        if (image->working) {
            continue;
        }
        if (image->file.state == STORE_IMAGE_PARKED) {
            if (past) {
                expire(catalog, image, now_ms);
            }
        } else if (image->behind) { // nobody came again to finish it
            if (follow(catalog, image) == 0) {
                image_set_closed(catalog, image, false);
            }
        } else if (past && unix_ms - image->file.expires_ms > LIMIT_IMAGE_KEPT_MS &&
                   store_image_remove(catalog->store, image->file.id) == 0) {
            image_drop(catalog, image);
        }
    }
    (void)pthread_mutex_unlock(&catalog->lock);
}
