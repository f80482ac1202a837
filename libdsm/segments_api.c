// SPDX-License-Identifier: Apache-2.0
//
// Segments and pages as the program sees them: checks the arguments, asks the server by way of control messages, and hands
// page operations to the pager. Every failure leaves a sentence in the thread's error detail.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdsm/addresses.h"
#include "libdsm/backing/control_image.h"
#include "libdsm/error.h"
#include "libdsm/session_api.h"

int segment_fail(dsm *session, const char *name, int error, const struct failure *failure)
{
    return error_set(error, name, DSM_NO_PAGE, session->server, "%s",
                     failure->text[0] != 0 ? failure->text : dsm_strerror(error));
}

static uint32_t system_page(void)
{
    long bytes = sysconf(_SC_PAGESIZE);
    return bytes > LIMIT_PAGE_MIN_BYTES ? (uint32_t)bytes : LIMIT_PAGE_MIN_BYTES;
}

uint32_t segment_page_bytes(uint32_t asked)
{
    return asked == 0 ? system_page() : asked;
}

int segment_check_name(dsm *session, const char *name, struct failure *failure)
{
    if (name == NULL || !wire_segment_name_valid(name)) {
        (void)failure_set(
            failure, 0,
            "A segment's name is 1 to 255 of the characters A-Z a-z 0-9 . _ @ : + = - in "
            "parts joined by \"/\".");
        return segment_fail(session, name, -EINVAL, failure);
    }
    return 0;
}

int segment_check_size(dsm *session, const char *name, uint64_t bytes, uint32_t page_bytes,
                       struct failure *failure)
{
    if (page_bytes < system_page() || page_bytes > LIMIT_PAGE_MAX_BYTES ||
        (page_bytes & (page_bytes - 1)) != 0) {
        (void)failure_set(failure, 0,
                          "A page of %u bytes: it must be a power of two from %u to %d.",
                          page_bytes, system_page(), LIMIT_PAGE_MAX_BYTES);
        return segment_fail(session, name, -EINVAL, failure);
    }
    if (bytes == 0 || bytes > LIMIT_SEGMENT_BYTES) {
        (void)failure_set(failure, 0, "A segment of %llu bytes: it must be 1 byte to %llu TiB.",
                          (unsigned long long)bytes, LIMIT_SEGMENT_BYTES >> 40);
        return segment_fail(session, name, -EINVAL, failure);
    }
    return 0;
}

int segment_check_cache(const dsm *session, uint32_t page_bytes, struct failure *failure)
{
    uint64_t least = (uint64_t)(LIMIT_CACHE_MIN_PAGES + LIMIT_CACHE_PAGES_PER_THREAD) * page_bytes;
    if (session->pager.options.exact || session->pager.options.cache_bytes >= least) {
        return 0;
    }
    return failure_set(failure, -EINVAL,
                       "Pages of %u KiB need a cache of at least %llu KiB: set DSM_CACHE, or "
                       "choose smaller pages.",
                       page_bytes >> 10, (unsigned long long)least >> 10);
}

// A session has one server, so all of the segment must lie there.
static int check_placement(const struct control_segment *info, struct failure *failure)
{
    uint64_t pages = info->bytes / info->page_bytes;
    if (info->placements == 1 && placement_check(&info->placed, 1, pages, 1) == 0) {
        return 0;
    }
    return failure_set(failure, -ENOTSUP,
                       "The server says that the segment's pages lie on several servers, or not "
                       "all on this one: this release of the library cannot use it.");
}

static void note_none(void *context, uint64_t page, uint64_t count)
{
    pager_note_none(context, page, count);
}

// Mapped, with what the server knows of pages without backing.
static int map_segment(dsm *session, struct segment *segment, const struct control_segment *info,
                       struct failure *failure)
{
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the server deals out addresses
    int error = pager_attach(&session->pager, segment, (void *)(uintptr_t)info->base);
    if (error == 0) {
        error = control_none(&session->session, info, note_none, segment, failure);
        if (error != 0) {
            pager_detach(segment);
        }
    }
    return error;
}

// In the statistics page: what its number in probes stands for.
static void show(const dsm_segment *s)
{
    struct stat_page_segment shown = {
        .number = s->segment.number,
        .page_bytes = s->segment.page_bytes,
        .base = (uintptr_t)s->segment.view.base,
        .pages = s->segment.table.pages,
        .id = s->segment.backing.id,
    };
    (void)snprintf(shown.name, sizeof shown.name, "%s", s->segment.name);
    stat_page_opened(&s->session->page, &shown);
}

void segment_link(dsm_segment *s)
{
    dsm *session = s->session;
    (void)pthread_mutex_lock(&session->lock);
    s->next = session->segments;
    session->segments = s;
    (void)pthread_mutex_unlock(&session->lock);
    show(s);
}

int segment_attach(dsm *session, const char *name, const struct control_segment *info, bool write,
                   dsm_segment **result, struct failure *failure)
{
    dsm_segment *s = calloc(1, sizeof *s);
    if (s == NULL) {
        (void)control_close(&session->session, info->id, NULL);
        return segment_fail(session, name, -ENOMEM, failure);
    }
    s->session = session;
    s->segment.page_bytes = info->page_bytes;
    s->segment.writable = write;
    s->ephemeral = (info->flags & CONTROL_EPHEMERAL) != 0;
    s->segment.backing.id = info->id;
    s->segment.backing.epoch = info->epoch;
    s->segment.backing.page_bytes = info->page_bytes;
    s->segment.backing.pages = info->bytes / info->page_bytes;
    atomic_store(&s->segment.backing.next_version, info->highest + 1);
    atomic_store(&s->segment.backing.acknowledged, info->highest);
    (void)snprintf(s->segment.name, sizeof s->segment.name, "%s", name);
    int error = check_placement(info, failure);
    error = error != 0 ? error : segment_check_cache(session, info->page_bytes, failure);
    error = error != 0 ? error : session_list(&session->session, &s->segment.backing, name, write);
    if (error == 0) {
        error = map_segment(session, &s->segment, info, failure);
        if (error != 0) {
            session_unlist(&session->session, &s->segment.backing);
        }
    }
    if (error != 0) {
        (void)control_close(&session->session, info->id, NULL);
        free(s);
        if (error == -EADDRINUSE) {
            (void)addresses_in_use(name, info->base, info->bytes, failure);
        } else if (error == -EAGAIN) {
            (void)failure_set(
                failure, 0,
                "mlockall with MCL_FUTURE locks the whole segment, %llu MiB twice, and "
                "RLIMIT_MEMLOCK does not allow that: add MCL_ONFAULT, or raise it.",
                (unsigned long long)info->bytes >> 20);
        }
        return segment_fail(session, name, error, failure);
    }
    segment_link(s);
    *result = s;
    return 0;
}

// What the server refused for lack of room, with what to do about it.
static void advise(int error, struct failure *failure)
{
    size_t used = strlen(failure->text);
    const char *advice =
        error == -ENOSPC
            ? " Delete segments, or have the server's capacity raised, or room made on its disk."
        : error == -EDQUOT ? " Delete segments, or ask the server's operator for a larger quota."
                           : "";
    (void)snprintf(failure->text + used, sizeof failure->text - used, "%s", advice);
}

int segment_made(dsm *session, const char *name, int error, const struct control_segment *info,
                 dsm_segment **segment, struct failure *failure)
{
    advise(error, failure);
    return error != 0 ? segment_fail(session, name, error, failure)
                      : segment_attach(session, name, info, true, segment, failure);
}

static int make(struct session *session, const char *name, uint64_t bytes, uint32_t page_bytes,
                unsigned flags, struct control_segment *info, struct failure *failure)
{
    uint32_t kept = ((flags & DSM_NORESERVE) != 0 ? CONTROL_NORESERVE : 0U) |
                    ((flags & DSM_EPHEMERAL) != 0 ? CONTROL_EPHEMERAL : 0U);
    if ((flags & (DSM_HEAP | DSM_STACK)) == 0) {
        return control_create(session, name, bytes, page_bytes, kept, info, failure);
    }
    enum control_type type = (flags & DSM_HEAP) != 0 ? CONTROL_HEAP : CONTROL_STACK;
    return control_create_typed(session, name, bytes, page_bytes, type, kept, info, failure);
}

DSM_API int dsm_segment_create(dsm *session, const char *name, uint64_t bytes, uint32_t page_bytes,
                               unsigned flags, dsm_segment **segment)
{
    struct failure failure = {.text = ""};
    struct control_segment info;
    page_bytes = segment_page_bytes(page_bytes);
    int error = api_alive();
    error = error != 0 ? error : segment_check_name(session, name, &failure);
    error = error != 0 ? error : segment_check_size(session, name, bytes, page_bytes, &failure);
    if (error != 0) {
        return error;
    }
    error = segment_check_cache(session, page_bytes, &failure); // before there is a segment
    if (error != 0) {
        return segment_fail(session, name, error, &failure);
    }
    if ((flags &
         ~(unsigned)(DSM_NORESERVE | DSM_EXCLUSIVE | DSM_EPHEMERAL | DSM_HEAP | DSM_STACK)) != 0) {
        return segment_fail(session, name, -EINVAL, &failure);
    }
    uint64_t rounded = (bytes + page_bytes - 1) / page_bytes * page_bytes;
    (void)pthread_mutex_lock(&session->opening);
    error = make(&session->session, name, rounded, page_bytes, flags, &info, &failure);
    error = segment_made(session, name, error, &info, segment, &failure);
    (void)pthread_mutex_unlock(&session->opening);
    return error;
}

static bool open_here(dsm *session, const char *name)
{
    bool found = false;
    (void)pthread_mutex_lock(&session->lock);
    for (const dsm_segment *s = session->segments; s != NULL && !found; s = s->next) {
        found = strcmp(s->segment.name, name) == 0 &&
                atomic_load(&s->segment.backing.fate) == BACKING_WELL;
    }
    (void)pthread_mutex_unlock(&session->lock);
    return found;
}

// Under the session's `opening`.
static int open_segment(dsm *session, const char *name, unsigned flags, dsm_segment **segment,
                        struct failure *failure)
{
    bool write = (flags & DSM_READ_ONLY) == 0;
    struct control_segment info;
    if (open_here(session, name)) {
        (void)failure_set(failure, 0, "This process has the segment open already.");
        return segment_fail(session, name, -EBUSY, failure);
    }
    int error =
        control_open(&session->session, name, write, (flags & DSM_TAKEOVER) != 0, &info, failure);
    return error != 0 ? segment_fail(session, name, error, failure)
                      : segment_attach(session, name, &info, write, segment, failure);
}

DSM_API int dsm_segment_open(dsm *session, const char *name, unsigned flags, dsm_segment **segment)
{
    struct failure failure = {.text = ""};
    int error = api_alive();
    error = error != 0 ? error : segment_check_name(session, name, &failure);
    if (error != 0) {
        return error;
    }
    if ((flags & ~(unsigned)(DSM_READ_ONLY | DSM_TAKEOVER)) != 0) {
        return segment_fail(session, name, -EINVAL, &failure);
    }
    (void)pthread_mutex_lock(&session->opening);
    error = open_segment(session, name, flags, segment, &failure);
    (void)pthread_mutex_unlock(&session->opening);
    return error;
}

static void unlink_segment(dsm_segment *segment)
{
    dsm *session = segment->session;
    (void)pthread_mutex_lock(&session->lock);
    for (dsm_segment **at = &session->segments; *at != NULL; at = &(*at)->next) {
        if (*at == segment) {
            *at = segment->next;
            break;
        }
    }
    (void)pthread_mutex_unlock(&session->lock);
}

static void unmap(dsm_segment *segment)
{
    dsm *session = segment->session;
    session_unlist(&session->session, &segment->segment.backing);
    pager_detach(&segment->segment);
    stat_page_closed(&session->page, segment->segment.number);
    unlink_segment(segment);
}

void segment_forget(dsm_segment *segment)
{
    unmap(segment);
    free(segment);
}

// Maps it no more and tells the server, unless that has nothing to be told. A server that does not answer is told later: that is
// no error of a segment whose pages it has, and which is open here no more.
static int let_go(dsm_segment *segment, int error)
{
    dsm *session = segment->session;
    struct failure failure = {.text = ""};
    uint32_t fate = atomic_load(&segment->segment.backing.fate);
    uint64_t id = segment->segment.backing.id;
    (void)pthread_mutex_lock(&session->opening);
    unmap(segment);
    if (fate == BACKING_WELL) {
        (void)control_close(&session->session, id, NULL);
    }
    (void)pthread_mutex_unlock(&session->opening);
    if (fate != BACKING_WELL) { // whatever else went wrong: nobody may take it for open
        error = segment_fail(session, segment->segment.name, backing_fate_errno(fate), &failure);
    }
    free(segment);
    return error;
}

static int clean_all(dsm_segment *segment)
{
    if (atomic_load(&segment->segment.backing.fate) != BACKING_WELL || !segment->segment.writable ||
        segment->ephemeral) {
        return 0;
    }
    return segment_clean_all(segment);
}

int segment_drop(dsm_segment *segment)
{
    while (segment->segment.pinned_pages > 0) { // pins nest
        (void)pager_unpin(&segment->segment, 0, segment->segment.table.pages);
    }
    return let_go(segment, clean_all(segment));
}

DSM_API int dsm_segment_close(dsm_segment *segment)
{
    int error = api_alive();
    if (error != 0) {
        return error;
    }
    struct failure failure = {.text = ""};
    if (segment->in_task) {
        (void)failure_set(&failure, 0, "The segment is a task's: dsm_task_destroy() closes it.");
        return segment_fail(segment->session, segment->segment.name, -EBUSY, &failure);
    }
    if (segment->code) {
        return code_close(segment);
    }
    if (segment->segment.pinned_pages > 0 &&
        atomic_load(&segment->segment.backing.fate) == BACKING_WELL) {
        (void)failure_set(&failure, 0,
                          "%llu pages are pinned: dsm_unpin() them before the segment is closed.",
                          (unsigned long long)segment->segment.pinned_pages);
        return segment_fail(segment->session, segment->segment.name, -EBUSY, &failure);
    }
    error = clean_all(segment);
    if (error != 0 && atomic_load(&segment->segment.backing.fate) == BACKING_WELL) {
        return error; // it stays open, with its changes
    }
    return let_go(segment, error);
}

DSM_API int dsm_segment_delete(dsm *session, const char *name)
{
    struct failure failure = {.text = ""};
    int error = api_alive();
    error = error != 0 ? error : segment_check_name(session, name, &failure);
    if (error != 0) {
        return error;
    }
    error = control_delete(&session->session, name, &failure);
    return error != 0 ? segment_fail(session, name, error, &failure) : 0;
}

DSM_API void *dsm_segment_base(const dsm_segment *segment)
{
    return segment->segment.view.base;
}

DSM_API uint64_t dsm_segment_size(const dsm_segment *segment)
{
    return segment->segment.table.pages * segment->segment.page_bytes;
}

DSM_API uint32_t dsm_segment_page_size(const dsm_segment *segment)
{
    return segment->segment.page_bytes;
}
