// SPDX-License-Identifier: Apache-2.0
//
// Control operations: protobuf in, catalog, protobuf out. What comes in is bounded three times: the
// front lets no more than LIMIT_CONTROL_BYTES through, unpacking draws on an arena of fixed size,
// and a message that does not pack to the same length again is refused, which finds strings with a
// NUL inside that C would cut short. The arena also holds the answer, so that every path frees by
// freeing one block, and no number in a message decides how much is allocated.
//
// A failed operation answers with its status and a sentence for the user.
//
// Threads: the fronts' own; nothing is shared here.
#include "server/service_internal.h"

#include <rpc/dsm.pb-c.h>
#include <stdlib.h>
#include <string.h>

#include "server/clock.h"
#include "server/service_control.h"

enum { CONTROL_LIST_MAX = 1024, CONTROL_LIST_SPARE_BYTES = 64 };
enum { CONTROL_RUNS_MAX = 128 }; // of pages, in one answer

void *control_alloc(void *context, size_t bytes)
{
    struct control *control = context;
    size_t units = bytes / sizeof(max_align_t) + 1;
    if (units > sizeof control->arena / sizeof control->arena[0] - control->used) {
        return NULL;
    }
    void *memory = &control->arena[control->used];
    control->used += units;
    return memory;
}

static void arena_free(void *context, void *memory)
{
    (void)context;
    (void)memory; // the whole arena goes at once
}

static char *arena_text(struct control *control, const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = control_alloc(control, bytes);
    if (copy != NULL) {
        memcpy(copy, text, bytes);
    }
    return copy;
}

static Dsm__Placement **place(struct control *control, const struct store_segment_record *record)
{
    Dsm__Placement **list = control_alloc(control, sizeof(Dsm__Placement *));
    Dsm__Placement *placement = control_alloc(control, sizeof *placement);
    if (list == NULL || placement == NULL) {
        return NULL;
    }
    dsm__placement__init(placement);
    placement->server = arena_text(control, control->lane->service->options.server_name);
    placement->pages = record->bytes / record->page_bytes;
    list[0] = placement;
    return placement->server == NULL ? NULL : list;
}

// NULL: the arena is used up.
Dsm__SegmentInfo *control_describe(struct control *control, const struct catalog_segment_view *view)
{
    const struct store_segment_record *record = &view->record;
    Dsm__SegmentInfo *info = control_alloc(control, sizeof *info);
    if (info == NULL) {
        return NULL;
    }
    dsm__segment_info__init(info);
    info->id = record->id;
    info->name = arena_text(control, record->name);
    info->bytes = record->bytes;
    info->page_bytes = record->page_bytes;
    info->type = record->type;
    info->flags = record->flags;
    info->address = record->base;
    info->epoch = record->epoch;
    info->highest = view->highest;
    info->stored_bytes = view->stored_bytes;
    info->none_pages = view->none_pages;
    info->reserved_bytes = record->flags & STORE_SEGMENT_NORESERVE
                               ? 0
                               : record->bytes - view->none_pages * record->page_bytes;
    info->principal = arena_text(control, record->principal);
    info->holder = arena_text(control, record->writer_name);
    info->readers = view->readers;
    info->replicas = record->replicas;
    info->placement = place(control, record);
    info->n_placement = 1;
    bool whole = info->name != NULL && info->principal != NULL && info->holder != NULL &&
                 info->placement != NULL;
    return whole ? info : NULL;
}

enum wire_status control_answer_segment(struct control *control, enum wire_status status,
                                        const struct catalog_segment_view *view)
{
    if (status != WIRE_OK) {
        return status;
    }
    control->answer.segment = control_describe(control, view);
    control->answer.body_case = DSM__CONTROL_ANSWER__BODY_SEGMENT;
    return control->answer.segment != NULL ? WIRE_OK : WIRE_INVALID;
}

enum wire_status control_invalid(struct control *control, const char *text)
{
    (void)failure_set(&control->failure, 0, "%s", text);
    return WIRE_INVALID;
}

static enum wire_status control_create(struct control *control, const Dsm__Create *create)
{
    if (create->operation.len != WIRE_ID_BYTES) {
        return control_invalid(control, "The operation id must have 16 bytes.");
    }
    struct catalog_segment_view view;
    enum wire_status status = catalog_segment_create(
        control->lane->service->catalog, control->lane->session, create->operation.data,
        create->name, create->bytes, create->page_bytes, create->type, create->flags, &view,
        &control->failure);
    return control_answer_segment(control, status, &view);
}

static enum wire_status control_open(struct control *control, const Dsm__Open *open)
{
    bool by_name = open->name[0] != '\0';
    if (by_name == (open->segment != 0)) {
        return control_invalid(control, "Say either the name or the id of the segment.");
    }
    const struct catalog_open_request request = {
        .name = by_name ? open->name : NULL,
        .id = open->segment,
        .write = open->write != 0,
        .takeover = open->takeover != 0,
        .epoch = open->epoch,
        .highest = open->highest,
    };
    struct catalog_segment_view view;
    enum wire_status status =
        catalog_segment_open(control->lane->service->catalog, control->lane->session, &request,
                             control->now_ms, &view, &control->failure);
    return control_answer_segment(control, status, &view);
}

static enum wire_status control_delete(struct control *control, const Dsm__Delete *delete)
{
    if (delete->operation.len != WIRE_ID_BYTES) {
        return control_invalid(control, "The operation id must have 16 bytes.");
    }
    return catalog_segment_delete(control->lane->service->catalog, control->lane->session,
                                  delete->operation.data, delete->name, control->now_ms,
                                  &control->failure);
}

struct listing {
    struct control *control;
    Dsm__SegmentList *list;
    size_t bytes; // encoded so far
};

static bool list_one(void *context, const struct catalog_segment_view *view)
{
    struct listing *listing = context;
    Dsm__SegmentList *list = listing->list;
    Dsm__SegmentInfo *info =
        list->n_segment < CONTROL_LIST_MAX ? control_describe(listing->control, view) : NULL;
    size_t bytes = info != NULL ? dsm__segment_info__get_packed_size(info) + 8 : 0;
    if (info == NULL || listing->bytes + bytes > LIMIT_CONTROL_BYTES - CONTROL_LIST_SPARE_BYTES) {
        list->more = 1;
        return false;
    }
    list->segment[list->n_segment++] = info;
    listing->bytes += bytes;
    return true;
}

static enum wire_status control_list(struct control *control, const Dsm__List *request)
{
    struct listing listing = {.control = control};
    listing.list = control_alloc(control, sizeof *listing.list);
    Dsm__SegmentInfo **entries =
        control_alloc(control, CONTROL_LIST_MAX * sizeof(Dsm__SegmentInfo *));
    if (listing.list == NULL || entries == NULL) {
        return control_invalid(control, "The request is too large.");
    }
    dsm__segment_list__init(listing.list);
    listing.list->segment = entries;
    catalog_list(control->lane->service->catalog, control->lane->session, request->prefix,
                 request->after, list_one, &listing);
    control->answer.list = listing.list;
    control->answer.body_case = DSM__CONTROL_ANSWER__BODY_LIST;
    return WIRE_OK;
}

static bool list_runs(struct control *control, const struct store_segment *segment, uint64_t from,
                      Dsm__PageRuns *runs)
{
    uint64_t page;
    uint64_t count;
    while (store_segment_next_none(segment, from, &page, &count)) {
        if (runs->n_run == CONTROL_RUNS_MAX) {
            runs->more = 1;
            return true;
        }
        Dsm__PageRun *run = control_alloc(control, sizeof *run);
        if (run == NULL) {
            return false;
        }
        dsm__page_run__init(run);
        run->page = page;
        run->count = count;
        runs->run[runs->n_run++] = run;
        from = page + count;
    }
    return true;
}

static enum wire_status control_none(struct control *control, const Dsm__None *request)
{
    struct catalog *catalog = control->lane->service->catalog;
    Dsm__PageRuns *runs = control_alloc(control, sizeof *runs);
    Dsm__PageRun **list = control_alloc(control, CONTROL_RUNS_MAX * sizeof(Dsm__PageRun *));
    if (runs == NULL || list == NULL) {
        return control_invalid(control, "The request is too large.");
    }
    const struct wire_header look = {
        .op = WIRE_READ, .segment = request->segment, .epoch = request->epoch, .count = 1};
    struct catalog_hold hold;
    enum wire_status status = catalog_enter(catalog, control->lane->session, &look, &hold);
    if (status != WIRE_OK) {
        return status;
    }
    dsm__page_runs__init(runs);
    runs->run = list;
    bool whole = list_runs(control, hold.segment, request->after, runs);
    catalog_exit(catalog, &hold);
    control->answer.none = runs;
    control->answer.body_case = DSM__CONTROL_ANSWER__BODY_NONE;
    return whole ? WIRE_OK : control_invalid(control, "The request is too large.");
}

static enum wire_status control_stat(struct control *control)
{
    struct service *service = control->lane->service;
    Dsm__StatInfo *stat = control_alloc(control, sizeof *stat);
    struct store_facts *facts = control_alloc(control, sizeof *facts);
    if (stat == NULL || facts == NULL) {
        return control_invalid(control, "The request is too large.");
    }
    struct catalog_sums sums;
    catalog_sums(service->catalog, control->lane->session, &sums);
    store_facts(service->options.store, facts);
    dsm__stat_info__init(stat);
    stat->store_id = (ProtobufCBinaryData){.len = WIRE_ID_BYTES, .data = facts->store_id};
    stat->incarnation = facts->incarnation;
    stat->capacity_bytes = facts->capacity_bytes;
    stat->reserved_bytes = facts->reserved_bytes;
    stat->stored_bytes = facts->stored_bytes;
    stat->quota_bytes = sums.quota_bytes;
    stat->charged_bytes = sums.charged_bytes;
    stat->sessions = sums.sessions;
    stat->lanes = service_lane_count(service);
    stat->segments = sums.segments;
    stat->pages_read = atomic_load(&service->pages_read);
    stat->pages_written = atomic_load(&service->pages_written);
    stat->requests = atomic_load(&service->requests);
    stat->uptime_ms = (uint64_t)(control->now_ms - service->started_ms);
    stat->server_version = arena_text(control, DSM_VERSION);
    stat->principal = arena_text(control, sums.principal);
    if (stat->server_version == NULL || stat->principal == NULL) {
        return control_invalid(control, "The request is too large.");
    }
    control->answer.stat = stat;
    control->answer.body_case = DSM__CONTROL_ANSWER__BODY_STAT;
    return WIRE_OK;
}

static enum wire_status dispatch(struct control *control, const Dsm__Control *message)
{
    switch (message->body_case) {
    case DSM__CONTROL__BODY_CREATE:
        return control_create(control, message->create);
    case DSM__CONTROL__BODY_OPEN:
        return control_open(control, message->open);
    case DSM__CONTROL__BODY_CLOSE:
        return catalog_segment_close(control->lane->service->catalog, control->lane->session,
                                     message->close->segment);
    case DSM__CONTROL__BODY_DELETE:
        return control_delete(control, message->delete_);
    case DSM__CONTROL__BODY_LIST:
        return control_list(control, message->list);
    case DSM__CONTROL__BODY_STAT:
        return control_stat(control);
    case DSM__CONTROL__BODY_NONE:
        return control_none(control, message->none);
    case DSM__CONTROL__BODY_CLONE:
    case DSM__CONTROL__BODY_CODE:
    case DSM__CONTROL__BODY_SEAL:
    case DSM__CONTROL__BODY_IMAGE_CHECK:
    case DSM__CONTROL__BODY_IMAGE_PARK:
    case DSM__CONTROL__BODY_IMAGE_COMMIT:
    case DSM__CONTROL__BODY_IMAGE_ABORT:
        return control_images(control, message);
    default:
        return control_invalid(control, "The control message has no operation that is known here.");
    }
}

static enum wire_status perform(struct control *control, const uint8_t *payload, size_t bytes)
{
    ProtobufCAllocator allocator = {
        .alloc = control_alloc, .free = arena_free, .allocator_data = control};
    const Dsm__Control *message = dsm__control__unpack(&allocator, bytes, payload);
    if (message == NULL || dsm__control__get_packed_size(message) != bytes) {
        return control_invalid(control, "The control message is malformed.");
    }
    return dispatch(control, message);
}

static void send_answer(struct control *control, struct lane_peer *peer,
                        const struct wire_header *request, enum wire_status status)
{
    struct wire_header header = service_answer(request, status);
    uint8_t *packed = NULL;
    if (status != WIRE_OK) {
        control->answer.body_case = DSM__CONTROL_ANSWER__BODY__NOT_SET;
        if (control->failure.text[0] == '\0') {
            (void)failure_set(&control->failure, 0, "%s.", wire_status_text(status));
        }
        control->answer.detail = control->failure.text;
        service_say_refused(control->lane, request, &header, control->failure.text);
    }
    size_t bytes = dsm__control_answer__get_packed_size(&control->answer);
    if (bytes <= LIMIT_CONTROL_BYTES) { // from the arena: what was done must not end in a refusal
        packed = control_alloc(control, bytes + 1);
    }
    if (packed == NULL) {
        header.status = WIRE_STORE_ERROR;
        service_reply(control->lane, peer, request, &header, NULL, 0);
        return;
    }
    header.length = (uint32_t)dsm__control_answer__pack(&control->answer, packed);
    const struct iovec piece = {.iov_base = packed, .iov_len = header.length};
    service_reply(control->lane, peer, request, &header, &piece, header.length > 0 ? 1 : 0);
}

void service_control(struct service_lane *lane, struct lane_peer *peer,
                     const struct wire_header *request, const uint8_t *payload, int64_t now_ms)
{
    struct control *control = malloc(sizeof *control); // not zeroed: a large arena, hardly used
    if (control == NULL) {
        struct wire_header header = service_answer(request, WIRE_STORE_ERROR);
        service_reply(lane, peer, request, &header, NULL, 0);
        return;
    }
    control->lane = lane;
    control->now_ms = now_ms;
    control->failure.text[0] = '\0';
    control->used = 0;
    dsm__control_answer__init(&control->answer);
    enum wire_status status = perform(control, payload, request->length);
    send_answer(control, peer, request, status);
    free(control);
}
