// SPDX-License-Identifier: Apache-2.0
//
// Segments made from others, and code. A clone is a create whose pages come from a segment that the session has open: so it sees
// what it may read, and no page passes from one principal to another. What that process has not cleaned is not in it; the library cleans
// before it asks. A heap with a template is a clone of it, larger perhaps: its pages are the template's until they are written, also
// when the template is gone.
//
// Code is found by what it is, a digest, among its principal's own: others might have put anything under it. Its name is made here
// and cannot be given to other segments. Of two processes that ask at once one gets it to fill, the other is told to wait
// (BUSY); when the first one is lost or gives up, the next that asks fills it. Sealed, it is for reading only, and goes when nobody has
// it open and no image in a capsule needs it.
//
// Locks: C throughout; S where a holding changes.
#include "server/catalog_internal.h"

#include <stdio.h>
#include <string.h>

static const struct store_segment_record *record_of(const struct catalog_segment *segment)
{
    return store_segment_record(segment->store);
}

// What the session has open under this epoch.
static enum wire_status held_locked(const struct catalog_session *session, uint64_t id,
                                    uint64_t epoch, struct holding **held, struct failure *failure)
{
    struct holding *own = catalog_holding_find(session, id);
    if (own == NULL) {
        return catalog_say(failure, WIRE_NOT_OPEN, "This process has not opened the segment.");
    }
    if (own->segment == NULL || epoch < own->epoch) {
        return catalog_say(failure, WIRE_FENCED, "The segment was taken by another process.");
    }
    if (epoch > own->epoch) {
        return catalog_say(failure, WIRE_INVALID, "That is no epoch of the segment.");
    }
    *held = own;
    return WIRE_OK;
}

static enum wire_status clone_locked(struct catalog *catalog, struct catalog_session *session,
                                     const struct catalog_clone_request *request,
                                     struct catalog_segment_view *view, struct failure *failure)
{
    struct holding *source = NULL;
    struct store_segment_record record;
    if ((atomic_load(&session->rights) & KEY_RIGHT_READ) == 0) {
        return catalog_say(failure, WIRE_NOT_ALLOWED, "This key has no right to read.");
    }
    enum wire_status status =
        held_locked(session, request->source, request->epoch, &source, failure);
    if (status != WIRE_OK || source == NULL) {
        return status;
    }
    const struct store_segment_record *from = record_of(source->segment);
    catalog_record_init(&record, session, request->operation, request->name);
    record.page_bytes = from->page_bytes;
    record.bytes = request->bytes == 0 ? from->bytes
                                       : (request->bytes + from->page_bytes - 1) &
                                             ~((uint64_t)from->page_bytes - 1);
    record.type = request->type;
    record.flags = request->flags;
    if (record.bytes < from->bytes) {
        return catalog_say(failure, WIRE_INVALID, "A clone is at least as large as its source.");
    }
    return catalog_create_locked(catalog, session, &record, source->segment, view, failure);
}

enum wire_status catalog_segment_clone(struct catalog *catalog, struct catalog_session *session,
                                       const struct catalog_clone_request *request,
                                       struct catalog_segment_view *view, struct failure *failure)
{
    if (!wire_segment_name_valid(request->name)) {
        return catalog_say(failure, WIRE_INVALID, "That is no name for a segment.");
    }
    uint64_t bytes = request->bytes == 0 ? 1 : request->bytes;
    if (request->type == STORE_SEGMENT_CODE ||
        !catalog_geometry_valid(bytes, LIMIT_PAGE_MIN_BYTES, request->type, request->flags)) {
        return catalog_say(failure, WIRE_INVALID,
                           "Size, type or flags of the clone are out of range.");
    }
    (void)pthread_mutex_lock(&catalog->lock);
    enum wire_status status = clone_locked(catalog, session, request, view, failure);
    (void)pthread_mutex_unlock(&catalog->lock);
    return status;
}

static void code_name(const struct catalog_session *session,
                      const uint8_t identity[WIRE_DIGEST_BYTES],
                      char name[LIMIT_SEGMENT_NAME_BYTES])
{
    int at = snprintf(name, LIMIT_SEGMENT_NAME_BYTES, "%s%s/", CATALOG_CODE,
                      session->account->principal);
    for (unsigned i = 0; i < WIRE_DIGEST_BYTES; i++) {
        at += snprintf(name + at, (size_t)(LIMIT_SEGMENT_NAME_BYTES - at), "%02x", identity[i]);
    }
}

// Sealed: for reading. Not yet: this session goes on filling it, or takes the place of one that was lost.
static enum wire_status code_found(struct catalog *catalog, struct catalog_session *session,
                                   struct catalog_segment *segment, int64_t now_ms,
                                   struct catalog_segment_view *view, struct failure *failure)
{
    const struct store_segment_record *record = record_of(segment);
    const struct holding *own = catalog_holding_find(session, record->id);
    bool held = own != NULL && own->segment != NULL;
    if (held) { // the same again
        catalog_view_locked(segment, view);
        return WIRE_OK;
    }
    const struct catalog_open_request request = {.id = record->id, .write = !record->sealed};
    return catalog_open_locked(catalog, session, &request, now_ms, view, failure);
}

enum wire_status catalog_code_open(struct catalog *catalog, struct catalog_session *session,
                                   const uint8_t identity[WIRE_DIGEST_BYTES], uint64_t bytes,
                                   uint32_t page_bytes, int64_t now_ms,
                                   struct catalog_segment_view *view, struct failure *failure)
{
    char name[LIMIT_SEGMENT_NAME_BYTES];
    struct store_segment_record record;
    enum wire_status status;
    if (!catalog_geometry_valid(bytes, page_bytes, STORE_SEGMENT_CODE, STORE_SEGMENT_EPHEMERAL)) {
        return catalog_say(failure, WIRE_INVALID, "Size or page size of the code is out of range.");
    }
    code_name(session, identity, name);
    catalog_record_init(&record, session, identity, name); // half of it is an operation id, too
    record.bytes = (bytes + page_bytes - 1) & ~((uint64_t)page_bytes - 1);
    record.page_bytes = page_bytes;
    record.type = STORE_SEGMENT_CODE;
    record.flags = STORE_SEGMENT_EPHEMERAL;
    memcpy(record.identity, identity, sizeof record.identity);
    (void)pthread_mutex_lock(&catalog->lock);
    struct catalog_segment *segment = catalog_find_locked(catalog, name);
    if (segment == NULL) {
        status = catalog_create_locked(catalog, session, &record, NULL, view, failure);
    } else if (record_of(segment)->bytes != record.bytes ||
               record_of(segment)->page_bytes != page_bytes) {
        status = catalog_say(failure, WIRE_INVALID,
                             "There is code of this identity, but of another size.");
    } else {
        status = code_found(catalog, session, segment, now_ms, view, failure);
    }
    (void)pthread_mutex_unlock(&catalog->lock);
    return status;
}

static enum wire_status seal_locked(struct catalog *catalog, struct holding *own,
                                    struct catalog_segment_view *view, struct failure *failure)
{
    struct catalog_segment *segment = own->segment;
    struct catalog_session *session = own->session;
    struct store_segment_record record = *record_of(segment);
    if (record.type != STORE_SEGMENT_CODE) {
        return catalog_say(failure, WIRE_INVALID, "Only code is sealed.");
    }
    if (!record.sealed) {
        record.sealed = true;
        record.had_readers = 1;
        memset(record.writer, 0, sizeof record.writer);
        memset(record.writer_name, 0, sizeof record.writer_name);
        if (store_segment_update(catalog->store, segment->store, &record) != 0) {
            return catalog_say(failure, WIRE_STORE_ERROR, "The store could not seal the code.");
        }
        // The writer becomes the first reader, under the same epoch.
        segment->writer = NULL;
        (void)pthread_mutex_lock(&session->lock);
        own->write = false;
        (void)pthread_mutex_unlock(&session->lock);
        own->next_reader = segment->readers;
        segment->readers = own;
    }
    catalog_view_locked(segment, view);
    return WIRE_OK;
}

enum wire_status catalog_code_seal(struct catalog *catalog, struct catalog_session *session,
                                   uint64_t id, uint64_t epoch, struct catalog_segment_view *view,
                                   struct failure *failure)
{
    struct holding *own = NULL;
    (void)pthread_mutex_lock(&catalog->lock);
    enum wire_status status = held_locked(session, id, epoch, &own, failure);
    if (status == WIRE_OK && own != NULL) {
        status = seal_locked(catalog, own, view, failure);
    }
    (void)pthread_mutex_unlock(&catalog->lock);
    return status;
}
