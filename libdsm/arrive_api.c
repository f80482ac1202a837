// SPDX-License-Identifier: Apache-2.0
//
// A task that arrives: deencap, as dsm.h declares it. The capsule is opened and checked, the program's binary compared, the code
// found, every segment mapped where it lay, closed to all touches; then the image is taken by the capsule's token; then its page
// tables are published, and it opens. Nothing is fetched.
//
// A commit is the server's one transaction; all that can be refused is refused before it, the mapping included, so that what
// was taken can go on, and a capsule that was refused is as good as before.
//
// Code is not in the capsule, and does not move: it is found by its identity, among what this process has open or else on the
// server, which keeps it as long as a capsule needs it. Sprite makes it anew from the program's file where it is not found; here it is
// made by who has its contents, a program that calls dsm_code_open() before.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libdsm/addresses.h"
#include "libdsm/error.h"
#include "libdsm/image_api.h"
#include "libdsm/migrate/pages.h"
#include "libdsm/migrate_owner.h"
#include "libdsm/stat/probes.h"

struct arrival {
    dsm *session;
    const struct capsule *capsule;
    const struct capsule_segment *moved; // of the capsule: what is not code
    uint32_t count;
    dsm_segment *code; // or NULL
    dsm_segment *segments[LIMIT_IMAGE_SEGMENTS];
};

static bool any_contents(const struct capsule_segment *from)
{
    for (uint32_t i = 0; i < from->run_count; i++) {
        if (from->runs[i].place == CAPSULE_BACKING || from->runs[i].place == CAPSULE_TEMPLATE) {
            return true;
        }
    }
    return false;
}

// ---- before it is taken

static int find_code(struct arrival *arrival, struct failure *failure)
{
    const struct capsule_segment *from = &arrival->capsule->segments[0];
    if (from->type != CAPSULE_CODE) {
        return 0;
    }
    int error = code_get(arrival->session, from->identity, from->pages * from->page_bytes,
                         from->page_bytes, NULL, &arrival->code, failure);
    if (error == 0 && ((uintptr_t)arrival->code->segment.view.base != from->base ||
                       arrival->code->segment.backing.id != from->id)) {
        error = failure_set(failure, -ENOENT,
                            "The task's code was made anew since, and lies elsewhere.");
    }
    return error;
}

// What a heap began as, as far as it still is: up to the last page that is the template's.
static void take_template(dsm_segment *s, const struct capsule_segment *from)
{
    uint64_t page = 0;
    s->from.segment = from->from.segment;
    s->from.version = from->from.version;
    for (uint32_t i = 0; i < from->run_count; i++) {
        page += from->runs[i].pages;
        s->from.pages = from->runs[i].place == CAPSULE_TEMPLATE ? page : s->from.pages;
    }
}

// Maps it at its addresses, closed to all touches.
static int map(dsm *session, const struct capsule_segment *from, dsm_segment **segment,
               struct failure *failure)
{
    int error = segment_check_cache(session, from->page_bytes, failure);
    dsm_segment *s = error == 0 ? calloc(1, sizeof *s) : NULL;
    if (s == NULL) {
        return error != 0 ? error : -ENOMEM;
    }
    s->session = session;
    s->segment.page_bytes = from->page_bytes;
    s->segment.writable = true;
    s->segment.frozen = true;
    s->segment.backing.id = from->id;
    s->segment.backing.page_bytes = from->page_bytes;
    s->segment.backing.pages = from->pages;
    atomic_store(&s->segment.backing.acknowledged, any_contents(from) ? 1 : 0);
    (void)snprintf(s->segment.name, sizeof s->segment.name, "%s", from->name);
    take_template(s, from);
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the server deals out addresses
    error = pager_attach(&session->pager, &s->segment, (void *)(uintptr_t)from->base);
    if (error != 0) {
        free(s);
        return error == -EADDRINUSE
                   ? addresses_in_use(from->name, from->base, from->pages * from->page_bytes,
                                      failure)
                   : failure_set(failure, error, "Segment %s cannot be mapped here.", from->name);
    }
    segment_link(s);
    *segment = s;
    return 0;
}

static int map_all(struct arrival *arrival, struct failure *failure)
{
    int error = 0;
    for (uint32_t i = 0; i < arrival->count && error == 0; i++) {
        error = map(arrival->session, &arrival->moved[i], &arrival->segments[i], failure);
        error = error != 0 ? error : migrate_step(&arrival->session->steps, MIGRATE_DEENCAP_MAPPED);
    }
    return error;
}

// ---- taken

static void publish(const struct arrival *arrival)
{
    for (uint32_t i = 0; i < arrival->count; i++) {
        const struct capsule_segment *from = &arrival->moved[i];
        struct segment *segment = &arrival->segments[i]->segment;
        segment->arrived = true;
        pages_publish(segment, from->runs, from->run_count);
        pager_thaw(segment);
        (void)migrate_step(&arrival->session->steps, MIGRATE_DEENCAP_PUBLISHED);
    }
}

static void own(const struct arrival *arrival, dsm_task *task)
{
    task->code = arrival->code;
    for (uint32_t i = 2; i < arrival->count; i++) {
        task->data[task->data_count++] = arrival->segments[i];
    }
    task_own(task);
}

static void undo(struct arrival *arrival)
{
    for (uint32_t i = 0; i < arrival->count; i++) {
        if (arrival->segments[i] != NULL) {
            segment_forget(arrival->segments[i]);
        }
    }
    if (arrival->code != NULL) {
        (void)segment_release(arrival->code);
    }
}

// Everything but reading the capsule, whose contents keep the rules of capsule_check().
static int arrive(dsm *session, const struct capsule *capsule, dsm_task **task,
                  struct failure *failure)
{
    const uint32_t code = capsule->segments[0].type == CAPSULE_CODE;
    struct arrival arrival = {.session = session,
                              .capsule = capsule,
                              .moved = capsule->segments + code,
                              .count = capsule->segment_count - code};
    dsm_task *made = NULL;
    int error = task_binary_check(capsule, failure);
    error = error != 0 ? error : find_code(&arrival, failure);
    error = error != 0 ? error : map_all(&arrival, failure);
    error = error != 0 ? error
                       : task_decode(session, capsule, arrival.segments[0], arrival.segments[1],
                                     &made, failure);
    error = error != 0 ? error : migrate_step(&session->steps, MIGRATE_DEENCAP_COMMIT);
    error = error != 0 ? error
                       : owner_commit(session, arrival.segments, arrival.count, capsule, failure);
    if (error != 0) {
        undo(&arrival);
        free(made);
        return error;
    }
    (void)migrate_step(&session->steps, MIGRATE_DEENCAP_HELD);
    publish(&arrival);
    own(&arrival, made);
    *task = made;
    (void)migrate_step(&session->steps, MIGRATE_DEENCAP_END);
    return 0;
}

int migrate_take(dsm *session, int fd, const struct key_identity *identity, dsm_task **task,
                 struct failure *failure)
{
    struct capsule_descriptor descriptor = {fd, sync_after_ms(IMAGE_SEND_MS)};
    struct capsule_stream stream = capsule_stream_of(&descriptor);
    struct capsule_facts facts;
    struct capsule *capsule = NULL;
    const int64_t begun = sync_now();
    int error = capsule_read_facts(&stream, &facts, failure);
    error = error != 0 ? error : capsule_expired(&facts, owner_clock_ms(), failure);
    error = error != 0 ? error : capsule_read(&stream, &facts, identity, &capsule, failure);
    error = error != 0 ? error : capsule_descriptor_end(&descriptor, failure);
    error = error != 0 ? error : migrate_step(&session->steps, MIGRATE_DEENCAP_OPENED);
    error = error != 0 ? error : arrive(session, capsule, task, failure);
    if (error == 0 && probe_migrate_arrive_on()) {
        probe_migrate_arrive(task_parts(*task), capsule_bytes(capsule), (u64)(sync_now() - begun));
    }
    capsule_destroy(&capsule);
    return error;
}

DSM_API int dsm_migrate_deencap(dsm *session, int fd, const char *key_file, dsm_task **task)
{
    struct failure failure = {.text = ""};
    struct key_identity *identity = NULL;
    int error = image_outside(NULL);
    if (error != 0) {
        return error;
    }
    error = keyfile_load(key_file, &identity, &failure);
    error = error != 0 ? error : migrate_take(session, fd, identity, task, &failure);
    key_identity_destroy(&identity);
    return error != 0 ? image_say(NULL, error, &failure) : 0;
}
