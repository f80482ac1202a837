// SPDX-License-Identifier: Apache-2.0
//
// The way of page operations through the catalog: enter finds what the session holds, checks right,
// epoch and bounds, and counts the operation in; exit counts it out. It takes the session's own
// lock for as long as a look-up takes and never the catalog's, so that a create or an open that
// waits for the disk stops no fault.
//
// Why a late write cannot land after an open was answered: the opener first takes the holding away
// (or fences it) under the session's lock, then waits for the counts to become zero. An enter
// either counted before that, and is waited for, or finds no holding. The mark that somebody waits
// is a bit of the count itself, so that one atomic subtraction tells the last exit all it needs:
// after it the segment may be deleted and must not be touched.
//
// A thin segment is charged as it grows, in pages and in blocks of its index (zeros and discards
// take these too): before the change for the most that it can grow, after it for what the store
// says it takes. While writes are in flight a principal at its quota may be
// refused a little early, never late.
//
// Locks: S in enter, T in the thin calls, C in exit only when awaited.
#include "server/catalog_internal.h"

static enum wire_status check_bounds(const struct wire_header *request,
                                     const struct catalog_segment *segment)
{
    if (request->count == 0 || request->page >= segment->pages ||
        request->count > segment->pages - request->page) {
        return WIRE_BOUNDS;
    }
    if (request->op != WIRE_READ && request->op != WIRE_WRITE) {
        return WIRE_OK;
    }
    if ((uint64_t)request->count * segment->page_bytes > LIMIT_RUN_BYTES) {
        return WIRE_INVALID;
    }
    if (request->op == WIRE_WRITE &&
        request->length !=
            (uint64_t)wire_map_count(request->map, request->count) * segment->page_bytes) {
        return WIRE_INVALID;
    }
    return WIRE_OK;
}

static enum wire_status check_holding(const struct catalog_session *session,
                                      const struct holding *holding,
                                      const struct wire_header *request)
{
    bool changing = request->op != WIRE_READ;
    unsigned need = changing ? KEY_RIGHT_WRITE : KEY_RIGHT_READ;
    if ((atomic_load_explicit(&session->rights, memory_order_relaxed) & need) == 0) {
        return WIRE_NOT_ALLOWED;
    }
    if (holding == NULL) {
        return WIRE_NOT_OPEN;
    }
    if (holding->segment == NULL || request->epoch < holding->epoch) {
        return WIRE_FENCED;
    }
    if (request->epoch > holding->epoch || (changing && request->version == 0)) {
        return WIRE_INVALID;
    }
    if (changing && !holding->write) {
        return WIRE_NOT_ALLOWED;
    }
    return check_bounds(request, holding->segment);
}

static void count_in(const struct holding *holding, bool changing, struct catalog_hold *hold)
{
    struct catalog_segment *entry = holding->segment;
    (void)atomic_fetch_add(changing ? &entry->writes : &entry->reads, 1);
    *hold = (struct catalog_hold){
        .segment = entry->store,
        .entry = entry,
        .id = holding->id,
        .epoch = holding->epoch,
        .pages = entry->pages,
        .page_bytes = entry->page_bytes,
        .write = holding->write,
        .changing = changing,
        .thin = entry->thin,
    };
}

enum wire_status catalog_enter(struct catalog *catalog, struct catalog_session *session,
                               const struct wire_header *request, struct catalog_hold *hold)
{
    (void)catalog;
    (void)pthread_mutex_lock(&session->lock);
    const struct holding *holding = catalog_holding_find(session, request->segment);
    enum wire_status status = check_holding(session, holding, request);
    if (status == WIRE_OK) {
        count_in(holding, request->op != WIRE_READ, hold);
    }
    (void)pthread_mutex_unlock(&session->lock);
    return status;
}

void catalog_exit(struct catalog *catalog, const struct catalog_hold *hold)
{
    struct catalog_segment *entry = hold->entry;
    uint32_t before = atomic_fetch_sub(hold->changing ? &entry->writes : &entry->reads, 1);
    // From here on the entry may be gone: all there is to know was in the word.
    if (before == (CATALOG_AWAITED | 1)) {
        (void)pthread_mutex_lock(&catalog->lock);
        (void)pthread_cond_broadcast(&catalog->drained);
        (void)pthread_mutex_unlock(&catalog->lock);
    }
}

enum wire_status catalog_growth_charge(const struct catalog_hold *hold, uint64_t growth_bytes)
{
    struct catalog_account *account = hold->entry->account;
    enum wire_status status = WIRE_OVER_QUOTA;
    (void)pthread_mutex_lock(&account->lock);
    uint64_t used = account->reserved_bytes + account->thin_bytes + account->pending_bytes;
    if (growth_bytes == 0 ||
        (used <= account->quota_bytes && growth_bytes <= account->quota_bytes - used)) {
        account->pending_bytes += growth_bytes;
        status = WIRE_OK;
    }
    (void)pthread_mutex_unlock(&account->lock);
    return status;
}

void catalog_growth_settle(const struct catalog_hold *hold, uint64_t growth_bytes)
{
    struct catalog_segment *entry = hold->entry;
    struct catalog_account *account = entry->account;
    (void)pthread_mutex_lock(&account->lock);
    uint64_t takes = store_segment_thin_bytes(hold->segment);
    uint64_t none = store_segment_none_bytes(hold->segment);
    account->thin_bytes = account->thin_bytes - entry->thin_counted + takes;
    entry->thin_counted = takes;
    account->reserved_bytes = account->reserved_bytes + entry->none_counted - none;
    entry->none_counted = none;
    account->pending_bytes -= growth_bytes;
    (void)pthread_mutex_unlock(&account->lock);
}
