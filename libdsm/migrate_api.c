// SPDX-License-Identifier: Apache-2.0
//
// Moving a task, as dsm.h declares it: what stops and describes the image (migrate/), who owns it (the server, by
// backing/control_image.h) and what goes on (task/) are put together here, in this order:
//
//     source       initiate   frozen, its writes under way; the capsule's size is known
//                  encap      all written, none of it in memory; parked: the server says that the capsule has it; sealed and given out
//                  finish     what is left is unmapped        abort   frozen no more: it goes on here, if nobody took it
//     destination  deencap    opened, checked, mapped, closed to all touches; taken by the token; table published; open. Nothing is fetched
//
// The capsule owns the image from the park to the commit. So a source that dies after encap harms nothing, and one that finds that
// it could not give the capsule out takes the image back. A commit is the server's one transaction; all that can be refused is
// refused before it, the mapping included, so that what was taken can go on.
//
// Nothing of it may run on the image's own stack: that would freeze itself.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdsm/backing/control_image.h"
#include "libdsm/error.h"
#include "libdsm/migrate/image.h"
#include "libdsm/migrate/pages.h"
#include "libdsm/migrate_owner.h"
#include "libdsm/task/task.h"

enum { PARTS = 2, SEND_MS = 60000 }; // heap and stack

static int say(const dsm_task *task, int error, const struct failure *failure)
{
    return error_set(error, task != NULL ? task->heap->segment.name : NULL, DSM_NO_PAGE,
                     task != NULL ? task->session->server : NULL, "%s",
                     failure->text[0] != 0 ? failure->text : dsm_strerror(error));
}

static int refuse(const dsm_task *task, int error, const char *text)
{
    struct failure failure;
    return say(task, failure_set(&failure, error, "%s", text), &failure);
}

static int outside(const dsm_task *task)
{
    int error = api_alive();
    return error == 0 && task_running != NULL
               ? refuse(task, -EDEADLK,
                        "A task cannot move itself: dsm_task_run() must return first.")
               : error;
}

// ---- the source

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

static void count_freeze(const dsm_task *task)
{
    STAT_ADD(task->session->counters, migrate_freeze_ns,
             (uint64_t)(sync_now() - task->image->frozen_ns));
}

static void make_whole(dsm_task *task)
{
    count_freeze(task);
    image_thaw(task->image);
    free(task->image);
    task->image = NULL;
    capsule_destroy(&task->capsule);
}

static int assemble(dsm_task *task)
{
    task->image = calloc(1, sizeof *task->image);
    task->capsule = capsule_create(PARTS);
    if (task->image == NULL || task->capsule == NULL) {
        free(task->image);
        task->image = NULL;
        capsule_destroy(&task->capsule);
        return refuse(task, -ENOMEM, "There is no memory for a capsule.");
    }
    task->image->pager = &task->session->pager;
    task->image->count = PARTS;
    task->image->parts[0] =
        (struct image_part){.segment = &task->heap->segment, .type = CAPSULE_HEAP};
    task->image->parts[1] =
        (struct image_part){.segment = &task->stack->segment, .type = CAPSULE_STACK};
    return 0;
}

static void describe(dsm_task *task)
{
    struct capsule *capsule = task->capsule;
    char host[64] = "";
    (void)gethostname(host, sizeof host - 1);
    image_describe(task->image, capsule);
    task_encode(task, capsule);
    noise_random(capsule->token, sizeof capsule->token);
    capsule->created_ms = owner_clock_ms();
    (void)snprintf(capsule->source, sizeof capsule->source, "%s (pid %d)", host, getpid());
    for (char *at = capsule->source; *at != 0; at++) {
        *at = (char)(*at < ' ' || *at > '~' ? '?' : *at);
    }
}

DSM_API int dsm_migrate_initiate(dsm_task *task, uint64_t *bytes)
{
    int error = outside(task);
    if (error != 0) {
        return error;
    }
    if (task->image != NULL || (task->state != TASK_NEW && task->state != TASK_AWAY)) {
        return task->image != NULL ? refuse(task, -EALREADY, "The task is on its way already.")
                                   : refuse(task, -EBUSY, "The task runs, or has ended.");
    }
    error = assemble(task);
    if (error != 0) {
        return error;
    }
    error = image_freeze(task->image);
    if (error != 0) {
        error = image_error(task, error);
        make_whole(task);
        return error;
    }
    describe(task);
    if (bytes != NULL) {
        *bytes = capsule_bytes(task->capsule);
    }
    return 0;
}

static dsm_segment *segment_of(const dsm_task *task, uint32_t part)
{
    return part == 0 ? task->heap : task->stack;
}

// With the epochs under which this session had it, also when it is parked.
static struct image_request request_of(const dsm_task *task)
{
    struct image_request request = {.count = PARTS};
    memcpy(request.image, task->id, sizeof request.image);
    for (uint32_t i = 0; i < PARTS; i++) {
        const struct backing_segment *backing = &segment_of(task, i)->segment.backing;
        request.members[i] =
            (struct image_member){.segment = backing->id, .epoch = atomic_load(&backing->epoch)};
    }
    return request;
}

static int take_back(dsm_task *task, struct failure *failure)
{
    const struct image_request request = request_of(task);
    dsm_segment *const segments[PARTS] = {task->heap, task->stack};
    int error = owner_take_back(task->session, segments, PARTS, &request, failure);
    if (error == 0) {
        task->parked = false;
        make_whole(task);
    }
    return error;
}

static int park(dsm_task *task, unsigned seconds, struct failure *failure)
{
    struct image_answer answer;
    const struct image_request request = request_of(task);
    dsm_segment *const segments[PARTS] = {task->heap, task->stack};
    owner_set_away(segments, PARTS, true); // a connection that comes again must not open them
    task->parked = true;                   // as far as one can know
    int error = control_image_park(&task->session->session, &request, task->capsule->token,
                                   seconds * 1000U, "", &answer, failure);
    if (error != 0) {
        struct failure second;
        (void)take_back(task, &second);
        return error;
    }
    task->capsule->facts.expires_ms = answer.expires_unix_ms;
    for (uint32_t i = 0; i < PARTS && i < answer.count; i++) {
        task->capsule->segments[i].epoch = answer.segments[i].epoch;
    }
    return 0;
}

DSM_API int dsm_migrate_encap(dsm_task *task, int fd, const char *destination, unsigned seconds)
{
    struct failure failure = {.text = ""};
    struct capsule_descriptor descriptor = {fd, sync_after_ms(SEND_MS)};
    struct capsule_stream stream = capsule_stream_of(&descriptor);
    int error = outside(task);
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
    error = image_settle(task->image);
    if (error != 0) {
        error = image_error(task, error);
        make_whole(task);
        return error;
    }
    error = park(task, seconds, &failure);
    if (error == 0) {
        error = capsule_write(task->capsule, &stream, &failure);
        if (error != 0) {
            struct failure second;
            (void)take_back(task, &second); // else it stays parked until an abort, or its expiry
        } else {
            count_freeze(task);
        }
    }
    return error != 0 ? say(task, error, &failure) : 0;
}

DSM_API int dsm_migrate_abort(dsm_task *task)
{
    struct failure failure = {.text = ""};
    int error = outside(task);
    if (error != 0) {
        return error;
    }
    if (task->image == NULL) {
        return refuse(task, -EINVAL, "The task is not on its way.");
    }
    if (!task->parked) {
        make_whole(task);
        return 0;
    }
    error = take_back(task, &failure);
    return error != 0 ? say(task, error, &failure) : 0;
}

DSM_API int dsm_migrate_finish(dsm_task *task)
{
    int error = outside(task);
    if (error != 0) {
        return error;
    }
    if (task->image == NULL || !task->parked) {
        return refuse(task, -EINVAL, "The task has not left: dsm_migrate_encap comes first.");
    }
    struct pager *pager = &task->session->pager;
    segment_forget(task->heap);
    segment_forget(task->stack);
    task->image->count = 0; // there is nothing to thaw
    task_free(task);
    pager_thaw_wake(pager); // whoever waited finds that it has left
    return 0;
}

// ---- the destination

static bool any_contents(const struct capsule_segment *from)
{
    for (uint32_t i = 0; i < from->run_count; i++) {
        if (from->runs[i].place == CAPSULE_BACKING) {
            return true;
        }
    }
    return false;
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
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the server deals out addresses
    error = pager_attach(&session->pager, &s->segment, (void *)(uintptr_t)from->base);
    if (error != 0) {
        free(s);
        (void)failure_set(failure, error,
                          error == -EADDRINUSE ? "The addresses of segment %s are in use here."
                                               : "Segment %s cannot be mapped here.",
                          from->name);
        return error;
    }
    segment_link(s);
    *segment = s;
    return 0;
}

static int map_all(dsm *session, const struct capsule *capsule, dsm_segment **segments,
                   struct failure *failure)
{
    int error = 0;
    if (capsule->segment_count != PARTS || capsule->segments[0].type != CAPSULE_HEAP ||
        capsule->segments[1].type != CAPSULE_STACK || capsule->segments[0].from.segment != 0) {
        return failure_set(
            failure, -ENOTSUP,
            "The capsule has segments that this release does not move: it knows a heap without a "
            "template and a stack.");
    }
    for (uint32_t i = 0; i < PARTS && error == 0; i++) {
        error = map(session, &capsule->segments[i], &segments[i], failure);
    }
    return error;
}

// Everything but reading the capsule.
static int arrive(dsm *session, const struct capsule *capsule, dsm_task **task,
                  struct failure *failure)
{
    dsm_segment *segments[PARTS] = {NULL, NULL};
    dsm_task *made = NULL;
    int error = task_binary_check(capsule, failure);
    error = error != 0 ? error : map_all(session, capsule, segments, failure);
    error = error != 0 ? error
                       : task_decode(session, capsule, segments[0], segments[1], &made, failure);
    error = error != 0 ? error : owner_commit(session, segments, PARTS, capsule, failure);
    if (error != 0) {
        for (uint32_t i = 0; i < PARTS; i++) {
            if (segments[i] != NULL) {
                segment_forget(segments[i]);
            }
        }
        free(made);
        return error;
    }
    for (uint32_t i = 0; i < PARTS; i++) {
        const struct capsule_segment *from = &capsule->segments[i];
        segments[i]->segment.arrived = true;
        pages_publish(&segments[i]->segment, from->runs, from->run_count);
        pager_thaw(&segments[i]->segment);
    }
    *task = made;
    return 0;
}

DSM_API int dsm_migrate_deencap(dsm *session, int fd, const char *key_file, dsm_task **task)
{
    struct failure failure = {.text = ""};
    struct capsule_descriptor descriptor = {fd, sync_after_ms(SEND_MS)};
    struct capsule_stream stream = capsule_stream_of(&descriptor);
    struct capsule_facts facts;
    struct capsule *capsule = NULL;
    struct key_identity *identity = NULL;
    int error = outside(NULL);
    if (error != 0) {
        return error;
    }
    error = keyfile_load(key_file, &identity, &failure);
    error = error != 0 ? error : capsule_read_facts(&stream, &facts, &failure);
    error = error != 0 ? error : capsule_expired(&facts, owner_clock_ms(), &failure);
    error = error != 0 ? error : capsule_read(&stream, &facts, identity, &capsule, &failure);
    error = error != 0 ? error : capsule_descriptor_end(&descriptor, &failure);
    error = error != 0 ? error : arrive(session, capsule, task, &failure);
    key_identity_destroy(&identity);
    capsule_destroy(&capsule);
    return error != 0 ? say(NULL, error, &failure) : 0;
}
