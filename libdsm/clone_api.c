// SPDX-License-Identifier: Apache-2.0
//
// Segments that are made from others, and code, as dsm.h declares them.
//
// A clone shares its source's pages on the server until one of the two is written. A heap with a template is such a clone: its
// untouched pages are the template's, here and wherever the task moves, and also when the template itself is gone. Rejected: a
// second segment from which this library would fill untouched pages. Each destination would have to find it, keep it open and
// wait for it, and a template could be written under a heap that has not looked yet.
//
// Code is found by what it is, the digest of its contents, or made: the server lets one process begin, and tells the others to
// ask again until it is sealed, or until who had begun gives up: then the next one that asks makes it. So of processes that come
// together one makes it, and nobody sees it half made. In one process it is open once, however many tasks have it: a second mapping
// could not lie at the same address.
//
// Contents are stored page run by page run, pinned, so that what fails is an error here and no signal.
#include <errno.h>
#include <string.h>

#include "libdsm/backing/control_image.h"
#include "libdsm/session_api.h"
#include "rpc/noise.h"

enum { AGAIN_MS = 20, STORE_BYTES = 64 << 10 };
enum { BEGUN_ELSEWHERE = -EALREADY }; // no error of a segment that is attached

// ---- clones

static int check_clone(const dsm_segment *source, const char *name, uint64_t bytes, unsigned flags,
                       struct failure *failure)
{
    const unsigned allowed = DSM_NORESERVE | DSM_EXCLUSIVE | DSM_EPHEMERAL | DSM_HEAP;
    int error = segment_check_name(source->session, name, failure);
    if (error != 0) {
        return error;
    }
    if ((flags & ~allowed) != 0 || (bytes != 0 && bytes < dsm_segment_size(source)) ||
        bytes > LIMIT_SEGMENT_BYTES) {
        (void)failure_set(failure, 0,
                          "A clone is at least as large as its source; of the flags it may have "
                          "DSM_NORESERVE, DSM_EPHEMERAL, DSM_EXCLUSIVE and DSM_HEAP.");
        return segment_fail(source->session, name, -EINVAL, failure);
    }
    return 0;
}

static int clean_source(dsm_segment *source, struct failure *failure)
{
    const dsm_interval all = {0, source->segment.table.pages};
    uint64_t passed_over = 0;
    int error = source->segment.writable ? dsm_clean(source, all, &passed_over) : 0;
    if (error == 0 && passed_over > 0) {
        (void)failure_set(failure, 0,
                          "%llu pages of the source are pinned, and what they hold is not on the "
                          "server: dsm_unpin() them before it is cloned.",
                          (unsigned long long)passed_over);
        error = segment_fail(source->session, source->segment.name, -EBUSY, failure);
    }
    return error;
}

DSM_API int dsm_segment_clone(dsm_segment *source, const char *name, uint64_t bytes, unsigned flags,
                              dsm_segment **clone)
{
    struct failure failure = {.text = ""};
    struct control_segment info;
    int error = api_alive();
    error = error != 0 ? error : check_clone(source, name, bytes, flags, &failure);
    error = error != 0 ? error : clean_source(source, &failure);
    if (error != 0) {
        return error;
    }
    const struct backing_segment *backing = &source->segment.backing;
    const struct image_member from = {backing->id, atomic_load(&backing->epoch)};
    (void)pthread_mutex_lock(&source->session->opening);
    error = control_clone(&source->session->session, &from, name, bytes,
                          (flags & DSM_HEAP) != 0 ? CONTROL_HEAP : CONTROL_DATA,
                          ((flags & DSM_NORESERVE) != 0 ? CONTROL_NORESERVE : 0) |
                              ((flags & DSM_EPHEMERAL) != 0 ? CONTROL_EPHEMERAL : 0),
                          &info, &failure);
    error = segment_made(source->session, name, error, &info, clone, &failure);
    (void)pthread_mutex_unlock(&source->session->opening);
    if (error == 0 && (flags & DSM_HEAP) != 0) {
        (*clone)->from.segment = backing->id;
        (*clone)->from.version = atomic_load(&backing->acknowledged);
        (*clone)->from.pages = source->segment.table.pages;
    }
    return error;
}

// ---- code

static dsm_segment *open_code(dsm *session, const uint8_t identity[WIRE_DIGEST_BYTES])
{
    (void)pthread_mutex_lock(&session->lock);
    dsm_segment *s = session->segments;
    while (s != NULL && !(s->code && memcmp(s->identity, identity, sizeof s->identity) == 0 &&
                          atomic_load(&s->segment.backing.fate) == BACKING_WELL)) {
        s = s->next;
    }
    (void)pthread_mutex_unlock(&session->lock);
    return s;
}

static int store_contents(dsm_segment *code, const uint8_t *contents, uint64_t bytes)
{
    const uint32_t page_bytes = dsm_segment_page_size(code);
    const uint64_t step = page_bytes < STORE_BYTES ? STORE_BYTES : page_bytes;
    int error = 0;
    for (uint64_t at = 0; at < bytes && error == 0; at += step) {
        uint64_t some = bytes - at < step ? bytes - at : step;
        const dsm_interval pages = {at / page_bytes, (some + page_bytes - 1) / page_bytes};
        error = dsm_swap_in(code, pages, DSM_KILL | DSM_PIN | DSM_WRITE, DSM_NO_PAGE);
        if (error == 0) {
            memcpy((uint8_t *)dsm_segment_base(code) + at, contents + at, some);
            error = dsm_unpin(code, pages);
        }
    }
    return error != 0 ? error : dsm_clean(code, (dsm_interval){0, code->segment.table.pages}, NULL);
}

// This session was told to make it: filled and sealed. After an error it is nobody's again, and the next one makes it.
static int make_code(dsm *session, const char *name, const void *contents, uint64_t bytes,
                     struct control_segment *info, struct failure *failure)
{
    dsm_segment *made = NULL;
    int error = segment_attach(session, name, info, true, &made, failure);
    if (error != 0) {
        return error;
    }
    error = store_contents(made, contents, bytes);
    if (error == 0) {
        const struct image_member member = {info->id, info->epoch};
        error = control_seal(&session->session, &member, info, failure);
        error = error != 0 ? segment_fail(session, name, error, failure) : 0;
    }
    if (error != 0) {
        const dsm_error_detail why = *dsm_error();
        (void)segment_drop(made);
        (void)failure_set(failure, 0, "%s", why.text);
        return segment_fail(session, name, error, failure);
    }
    segment_forget(made); // what it was for storing; the server has it open for reading now
    return 0;
}

static void name_of(const uint8_t identity[WIRE_DIGEST_BYTES], char name[LIMIT_SEGMENT_NAME_BYTES])
{
    int at = snprintf(name, LIMIT_SEGMENT_NAME_BYTES, "code/");
    for (unsigned i = 0; i < WIRE_DIGEST_BYTES; i++) {
        at += snprintf(name + at, (size_t)(LIMIT_SEGMENT_NAME_BYTES - at), "%02x", identity[i]);
    }
}

static int missing(dsm *session, const char *name, uint64_t id, struct failure *failure)
{
    (void)control_close(&session->session, id, NULL); // it was begun by the asking
    (void)failure_set(failure, 0, "The code %s is not on this server.", name);
    return segment_fail(session, name, -ENOENT, failure);
}

// One look. Under code_lock. BEGUN_ELSEWHERE: another process makes it.
static int find_code(dsm *session, const uint8_t identity[WIRE_DIGEST_BYTES], uint64_t bytes,
                     uint32_t page_bytes, const void *make, dsm_segment **segment,
                     struct failure *failure)
{
    char name[LIMIT_SEGMENT_NAME_BYTES];
    struct control_segment info;
    dsm_segment *here = open_code(session, identity);
    if (here != NULL) {
        here->shared++;
        *segment = here;
        return 0;
    }
    name_of(identity, name);
    int error = control_code(&session->session, identity, bytes, page_bytes, &info, failure);
    if (error != 0) {
        return error == -EBUSY ? BEGUN_ELSEWHERE
                               : segment_made(session, name, error, &info, NULL, failure);
    }
    if (info.writer && make == NULL) {
        return missing(session, name, info.id, failure);
    }
    error = info.writer ? make_code(session, name, make, bytes, &info, failure) : 0;
    error = error != 0 ? error : segment_attach(session, name, &info, false, &here, failure);
    if (error == 0) {
        (void)pthread_mutex_lock(&session->lock);
        here->code = true;
        memcpy(here->identity, identity, sizeof here->identity);
        (void)pthread_mutex_unlock(&session->lock);
        *segment = here;
    }
    return error;
}

int code_get(dsm *session, const uint8_t identity[WIRE_DIGEST_BYTES], uint64_t bytes,
             uint32_t page_bytes, const void *make, dsm_segment **segment, struct failure *failure)
{
    const int64_t limit_ms = session->pager.options.fault_timeout_ms;
    const int64_t deadline = limit_ms == 0 ? INT64_MAX : sync_after_ms(limit_ms);
    _Atomic uint32_t never = 0;
    int error;
    do {
        (void)pthread_mutex_lock(&session->code_lock);
        error = find_code(session, identity, bytes, page_bytes, make, segment, failure);
        if (error == 0 && make == NULL) {
            (*segment)->in_tasks++;
        }
        (void)pthread_mutex_unlock(&session->code_lock);
        if (error == BEGUN_ELSEWHERE) {
            (void)sync_wait(&never, 0, sync_after_ms(AGAIN_MS));
        }
    } while (error == BEGUN_ELSEWHERE && sync_now() < deadline);
    return error == BEGUN_ELSEWHERE ? segment_fail(session, NULL, -EBUSY, failure) : error;
}

DSM_API int dsm_code_open(dsm *session, const void *contents, uint64_t bytes, uint32_t page_bytes,
                          dsm_segment **code)
{
    struct failure failure = {.text = ""};
    uint8_t identity[WIRE_DIGEST_BYTES];
    int error = api_alive();
    page_bytes = segment_page_bytes(page_bytes);
    error = error != 0 ? error : segment_check_size(session, NULL, bytes, page_bytes, &failure);
    if (error != 0) {
        return error;
    }
    noise_digest(contents, bytes, identity);
    return code_get(session, identity, bytes, page_bytes, contents, code, &failure);
}

bool code_to_task(dsm_segment *code)
{
    (void)pthread_mutex_lock(&code->session->code_lock);
    bool spare = code->in_tasks <= code->shared;
    code->in_tasks += spare;
    (void)pthread_mutex_unlock(&code->session->code_lock);
    return spare;
}

// One opening less. Under code_lock.
static int put_code(dsm_segment *code)
{
    bool last = code->shared == 0;
    code->shared -= !last;
    return last ? segment_drop(code) : 0;
}

int code_close(dsm_segment *code)
{
    struct failure failure;
    dsm *session = code->session;
    int error;
    (void)pthread_mutex_lock(&session->code_lock);
    if (code->in_tasks <= code->shared) {
        error = put_code(code);
    } else {
        (void)failure_set(&failure, 0,
                          "Tasks have the code as often as it is open here: dsm_task_destroy() "
                          "closes it.");
        error = segment_fail(session, code->segment.name, -EBUSY, &failure);
    }
    (void)pthread_mutex_unlock(&session->code_lock);
    return error;
}

int segment_release(dsm_segment *segment)
{
    dsm *session = segment->session;
    if (!segment->code) { // nobody shares it, and to clean it may take long
        return segment_drop(segment);
    }
    (void)pthread_mutex_lock(&session->code_lock);
    segment->in_tasks--;
    int error = put_code(segment);
    (void)pthread_mutex_unlock(&session->code_lock);
    return error;
}
