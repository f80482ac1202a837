// SPDX-License-Identifier: Apache-2.0
//
// The catalog: segments by name and id, their owners, epochs, leases, quotas. One writer or many
// readers. It holds one lock, does no network I/O, and takes the time as an argument, so that tests
// can move it.
//
// A lapsed lease makes a segment takeable, not taken: the epoch rises only when another session
// opens it for writing, or on a takeover by the same principal. After a restart of dsmd all leases
// begin anew: until then the writer and the readers of before are presumed alive.
#ifndef SERVER_CATALOG_H
#define SERVER_CATALOG_H

#include <stdatomic.h>

#include "rpc/keyfile.h"
#include "server/store/store.h"

struct catalog;
struct catalog_session; // one process at this server

struct catalog_segment_view { // what an open gives; a copy
    struct store_segment_record record;
    uint64_t highest;
    uint64_t stored_bytes;
    uint64_t none_pages; // without backing
    uint32_t readers;
    bool writer;
};

// What a page operation may use between catalog_enter() and catalog_exit(). The epoch is looked at
// by every enter.
struct catalog_segment;
struct catalog_hold {
    struct store_segment *segment;
    struct catalog_segment *entry;
    uint64_t id;
    uint64_t epoch; // with which it was opened
    uint64_t pages;
    uint32_t page_bytes;
    bool write;    // opened for writing
    bool changing; // this operation changes pages
    bool thin;     // NORESERVE: catalog_growth_charge() before a write
};

int catalog_create(struct store *store, int64_t lease_ms, int64_t now_ms, struct catalog **catalog);
void catalog_destroy(struct catalog **catalog);

// The session with this instance id, made when new. A session belongs to one key of one principal
// (-EACCES otherwise; -EUSERS: the principal or the server has too many; -ENOMEM). Counted: each
// get has its put; a session without lanes that has something open lives on until its lease lapses.
int catalog_session_get(struct catalog *catalog, const uint8_t instance[WIRE_ID_BYTES],
                        const struct key_grant *grant, const char *holder, int64_t now_ms,
                        struct catalog_session **session);
void catalog_session_put(struct catalog *catalog, struct catalog_session *session, int64_t now_ms);
bool catalog_session_revoked(const struct catalog_session *session);         // its key is gone
void catalog_session_renew(struct catalog_session *session, int64_t now_ms); // lock-free
// After a change of the authorized file: rights, prefixes and quotas follow; a session whose key is
// gone may do nothing more from here on, and ends with its last put (at once when it has no lane).
void catalog_regrant(struct catalog *catalog, const struct key_grants *grants);

enum wire_status catalog_segment_create(struct catalog *, struct catalog_session *,
                                        const uint8_t operation[WIRE_ID_BYTES], const char *name,
                                        uint64_t bytes, uint32_t page_bytes, uint32_t type,
                                        uint32_t flags, struct catalog_segment_view *view,
                                        struct failure *failure);
// Another segment with the pages that segment `source`, which this session has open under this epoch, has now. bytes 0: as many.
struct catalog_clone_request {
    const uint8_t *operation; // WIRE_ID_BYTES
    const char *name;
    uint64_t source, epoch;
    uint64_t bytes;
    uint32_t type, flags;
};
enum wire_status catalog_segment_clone(struct catalog *, struct catalog_session *,
                                       const struct catalog_clone_request *,
                                       struct catalog_segment_view *view, struct failure *failure);
// Code of this identity: opened for reading, or made and opened for writing (view->writer), to be sealed when it is filled. BUSY while
// another process fills it.
enum wire_status catalog_code_open(struct catalog *, struct catalog_session *,
                                   const uint8_t identity[WIRE_DIGEST_BYTES], uint64_t bytes,
                                   uint32_t page_bytes, int64_t now_ms,
                                   struct catalog_segment_view *view, struct failure *failure);
// It is complete: from now on this session and all others have it for reading.
enum wire_status catalog_code_seal(struct catalog *, struct catalog_session *, uint64_t id,
                                   uint64_t epoch, struct catalog_segment_view *view,
                                   struct failure *failure);
struct catalog_open_request {
    const char *name; // or NULL and
    uint64_t id;
    bool write, takeover;
    uint64_t epoch;   // 0, or the epoch held before
    uint64_t highest; // 0, or the highest write that the session was told of
};
enum wire_status catalog_segment_open(struct catalog *, struct catalog_session *,
                                      const struct catalog_open_request *, int64_t now_ms,
                                      struct catalog_segment_view *view, struct failure *failure);
enum wire_status catalog_segment_close(struct catalog *, struct catalog_session *, uint64_t id);
enum wire_status catalog_segment_delete(struct catalog *, struct catalog_session *,
                                        const uint8_t operation[WIRE_ID_BYTES], const char *name,
                                        int64_t now_ms, struct failure *failure);

// Page operations: finds the session's hold on segment `id`, checks right, epoch and bounds, and
// keeps the segment from being deleted until exit. No lock is held in between.
enum wire_status catalog_enter(struct catalog *, struct catalog_session *,
                               const struct wire_header *request, struct catalog_hold *hold);
void catalog_exit(struct catalog *, const struct catalog_hold *hold);
// Before a write into a thin segment, and before pages get backing again: charges growth_bytes to the principal
// until settle, which looks at what the segment really takes. WIRE_OVER_QUOTA: nothing was charged.
enum wire_status catalog_growth_charge(const struct catalog_hold *hold, uint64_t growth_bytes);
void catalog_growth_settle(const struct catalog_hold *hold, uint64_t growth_bytes);

// Visits segments that this session may see, in order of name, after `after`; stops when visit
// returns false.
void catalog_list(struct catalog *, struct catalog_session *, const char *prefix, const char *after,
                  bool (*visit)(void *context, const struct catalog_segment_view *view),
                  void *context);
struct catalog_sums {
    char principal[LIMIT_PRINCIPAL_NAME_BYTES]; // whose sums they are
    uint64_t sessions, segments, charged_bytes, quota_bytes;
};
void catalog_sums(struct catalog *, struct catalog_session *, struct catalog_sums *sums);
// Of all principals. Of those of the first names, as many as there is room for, in the order of their names.
struct catalog_totals {
    uint64_t sessions, segments, principals;
    double fullest; // of any principal: charged / quota; 0 where none has a quota
};
size_t catalog_principals(struct catalog *, struct catalog_sums *first, size_t room,
                          struct catalog_totals *totals);
// Ends sessions whose lease lapsed and that have no lane. Call now and then.
void catalog_expire(struct catalog *, int64_t now_ms);

#endif
