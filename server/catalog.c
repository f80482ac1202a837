// SPDX-License-Identifier: Apache-2.0
//
// The catalog's tables: segments sorted by name and by base, sessions by instance, accounts by
// principal; and what walks them whole. The store's records are the truth; what is here is built
// from them at start, and nothing here outlives the process, but what store_segment_update() was
// told.
//
// It must never do network I/O, read the clock (the time comes in as an argument), or hand out a
// pointer into its tables (views are copies). The one exception to the first: an open that waits
// for operations in flight (catalog_open.c) sleeps on a condition.
//
// Sorted arrays were chosen over trees: a thousand segments per principal, binary search for every
// look-up, and an insert moves pointers only.
//
// Locks: catalog_internal.h.
#include "server/catalog_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *segment_name(const struct catalog_segment *segment)
{
    return store_segment_record(segment->store)->name;
}

static uint64_t segment_base(const struct catalog_segment *segment)
{
    return store_segment_record(segment->store)->base;
}

size_t catalog_position(const struct catalog *catalog, const char *name)
{
    size_t low = 0;
    size_t high = catalog->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(segment_name(catalog->by_name[middle]), name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static size_t base_position(const struct catalog *catalog, uint64_t base)
{
    size_t low = 0;
    size_t high = catalog->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (segment_base(catalog->by_base[middle]) < base) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct catalog_segment *catalog_find_locked(const struct catalog *catalog, const char *name)
{
    size_t at = catalog_position(catalog, name);
    if (at < catalog->count && strcmp(segment_name(catalog->by_name[at]), name) == 0) {
        return catalog->by_name[at];
    }
    return NULL;
}

struct catalog_segment *catalog_find_id_locked(const struct catalog *catalog, uint64_t id)
{
    for (size_t i = 0; i < catalog->count; i++) {
        if (store_segment_record(catalog->by_name[i]->store)->id == id) {
            return catalog->by_name[i];
        }
    }
    return NULL;
}

int catalog_room_locked(struct catalog *catalog)
{
    if (catalog->count < catalog->capacity) {
        return 0;
    }
    size_t capacity = catalog->capacity == 0 ? 64 : catalog->capacity * 2;
    struct catalog_segment **by_name =
        reallocarray(catalog->by_name, capacity, sizeof(struct catalog_segment *));
    if (by_name == NULL) {
        return -ENOMEM;
    }
    catalog->by_name = by_name;
    struct catalog_segment **by_base =
        reallocarray(catalog->by_base, capacity, sizeof(struct catalog_segment *));
    if (by_base == NULL) {
        return -ENOMEM;
    }
    catalog->by_base = by_base;
    catalog->capacity = capacity;
    return 0;
}

static void insert_at(struct catalog_segment **table, size_t count, size_t at,
                      struct catalog_segment *segment)
{
    memmove(table + at + 1, table + at, (count - at) * sizeof *table);
    table[at] = segment;
}

void catalog_insert_locked(struct catalog *catalog, struct catalog_segment *segment)
{
    const struct store_segment_record *record = store_segment_record(segment->store);
    segment->id = record->id;
    segment->pages = record->bytes / record->page_bytes;
    segment->page_bytes = record->page_bytes;
    segment->thin = (record->flags & STORE_SEGMENT_NORESERVE) != 0;
    segment->ephemeral = (record->flags & STORE_SEGMENT_EPHEMERAL) != 0;
    insert_at(catalog->by_name, catalog->count, catalog_position(catalog, segment_name(segment)),
              segment);
    insert_at(catalog->by_base, catalog->count, base_position(catalog, segment_base(segment)),
              segment);
    catalog->count++;
    segment->account->segments++;
    segment->account->thin_sizes += segment->thin ? record->bytes : 0;
}

static void remove_from(struct catalog_segment **table, size_t count,
                        const struct catalog_segment *segment)
{
    size_t at = 0;
    while (at < count && table[at] != segment) {
        at++;
    }
    memmove(table + at, table + at + 1, (count - at - 1) * sizeof *table);
}

void catalog_forget_locked(struct catalog *catalog, struct catalog_segment *segment)
{
    remove_from(catalog->by_name, catalog->count, segment);
    remove_from(catalog->by_base, catalog->count, segment);
    catalog->count--;
    segment->account->segments--;
    segment->account->thin_sizes -= segment->thin ? segment->pages * segment->page_bytes : 0;
}

struct catalog_account *catalog_account_locked(struct catalog *catalog, const char *principal)
{
    struct catalog_account *account = catalog->accounts;
    while (account != NULL && strcmp(account->principal, principal) != 0) {
        account = account->next;
    }
    if (account != NULL) {
        return account;
    }
    account = calloc(1, sizeof *account);
    if (account == NULL) {
        return NULL;
    }
    (void)strncpy(account->principal, principal, sizeof account->principal - 1);
    account->quota_bytes = UINT64_MAX;
    (void)pthread_mutex_init(&account->lock, NULL);
    account->next = catalog->accounts;
    catalog->accounts = account;
    return account;
}

static void charge_found(struct catalog_segment *segment)
{
    const struct store_segment_record *record = store_segment_record(segment->store);
    if (record->flags & STORE_SEGMENT_NORESERVE) {
        segment->thin_counted = store_segment_thin_bytes(segment->store);
        segment->account->thin_bytes += segment->thin_counted;
    } else {
        segment->none_counted = store_segment_none_bytes(segment->store);
        segment->account->reserved_bytes += record->bytes - segment->none_counted;
    }
}

// A segment that the store brought along. Whoever had it open before the restart is presumed alive
// for one lease.
static int adopt(struct catalog *catalog, struct store_segment *found, int64_t now_ms)
{
    const struct store_segment_record *record = store_segment_record(found);
    struct catalog_account *account = catalog_account_locked(catalog, record->principal);
    struct catalog_segment *segment = calloc(1, sizeof *segment);
    if (account == NULL || segment == NULL || catalog_room_locked(catalog) != 0) {
        free(segment);
        return -ENOMEM;
    }
    segment->store = found;
    segment->account = account;
    segment->lost_readers = record->had_readers != 0;
    segment->presumed_until_ms = now_ms + catalog->lease_ms;
    charge_found(segment);
    catalog_insert_locked(catalog, segment);
    return 0;
}

static void init_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(condition, &attributes);
    (void)pthread_condattr_destroy(&attributes);
}

int catalog_create(struct store *store, int64_t lease_ms, int64_t now_ms, struct catalog **catalog)
{
    struct catalog *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return -ENOMEM;
    }
    (void)pthread_mutex_init(&made->lock, NULL);
    init_condition(&made->drained);
    made->store = store;
    made->lease_ms = lease_ms;
    int unread = catalog_images_load(made);
    if (unread != 0) {
        catalog_destroy(&made);
        return unread;
    }
    struct store_segment *found = NULL;
    while ((found = store_segment_next(store, found)) != NULL) {
        int error = adopt(made, found, now_ms);
        if (error != 0) {
            catalog_destroy(&made);
            return error;
        }
    }
    catalog_images_link(made);
    *catalog = made;
    return 0;
}

static void free_sessions(struct catalog *catalog)
{
    for (size_t i = 0; i < CATALOG_SESSION_BUCKETS; i++) {
        struct catalog_session *session;
        while ((session = catalog->sessions[i]) != NULL) {
            catalog->sessions[i] = session->next;
            for (size_t j = 0; j < CATALOG_HOLDING_BUCKETS; j++) {
                while (session->holdings[j] != NULL) {
                    catalog_holding_end_locked(session->holdings[j]);
                }
            }
            (void)pthread_mutex_destroy(&session->lock);
            free(session);
        }
    }
}

// The records stay as they are: a stop is a restart as far as those who have segments open are
// concerned.
void catalog_destroy(struct catalog **catalog)
{
    struct catalog *old = *catalog;
    if (old == NULL) {
        return;
    }
    free_sessions(old);
    catalog_images_free(old);
    for (size_t i = 0; i < old->count; i++) {
        free(old->by_name[i]);
    }
    free(old->by_name);
    free(old->by_base);
    struct catalog_account *account;
    while ((account = old->accounts) != NULL) {
        old->accounts = account->next;
        (void)pthread_mutex_destroy(&account->lock);
        free(account);
    }
    (void)pthread_cond_destroy(&old->drained);
    (void)pthread_mutex_destroy(&old->lock);
    free(old);
    *catalog = NULL;
}

void catalog_view_locked(const struct catalog_segment *segment, struct catalog_segment_view *view)
{
    view->record = *store_segment_record(segment->store);
    view->highest = store_segment_highest(segment->store);
    view->stored_bytes = store_segment_stored_bytes(segment->store);
    view->none_pages = store_segment_none_pages(segment->store);
    view->writer = segment->writer != NULL;
    view->readers = 0;
    for (const struct holding *reader = segment->readers; reader != NULL;
         reader = reader->next_reader) {
        view->readers++;
    }
}

bool catalog_visible(const struct catalog_session *session, const struct catalog_segment *segment)
{
    const char *name = segment_name(segment);
    bool moved =
        store_segment_record(segment->store)->moves != 0 &&
        (atomic_load(&session->rights) & KEY_RIGHT_MIGRATE) != 0; // under its name of before
    return segment->account == session->account &&
           (moved || strncmp(name, session->prefix, strlen(session->prefix)) == 0 ||
            (segment->ephemeral && strncmp(name, CATALOG_SCRATCH, strlen(CATALOG_SCRATCH)) == 0));
}

void catalog_list(struct catalog *catalog, struct catalog_session *session, const char *prefix,
                  const char *after,
                  bool (*visit)(void *context, const struct catalog_segment_view *view),
                  void *context)
{
    (void)pthread_mutex_lock(&catalog->lock);
    size_t at = catalog_position(catalog, strcmp(after, prefix) > 0 ? after : prefix);
    for (; at < catalog->count; at++) {
        const struct catalog_segment *segment = catalog->by_name[at];
        const char *name = segment_name(segment);
        if (strncmp(name, prefix, strlen(prefix)) != 0) {
            break;
        }
        if (strcmp(name, after) <= 0 || !catalog_visible(session, segment)) {
            continue;
        }
        struct catalog_segment_view view;
        catalog_view_locked(segment, &view);
        if (!visit(context, &view)) {
            break;
        }
    }
    (void)pthread_mutex_unlock(&catalog->lock);
}

static void sums_locked(struct catalog_account *account, struct catalog_sums *sums)
{
    memcpy(sums->principal, account->principal, sizeof sums->principal);
    sums->sessions = account->sessions;
    sums->segments = account->segments;
    (void)pthread_mutex_lock(&account->lock);
    sums->charged_bytes = account->reserved_bytes + account->thin_bytes;
    sums->quota_bytes = account->quota_bytes;
    (void)pthread_mutex_unlock(&account->lock);
}

void catalog_sums(struct catalog *catalog, struct catalog_session *session,
                  struct catalog_sums *sums)
{
    (void)pthread_mutex_lock(&catalog->lock);
    sums_locked(session->account, sums);
    (void)pthread_mutex_unlock(&catalog->lock);
}

// Into its place among `count` that are in order; the last one goes when there is no room.
static size_t keep_first(struct catalog_sums *first, size_t count, size_t room,
                         const struct catalog_sums *sums)
{
    size_t at = count;
    while (at > 0 && strcmp(first[at - 1].principal, sums->principal) > 0) {
        at--;
    }
    if (at == room) {
        return count;
    }
    size_t kept = count < room ? count : room - 1;
    memmove(first + at + 1, first + at, (kept - at) * sizeof *first);
    first[at] = *sums;
    return kept + 1;
}

size_t catalog_principals(struct catalog *catalog, struct catalog_sums *first, size_t room,
                          struct catalog_totals *totals)
{
    size_t count = 0;
    *totals = (struct catalog_totals){0};
    (void)pthread_mutex_lock(&catalog->lock);
    for (struct catalog_account *account = catalog->accounts; account != NULL;
         account = account->next) {
        struct catalog_sums sums;
        sums_locked(account, &sums);
        totals->sessions += sums.sessions;
        totals->segments += sums.segments;
        totals->principals++;
        if (sums.quota_bytes != UINT64_MAX && sums.quota_bytes > 0) {
            double full = (double)sums.charged_bytes / (double)sums.quota_bytes;
            totals->fullest = full > totals->fullest ? full : totals->fullest;
        }
        count = keep_first(first, count, room, &sums);
    }
    (void)pthread_mutex_unlock(&catalog->lock);
    return count;
}
