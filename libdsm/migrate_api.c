// SPDX-License-Identifier: Apache-2.0
//
// Moving a task, as dsm.h declares it, at the source: what stops and describes the image (migrate/), who owns it (the server, by
// backing/control_image.h) and what goes on (task/) are put together here, in this order:
//
//     source       initiate   frozen, its writes under way; the capsule's size is known
//                  encap      all written, none of it in memory; parked: the server says that the capsule has it; sealed and given out
//                  finish     what is left is unmapped        abort   frozen no more: it goes on here, if nobody took it
//     destination  deencap    see arrive_api.c
//
// The capsule owns the image from the park to the commit. So a source that dies after encap harms nothing, and one that finds that
// it could not give the capsule out takes the image back.
//
// Whether the image may move is asked first: who shares a segment is known to the server alone, and it costs one round trip in
// which nothing is frozen yet.
//
// Nothing of it may run on the image's own stack: that would freeze itself.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdsm/image_api.h"

#include "libdsm/error.h"
#include "libdsm/migrate/image.h"
#include "libdsm/migrate_owner.h"
#include "libdsm/stat/probes.h"

int image_say(const dsm_task *task, int error, const struct failure *failure)
{
    return error_set(error, task != NULL ? task->heap->segment.name : NULL, DSM_NO_PAGE,
                     task != NULL ? task->session->server : NULL, "%s",
                     failure->text[0] != 0 ? failure->text : dsm_strerror(error));
}

static int refuse(const dsm_task *task, int error, const char *text)
{
    struct failure failure;
    return image_say(task, failure_set(&failure, error, "%s", text), &failure);
}

int image_outside(const dsm_task *task)
{
    int error = api_alive();
    return error == 0 && task_running != NULL
               ? refuse(task, -EDEADLK,
                        "A task cannot move itself: dsm_task_run() must return first.")
               : error;
}

// ---- the source

static int step(const dsm_task *task, enum migrate_step number)
{
    return migrate_step(&task->session->steps, number);
}

static int image_error(const dsm_task *task, int error)
{
    const struct image *image = task->image;
    const char *why = error == -EBUSY       ? "it is pinned: dsm_unpin it first"
                      : error == -EREMOTEIO ? "the server lost it"
                                            : dsm_strerror(error);
    return error_set(error, image->failed->name, image->failed_page, task->session->server,
                     "The task stays: page %lld of segment %s: %s.", (long long)image->failed_page,
                     image->failed->name, why);
}

// The image is frozen no more: it has left, with a capsule of so many bytes, or goes on here.
static void count_freeze(const dsm_task *task, uint64_t capsule, int error)
{
    struct image *image = task->image;
    const int64_t now = sync_now();
    const uint64_t ns = (uint64_t)(now - image->frozen_ns);
    uint64_t pages = 0, bytes = 0;
    image->frozen_ns = now; // what it left and was taken back counts from here
    for (uint32_t i = 0; i < image->count; i++) {
        pages += image->parts[i].freeze.dirty_pages;
        bytes += image->parts[i].freeze.dirty_pages * image->parts[i].segment->page_bytes;
    }
    STAT_ADD(task->session->counters, migrate_freeze_ns, ns);
    probe_migrate_leave(image->count, pages, bytes, capsule, ns, error);
}

static void make_whole(dsm_task *task, int why)
{
    count_freeze(task, 0, why);
    image_thaw(task->image);
    free(task->image);
    task->image = NULL;
    capsule_destroy(&task->capsule);
}

static void assemble_parts(dsm_task *task)
{
    struct image *image = task->image;
    image->pager = &task->session->pager;
    image->steps = &task->session->steps;
    image->count = task_parts(task);
    for (uint32_t i = 0; i < image->count; i++) {
        dsm_segment *s = task_part(task, i);
        image->parts[i] = (struct image_part){
            .segment = &s->segment,
            .type = i == 0   ? CAPSULE_HEAP
                    : i == 1 ? CAPSULE_STACK
                             : CAPSULE_DATA,
            .from = {.segment = s->from.segment, .version = s->from.version},
            .from_pages = s->from.pages,
        };
    }
}

static int assemble(dsm_task *task)
{
    const uint32_t code = task->code != NULL;
    task->image = calloc(1, sizeof *task->image);
    task->capsule = capsule_create(task_parts(task) + code);
    int error = task->image == NULL || task->capsule == NULL ? -ENOMEM : 0;
    if (error == 0 && code != 0) {
        error = image_describe_code(&task->code->segment, task->code->identity,
                                    &task->capsule->segments[0]);
    }
    if (error != 0) {
        free(task->image);
        task->image = NULL;
        capsule_destroy(&task->capsule);
        return refuse(task, error, "There is no memory for a capsule.");
    }
    assemble_parts(task);
    return 0;
}

// The capsule's, of what moves: code comes before it.
static struct capsule_segment *moved_segments(const dsm_task *task)
{
    return task->capsule->segments + (task->code != NULL);
}

static void describe(dsm_task *task)
{
    struct capsule *capsule = task->capsule;
    char host[64] = "";
    (void)gethostname(host, sizeof host - 1);
    image_describe(task->image, moved_segments(task));
    task_encode(task, capsule);
    noise_random(capsule->token, sizeof capsule->token);
    capsule->created_ms = owner_clock_ms();
    (void)snprintf(capsule->source, sizeof capsule->source, "%s (pid %d)", host, getpid());
    for (char *at = capsule->source; *at != 0; at++) {
        *at = (char)(*at < ' ' || *at > '~' ? '?' : *at);
    }
}

// With the epochs under which this session had it, also when it is parked.
static struct image_request request_of(const dsm_task *task)
{
    struct image_request request = {.count = task_parts(task)};
    memcpy(request.image, task->id, sizeof request.image);
    for (uint32_t i = 0; i < request.count; i++) {
        const struct backing_segment *backing = &task_part(task, i)->segment.backing;
        request.members[i] =
            (struct image_member){.segment = backing->id, .epoch = atomic_load(&backing->epoch)};
    }
    if (task->code != NULL) {
        const struct backing_segment *backing = &task->code->segment.backing;
        request.members[request.count++] =
            (struct image_member){.segment = backing->id, .epoch = atomic_load(&backing->epoch)};
    }
    return request;
}

// Whoever else has a part of it open, or took it, is named by the server.
static int check_sharers(const dsm_task *task)
{
    struct failure failure = {.text = ""};
    const struct image_request request = request_of(task);
    int error = control_image_check(&task->session->session, &request, &failure);
    return error != 0 ? image_say(task, error, &failure) : 0;
}

DSM_API int dsm_migrate_initiate(dsm_task *task, uint64_t *bytes)
{
    int error = image_outside(task);
    if (error != 0) {
        return error;
    }
    if (task->image != NULL || (task->state != TASK_NEW && task->state != TASK_AWAY)) {
        return task->image != NULL ? refuse(task, -EALREADY, "The task is on its way already.")
                                   : refuse(task, -EBUSY, "The task runs, or has ended.");
    }
    error = check_sharers(task);
    if (error == 0 && step(task, MIGRATE_INITIATE_BEGIN) != 0) {
        return refuse(task, -EIO, "A test lets this step fail.");
    }
    error = error != 0 ? error : assemble(task);
    if (error != 0) {
        return error;
    }
    error = image_freeze(task->image);
    if (error != 0) {
        error = image_error(task, error);
        make_whole(task, error);
        return error;
    }
    describe(task);
    if (step(task, MIGRATE_INITIATE_DESCRIBED) != 0) {
        make_whole(task, -EIO);
        return refuse(task, -EIO, "A test lets this step fail.");
    }
    if (bytes != NULL) {
        *bytes = capsule_bytes(task->capsule);
    }
    return 0;
}

static void list_parts(const dsm_task *task, dsm_segment *parts[LIMIT_IMAGE_SEGMENTS])
{
    for (uint32_t i = 0; i < task_parts(task); i++) {
        parts[i] = task_part(task, i);
    }
}

// why: an error for which it does not leave, or 0.
static int take_back(dsm_task *task, int why, struct failure *failure)
{
    const struct image_request request = request_of(task);
    dsm_segment *parts[LIMIT_IMAGE_SEGMENTS];
    list_parts(task, parts);
    (void)step(task, MIGRATE_ABORT_BEGIN);
    int error = owner_take_back(task->session, parts, task_parts(task), &request, failure);
    (void)step(task, MIGRATE_ABORT_ANSWERED);
    if (error == 0) {
        task->parked = false;
        make_whole(task, why);
    }
    return error;
}

static int park(dsm_task *task, unsigned seconds, struct failure *failure)
{
    struct image_answer answer;
    const struct image_request request = request_of(task);
    dsm_segment *parts[LIMIT_IMAGE_SEGMENTS];
    list_parts(task, parts);
    const struct owner_capsule capsule = {task->capsule->token, seconds * 1000U};
    task->parked = true; // as far as one can know
    owner_set_away(parts, task_parts(task), true);
    int error = step(task, MIGRATE_ENCAP_AWAY);
    error = error != 0 ? error
                       : owner_park(task->session, parts, task_parts(task), &request, &capsule,
                                    &answer, failure);
    error = error != 0 ? error : step(task, MIGRATE_ENCAP_PARKED);
    if (error != 0) {
        struct failure second;
        (void)take_back(task, error, &second);
        return error;
    }
    task->capsule->facts.expires_ms = answer.expires_unix_ms;
    for (uint32_t i = 0; i < task_parts(task) && i < answer.count; i++) {
        moved_segments(task)[i].epoch = answer.segments[i].epoch;
    }
    return 0;
}

DSM_API int dsm_migrate_encap(dsm_task *task, int fd, const char *destination, unsigned seconds)
{
    struct failure failure = {.text = ""};
    struct capsule_descriptor descriptor = {fd, sync_after_ms(IMAGE_SEND_MS)};
    struct capsule_stream stream = capsule_stream_of(&descriptor);
    int error = image_outside(task);
    if (error != 0) {
        return error;
    }
    if (task->image == NULL || task->parked || seconds == 0 ||
        seconds > LIMIT_CAPSULE_MAX_MS / 1000) {
        return refuse(
            task, -EINVAL,
            "dsm_migrate_initiate comes first, and a capsule lives from a second to a day.");
    }
    if (keyfile_decode(destination, task->capsule->facts.destination) != 0) {
        return refuse(task, -EINVAL,
                      "The destination's key is none: it has 44 characters of base64.");
    }
    if (step(task, MIGRATE_ENCAP_BEGIN) != 0) {
        make_whole(task, -EIO);
        return refuse(task, -EIO, "A test lets this step fail.");
    }
    error = image_settle(task->image);
    if (error != 0) {
        error = image_error(task, error);
        make_whole(task, error);
        return error;
    }
    error = park(task, seconds, &failure);
    if (error == 0) {
        error = capsule_write(task->capsule, &stream, &failure);
        if (error != 0) {
            struct failure second;
            (void)take_back(task, error,
                            &second); // else it stays parked until an abort, or its expiry
        } else {
            count_freeze(task, capsule_bytes(task->capsule), 0);
            (void)step(task, MIGRATE_ENCAP_GIVEN);
        }
    }
    return error != 0 ? image_say(task, error, &failure) : 0;
}

DSM_API int dsm_migrate_abort(dsm_task *task)
{
    struct failure failure = {.text = ""};
    int error = image_outside(task);
    if (error != 0) {
        return error;
    }
    if (task->image == NULL) {
        return refuse(task, -EINVAL, "The task is not on its way.");
    }
    if (!task->parked) {
        make_whole(task, 0);
        return 0;
    }
    error = take_back(task, 0, &failure);
    return error != 0 ? image_say(task, error, &failure) : 0;
}

DSM_API int dsm_migrate_finish(dsm_task *task)
{
    int error = image_outside(task);
    if (error != 0) {
        return error;
    }
    if (task->image == NULL || !task->parked) {
        return refuse(task, -EINVAL, "The task has not left: dsm_migrate_encap comes first.");
    }
    struct pager *pager = &task->session->pager;
    (void)step(task, MIGRATE_FINISH_BEGIN);
    task_end_mover(task);
    for (uint32_t i = 0; i < task_parts(task); i++) {
        segment_forget(task_part(task, i));
        (void)step(task, MIGRATE_FINISH_UNMAPPED);
    }
    if (task->code != NULL) {
        (void)segment_release(task->code);
    }
    task->image->count = 0; // there is nothing to thaw
    task_free(task);
    pager_thaw_wake(pager); // whoever waited finds that it has left
    return 0;
}
