// SPDX-License-Identifier: Apache-2.0
//
// What must hold in a capsule, whoever made it: the source checks before it seals, the destination before it believes. Most
// of these rules guard a later step that would otherwise have to ask again: that addresses and sizes are whole pages in the
// range that servers deal out, that segments do not lie over each other, that the runs are as many pages as the segment, and
// that types come in their order, one of each (a mismatch is always refused, not only where somebody debugs).
//
// Not here: whether segments, epochs and token are right. Only the server knows.
//
// Pure functions. With at most LIMIT_CAPSULE_SEGMENTS segments, pairs are looked at one by one: no order is needed.
#include <errno.h>
#include <string.h>

#include "libdsm/migrate/capsule.h"
#include "rpc/wire.h"

static bool power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

static bool printable(const char *text)
{
    for (; *text != 0; text++) {
        if (*text < ' ' || *text > '~') {
            return false;
        }
    }
    return true;
}

static bool zeros(const uint8_t *bytes, size_t count)
{
    uint8_t all = 0;
    for (size_t i = 0; i < count; i++) {
        all = (uint8_t)(all | bytes[i]);
    }
    return all == 0;
}

static int check_place(const struct capsule_segment *s, struct failure *failure)
{
    if (!power_of_two(s->page_bytes) || s->page_bytes < LIMIT_PAGE_MIN_BYTES ||
        s->page_bytes > LIMIT_PAGE_MAX_BYTES) {
        return failure_set(failure, -EINVAL, "segment %s has pages of %u bytes.", s->name,
                           s->page_bytes);
    }
    if (s->pages == 0 || s->pages > LIMIT_SEGMENT_BYTES / s->page_bytes) {
        return failure_set(failure, -EINVAL, "segment %s has %llu pages.", s->name,
                           (unsigned long long)s->pages);
    }
    if (s->base < LIMIT_BASE_LOW || s->base >= LIMIT_BASE_HIGH || s->base % s->page_bytes != 0 ||
        s->pages * s->page_bytes > LIMIT_BASE_HIGH - s->base) {
        return failure_set(failure, -EINVAL, "segment %s lies at %#llx.", s->name,
                           (unsigned long long)s->base);
    }
    return 0;
}

static int check_kind(const struct capsule_segment *s, struct failure *failure)
{
    bool has_identity = !zeros(s->identity, sizeof s->identity);
    bool whole = s->from.segment != 0 || (s->from.version == 0 && s->from.first_page == 0);
    if (has_identity != (s->type == CAPSULE_CODE)) {
        return failure_set(failure, -EINVAL, "segment %s: code, and only code, has an identity.",
                           s->name);
    }
    if (!whole || (s->from.segment != 0 && s->type != CAPSULE_HEAP) || s->from.segment == s->id ||
        s->from.first_page > UINT64_MAX - s->pages) {
        return failure_set(failure, -EINVAL, "segment %s has a template that cannot be.", s->name);
    }
    return 0;
}

static bool same_state(const struct capsule_run *a, const struct capsule_run *b)
{
    return a->place == b->place && a->read_only == b->read_only && a->changed == b->changed;
}

static int check_runs(const struct capsule_segment *s, struct failure *failure)
{
    uint64_t pages = 0;
    for (uint32_t i = 0; i < s->run_count; i++) {
        const struct capsule_run *run = &s->runs[i];
        if (run->pages == 0 || run->pages > s->pages - pages) {
            return failure_set(failure, -EINVAL, "segment %s: run %u has %llu pages.", s->name, i,
                               (unsigned long long)run->pages);
        }
        if (i > 0 && same_state(run, &s->runs[i - 1])) {
            return failure_set(failure, -EINVAL, "segment %s: run %u goes on as the one before.",
                               s->name, i);
        }
        if ((run->place == CAPSULE_TEMPLATE && s->from.segment == 0) ||
            (run->place == CAPSULE_NONE && (run->changed || run->read_only))) {
            return failure_set(failure, -EINVAL, "segment %s: the state of run %u cannot be.",
                               s->name, i);
        }
        pages += run->pages;
    }
    return pages == s->pages
               ? 0
               : failure_set(failure, -EINVAL, "segment %s: the runs are %llu pages of %llu.",
                             s->name, (unsigned long long)pages, (unsigned long long)s->pages);
}

static int check_segment(const struct capsule_segment *s, struct failure *failure)
{
    if (memchr(s->name, 0, sizeof s->name) == NULL || !wire_segment_name_valid(s->name)) {
        return failure_set(failure, -EINVAL, "a segment's name is none.");
    }
    if (s->id == 0) {
        return failure_set(failure, -EINVAL, "segment %s has no number.", s->name);
    }
    int error = check_place(s, failure);
    error = error != 0 ? error : check_kind(s, failure);
    return error != 0 ? error : check_runs(s, failure);
}

static int check_pair(const struct capsule_segment *a, const struct capsule_segment *b,
                      struct failure *failure)
{
    if (b->type < a->type || (b->type == a->type && b->type != CAPSULE_DATA)) {
        return failure_set(failure, -EINVAL,
                           "segment %s is not of the type that must come there: one code at most, "
                           "one heap, one stack, then data.",
                           b->name);
    }
    if (a->id == b->id || strcmp(a->name, b->name) == 0) {
        return failure_set(failure, -EINVAL, "segment %s is in it twice.", b->name);
    }
    if (a->base < b->base + b->pages * b->page_bytes &&
        b->base < a->base + a->pages * a->page_bytes) {
        return failure_set(failure, -EINVAL, "segments %s and %s overlap.", a->name, b->name);
    }
    return 0;
}

static int check_segments(const struct capsule *capsule, struct failure *failure)
{
    unsigned kinds = 0;
    for (uint32_t i = 0; i < capsule->segment_count; i++) {
        const struct capsule_segment *s = &capsule->segments[i];
        if (s->type < CAPSULE_CODE || s->type > CAPSULE_DATA) {
            return failure_set(failure, -EINVAL, "a segment has type %d.", (int)s->type);
        }
        int error = check_segment(s, failure);
        for (uint32_t j = 0; j < i && error == 0; j++) {
            error = check_pair(&capsule->segments[j], s, failure);
        }
        if (error != 0) {
            return error;
        }
        kinds |= 1U << s->type;
    }
    if ((kinds & 1U << CAPSULE_HEAP) == 0 || (kinds & 1U << CAPSULE_STACK) == 0) {
        return failure_set(failure, -EINVAL, "an image has a heap and a stack.");
    }
    return 0;
}

int capsule_check(const struct capsule *capsule, struct failure *failure)
{
    if (capsule->segment_count > LIMIT_CAPSULE_SEGMENTS) {
        return failure_set(failure, -EINVAL, "%u segments; %d are allowed.", capsule->segment_count,
                           LIMIT_CAPSULE_SEGMENTS);
    }
    if (capsule->build_id_bytes == 0 || capsule->build_id_bytes > LIMIT_BUILD_ID_BYTES) {
        return failure_set(failure, -EINVAL, "a build id of %u bytes; 1 to %d are allowed.",
                           capsule->build_id_bytes, LIMIT_BUILD_ID_BYTES);
    }
    if (capsule->task_bytes > LIMIT_CAPSULE_TASK_BYTES) {
        return failure_set(failure, -EINVAL, "a task of %u bytes; %d are allowed.",
                           capsule->task_bytes, LIMIT_CAPSULE_TASK_BYTES);
    }
    if (memchr(capsule->source, 0, sizeof capsule->source) == NULL || !printable(capsule->source)) {
        return failure_set(failure, -EINVAL, "the source's name is none.");
    }
    if (!power_of_two(capsule->system_page_bytes) || zeros(capsule->token, sizeof capsule->token)) {
        return failure_set(failure, -EINVAL, "the system's page or the token is none.");
    }
    return check_segments(capsule, failure);
}
