// SPDX-License-Identifier: Apache-2.0
//
// Cedar's operations on intervals, as dsm.h declares them. A call that needs I/O is carried out by the pager's threads (see
// workers.c); what goes wrong is put into words here, with the page it happened to.
#include <errno.h>

#include "libdsm/error.h"
#include "libdsm/session_api.h"

static const char *advice(int error)
{
    switch (error) {
    case -EFAULT:
        return "there is no such page: it lies beyond the segment's last, or was given up";
    case -EREMOTEIO:
        return "the server refused the request";
    case -EIO:
        return "the server did not answer, or its store failed; the page may be tried again";
    case -ETIMEDOUT:
        return "no answer within DSM_FAULT_TIMEOUT; the page may be tried again";
    case -ENOMEM:
        return "no frame: too many pages are pinned for DSM_CACHE, or the system has no memory";
    case -EROFS:
        return "the page is read-only";
    case -EBUSY:
        return "the page is pinned (call dsm_unpin first), or its segment is on its way to another "
               "host";
    case -ENOSPC:
        return "the server has no room for it; what was changed stays here";
    case -EDQUOT:
        return "the quota on the server has no room for it; what was changed stays here";
    default:
        return dsm_strerror(error);
    }
}

static int page_error(dsm_segment *segment, int error, uint32_t failed_segment, uint64_t page)
{
    dsm *session = segment->session;
    const char *name = segment->segment.name;
    if (failed_segment != segment->segment.index) { // a victim's
        const struct segment *other = atomic_load(&session->pager.views[failed_segment].segment);
        name = other != NULL ? other->name : "?";
    }
    return error_set(error, name, page, session->server, "Page %llu of segment %s: %s.",
                     (unsigned long long)page, name, advice(error));
}

static int check_end(dsm_segment *segment, dsm_interval interval)
{
    uint64_t pages = segment->segment.table.pages;
    if (interval.page > pages || interval.count > pages - interval.page) {
        return page_error(segment, -EFAULT, segment->segment.index, pages);
    }
    return 0;
}

DSM_API int dsm_swap_in(dsm_segment *segment, dsm_interval interval, unsigned flags,
                        uint64_t next_page)
{
    int error = api_alive();
    if (error != 0) {
        return error;
    }
    dsm *session = segment->session;
    if ((flags & ~(unsigned)(DSM_KILL | DSM_PIN | DSM_WRITE)) != 0 ||
        ((flags & (DSM_KILL | DSM_WRITE)) != 0 && !segment->segment.writable)) {
        return error_set(
            -EINVAL, segment->segment.name, interval.page, session->server,
            "dsm_swap_in: flags %#x are unknown, or need a segment that is open for writing.",
            flags);
    }
    error = check_end(segment, interval);
    if (error != 0) {
        STAT_ADD(session->counters, swap_in_calls, 1);
        return error;
    }
    struct call call = {
        .kind = CALL_SWAP_IN,
        .segment = &segment->segment,
        .page = interval.page,
        .count = interval.count,
        .flags = flags,
        .next_page = next_page,
    };
    error = pager_call(&session->pager, &call);
    return error != 0 ? page_error(segment, error, call.failed_segment, call.failed_page) : 0;
}

// For what Cedar does page by page: all have backing, or nothing is done.
static int check_backed(dsm_segment *segment, dsm_interval interval)
{
    uint64_t first;
    uint64_t last;
    int error = api_alive();
    error = error != 0 ? error : check_end(segment, interval);
    if (error == 0 && pager_find_none(&segment->segment, interval.page,
                                      interval.page + interval.count, &first, &last)) {
        error = page_error(segment, -EFAULT, segment->segment.index, first);
    }
    return error;
}

DSM_API int dsm_unpin(dsm_segment *segment, dsm_interval interval)
{
    int error = check_backed(segment, interval);
    return error != 0 ? error : pager_unpin(&segment->segment, interval.page, interval.count);
}

// The first page from `page` to `last` that a system call would find missing, or closed for its stores; last + 1: none.
static uint64_t first_unpinned(struct segment *segment, uint64_t page, uint64_t last, bool write)
{
    sync_mask mask = sync_block_signals();
    lock_acquire(&segment->pager->lock);
    for (; page <= last; page++) {
        const struct page_entry *entry = page_at(&segment->table, page);
        if (entry->pins == 0 || (write && protection_of(entry) != TRAP_READ_WRITE)) {
            break;
        }
    }
    lock_release(&segment->pager->lock);
    sync_restore_signals(mask);
    return page;
}

static int check_part(dsm_segment *segment, uintptr_t from, uintptr_t to, unsigned flags)
{
    struct segment *s = &segment->segment;
    uintptr_t base = (uintptr_t)s->view.base;
    uint64_t last = (to - 1 - base) >> s->page_shift;
    uint64_t page =
        first_unpinned(s, (from - base) >> s->page_shift, last, (flags & DSM_WRITE) != 0);
    if (page > last) {
        return 0;
    }
    return error_set(-EFAULT, s->name, page, segment->session->server,
                     "Page %llu of segment %s is not pinned%s: system calls and MPI do not bring "
                     "pages in. Call dsm_swap_in with DSM_PIN%s before, and dsm_unpin after.",
                     (unsigned long long)page, s->name,
                     (flags & DSM_WRITE) != 0 ? " for writing" : "",
                     (flags & DSM_WRITE) != 0 ? " | DSM_WRITE" : "");
}

DSM_API int dsm_check_pinned(const void *buffer, size_t bytes, unsigned flags)
{
    int error = api_alive();
    uintptr_t from = (uintptr_t)buffer;
    if (error == 0 && ((flags & ~(unsigned)DSM_WRITE) != 0 || bytes > UINTPTR_MAX - from)) {
        error = error_set(-EINVAL, NULL, DSM_NO_PAGE, NULL,
                          "dsm_check_pinned takes a buffer, its bytes, and 0 or DSM_WRITE.");
    }
    dsm *session = error == 0 ? api_session_present(true) : NULL;
    if (session == NULL) {
        return error; // without a session there are no segments
    }
    (void)pthread_mutex_lock(&session->lock);
    for (dsm_segment *s = session->segments; s != NULL && error == 0; s = s->next) {
        uintptr_t base = (uintptr_t)s->segment.view.base;
        uintptr_t end = base + (s->segment.table.pages << s->segment.page_shift);
        uintptr_t low = from > base ? from : base;
        uintptr_t high = from + bytes < end ? from + bytes : end;
        if (low < high) {
            error = check_part(s, low, high, flags);
        }
    }
    (void)pthread_mutex_unlock(&session->lock);
    return error;
}

// What the laundry could not write is the next clean's to report.
static int laundry_error(dsm_segment *segment, uint64_t *page)
{
    struct segment *s = &segment->segment;
    sync_mask mask = sync_block_signals();
    lock_acquire(&s->pager->lock);
    int error = s->laundry_error;
    *page = s->laundry_page;
    s->laundry_error = 0;
    lock_release(&s->pager->lock);
    sync_restore_signals(mask);
    return error;
}

static int clean(dsm_segment *segment, dsm_interval interval, uint64_t *passed_over,
                 enum call_kind kind)
{
    int error = api_alive();
    if (error != 0) {
        return error;
    }
    dsm *session = segment->session;
    error = check_end(segment, interval);
    if (error != 0) {
        STAT_ADD(session->counters, clean_calls, 1);
        return error;
    }
    struct call call = {
        .kind = kind,
        .segment = &segment->segment,
        .page = interval.page,
        .count = interval.count,
    };
    uint64_t laundry_page;
    int before = laundry_error(segment, &laundry_page);
    error = pager_call(&session->pager, &call);
    if (passed_over != NULL) {
        *passed_over = call.passed_over;
    }
    if (error != 0) {
        return page_error(segment, error, call.failed_segment, call.failed_page);
    }
    // Pages that the laundry failed on were dirty still; this call wrote those of its interval.
    bool mended = before == 0 ||
                  (laundry_page >= interval.page && laundry_page - interval.page < interval.count);
    return mended ? 0 : page_error(segment, before, segment->segment.index, laundry_page);
}

DSM_API int dsm_clean(dsm_segment *segment, dsm_interval interval, uint64_t *passed_over)
{
    return clean(segment, interval, passed_over, CALL_CLEAN);
}

int segment_clean_all(dsm_segment *segment)
{
    return clean(segment, (dsm_interval){0, segment->segment.table.pages}, NULL, CALL_CLEAN_ALL);
}

DSM_API int dsm_age(dsm_segment *segment, dsm_interval interval)
{
    int error = check_backed(segment, interval);
    return error != 0 ? error : pager_age(&segment->segment, interval.page, interval.count);
}

DSM_API int dsm_set_data_state(dsm_segment *segment, dsm_interval interval, enum dsm_data data)
{
    int error = api_alive();
    if (error != 0) {
        return error;
    }
    dsm *session = segment->session;
    if (data > DSM_DATA_CHANGED || !segment->segment.writable) {
        return error_set(-EINVAL, segment->segment.name, interval.page, session->server,
                         "dsm_set_data_state: there is no such state, or the segment is not open "
                         "for writing.");
    }
    error = check_end(segment, interval);
    if (error != 0) {
        return error;
    }
    struct call call = {
        .kind = CALL_DATA_STATE,
        .segment = &segment->segment,
        .page = interval.page,
        .count = interval.count,
        .flags = data,
    };
    error = pager_call(&session->pager, &call);
    return error != 0 ? page_error(segment, error, call.failed_segment, call.failed_page) : 0;
}

static int protect(dsm_segment *segment, dsm_interval interval, bool read_only)
{
    int error = api_alive();
    error = error != 0 ? error : check_end(segment, interval);
    if (error != 0) {
        return error;
    }
    uint64_t failed = interval.page;
    error = pager_protect(&segment->segment, interval.page, interval.count, read_only, &failed);
    return error != 0 ? page_error(segment, error, segment->segment.index, failed) : 0;
}

DSM_API int dsm_make_read_only(dsm_segment *segment, dsm_interval interval)
{
    return protect(segment, interval, true);
}

DSM_API int dsm_make_read_write(dsm_segment *segment, dsm_interval interval)
{
    return protect(segment, interval, false);
}

DSM_API int dsm_page_state(dsm_segment *segment, uint64_t page, dsm_page_info *info)
{
    int error = api_alive();
    error = error != 0 ? error : check_end(segment, (dsm_interval){page, 1});
    if (error != 0) {
        return error;
    }
    struct segment *s = &segment->segment;
    sync_mask mask = sync_block_signals();
    lock_acquire(&s->pager->lock);
    protection_look(s, page, 1);
    const struct page_entry *entry = page_at(&s->table, page);
    enum page_state state = page_state(&s->table, entry);
    bool resident = state == PAGE_RESIDENT || state == PAGE_WRITING;
    *info = (dsm_page_info){
        .data = pager_data(s, entry),
        .resident = resident,
        .needs_cleaning = resident && (page_word(entry) & (PAGE_DIRTY | PAGE_SENT)) != 0,
        .read_only = !s->writable || page_has(entry, PAGE_READ_ONLY),
        .lost = !resident && backing_fate_of(&s->placement, page) == BACKING_LOST,
        .pin_count = entry->pins,
    };
    lock_release(&s->pager->lock);
    sync_restore_signals(mask);
    return 0;
}
