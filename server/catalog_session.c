// SPDX-License-Identifier: Apache-2.0
//
// Sessions: one process each, known by a random instance id, bound to the key with which it came
// first; and the holdings, which say what a session has open. A session's lease is one atomic time
// that every request renews without a lock.
//
// A session ends when its last lane is gone and it has nothing open, or when its lease has lapsed
// as well, or when its key was removed. Ending is not closing: the records keep the writer and the
// mark of readers, so that whoever opens next raises the epoch and the lost process, should it come
// back, is fenced and cannot go on with stale pages.
//
// The session is bound to the key and not only to the principal: otherwise a read-only key of a
// principal could join the session of a key that may write.
//
// Locks: C for everything; S besides when holdings change (page operations read them under S
// alone).
#include "server/catalog_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t session_bucket(const uint8_t instance[WIRE_ID_BYTES])
{
    uint32_t hash = 2166136261U;
    for (size_t i = 0; i < WIRE_ID_BYTES; i++) {
        hash = (hash ^ instance[i]) * 16777619U;
    }
    return hash % CATALOG_SESSION_BUCKETS;
}

bool catalog_session_alive(const struct catalog *catalog, const struct catalog_session *session,
                           int64_t now_ms)
{
    return !atomic_load(&session->revoked) &&
           now_ms - atomic_load(&session->renewed_ms) <= catalog->lease_ms;
}

bool catalog_presumed(const struct catalog_segment *segment, int64_t now_ms)
{
    return now_ms < segment->presumed_until_ms;
}

struct holding *catalog_holding_find(const struct catalog_session *session, uint64_t id)
{
    struct holding *holding = session->holdings[id % CATALOG_HOLDING_BUCKETS];
    while (holding != NULL && holding->id != id) {
        holding = holding->next;
    }
    return holding;
}

void catalog_holding_add_locked(struct catalog_session *session, struct holding *holding)
{
    struct catalog_segment *segment = holding->segment;
    if (holding->write) {
        segment->writer = holding;
    } else {
        holding->next_reader = segment->readers;
        segment->readers = holding;
    }
    holding->session = session;
    struct holding **bucket = &session->holdings[holding->id % CATALOG_HOLDING_BUCKETS];
    (void)pthread_mutex_lock(&session->lock);
    holding->next = *bucket;
    *bucket = holding;
    (void)pthread_mutex_unlock(&session->lock);
    session->count++;
}

static void leave_segment(struct holding *holding)
{
    struct catalog_segment *segment = holding->segment;
    if (segment == NULL) {
        return;
    }
    if (holding->write) {
        segment->writer = NULL;
        return;
    }
    struct holding **link = &segment->readers;
    while (*link != holding) {
        link = &(*link)->next_reader;
    }
    *link = holding->next_reader;
}

void catalog_holding_fence_locked(struct holding *holding)
{
    leave_segment(holding);
    (void)pthread_mutex_lock(&holding->session->lock);
    holding->segment = NULL;
    (void)pthread_mutex_unlock(&holding->session->lock);
}

void catalog_holding_end_locked(struct holding *holding)
{
    struct catalog_session *session = holding->session;
    leave_segment(holding);
    (void)pthread_mutex_lock(&session->lock);
    struct holding **link = &session->holdings[holding->id % CATALOG_HOLDING_BUCKETS];
    while (*link != holding) {
        link = &(*link)->next;
    }
    *link = holding->next;
    (void)pthread_mutex_unlock(&session->lock);
    session->count--;
    free(holding);
}

static void session_end_locked(struct catalog *catalog, struct catalog_session *session)
{
    for (size_t i = 0; i < CATALOG_HOLDING_BUCKETS; i++) {
        struct holding *holding;
        while ((holding = session->holdings[i]) != NULL) {
            if (holding->segment != NULL && !holding->write) {
                holding->segment->lost_readers = true;
            }
            catalog_holding_end_locked(holding);
        }
    }
    struct catalog_session **link = &catalog->sessions[session_bucket(session->instance)];
    while (*link != session) {
        link = &(*link)->next;
    }
    *link = session->next;
    session->account->sessions--;
    catalog->session_count--;
    (void)pthread_mutex_destroy(&session->lock);
    free(session);
}

static void apply_grant_locked(struct catalog_session *session, const struct key_grant *grant)
{
    atomic_store(&session->rights, grant->rights);
    memcpy(session->prefix, grant->prefix, sizeof session->prefix);
    (void)pthread_mutex_lock(&session->account->lock);
    session->account->quota_bytes = grant->quota_bytes;
    (void)pthread_mutex_unlock(&session->account->lock);
}

static int session_make_locked(struct catalog *catalog, const uint8_t instance[WIRE_ID_BYTES],
                               const struct key_grant *grant, const char *holder,
                               struct catalog_session **session)
{
    struct catalog_account *account = catalog_account_locked(catalog, grant->principal);
    if (account == NULL) {
        return -ENOMEM;
    }
    if (account->sessions >= LIMIT_CONNECTIONS_PER_KEY ||
        catalog->session_count >= LIMIT_CONNECTIONS) {
        return -EUSERS;
    }
    struct catalog_session *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return -ENOMEM;
    }
    (void)pthread_mutex_init(&made->lock, NULL);
    made->account = account;
    memcpy(made->instance, instance, sizeof made->instance);
    memcpy(made->key, grant->public_key, sizeof made->key);
    (void)strncpy(made->holder, holder, sizeof made->holder - 1);
    struct catalog_session **bucket = &catalog->sessions[session_bucket(instance)];
    made->next = *bucket;
    *bucket = made;
    account->sessions++;
    catalog->session_count++;
    *session = made;
    return 0;
}

int catalog_session_get(struct catalog *catalog, const uint8_t instance[WIRE_ID_BYTES],
                        const struct key_grant *grant, const char *holder, int64_t now_ms,
                        struct catalog_session **session)
{
    int error = 0;
    (void)pthread_mutex_lock(&catalog->lock);
    struct catalog_session *found = catalog->sessions[session_bucket(instance)];
    while (found != NULL && memcmp(found->instance, instance, WIRE_ID_BYTES) != 0) {
        found = found->next;
    }
    if (found == NULL) {
        error = session_make_locked(catalog, instance, grant, holder, &found);
    } else if (memcmp(found->key, grant->public_key, NOISE_KEY_BYTES) != 0 ||
               strcmp(found->account->principal, grant->principal) != 0 ||
               atomic_load(&found->revoked)) {
        error = -EACCES;
    }
    if (error == 0) {
        apply_grant_locked(found, grant);
        found->references++;
        catalog_session_renew(found, now_ms);
        *session = found;
    }
    (void)pthread_mutex_unlock(&catalog->lock);
    return error;
}

void catalog_session_put(struct catalog *catalog, struct catalog_session *session, int64_t now_ms)
{
    (void)pthread_mutex_lock(&catalog->lock);
    session->references--;
    if (session->references == 0 &&
        (session->count == 0 || !catalog_session_alive(catalog, session, now_ms))) {
        session_end_locked(catalog, session);
    }
    (void)pthread_mutex_unlock(&catalog->lock);
}

bool catalog_session_revoked(const struct catalog_session *session)
{
    return atomic_load(&session->revoked);
}

void catalog_session_renew(struct catalog_session *session, int64_t now_ms)
{
    int64_t renewed = atomic_load_explicit(&session->renewed_ms, memory_order_relaxed);
    if (now_ms > renewed) { // a late thread may set it back by what it was late: a lease is long
        atomic_store_explicit(&session->renewed_ms, now_ms, memory_order_relaxed);
    }
}

// Calls `visit` on every session; it may free the one it is given.
static void each_session_locked(struct catalog *catalog, const void *context,
                                void (*visit)(struct catalog *, struct catalog_session *,
                                              const void *context))
{
    for (size_t i = 0; i < CATALOG_SESSION_BUCKETS; i++) {
        struct catalog_session *next;
        for (struct catalog_session *session = catalog->sessions[i]; session != NULL;
             session = next) {
            next = session->next;
            visit(catalog, session, context);
        }
    }
}

static void expire_one(struct catalog *catalog, struct catalog_session *session,
                       const void *context)
{
    const int64_t *now_ms = context;
    if (session->references == 0 && !catalog_session_alive(catalog, session, *now_ms)) {
        session_end_locked(catalog, session);
    }
}

void catalog_expire(struct catalog *catalog, int64_t now_ms)
{
    (void)pthread_mutex_lock(&catalog->lock);
    each_session_locked(catalog, &now_ms, expire_one);
    for (size_t i = catalog->count; i > 0; i--) { // from the end: what is dropped moves the rest up
        catalog_drop_unused_locked(catalog, catalog->by_name[i - 1], now_ms);
    }
    (void)pthread_mutex_unlock(&catalog->lock);
}

static void regrant_one(struct catalog *catalog, struct catalog_session *session,
                        const void *context)
{
    const struct key_grant *grant = key_grants_find(context, session->key);
    if (grant != NULL && strcmp(grant->principal, session->account->principal) == 0) {
        apply_grant_locked(session, grant);
        return;
    }
    atomic_store(&session->revoked, true);
    atomic_store(&session->rights, 0);
    if (session->references == 0) {
        session_end_locked(catalog, session);
    }
}

void catalog_regrant(struct catalog *catalog, const struct key_grants *grants)
{
    (void)pthread_mutex_lock(&catalog->lock);
    each_session_locked(catalog, grants, regrant_one);
    (void)pthread_mutex_unlock(&catalog->lock);
}
