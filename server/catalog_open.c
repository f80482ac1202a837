// SPDX-License-Identifier: Apache-2.0
//
// Who may open a segment, what that does to those who had it, and close. One writer or many
// readers:
//
//   asked for   somebody alive has it           only lapsed or lost holders
//   writing     BUSY, naming one (a takeover     the epoch rises, they are fenced
//               fences a writer, never readers)
//   reading     BUSY when it is a writer         a lapsed writer loses its hold (NOT_OPEN), not its
//                                                epoch: it may return once the readers are gone
//
// After a restart the record speaks for those who were there: its writer, or its readers
// (had_readers), are presumed alive for one lease. When both are marked, the readers had come in
// over a lapsed writer, so only they are. A lapsed reader may still have pages in its memory; that
// is why every later open for writing by anybody, the former writer included, raises the epoch when
// a reader was lost.
//
// The order of an open that changes hands: record (so that a crash right after leaves the new
// state), fence, wait until the operations of before have finished, hold, answer. So a late write
// cannot land after the answer. While it waits it lets go of C, and `opening` keeps others off.
// Fencing under C alone without waiting was rejected: an operation that has passed its check would
// still write.
//
// Locks: C throughout.
#include "server/catalog_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/clock.h"

static const uint8_t nobody[WIRE_ID_BYTES];

enum wire_status catalog_say(struct failure *failure, enum wire_status status, const char *format,
                             ...)
{
    if (failure != NULL) {
        va_list arguments;
        va_start(arguments, format);
        (void)vsnprintf(failure->text, sizeof failure->text, format, arguments);
        va_end(arguments);
    }
    return status;
}

static const struct store_segment_record *record_of(const struct catalog_segment *segment)
{
    return store_segment_record(segment->store);
}

static bool is_writer(const struct store_segment_record *record,
                      const struct catalog_session *session)
{
    return memcmp(record->writer, session->instance, WIRE_ID_BYTES) == 0;
}

static bool has_writer(const struct store_segment_record *record)
{
    return memcmp(record->writer, nobody, WIRE_ID_BYTES) != 0;
}

static int wait_for_zero(struct catalog *catalog, _Atomic uint32_t *count,
                         const struct timespec *until)
{
    int error = 0;
    (void)atomic_fetch_or(count, CATALOG_AWAITED);
    while (atomic_load(count) != CATALOG_AWAITED && error == 0) {
        error = -pthread_cond_timedwait(&catalog->drained, &catalog->lock, until);
    }
    uint32_t left = atomic_fetch_and(count, ~CATALOG_AWAITED);
    return left == CATALOG_AWAITED ? 0 : -ETIMEDOUT;
}

int catalog_drain_locked(struct catalog *catalog, struct catalog_segment *segment, bool all)
{
    int64_t end = clock_now_ms() + CATALOG_DRAIN_MS;
    struct timespec until = {.tv_sec = end / 1000, .tv_nsec = end % 1000 * 1000000};
    int error = wait_for_zero(catalog, &segment->writes, &until);
    if (error == 0 && all) {
        error = wait_for_zero(catalog, &segment->reads, &until);
    }
    return error;
}

static struct catalog_segment *find(const struct catalog *catalog,
                                    const struct catalog_session *session,
                                    const struct catalog_open_request *request)
{
    struct catalog_segment *segment = NULL;
    if (request->name != NULL) {
        segment = catalog_find_locked(catalog, request->name);
    } else {
        segment = catalog_find_id_locked(catalog, request->id);
    }
    return segment != NULL && catalog_visible(session, segment) ? segment : NULL;
}

static const struct holding *live_reader(const struct catalog *catalog,
                                         const struct catalog_segment *segment, int64_t now_ms)
{
    const struct holding *reader = segment->readers;
    while (reader != NULL && !catalog_session_alive(catalog, reader->session, now_ms)) {
        reader = reader->next_reader;
    }
    return reader;
}

static enum wire_status busy(struct failure *failure, const struct catalog_segment *segment,
                             const char *how, const char *holder)
{
    return catalog_say(failure, WIRE_BUSY, "Segment \"%s\" is open for %s by %s.",
                       record_of(segment)->name, how, holder);
}

// Is anybody in the way who is alive, or must be presumed so?
static enum wire_status check_holders(const struct catalog *catalog,
                                      const struct catalog_segment *segment,
                                      const struct catalog_session *session,
                                      const struct catalog_open_request *request, int64_t now_ms,
                                      struct failure *failure)
{
    const struct store_segment_record *record = record_of(segment);
    if (segment->opening != NULL) {
        return busy(failure, segment, request->write ? "writing or reading" : "writing",
                    segment->opening->holder);
    }
    if (segment->writer != NULL && !request->takeover &&
        catalog_session_alive(catalog, segment->writer->session, now_ms)) {
        return busy(failure, segment, "writing", segment->writer->session->holder);
    }
    if (request->write) {
        const struct holding *reader = live_reader(catalog, segment, now_ms);
        if (reader != NULL) {
            return busy(failure, segment, "reading", reader->session->holder);
        }
    }
    if (!catalog_presumed(segment, now_ms)) {
        return WIRE_OK;
    }
    if (record->had_readers != 0) {
        return request->write ? busy(failure, segment, "reading",
                                     "a process of before the server's restart (try again after "
                                     "the lease)")
                              : WIRE_OK;
    }
    if (segment->writer == NULL && has_writer(record) && !is_writer(record, session) &&
        !request->takeover) {
        return busy(failure, segment, "writing", record->writer_name);
    }
    return WIRE_OK;
}

// The epoch rises when somebody else loses what it had, or may come back believing that it still
// has it.
static bool must_rise(const struct catalog_segment *segment, const struct catalog_session *session,
                      bool write)
{
    const struct store_segment_record *record = record_of(segment);
    return write && (segment->writer != NULL || segment->readers != NULL || segment->lost_readers ||
                     (has_writer(record) && !is_writer(record, session)));
}

static void fill_record(struct store_segment_record *record, const struct catalog_session *session,
                        bool write, bool rise)
{
    record->epoch += rise ? 1 : 0;
    if (write) {
        memcpy(record->writer, session->instance, WIRE_ID_BYTES);
        memcpy(record->writer_name, session->holder, sizeof record->writer_name);
        record->had_readers = 0;
        return;
    }
    record->had_readers = 1;
    if (is_writer(record, session)) {
        memset(record->writer, 0, sizeof record->writer);
        memset(record->writer_name, 0, sizeof record->writer_name);
    }
}

// What an open or a close changes of a record.
static bool same_holders(const struct store_segment_record *a, const struct store_segment_record *b)
{
    return a->epoch == b->epoch && a->had_readers == b->had_readers &&
           memcmp(a->writer, b->writer, sizeof a->writer) == 0;
}

static void displace(struct catalog_segment *segment, bool write)
{
    if (segment->writer != NULL) {
        if (write) {
            catalog_holding_fence_locked(segment->writer);
        } else {
            catalog_holding_end_locked(segment->writer);
        }
    }
    while (write && segment->readers != NULL) {
        catalog_holding_fence_locked(segment->readers);
    }
}

// Nobody is in the way any more: changes hands and waits for what is in flight.
static enum wire_status take(struct catalog *catalog, struct catalog_segment *segment,
                             struct catalog_session *session, bool write, struct failure *failure)
{
    struct store_segment_record record = *record_of(segment);
    fill_record(&record, session, write, must_rise(segment, session, write));
    if (!same_holders(&record, record_of(segment)) &&
        store_segment_update(catalog->store, segment->store, &record) != 0) {
        return catalog_say(failure, WIRE_STORE_ERROR,
                           "The store could not record who opens segment \"%s\".", record.name);
    }
    displace(segment, write);
    if (write) {
        segment->lost_readers = false;
        segment->presumed_until_ms = INT64_MIN;
    }
    segment->opening = session;
    int error = catalog_drain_locked(catalog, segment, write);
    segment->opening = NULL;
    if (error != 0) {
        return catalog_say(failure, WIRE_BUSY,
                           "Requests of a former holder of segment \"%s\" are still being "
                           "finished; try again.",
                           record.name);
    }
    return WIRE_OK;
}

static enum wire_status hold(struct catalog *catalog, struct catalog_segment *segment,
                             struct catalog_session *session, bool write, struct failure *failure)
{
    struct holding *holding = calloc(1, sizeof *holding);
    if (holding == NULL) {
        return catalog_say(failure, WIRE_STORE_ERROR, "The server is out of memory.");
    }
    enum wire_status status = take(catalog, segment, session, write, failure);
    if (status != WIRE_OK) {
        free(holding);
        return status;
    }
    holding->segment = segment;
    holding->id = record_of(segment)->id;
    holding->epoch = record_of(segment)->epoch;
    holding->write = write;
    catalog_holding_add_locked(session, holding);
    return WIRE_OK;
}

// A session comes back: is this the segment that it knows? Looked at here, before it is open: as soon as it is,
// its data lanes read.
static enum wire_status check_copy(const struct catalog_segment *segment,
                                   const struct catalog_open_request *request,
                                   struct failure *failure)
{
    const struct store_segment_record *record = record_of(segment);
    uint64_t highest = store_segment_highest(segment->store);
    if (request->epoch == 0) {
        return WIRE_OK;
    }
    if (request->epoch == record->epoch) {
        return request->highest <= highest
                   ? WIRE_OK
                   : catalog_say(failure, WIRE_NO_SEGMENT,
                                 "This store holds an older copy of segment \"%s\" (write %" PRIu64
                                 ", yours is %" PRIu64 ").",
                                 record->name, highest, request->highest);
    }
    if (request->epoch < record->epoch) {
        return catalog_say(failure, WIRE_FENCED,
                           "Segment \"%s\" was taken by another process (epoch %" PRIu64
                           ", yours was %" PRIu64 ").",
                           record->name, record->epoch, request->epoch);
    }
    return catalog_say(failure, WIRE_NO_SEGMENT,
                       "This store holds an older copy of segment \"%s\" (epoch %" PRIu64
                       ", yours is %" PRIu64 ").",
                       record->name, record->epoch, request->epoch);
}

// It has the segment open already: fine when it resumes, or when it did not hear the answer and asks again, in whatever
// words (the library itself refuses a program that opens twice). For anything else the program is wrong.
static enum wire_status open_again(const struct catalog_segment *segment, const struct holding *own,
                                   const struct catalog_open_request *request,
                                   struct failure *failure)
{
    if ((request->epoch == 0 || request->epoch == own->epoch) && request->write == own->write) {
        return WIRE_OK;
    }
    return catalog_say(failure, WIRE_BUSY, "Segment \"%s\" is already open in this process.",
                       record_of(segment)->name);
}

static enum wire_status check_request(const struct catalog_session *session,
                                      const struct catalog_open_request *request,
                                      struct failure *failure)
{
    unsigned need = request->write ? KEY_RIGHT_WRITE : KEY_RIGHT_READ;
    if ((atomic_load(&session->rights) & need) == 0) {
        return catalog_say(failure, WIRE_NOT_ALLOWED, "This key has no right to open for %s.",
                           request->write ? "writing" : "reading");
    }
    if (request->takeover && !request->write) {
        return catalog_say(failure, WIRE_INVALID, "A takeover is for writing only.");
    }
    return WIRE_OK;
}

// What nobody may open, or not for this.
static enum wire_status check_kind(const struct catalog_segment *segment, bool write,
                                   struct failure *failure)
{
    const struct store_segment_record *record = record_of(segment);
    if (segment->image != NULL) {
        return catalog_say(failure, WIRE_BUSY,
                           "Segment \"%s\" is in a capsule, where %s put it; it may be opened "
                           "again when that has expired.",
                           record->name, segment->image->file.source_name);
    }
    if (record->type != STORE_SEGMENT_CODE) {
        return WIRE_OK;
    }
    if (record->sealed && write) {
        return catalog_say(failure, WIRE_NOT_ALLOWED,
                           "Segment \"%s\" is code, which is for reading only.", record->name);
    }
    if (!record->sealed && !write) {
        return catalog_say(failure, WIRE_BUSY, "Segment \"%s\" is code that is not complete yet.",
                           record->name);
    }
    return WIRE_OK;
}

static enum wire_status open_found(struct catalog *catalog, struct catalog_segment *segment,
                                   struct catalog_session *session,
                                   const struct catalog_open_request *request, int64_t now_ms,
                                   struct failure *failure)
{
    enum wire_status status = check_copy(segment, request, failure);
    if (status == WIRE_OK) {
        status = check_kind(segment, request->write, failure);
    }
    if (status != WIRE_OK) {
        return status;
    }
    struct holding *own = catalog_holding_find(session, record_of(segment)->id);
    if (own != NULL && own->segment != NULL) {
        return open_again(segment, own, request, failure);
    }
    status = check_holders(catalog, segment, session, request, now_ms, failure);
    if (status != WIRE_OK) {
        return status;
    }
    if (own != NULL) { // fenced, and opens anew
        catalog_holding_end_locked(own);
    }
    if (session->count >= LIMIT_SESSION_SEGMENTS) {
        return catalog_say(failure, WIRE_TOO_MANY,
                           "This process has %d segments open, the most that is allowed.",
                           LIMIT_SESSION_SEGMENTS);
    }
    return hold(catalog, segment, session, request->write, failure);
}

enum wire_status catalog_open_locked(struct catalog *catalog, struct catalog_session *session,
                                     const struct catalog_open_request *request, int64_t now_ms,
                                     struct catalog_segment_view *view, struct failure *failure)
{
    enum wire_status status = check_request(session, request, failure);
    if (status != WIRE_OK) {
        return status;
    }
    struct catalog_segment *segment = find(catalog, session, request);
    if (segment == NULL) {
        return request->name != NULL
                   ? catalog_say(failure, WIRE_NO_SEGMENT, "There is no segment \"%s\".",
                                 request->name)
                   : catalog_say(failure, WIRE_NO_SEGMENT, "There is no segment of id %" PRIu64 ".",
                                 request->id);
    }
    status = open_found(catalog, segment, session, request, now_ms, failure);
    if (status == WIRE_OK) {
        catalog_view_locked(segment, view);
    }
    return status;
}

enum wire_status catalog_segment_open(struct catalog *catalog, struct catalog_session *session,
                                      const struct catalog_open_request *request, int64_t now_ms,
                                      struct catalog_segment_view *view, struct failure *failure)
{
    if (request->name != NULL && !wire_segment_name_valid(request->name)) {
        return catalog_say(failure, WIRE_INVALID, "That is no name for a segment.");
    }
    (void)pthread_mutex_lock(&catalog->lock);
    enum wire_status status = catalog_open_locked(catalog, session, request, now_ms, view, failure);
    (void)pthread_mutex_unlock(&catalog->lock);
    return status;
}

// A clean close takes the holder's name out of the record, so that the next open raises nothing.
static enum wire_status record_close(struct catalog *catalog, struct catalog_segment *segment,
                                     bool write)
{
    struct store_segment_record record = *record_of(segment);
    if (write) {
        memset(record.writer, 0, sizeof record.writer);
        memset(record.writer_name, 0, sizeof record.writer_name);
    } else if (segment->readers == NULL && !segment->lost_readers) {
        record.had_readers = 0;
    }
    if (same_holders(&record, record_of(segment))) {
        return WIRE_OK;
    }
    return store_segment_update(catalog->store, segment->store, &record) == 0 ? WIRE_OK
                                                                              : WIRE_STORE_ERROR;
}

// The last holder of an ephemeral segment has closed it: its name is free when the answer says so, also when the
// last answer of another lane has just left and its operation is not quite over.
static void drop_at_once(struct catalog *catalog, struct catalog_segment *segment,
                         struct catalog_session *session, int64_t now_ms)
{
    if (catalog_unused_locked(segment, now_ms)) {
        segment->opening = session;
        (void)catalog_drain_locked(catalog, segment, true); // if not: the next sweep drops it
        segment->opening = NULL;
        catalog_drop_unused_locked(catalog, segment, now_ms);
    }
}

// A writer that lost its hold to readers, or by a restart, lets go of the claim that the record
// still keeps for it.
static enum wire_status close_claim(struct catalog *catalog, struct catalog_session *session,
                                    uint64_t id)
{
    const struct catalog_open_request request = {.id = id};
    struct catalog_segment *segment = find(catalog, session, &request);
    if (segment == NULL || !is_writer(record_of(segment), session)) {
        return WIRE_NOT_OPEN;
    }
    enum wire_status status = record_close(catalog, segment, true);
    drop_at_once(catalog, segment, session, INT64_MAX);
    return status;
}

enum wire_status catalog_segment_close(struct catalog *catalog, struct catalog_session *session,
                                       uint64_t id)
{
    enum wire_status status = WIRE_OK;
    (void)pthread_mutex_lock(&catalog->lock);
    struct holding *own = catalog_holding_find(session, id);
    if (own == NULL) {
        status = close_claim(catalog, session, id);
    } else {
        struct catalog_segment *segment = own->segment;
        bool write = own->write;
        catalog_holding_end_locked(own);
        if (segment != NULL) {
            status = record_close(catalog, segment, write);
            drop_at_once(catalog, segment, session, atomic_load(&session->renewed_ms));
        }
    }
    (void)pthread_mutex_unlock(&catalog->lock);
    return status;
}
