// SPDX-License-Identifier: Apache-2.0
//
// Control messages. Each operation is one Control and one ControlAnswer; both are bounded by LIMIT_CONTROL_BYTES. After a
// cut the same bytes are sent again: create and delete carry an operation id by which the server knows them, open and
// close are the same when done twice.
//
// The buffers are the session's threads' stacks: nothing here is reached from a fault.
#include "libdsm/backing/control.h"

#include "rpc/dsm.pb-c.h"

#include "libdsm/backing/control_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dsm/dsm.h"
#include "libdsm/sync/futex.h"

enum { REQUEST_BYTES = 4096, ANSWER_BYTES = 4096 };

static void take_segment(const Dsm__SegmentInfo *from, struct control_segment *to)
{
    *to = (struct control_segment){
        .id = from->id,
        .bytes = from->bytes,
        .base = from->address,
        .epoch = from->epoch,
        .highest = from->highest,
        .none_pages = from->none_pages,
        .page_bytes = from->page_bytes,
        .flags = from->flags,
        .writer = from->holder != NULL && from->holder[0] != '\0',
        .placements = (uint32_t)from->n_placement,
    };
    if (from->n_placement > 0) {
        to->placed.page = from->placement[0]->first_page;
        to->placed.pages = from->placement[0]->pages;
    }
}

static bool sane(const struct control_segment *s)
{
    return s->id != 0 && s->page_bytes >= LIMIT_PAGE_MIN_BYTES &&
           s->page_bytes <= LIMIT_PAGE_MAX_BYTES && (s->page_bytes & (s->page_bytes - 1)) == 0 &&
           s->bytes > 0 && s->bytes <= LIMIT_SEGMENT_BYTES && s->bytes % s->page_bytes == 0 &&
           s->base % s->page_bytes == 0 && s->base >= LIMIT_BASE_LOW &&
           s->base <= LIMIT_BASE_HIGH && s->bytes <= LIMIT_BASE_HIGH - s->base;
}

static int status_error(enum wire_status status)
{
    switch (status) {
    case WIRE_FENCED:
        return -DSM_EFENCED;
    case WIRE_NO_SEGMENT:
        return -ENOENT;
    default:
        return wire_status_errno(status);
    }
}

struct none_runs {         // of pages without backing, as they come
    uint64_t after, pages; // the first page not told of; of the segment
    bool more;
    void (*tell)(void *context, uint64_t page, uint64_t count);
    void *context;
};

static int take_none(const Dsm__PageRuns *from, struct none_runs *to)
{
    for (size_t i = 0; i < from->n_run; i++) {
        uint64_t page = from->run[i]->page;
        uint64_t count = from->run[i]->count;
        if (page < to->after || page >= to->pages || count == 0 || count > to->pages - page) {
            return -EBADMSG;
        }
        to->tell(to->context, page, count);
        to->after = page + count;
    }
    to->more = from->more != 0 && from->n_run > 0;
    return 0;
}

int control_take_segment(const Dsm__SegmentInfo *from, struct control_segment *to)
{
    take_segment(from, to);
    return sane(to) ? 0 : -EBADMSG;
}

static int take_result(const Dsm__ControlAnswer *answer, const struct control_result *result)
{
    if (result->take != NULL) {
        return result->take(result->context, answer);
    }
    if (result->none != NULL) {
        return answer->body_case == DSM__CONTROL_ANSWER__BODY_NONE
                   ? take_none(answer->none, result->none)
                   : -EBADMSG;
    }
    if (result->segment == NULL) {
        return 0;
    }
    if (answer->body_case != DSM__CONTROL_ANSWER__BODY_SEGMENT) {
        return -EBADMSG;
    }
    return control_take_segment(answer->segment, result->segment);
}

// One try on a lane in hand. The status' errno, or the lane's error with *cut set.
static int exchange(struct backing_lane *lane, const Dsm__Control *control,
                    const struct control_result *result, bool *cut, struct failure *failure,
                    int64_t deadline)
{
    uint8_t request[REQUEST_BYTES];
    uint8_t small[ANSWER_BYTES];
    uint8_t *answer = small;
    size_t capacity = result->take != NULL ? LIMIT_CONTROL_BYTES : sizeof small;
    size_t bytes = dsm__control__get_packed_size(control);
    if (bytes > sizeof request) {
        return -EMSGSIZE;
    }
    if (capacity > sizeof small && (answer = malloc(capacity)) == NULL) {
        return -ENOMEM;
    }
    (void)dsm__control__pack(control, request);
    struct backing_exchange e = {
        .request = request,
        .request_bytes = (uint32_t)bytes,
        .op = WIRE_CONTROL,
        .answer = answer,
        .capacity = (uint32_t)capacity,
    };
    ssize_t got = backing_exchange(lane, &e, deadline);
    Dsm__ControlAnswer *a = got < 0 ? NULL : dsm__control_answer__unpack(NULL, (size_t)got, answer);
    if (answer != small) {
        free(answer);
    }
    if (got < 0) {
        *cut = true;
        return (int)got;
    }
    if (a == NULL) {
        *cut = true;
        return -EBADMSG;
    }
    int error = status_error(e.status);
    if (error != 0) {
        (void)failure_set(failure, error, "%s",
                          a->detail[0] != 0 ? a->detail : wire_status_text(e.status));
    } else {
        error = take_result(a, result);
    }
    dsm__control_answer__free_unpacked(a, NULL);
    return error;
}

static int wait_up(struct backing_lane *lane, int64_t deadline)
{
    uint32_t up;
    while ((up = atomic_load_explicit(&lane->up, memory_order_acquire)) == 0) {
        if (atomic_load(&lane->backing->stopping) != 0) {
            return -ECANCELED;
        }
        if (sync_wait(&lane->up, 0, deadline) == -ETIMEDOUT) {
            return -ETIMEDOUT;
        }
    }
    lane->connection = up;
    return 0;
}

// What was cut may have been done: of a delete, a restarted server remembers no more than that the segment is gone, and of a
// close, any server no more than that it is not open.
static bool was_done(const Dsm__Control *control, int error)
{
    return (control->body_case == DSM__CONTROL__BODY_DELETE && error == -ENOENT) ||
           (control->body_case == DSM__CONTROL__BODY_CLOSE &&
            error == wire_status_errno(WIRE_NOT_OPEN));
}

// Takes the control lane, and tries until an answer comes or the time for a failover has passed.
int control_operate(struct session *session, const Dsm__Control *control,
                    const struct control_result *result, struct failure *failure)
{
    int64_t deadline = sync_after_ms(LIMIT_FAILOVER_MS);
    struct backing_lane *lane = backing_take(&session->backing, BACKING_CONTROL, deadline);
    if (lane == NULL) {
        return failure_set(failure, -ETIMEDOUT, "The session's control lane stayed busy.");
    }
    int error;
    bool again = false;
    for (;;) {
        bool cut = false;
        error = wait_up(lane, deadline);
        if (error != 0) {
            (void)failure_set(failure, error,
                              "No connection to %s:%s for %d s; is dsmd running there?",
                              session->host, session->port, LIMIT_FAILOVER_MS / 1000);
            break;
        }
        cut = session_pay(session, lane) != 0;
        if (!cut) {
            int64_t until = sync_after_ms(LIMIT_RPC_MS);
            error =
                exchange(lane, control, result, &cut, failure, until < deadline ? until : deadline);
            again = again || cut;
        }
        if (!cut) {
            break;
        }
        backing_lane_down(lane);
        STAT_ADD(session->backing.stat, retries, 1);
    }
    backing_give(lane);
    return again && was_done(control, error) ? 0 : error;
}

static int operate(struct session *session, const Dsm__Control *control,
                   struct control_segment *segment, struct failure *failure)
{
    const struct control_result result = {.segment = segment};
    return control_operate(session, control, &result, failure);
}

int control_create(struct session *session, const char *name, uint64_t bytes, uint32_t page_bytes,
                   uint32_t flags, struct control_segment *segment, struct failure *failure)
{
    uint8_t id[WIRE_ID_BYTES];
    noise_random(id, sizeof id);
    Dsm__Create create = DSM__CREATE__INIT;
    create.operation = (ProtobufCBinaryData){sizeof id, id};
    create.name = (char *)(uintptr_t)name;
    create.bytes = bytes;
    create.page_bytes = page_bytes;
    create.flags = flags;
    Dsm__Control control = DSM__CONTROL__INIT;
    control.body_case = DSM__CONTROL__BODY_CREATE;
    control.create = &create;
    return operate(session, &control, segment, failure);
}

int control_open(struct session *session, const char *name, bool write, bool takeover,
                 struct control_segment *segment, struct failure *failure)
{
    Dsm__Open open = DSM__OPEN__INIT;
    open.name = (char *)(uintptr_t)name;
    open.write = write;
    open.takeover = takeover;
    Dsm__Control control = DSM__CONTROL__INIT;
    control.body_case = DSM__CONTROL__BODY_OPEN;
    control.open = &open;
    return operate(session, &control, segment, failure);
}

int control_close(struct session *session, uint64_t id, struct failure *failure)
{
    Dsm__Close close = DSM__CLOSE__INIT;
    close.segment = id;
    Dsm__Control control = DSM__CONTROL__INIT;
    control.body_case = DSM__CONTROL__BODY_CLOSE;
    control.close = &close;
    // What one of them has waited for in vain, the next need not.
    int error =
        session_owes_in_vain(session) ? -ETIMEDOUT : operate(session, &control, NULL, failure);
    if (error != 0 && error != wire_status_errno(WIRE_NOT_OPEN)) {
        session_owe_close(session, id);
    }
    return error;
}

int control_delete(struct session *session, const char *name, struct failure *failure)
{
    uint8_t id[WIRE_ID_BYTES];
    noise_random(id, sizeof id);
    Dsm__Delete delete = DSM__DELETE__INIT;
    delete.operation = (ProtobufCBinaryData){sizeof id, id};
    delete.name = (char *)(uintptr_t)name;
    Dsm__Control control = DSM__CONTROL__INIT;
    control.body_case = DSM__CONTROL__BODY_DELETE;
    control.delete_ = &delete;
    return operate(session, &control, NULL, failure);
}

int control_none(struct session *session, const struct control_segment *segment,
                 void (*tell)(void *context, uint64_t page, uint64_t count), void *context,
                 struct failure *failure)
{
    struct none_runs runs = {
        .pages = segment->bytes / segment->page_bytes,
        .more = segment->none_pages > 0,
        .tell = tell,
        .context = context,
    };
    const struct control_result result = {.none = &runs};
    int error = 0;
    while (runs.more && error == 0) {
        Dsm__None none = DSM__NONE__INIT;
        none.segment = segment->id;
        none.epoch = segment->epoch;
        none.after = runs.after;
        Dsm__Control control = DSM__CONTROL__INIT;
        control.body_case = DSM__CONTROL__BODY_NONE;
        control.none = &none;
        error = control_operate(session, &control, &result, failure);
    }
    return error;
}

// Of what this session had open: with what it knows of it.
static Dsm__Open open_again(const struct backing_segment *segment, bool write)
{
    Dsm__Open open = DSM__OPEN__INIT;
    open.segment = segment->id;
    open.write = write;
    open.epoch = segment->epoch;
    open.highest = atomic_load(&segment->acknowledged);
    return open;
}

int control_reopen(struct session *session, const struct backing_segment *segment,
                   struct control_segment *info, struct failure *failure)
{
    Dsm__Open open = open_again(segment, true);
    Dsm__Control control = DSM__CONTROL__INIT;
    control.body_case = DSM__CONTROL__BODY_OPEN;
    control.open = &open;
    return operate(session, &control, info, failure);
}

int control_resume(struct backing_lane *lane, const struct backing_segment *segment, bool write,
                   struct control_segment *info, int64_t deadline)
{
    Dsm__Open open = open_again(segment, write);
    Dsm__Control control = DSM__CONTROL__INIT;
    control.body_case = DSM__CONTROL__BODY_OPEN;
    control.open = &open;
    bool cut = false;
    const struct control_result result = {.segment = info};
    int error = exchange(lane, &control, &result, &cut, NULL, deadline);
    return cut ? -ECONNRESET : error;
}

int control_let_go(struct backing_lane *lane, uint64_t id, int64_t deadline)
{
    Dsm__Close close = DSM__CLOSE__INIT;
    close.segment = id;
    Dsm__Control control = DSM__CONTROL__INIT;
    control.body_case = DSM__CONTROL__BODY_CLOSE;
    control.close = &close;
    bool cut = false;
    const struct control_result nothing = {.segment = NULL};
    (void)exchange(lane, &control, &nothing, &cut, NULL, deadline);
    return cut ? -ECONNRESET : 0;
}
