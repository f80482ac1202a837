// SPDX-License-Identifier: Apache-2.0
//
// Segments are made and deleted here. Both carry an operation id of the client's, and both may come
// twice: a create is recognised by the id in the segment's own record (so also after a restart), a
// delete by a short ring of the principal's last deletes in memory; a delete repeated across a
// restart finds no such segment, which is what it wanted.
//
// A create promises space in two places: the store reserves it (NO_SPACE), the principal is charged
// (OVER_QUOTA). The charge comes first and is given back when the store refuses; both happen under
// C, so a failed create leaves no trace.
//
// Names are one space for the whole server; the prefix in the authorized file parts it among
// principals. Ephemeral segments may also have names below tmp/ (dsm_alloc's, which knows no prefix). Who may not see a segment is told that there is none, but for a create, which cannot
// hide that the name is taken.
//
// An ephemeral segment is deleted when nobody has it open any more: at its close, or, after its
// holder was lost, by the sweep that follows the end of its session or of the time in which the
// holders of before a restart are presumed alive. What is still in flight puts it off to the next
// sweep.
//
// Locks: C throughout, T for the charge.
#include "server/catalog_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool catalog_geometry_valid(uint64_t bytes, uint32_t page_bytes, uint32_t type, uint32_t flags)
{
    return page_bytes >= LIMIT_PAGE_MIN_BYTES && page_bytes <= LIMIT_PAGE_MAX_BYTES &&
           (page_bytes & (page_bytes - 1)) == 0 && bytes > 0 && bytes <= LIMIT_SEGMENT_BYTES &&
           type <= STORE_SEGMENT_STACK &&
           (flags & ~(uint32_t)(STORE_SEGMENT_NORESERVE | STORE_SEGMENT_EPHEMERAL)) == 0;
}

// growth_bytes: what a thin segment takes from the first, being a clone; pending until it is there.
static enum wire_status charge(struct catalog_account *account,
                               const struct store_segment_record *record, uint64_t growth_bytes,
                               struct failure *failure)
{
    bool thin = (record->flags & STORE_SEGMENT_NORESERVE) != 0;
    uint64_t need = thin ? growth_bytes : record->bytes;
    if (need == 0) {
        return WIRE_OK;
    }
    enum wire_status status = WIRE_OK;
    (void)pthread_mutex_lock(&account->lock);
    uint64_t used = account->reserved_bytes + account->thin_bytes + account->pending_bytes;
    if (used > account->quota_bytes || need > account->quota_bytes - used) {
        status = catalog_say(failure, WIRE_OVER_QUOTA,
                             "Segment \"%s\" needs %llu bytes, but of the quota of %llu bytes %llu "
                             "are used.",
                             record->name, (unsigned long long)need,
                             (unsigned long long)account->quota_bytes, (unsigned long long)used);
    } else {
        account->reserved_bytes += thin ? 0 : record->bytes;
        account->pending_bytes += growth_bytes;
    }
    (void)pthread_mutex_unlock(&account->lock);
    return status;
}

// A clone may have pages without backing, and a thin one takes something from the first.
static void settle_clone(struct catalog_segment *segment, uint64_t growth_bytes)
{
    struct catalog_account *account = segment->account;
    (void)pthread_mutex_lock(&account->lock);
    segment->thin_counted = store_segment_thin_bytes(segment->store);
    segment->none_counted = store_segment_none_bytes(segment->store);
    account->thin_bytes += segment->thin_counted;
    account->reserved_bytes -= segment->none_counted;
    account->pending_bytes -= growth_bytes;
    (void)pthread_mutex_unlock(&account->lock);
}

static void uncharge(struct catalog_account *account, const struct store_segment_record *record,
                     uint64_t thin_counted, uint64_t none_counted)
{
    (void)pthread_mutex_lock(&account->lock);
    if (record->flags & STORE_SEGMENT_NORESERVE) {
        account->thin_bytes -= thin_counted;
    } else {
        account->reserved_bytes -= record->bytes - none_counted;
    }
    (void)pthread_mutex_unlock(&account->lock);
}

static enum wire_status store_make(struct catalog *catalog, struct catalog_segment *segment,
                                   const struct store_segment_record *record,
                                   struct catalog_segment *source, struct failure *failure)
{
    int error = source == NULL
                    ? store_segment_create(catalog->store, record, &segment->store)
                    : store_segment_clone(catalog->store, source->store, record, &segment->store);
    if (error == 0) {
        return WIRE_OK;
    }
    if (error == -ENOSPC) {
        return catalog_say(failure, WIRE_NO_SPACE,
                           "The server's store is full: it has no room for %llu bytes more.",
                           (unsigned long long)record->bytes);
    }
    if (error == -EMFILE) {
        return catalog_say(failure, WIRE_TOO_MANY,
                           "The server has as many segments as it can keep open.");
    }
    return catalog_say(failure, WIRE_STORE_ERROR, "The store could not make segment \"%s\".",
                       record->name);
}

static enum wire_status make_locked(struct catalog *catalog, struct catalog_session *session,
                                    const struct store_segment_record *record,
                                    struct catalog_segment *source,
                                    struct catalog_segment_view *view, struct failure *failure)
{
    struct catalog_account *account = session->account;
    bool thin_clone = source != NULL && (record->flags & STORE_SEGMENT_NORESERVE) != 0;
    uint64_t growth = thin_clone ? store_segment_clone_bytes(source->store, record) : 0;
    struct catalog_segment *segment = calloc(1, sizeof *segment);
    struct holding *holding = calloc(1, sizeof *holding);
    enum wire_status status = WIRE_STORE_ERROR;
    if (segment == NULL || holding == NULL || catalog_room_locked(catalog) != 0) {
        (void)catalog_say(failure, status, "The server is out of memory.");
        goto out;
    }
    status = charge(account, record, growth, failure);
    if (status != WIRE_OK) {
        goto out;
    }
    status = store_make(catalog, segment, record, source, failure);
    if (status != WIRE_OK) {
        uncharge(account, record, 0, 0);
        (void)pthread_mutex_lock(&account->lock);
        account->pending_bytes -= growth;
        (void)pthread_mutex_unlock(&account->lock);
        goto out;
    }
    const struct store_segment_record *made = store_segment_record(segment->store);
    segment->account = account;
    segment->presumed_until_ms = INT64_MIN;
    settle_clone(segment, growth);
    catalog_insert_locked(catalog, segment);
    *holding =
        (struct holding){.segment = segment, .id = made->id, .epoch = made->epoch, .write = true};
    catalog_holding_add_locked(session, holding);
    catalog_view_locked(segment, view);
    return WIRE_OK;
out:
    free(holding);
    free(segment);
    return status;
}

// The name is taken. The same create again gets the same answer, or what it would be by now.
static enum wire_status create_again(struct catalog *catalog, struct catalog_session *session,
                                     const struct catalog_segment *segment,
                                     const uint8_t operation[WIRE_ID_BYTES],
                                     struct catalog_segment_view *view, struct failure *failure)
{
    const struct store_segment_record *record = store_segment_record(segment->store);
    if (segment->account != session->account ||
        memcmp(record->operation, operation, WIRE_ID_BYTES) != 0) {
        return catalog_say(failure, WIRE_EXISTS, "There is a segment \"%s\" already.",
                           record->name);
    }
    const struct holding *own = catalog_holding_find(session, record->id);
    const struct catalog_open_request request = {
        .id = record->id,
        .write = true,
        .epoch = own != NULL && own->segment != NULL ? own->epoch : 0,
    };
    // A create has no time of its own: the lease was renewed by this very request.
    return catalog_open_locked(catalog, session, &request, atomic_load(&session->renewed_ms), view,
                               failure);
}

static enum wire_status create_checked(const struct catalog_session *session,
                                       const struct store_segment_record *record,
                                       struct failure *failure)
{
    bool scratch = (record->flags & STORE_SEGMENT_EPHEMERAL) != 0 &&
                   strncmp(record->name, CATALOG_SCRATCH, strlen(CATALOG_SCRATCH)) == 0;
    if ((atomic_load(&session->rights) & KEY_RIGHT_CREATE) == 0) {
        return catalog_say(failure, WIRE_NOT_ALLOWED, "This key has no right to create segments.");
    }
    if (record->type != STORE_SEGMENT_CODE &&
        strncmp(record->name, CATALOG_CODE, strlen(CATALOG_CODE)) == 0) {
        return catalog_say(failure, WIRE_NOT_ALLOWED,
                           "Names that begin with \"%s\" are the server's own.", CATALOG_CODE);
    }
    if (!scratch && strncmp(record->name, session->prefix, strlen(session->prefix)) != 0) {
        return catalog_say(failure, WIRE_NOT_ALLOWED,
                           "The names that this key may use begin with \"%s\".", session->prefix);
    }
    if (session->account->segments >= LIMIT_SEGMENTS_PER_PRINCIPAL) {
        return catalog_say(failure, WIRE_TOO_MANY, "\"%s\" has %d segments, the most allowed.",
                           session->account->principal, LIMIT_SEGMENTS_PER_PRINCIPAL);
    }
    if (session->count >= LIMIT_SESSION_SEGMENTS) {
        return catalog_say(failure, WIRE_TOO_MANY,
                           "This process has %d segments open, the most that is allowed.",
                           LIMIT_SESSION_SEGMENTS);
    }
    return WIRE_OK;
}

static enum wire_status check_thin_sizes(const struct catalog_account *account,
                                         const struct store_segment_record *record,
                                         struct failure *failure)
{
    if ((record->flags & STORE_SEGMENT_NORESERVE) == 0 ||
        (account->thin_sizes <= LIMIT_THIN_BYTES &&
         record->bytes <= LIMIT_THIN_BYTES - account->thin_sizes)) {
        return WIRE_OK;
    }
    return catalog_say(
        failure, WIRE_TOO_MANY,
        "The NORESERVE segments of \"%s\" have %llu bytes already; %llu are the most "
        "allowed.",
        account->principal, (unsigned long long)account->thin_sizes,
        (unsigned long long)LIMIT_THIN_BYTES);
}

enum wire_status catalog_create_locked(struct catalog *catalog, struct catalog_session *session,
                                       struct store_segment_record *record,
                                       struct catalog_segment *source,
                                       struct catalog_segment_view *view, struct failure *failure)
{
    const struct catalog_segment *taken = catalog_find_locked(catalog, record->name);
    if (taken != NULL) {
        return create_again(catalog, session, taken, record->operation, view, failure);
    }
    enum wire_status status = create_checked(session, record, failure);
    if (status == WIRE_OK) {
        status = check_thin_sizes(session->account, record, failure);
    }
    if (status != WIRE_OK) {
        return status;
    }
    record->base = catalog_place_locked(catalog, record->bytes);
    if (record->base == 0) {
        return catalog_say(failure, WIRE_NO_SPACE,
                           "The server has no free range of addresses of %llu bytes.",
                           (unsigned long long)record->bytes);
    }
    return make_locked(catalog, session, record, source, view, failure);
}

void catalog_record_init(struct store_segment_record *record, const struct catalog_session *session,
                         const uint8_t operation[WIRE_ID_BYTES], const char *name)
{
    *record = (struct store_segment_record){.replicas = 1, .epoch = 1}; // the store gives an id
    (void)strncpy(record->name, name, sizeof record->name - 1);
    memcpy(record->operation, operation, WIRE_ID_BYTES);
    memcpy(record->principal, session->account->principal, sizeof record->principal);
    memcpy(record->writer, session->instance, WIRE_ID_BYTES);
    memcpy(record->writer_name, session->holder, sizeof record->writer_name);
}

enum wire_status catalog_segment_create(struct catalog *catalog, struct catalog_session *session,
                                        const uint8_t operation[WIRE_ID_BYTES], const char *name,
                                        uint64_t bytes, uint32_t page_bytes, uint32_t type,
                                        uint32_t flags, struct catalog_segment_view *view,
                                        struct failure *failure)
{
    if (!wire_segment_name_valid(name)) {
        return catalog_say(failure, WIRE_INVALID, "That is no name for a segment.");
    }
    if (type == STORE_SEGMENT_CODE || !catalog_geometry_valid(bytes, page_bytes, type, flags)) {
        return catalog_say(failure, WIRE_INVALID,
                           "Size, page size, type or flags of the segment are out of range.");
    }
    struct store_segment_record record;
    catalog_record_init(&record, session, operation, name);
    record.bytes = (bytes + page_bytes - 1) & ~((uint64_t)page_bytes - 1);
    record.page_bytes = page_bytes;
    record.type = type;
    record.flags = flags;
    (void)pthread_mutex_lock(&catalog->lock);
    enum wire_status status = catalog_create_locked(catalog, session, &record, NULL, view, failure);
    (void)pthread_mutex_unlock(&catalog->lock);
    return status;
}

static bool deleted_before(const struct catalog_account *account,
                           const uint8_t operation[WIRE_ID_BYTES])
{
    static const uint8_t none[WIRE_ID_BYTES];
    for (size_t i = 0; i < CATALOG_RECENT_DELETES; i++) {
        if (memcmp(account->deleted[i], operation, WIRE_ID_BYTES) == 0) {
            return memcmp(operation, none, WIRE_ID_BYTES) != 0;
        }
    }
    return false;
}

static enum wire_status in_use(struct failure *failure, const struct catalog_segment *segment,
                               const char *holder)
{
    return catalog_say(failure, WIRE_BUSY, "Segment \"%s\" is open by %s.",
                       store_segment_record(segment->store)->name, holder);
}

// Everybody who has it open is in the way, the asker too; but the lapsed are not, and the asker's
// own claim of before a restart is not.
static enum wire_status check_unused(const struct catalog *catalog,
                                     const struct catalog_segment *segment,
                                     const struct catalog_session *session, int64_t now_ms,
                                     struct failure *failure)
{
    static const uint8_t none[WIRE_ID_BYTES];
    const struct store_segment_record *record = store_segment_record(segment->store);
    if (segment->image != NULL || segment->parked > 0) {
        return catalog_say(failure, WIRE_BUSY,
                           "Segment \"%s\" belongs to a process image that is in a capsule.",
                           record->name);
    }
    if (segment->opening != NULL) {
        return in_use(failure, segment, segment->opening->holder);
    }
    if (segment->writer != NULL &&
        catalog_session_alive(catalog, segment->writer->session, now_ms)) {
        return in_use(failure, segment, segment->writer->session->holder);
    }
    for (const struct holding *reader = segment->readers; reader != NULL;
         reader = reader->next_reader) {
        if (catalog_session_alive(catalog, reader->session, now_ms)) {
            return in_use(failure, segment, reader->session->holder);
        }
    }
    if (!catalog_presumed(segment, now_ms)) {
        return WIRE_OK;
    }
    if (record->had_readers != 0) {
        return in_use(failure, segment, "a reader of before the server's restart");
    }
    if (memcmp(record->writer, none, WIRE_ID_BYTES) != 0 &&
        memcmp(record->writer, session->instance, WIRE_ID_BYTES) != 0) {
        return in_use(failure, segment, record->writer_name);
    }
    return WIRE_OK;
}

// Nobody has it open, nothing is in flight.
static enum wire_status erase_locked(struct catalog *catalog, struct catalog_segment *segment,
                                     struct failure *failure)
{
    struct store_segment_record record = *store_segment_record(segment->store);
    catalog_forget_locked(catalog, segment); // needs the record
    if (store_segment_remove(catalog->store, segment->store) != 0) {
        catalog_insert_locked(catalog, segment); // there is room: it was there
        return catalog_say(failure, WIRE_STORE_ERROR, "The store could not delete segment \"%s\".",
                           record.name);
    }
    uncharge(segment->account, &record, segment->thin_counted, segment->none_counted);
    free(segment);
    return WIRE_OK;
}

static enum wire_status remove_locked(struct catalog *catalog, struct catalog_segment *segment,
                                      struct catalog_session *session, struct failure *failure)
{
    if (segment->writer != NULL) {
        catalog_holding_fence_locked(segment->writer);
    }
    while (segment->readers != NULL) {
        catalog_holding_fence_locked(segment->readers);
    }
    segment->opening = session;
    int error = catalog_drain_locked(catalog, segment, true);
    segment->opening = NULL;
    if (error != 0) {
        return catalog_say(failure, WIRE_BUSY,
                           "Requests to the segment are still being finished; try again.");
    }
    return erase_locked(catalog, segment, failure);
}

static enum wire_status delete_locked(struct catalog *catalog, struct catalog_session *session,
                                      const uint8_t operation[WIRE_ID_BYTES], const char *name,
                                      int64_t now_ms, struct failure *failure)
{
    struct catalog_account *account = session->account;
    if ((atomic_load(&session->rights) & KEY_RIGHT_CREATE) == 0) {
        return catalog_say(failure, WIRE_NOT_ALLOWED, "This key has no right to delete segments.");
    }
    if (deleted_before(account, operation)) {
        return WIRE_OK;
    }
    struct catalog_segment *segment = catalog_find_locked(catalog, name);
    if (segment == NULL || !catalog_visible(session, segment)) {
        return catalog_say(failure, WIRE_NO_SEGMENT, "There is no segment \"%s\".", name);
    }
    enum wire_status status = check_unused(catalog, segment, session, now_ms, failure);
    if (status == WIRE_OK) {
        status = remove_locked(catalog, segment, session, failure);
    }
    if (status == WIRE_OK) {
        memcpy(account->deleted[account->deleted_next], operation, WIRE_ID_BYTES);
        account->deleted_next = (account->deleted_next + 1) % CATALOG_RECENT_DELETES;
    }
    return status;
}

enum wire_status catalog_segment_delete(struct catalog *catalog, struct catalog_session *session,
                                        const uint8_t operation[WIRE_ID_BYTES], const char *name,
                                        int64_t now_ms, struct failure *failure)
{
    if (!wire_segment_name_valid(name)) {
        return catalog_say(failure, WIRE_INVALID, "That is no name for a segment.");
    }
    (void)pthread_mutex_lock(&catalog->lock);
    enum wire_status status = delete_locked(catalog, session, operation, name, now_ms, failure);
    (void)pthread_mutex_unlock(&catalog->lock);
    return status;
}

bool catalog_unused_locked(const struct catalog_segment *segment, int64_t now_ms)
{
    return segment->ephemeral && segment->writer == NULL && segment->readers == NULL &&
           segment->opening == NULL && segment->image == NULL && segment->parked == 0 &&
           !catalog_presumed(segment, now_ms);
}

void catalog_drop_unused_locked(struct catalog *catalog, struct catalog_segment *segment,
                                int64_t now_ms)
{
    if (catalog_unused_locked(segment, now_ms) && atomic_load(&segment->reads) == 0 &&
        atomic_load(&segment->writes) == 0) {
        (void)erase_locked(catalog, segment,
                           NULL); // a store that fails keeps it for the next sweep
    }
}
