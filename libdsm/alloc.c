// SPDX-License-Identifier: Apache-2.0
//
// dsm_alloc() and dsm_free(): large arrays for people in a hurry. Memory is dealt out in whole pages, from arenas: ephemeral
// segments of 64 MiB, which several arrays share; an array of more than half of that has a segment of its own, as has
// one for which the server has room, but not for an arena more. Being ephemeral, they are never cleaned at close, and the server
// deletes them when this process lets go of them or is lost.
//
// Book-keeping lies on the heap, never in managed memory, so that neither call ever faults a page in. An arena has one
// word for each page, of which only those at the two ends of an extent are not 0 (boundary tags): freeing finds
// both neighbours at once and joins them, and a pointer that is not the start of an array, or was freed already, is told from one
// that is. Looking for room walks from extent to extent, first fit, and passes by arenas that are known to be too full. A tree
// of extents was rejected: an arena has at most 16384 pages, and asking the server for a new one costs more than the walk.
//
// The contents of new memory are undefined, as malloc's are: what this process left there, or zeros. Never another's: the
// server's segments are new.
//
// An arena that is wholly free goes back to the server, but one is kept, so that a loop of alloc and free asks for nothing.
//
// Lock: the allocations', one for all, held also while the server is asked. It is not taken by faults.
#include "libdsm/alloc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "libdsm/backing/control.h"
#include "libdsm/error.h"
#include "libdsm/session_api.h"
#include "libdsm/sync/futex.h"

enum { ARENA_BYTES = 64 << 20, EXIT_WAIT_MS = 2000 };

// A tag: pages << 2 | used << 1 | first page of the extent.
enum { TAG_FIRST = 1, TAG_USED = 2, TAG_SHIFT = 2 };

struct arena {
    struct arena *next;
    dsm_segment *segment;
    char *base;
    uint32_t page_bytes;
    uint64_t pages;
    uint64_t used;
    bool shared;     // else one array has it all, and the following is not used
    uint64_t most;   // no free extent is longer
    uint32_t tags[]; // one for each page
};

void allocations_init(struct allocations *allocations)
{
    (void)pthread_mutex_init(&allocations->lock, NULL);
}

void allocations_clear(struct allocations *allocations)
{
    struct arena *arena;
    while ((arena = allocations->arenas) != NULL) {
        allocations->arenas = arena->next;
        free(arena);
    }
    (void)pthread_mutex_destroy(&allocations->lock);
}

// ---- extents of an arena ----

static void set_extent(struct arena *arena, uint64_t page, uint64_t pages, uint32_t used)
{
    uint32_t tag = (uint32_t)pages << TAG_SHIFT | used;
    arena->tags[page + pages - 1] = tag;
    arena->tags[page] = tag | TAG_FIRST;
}

static void clear_extent(struct arena *arena, uint64_t page, uint64_t pages)
{
    arena->tags[page + pages - 1] = 0;
    arena->tags[page] = 0;
}

static uint64_t extent_pages(uint32_t tag)
{
    return tag >> TAG_SHIFT;
}

static void *take(struct arena *arena, uint64_t page, uint64_t pages)
{
    uint64_t rest = extent_pages(arena->tags[page]) - pages;
    clear_extent(arena, page, pages + rest);
    set_extent(arena, page, pages, TAG_USED);
    if (rest > 0) {
        set_extent(arena, page + pages, rest, 0);
    }
    arena->used += pages;
    return arena->base + page * arena->page_bytes;
}

static void *take_first_fit(struct arena *arena, uint64_t pages)
{
    uint64_t longest = 0;
    if (arena->most < pages) {
        return NULL;
    }
    for (uint64_t page = 0; page < arena->pages; page += extent_pages(arena->tags[page])) {
        uint32_t tag = arena->tags[page];
        if ((tag & TAG_USED) != 0) {
            continue;
        }
        if (extent_pages(tag) >= pages) {
            return take(arena, page, pages);
        }
        longest = extent_pages(tag) > longest ? extent_pages(tag) : longest;
    }
    arena->most = longest;
    return NULL;
}

// Back into its arena, joined with its free neighbours.
static void give(struct arena *arena, uint64_t page)
{
    uint64_t pages = extent_pages(arena->tags[page]);
    uint64_t next = page + pages;
    arena->used -= pages;
    clear_extent(arena, page, pages);
    if (next < arena->pages && (arena->tags[next] & TAG_USED) == 0) {
        uint64_t more = extent_pages(arena->tags[next]);
        clear_extent(arena, next, more);
        pages += more;
    }
    if (page > 0 && (arena->tags[page - 1] & TAG_USED) == 0) {
        uint64_t more = extent_pages(arena->tags[page - 1]);
        clear_extent(arena, page - more, more);
        page -= more;
        pages += more;
    }
    set_extent(arena, page, pages, 0);
    arena->most = pages > arena->most ? pages : arena->most;
}

// ---- arenas ----

static int arena_make(dsm *session, uint64_t bytes, bool shared)
{
    char name[LIMIT_SEGMENT_NAME_BYTES];
    const uint8_t *id = session->session.client.attach.instance;
    size_t tags = shared ? ARENA_BYTES / LIMIT_PAGE_MIN_BYTES : 0;
    struct arena *arena = calloc(1, sizeof *arena + tags * sizeof arena->tags[0]);
    if (arena == NULL) {
        return error_set(-ENOMEM, NULL, DSM_NO_PAGE, NULL, "No memory for the book-keeping.");
    }
    int at = snprintf(name, sizeof name, "tmp/");
    for (int i = 0; i < WIRE_ID_BYTES; i++) {
        at += snprintf(name + at, sizeof name - (size_t)at, "%02x", id[i]);
    }
    (void)snprintf(name + at, sizeof name - (size_t)at, "/%llu",
                   (unsigned long long)++session->allocations.made);
    int error = dsm_segment_create(session, name, bytes, 0, DSM_EPHEMERAL, &arena->segment);
    if (error != 0) {
        free(arena);
        return error;
    }
    arena->base = dsm_segment_base(arena->segment);
    arena->page_bytes = dsm_segment_page_size(arena->segment);
    arena->pages = dsm_segment_size(arena->segment) / arena->page_bytes;
    arena->shared = shared;
    arena->most = arena->pages;
    if (shared) {
        set_extent(arena, 0, arena->pages, 0);
    } else {
        arena->used = arena->pages;
    }
    arena->next = session->allocations.arenas;
    session->allocations.arenas = arena;
    return 0;
}

static void arena_drop(dsm *session, struct arena *arena)
{
    struct arena **link = &session->allocations.arenas;
    while (*link != arena) {
        link = &(*link)->next;
    }
    *link = arena->next;
    (void)dsm_segment_close(
        arena->segment); // should the server not hear of it, it finds out by itself
    free(arena);
}

// Its segment is here still: of one that is lost or another's, each new page would be a fault.
static bool is_well(const struct arena *arena)
{
    return atomic_load(&arena->segment->segment.backing.fate) == BACKING_WELL;
}

static int allocate_locked(dsm *session, uint64_t bytes, void **result)
{
    struct arena *arena;
    for (arena = session->allocations.arenas; arena != NULL; arena = arena->next) {
        uint64_t pages = (bytes + arena->page_bytes - 1) / arena->page_bytes;
        void *at = arena->shared && is_well(arena) ? take_first_fit(arena, pages) : NULL;
        if (at != NULL) {
            *result = at;
            return 0;
        }
    }
    bool shared = bytes <= ARENA_BYTES / 2;
    int error = arena_make(session, shared ? ARENA_BYTES : bytes, shared);
    if (shared && (error == -ENOSPC || error == -EDQUOT)) {
        shared = false;
        error = arena_make(session, bytes, false);
    }
    arena = session->allocations.arenas; // the new one
    if (error == 0 && arena != NULL) {
        *result = shared ? take(arena, 0, (bytes + arena->page_bytes - 1) / arena->page_bytes)
                         : arena->base;
    }
    return error;
}

// One empty arena is kept, if it is of use; a second one goes.
static void drop_if_spare(dsm *session, struct arena *empty)
{
    if (!is_well(empty)) {
        arena_drop(session, empty);
        return;
    }
    for (struct arena *arena = session->allocations.arenas; arena != NULL; arena = arena->next) {
        if (arena != empty && arena->shared && arena->used == 0 && is_well(arena)) {
            arena_drop(session, empty);
            return;
        }
    }
}

static int free_locked(dsm *session, const char *at)
{
    struct arena *arena = session->allocations.arenas;
    while (arena != NULL &&
           ((uintptr_t)at < (uintptr_t)arena->base ||
            (uintptr_t)at - (uintptr_t)arena->base >= arena->pages * arena->page_bytes)) {
        arena = arena->next;
    }
    if (arena == NULL) {
        return -EINVAL;
    }
    uint64_t offset = (uintptr_t)at - (uintptr_t)arena->base;
    if (!arena->shared) {
        if (offset != 0) {
            return -EINVAL;
        }
        arena_drop(session, arena);
        return 0;
    }
    uint32_t tag = offset % arena->page_bytes == 0 ? arena->tags[offset / arena->page_bytes] : 0;
    if ((tag & (TAG_FIRST | TAG_USED)) != (TAG_FIRST | TAG_USED)) {
        return -EINVAL;
    }
    give(arena, offset / arena->page_bytes);
    if (arena->used == 0) {
        drop_if_spare(session, arena);
    }
    return 0;
}

// ---- what the program calls ----

// malloc's callers know one error for "there is none left".
static int errno_of(int error)
{
    switch (error) {
    case -ENOSPC:
    case -EDQUOT:
    case -EMFILE:
    case -EUSERS:
        return ENOMEM;
    default:
        return -error;
    }
}

DSM_API void *dsm_alloc(size_t bytes)
{
    dsm *session;
    void *result = NULL;
    int error = api_session_get(&session);
    if (error == 0) {
        (void)pthread_mutex_lock(&session->allocations.lock);
        error = allocate_locked(session, bytes == 0 ? 1 : bytes, &result);
        (void)pthread_mutex_unlock(&session->allocations.lock);
    }
    if (error != 0) {
        errno = errno_of(error);
    }
    return result;
}

DSM_API int dsm_free(void *pointer)
{
    if (pointer == NULL) {
        return 0;
    }
    int error = api_alive();
    if (error != 0) {
        return error;
    }
    dsm *session = api_session_present(true);
    error = -EINVAL;
    if (session != NULL) {
        (void)pthread_mutex_lock(&session->allocations.lock);
        error = free_locked(session, pointer);
        (void)pthread_mutex_unlock(&session->allocations.lock);
    }
    return error == 0
               ? 0
               : error_set(error, NULL, DSM_NO_PAGE, NULL,
                           "%p is not what dsm_alloc() gave, or was freed already.", pointer);
}

// At exit the arenas are let go of, so that their space is free at once and not after the lease. Nothing is unmapped and no
// thread is stopped: others of the program may still be at work, and the end of the process does both. An embedded
// server needs not even this.
__attribute__((destructor)) static void let_go_at_exit(void)
{
    dsm *session = api_session_present(false);
    if (session == NULL || session->session.embedded ||
        pthread_mutex_trylock(&session->allocations.lock) != 0) {
        return;
    }
    int64_t deadline = sync_after_ms(EXIT_WAIT_MS);
    struct backing_lane *lane =
        session->allocations.arenas != NULL
            ? backing_take(&session->session.backing, BACKING_CONTROL, deadline)
            : NULL;
    for (const struct arena *arena = session->allocations.arenas; arena != NULL && lane != NULL;
         arena = arena->next) {
        if (atomic_load_explicit(&lane->up, memory_order_acquire) == 0 ||
            control_let_go(lane, arena->segment->segment.backing.id, deadline) != 0) {
            break;
        }
    }
    (void)pthread_mutex_unlock(&session->allocations.lock);
}
