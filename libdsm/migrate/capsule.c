// SPDX-License-Identifier: Apache-2.0
//
// A capsule's body: fields in order, little-endian, put together byte by byte, as on the wire. Nothing here knows of
// keys or descriptors.
//
// What is decoded may come from an enemy: whoever knows the destination's public key can seal a capsule for it. So no count is
// believed before the bytes that it stands for are there (a run takes eight, a segment at least SEGMENT_LEAST_BYTES), memory is
// taken only for what came, and what encode could not have written is refused: reserved bits, a run that goes on as
// the one before, bytes behind the end. One capsule has one spelling. A text is cut at nothing: it is right or refused.
//
// A run is one 64-bit number: the state in its low bits, pages above. A table of one entry a page, as the source has it, was
// rejected: a stack of 8 MiB with 64 KiB in use is two runs, and 2,048 entries.
//
// States: none; pure functions. The rules that concern several fields are in capsule_check.c.
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libdsm/migrate/capsule_internal.h"

enum {
    RUN_BYTES = 8,
    RUN_PLACE = 3, // mask
    RUN_READ_ONLY = 1 << 2,
    RUN_CHANGED = 1 << 3,
    RUN_SHIFT = 4,
    TEMPLATE_BYTES = 3 * 8,
    FIXED_BYTES = CAPSULE_ID_BYTES + CAPSULE_TOKEN_BYTES + 8 + 2 + 4 + 1 + 1 + 2 +
                  1,                             // but for source, build id, task
    SEGMENT_FIXED_BYTES = 1 + 1 + 4 * 8 + 4 + 4, // but for name and runs
    SEGMENT_LEAST_BYTES = SEGMENT_FIXED_BYTES + 1 + RUN_BYTES,
};
static_assert(LIMIT_HOLDER_NAME_BYTES <= UINT8_MAX && LIMIT_SEGMENT_NAME_BYTES <= UINT8_MAX + 1 &&
                  LIMIT_BUILD_ID_BYTES <= UINT8_MAX && LIMIT_CAPSULE_TASK_BYTES <= UINT16_MAX &&
                  LIMIT_CAPSULE_SEGMENTS <= UINT8_MAX,
              "lengths and counts of one or two bytes");

struct capsule *capsule_create(uint32_t segments)
{
    struct capsule *capsule = calloc(1, sizeof *capsule);
    if (capsule == NULL) {
        return NULL;
    }
    capsule->segments = calloc(segments > 0 ? segments : 1, sizeof *capsule->segments);
    if (capsule->segments == NULL) {
        free(capsule);
        return NULL;
    }
    capsule->segment_count = segments;
    return capsule;
}

void capsule_destroy(struct capsule **capsule)
{
    struct capsule *gone = *capsule;
    if (gone == NULL) {
        return;
    }
    for (uint32_t i = 0; i < gone->segment_count; i++) {
        free(gone->segments[i].runs);
    }
    free(gone->segments);
    noise_wipe(gone, sizeof *gone);
    free(gone);
    *capsule = NULL;
}

// ---- encode

static size_t extra_bytes(enum capsule_type type)
{
    return type == CAPSULE_CODE   ? CAPSULE_IDENTITY_BYTES
           : type == CAPSULE_HEAP ? TEMPLATE_BYTES
                                  : 0;
}

uint64_t capsule_body_bytes(const struct capsule *capsule)
{
    uint64_t bytes = FIXED_BYTES + strlen(capsule->source) + capsule->build_id_bytes +
                     (uint64_t)capsule->task_bytes;
    for (uint32_t i = 0; i < capsule->segment_count; i++) {
        const struct capsule_segment *s = &capsule->segments[i];
        bytes += SEGMENT_FIXED_BYTES + strlen(s->name) + extra_bytes(s->type) +
                 (uint64_t)s->run_count * RUN_BYTES;
    }
    return bytes;
}

static void put(uint8_t **at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        *(*at)++ = (uint8_t)(value >> (8 * i));
    }
}

static void put_bytes(uint8_t **at, const void *from, size_t bytes)
{
    memcpy(*at, from, bytes);
    *at += bytes;
}

static void put_run(uint8_t **at, const struct capsule_run *run)
{
    put(at,
        run->pages << RUN_SHIFT | (uint64_t)run->place | (run->read_only ? RUN_READ_ONLY : 0) |
            (run->changed ? RUN_CHANGED : 0),
        RUN_BYTES);
}

static void put_segment(uint8_t **at, const struct capsule_segment *s)
{
    size_t name = strlen(s->name);
    put(at, s->type, 1);
    put(at, name, 1);
    put_bytes(at, s->name, name);
    put(at, s->id, 8);
    put(at, s->epoch, 8);
    put(at, s->base, 8);
    put(at, s->pages, 8);
    put(at, s->page_bytes, 4);
    if (s->type == CAPSULE_CODE) {
        put_bytes(at, s->identity, sizeof s->identity);
    } else if (s->type == CAPSULE_HEAP) {
        put(at, s->from.segment, 8);
        put(at, s->from.version, 8);
        put(at, s->from.first_page, 8);
    }
    put(at, s->run_count, 4);
    for (uint32_t i = 0; i < s->run_count; i++) {
        put_run(at, &s->runs[i]);
    }
}

void capsule_body_encode(const struct capsule *capsule, uint8_t *to)
{
    uint8_t *at = to;
    size_t source = strlen(capsule->source);
    put_bytes(&at, capsule->image, sizeof capsule->image);
    put_bytes(&at, capsule->token, sizeof capsule->token);
    put(&at, capsule->created_ms, 8);
    put(&at, capsule->machine, 2);
    put(&at, capsule->system_page_bytes, 4);
    put(&at, source, 1);
    put_bytes(&at, capsule->source, source);
    put(&at, capsule->build_id_bytes, 1);
    put_bytes(&at, capsule->build_id, capsule->build_id_bytes);
    put(&at, capsule->task_bytes, 2);
    put_bytes(&at, capsule->task, capsule->task_bytes);
    put(&at, capsule->segment_count, 1);
    for (uint32_t i = 0; i < capsule->segment_count; i++) {
        put_segment(&at, &capsule->segments[i]);
    }
    assert((uint64_t)(at - to) == capsule_body_bytes(capsule));
}

// ---- decode

struct reader {
    const uint8_t *at;
    size_t left;
    bool bad;
};

static uint64_t get(struct reader *r, unsigned bytes)
{
    uint64_t value = 0;
    if (r->left < bytes) {
        r->bad = true;
        return 0;
    }
    for (unsigned i = bytes; i-- > 0;) {
        value = value << 8 | r->at[i];
    }
    r->at += bytes;
    r->left -= bytes;
    return value;
}

static void get_bytes(struct reader *r, void *to, size_t bytes, size_t room)
{
    if (bytes > r->left || bytes > room) {
        r->bad = true;
        return;
    }
    memcpy(to, r->at, bytes);
    r->at += bytes;
    r->left -= bytes;
}

// The text is zeros before, so that it ends.
static void get_text(struct reader *r, char *to, size_t room)
{
    size_t bytes = (size_t)get(r, 1);
    get_bytes(r, to, bytes, room - 1);
    r->bad = r->bad || strlen(to) != bytes;
}

static void get_run(struct reader *r, struct capsule_run *run)
{
    uint64_t value = get(r, RUN_BYTES);
    run->pages = value >> RUN_SHIFT;
    run->place = (enum capsule_place)(value & RUN_PLACE);
    run->read_only = (value & RUN_READ_ONLY) != 0;
    run->changed = (value & RUN_CHANGED) != 0;
}

static int get_runs(struct reader *r, struct capsule_segment *s)
{
    uint64_t count = get(r, 4);
    if (r->bad || count > r->left / RUN_BYTES) {
        r->bad = true;
        return 0;
    }
    s->runs = calloc(count > 0 ? count : 1, sizeof *s->runs);
    if (s->runs == NULL) {
        return -ENOMEM;
    }
    s->run_count = (uint32_t)count;
    for (uint64_t i = 0; i < count; i++) {
        get_run(r, &s->runs[i]);
    }
    return 0;
}

static int get_segment(struct reader *r, struct capsule_segment *s)
{
    s->type = (enum capsule_type)get(r, 1);
    get_text(r, s->name, sizeof s->name);
    s->id = get(r, 8);
    s->epoch = get(r, 8);
    s->base = get(r, 8);
    s->pages = get(r, 8);
    s->page_bytes = (uint32_t)get(r, 4);
    if (s->type == CAPSULE_CODE) {
        get_bytes(r, s->identity, sizeof s->identity, sizeof s->identity);
    } else if (s->type == CAPSULE_HEAP) {
        s->from.segment = get(r, 8);
        s->from.version = get(r, 8);
        s->from.first_page = get(r, 8);
    }
    return get_runs(r, s);
}

static void get_head(struct reader *r, struct capsule *capsule)
{
    get_bytes(r, capsule->image, sizeof capsule->image, sizeof capsule->image);
    get_bytes(r, capsule->token, sizeof capsule->token, sizeof capsule->token);
    capsule->created_ms = get(r, 8);
    capsule->machine = (uint16_t)get(r, 2);
    capsule->system_page_bytes = (uint32_t)get(r, 4);
    get_text(r, capsule->source, sizeof capsule->source);
    capsule->build_id_bytes = (uint32_t)get(r, 1);
    get_bytes(r, capsule->build_id, capsule->build_id_bytes, sizeof capsule->build_id);
    capsule->task_bytes = (uint32_t)get(r, 2);
    get_bytes(r, capsule->task, capsule->task_bytes, sizeof capsule->task);
}

// Replaces the capsule by one with as many segments, or marks the reader.
static int get_segments(struct reader *r, struct capsule *capsule)
{
    uint64_t count = get(r, 1);
    if (r->bad || count > LIMIT_CAPSULE_SEGMENTS || count > r->left / SEGMENT_LEAST_BYTES) {
        r->bad = true;
        return 0;
    }
    free(capsule->segments);
    capsule->segments = calloc(count > 0 ? count : 1, sizeof *capsule->segments);
    if (capsule->segments == NULL) {
        return -ENOMEM;
    }
    capsule->segment_count = (uint32_t)count;
    int error = 0;
    for (uint32_t i = 0; i < count && error == 0 && !r->bad; i++) {
        error = get_segment(r, &capsule->segments[i]);
    }
    return error;
}

int capsule_body_decode(const uint8_t *body, size_t bytes, struct capsule **capsule,
                        struct failure *failure)
{
    struct reader reader = {body, bytes, false};
    struct failure reason = {""};
    struct capsule *made = capsule_create(0);
    if (made == NULL) {
        return failure_set(failure, -ENOMEM, "There is no memory for a capsule.");
    }
    get_head(&reader, made);
    int error = get_segments(&reader, made);
    if (error != 0) {
        (void)failure_set(failure, error, "There is no memory for a capsule's segments.");
    } else if (reader.bad || reader.left != 0) {
        error = failure_set(failure, -EBADMSG,
                            "The capsule was sealed in order, but its contents have no sense: it "
                            "was not made by this library.");
    } else if (capsule_check(made, &reason) != 0) {
        error =
            failure_set(failure, -EBADMSG, "The capsule's contents are refused: %s", reason.text);
    }
    if (error != 0) {
        capsule_destroy(&made);
        return error;
    }
    *capsule = made;
    return 0;
}
