// SPDX-License-Identifier: Apache-2.0
//
// What the catalog's own files share; nobody else includes it. catalog.c: the tables and what reads
// them whole; catalog_session.c: sessions and leases; catalog_segment.c: create and delete;
// catalog_open.c: who may open, epochs, close; catalog_page.c: the way of page operations;
// catalog_place.c: addresses.
//
// Lock letters, in the order in which they are taken:
//   C  catalog.lock    all without another letter; held over the store's calls that change records
//   S  session.lock    its holdings: changed under C and S, so either is enough to read them
//   T  account.lock    what a principal is charged
// Page operations take S and, for thin segments, T; C only when somebody waits for them.
#ifndef SERVER_CATALOG_INTERNAL_H
#define SERVER_CATALOG_INTERNAL_H

#include <pthread.h>

#include "server/catalog.h"
#include "server/store/image.h"

#define CATALOG_SCRATCH "tmp/"
#define CATALOG_CODE "tmp/code/"   // names that the server itself gives
#define CATALOG_AWAITED (1U << 31) // of a count: somebody waits for it

enum {
    CATALOG_SESSION_BUCKETS = 4096,
    CATALOG_HOLDING_BUCKETS = 16,
    CATALOG_RECENT_DELETES = 64, // per principal
    CATALOG_DRAIN_MS = 2000,     // how long an open waits for the operations of those before it
};

struct catalog_account { // of a principal; never freed before the catalog
    struct catalog_account *next;
    char principal[LIMIT_PRINCIPAL_NAME_BYTES];
    uint32_t segments;
    uint32_t sessions;
    uint64_t thin_sizes;                                    // of its thin segments, in sum
    uint8_t deleted[CATALOG_RECENT_DELETES][WIRE_ID_BYTES]; // operation ids, a ring
    uint32_t deleted_next;
    pthread_mutex_t lock;
    uint64_t quota_bytes;    // T
    uint64_t reserved_bytes; // T  sizes of segments that are not thin, less pages without backing
    uint64_t thin_bytes;     // T  what thin segments take, index and all, as last settled
    uint64_t pending_bytes;  // T  charged by thin writes in flight
};

struct holding {          // a session has a segment open
    struct holding *next; // in its bucket of the session
    struct holding *next_reader;
    struct catalog_session *session;
    struct catalog_segment *segment; // S  NULL once fenced
    uint64_t id;
    uint64_t epoch;
    bool write;
};

struct catalog_segment {
    struct store_segment *store;
    // Of the record, and never changed: page operations read them without C.
    uint64_t id, pages;
    uint32_t page_bytes;
    bool thin;
    bool ephemeral;
    struct catalog_account *account;
    struct holding *writer;
    struct holding *readers;
    struct catalog_session *opening; // an open waits for operations in flight
    struct catalog_image *image;     // it is in this one's capsule
    uint32_t parked;                 // images in capsules whose code it is
    bool lost_readers;               // some vanished without closing
    int64_t presumed_until_ms;       // holders of before the restart count as alive until then
    uint64_t thin_counted;           // T  its part of account.thin_bytes
    uint64_t
        none_counted; // T  by how much its part of account.reserved_bytes is less than its size
    _Atomic uint32_t reads; // operations between enter and exit | CATALOG_AWAITED
    _Atomic uint32_t writes;
};

struct catalog_session {
    struct catalog_session *next; // in its bucket
    struct catalog_account *account;
    uint8_t instance[WIRE_ID_BYTES];
    uint8_t key[NOISE_KEY_BYTES];
    char holder[LIMIT_HOLDER_NAME_BYTES];
    char prefix[LIMIT_SEGMENT_NAME_BYTES];
    uint32_t references;
    uint32_t count;          // of holdings
    _Atomic unsigned rights; // 0: the key is gone
    _Atomic bool revoked;
    _Atomic int64_t renewed_ms;
    pthread_mutex_t lock;
    struct holding *holdings[CATALOG_HOLDING_BUCKETS]; // S
};

struct catalog_image { // images.h has what survives a restart
    struct catalog_image *next;
    struct store_image file;
    bool working; // a step of it lets go of C
    bool behind;  // not all records have followed its file
    bool closed;  // its members are
};

struct catalog {
    pthread_mutex_t lock;
    pthread_cond_t drained; // with C; CLOCK_MONOTONIC
    struct store *store;
    int64_t lease_ms;
    struct catalog_segment **by_name; // sorted
    struct catalog_segment **by_base; // sorted
    size_t count, capacity;
    uint32_t session_count;
    struct catalog_account *accounts;
    struct catalog_image *images;
    struct catalog_session *sessions[CATALOG_SESSION_BUCKETS];
};

// catalog.c
struct catalog_account *catalog_account_locked(struct catalog *catalog, const char *principal);
size_t catalog_position(const struct catalog *catalog, const char *name); // first not before name
struct catalog_segment *catalog_find_locked(const struct catalog *catalog, const char *name);
struct catalog_segment *catalog_find_id_locked(const struct catalog *catalog, uint64_t id);
int catalog_room_locked(struct catalog *catalog); // for one more segment, or -ENOMEM
// Takes its constants from its record and puts it into the tables.
void catalog_insert_locked(struct catalog *catalog, struct catalog_segment *segment);
void catalog_forget_locked(struct catalog *catalog, struct catalog_segment *segment);
void catalog_view_locked(const struct catalog_segment *segment, struct catalog_segment_view *view);
bool catalog_visible(const struct catalog_session *session, const struct catalog_segment *segment);

// catalog_segment.c: the segment of this record, made and open for writing here, or what an equal request made before. source: NULL, or
// whose pages it begins with.
enum wire_status catalog_create_locked(struct catalog *catalog, struct catalog_session *session,
                                       struct store_segment_record *record,
                                       struct catalog_segment *source,
                                       struct catalog_segment_view *view, struct failure *failure);
void catalog_record_init(struct store_segment_record *record, const struct catalog_session *session,
                         const uint8_t operation[WIRE_ID_BYTES], const char *name);
bool catalog_geometry_valid(uint64_t bytes, uint32_t page_bytes, uint32_t type, uint32_t flags);

// Is it ephemeral, and nobody has it open? drop: deletes it then, unless an operation is not over.
bool catalog_unused_locked(const struct catalog_segment *segment, int64_t now_ms);
void catalog_drop_unused_locked(struct catalog *catalog, struct catalog_segment *segment,
                                int64_t now_ms);

// catalog_session.c
bool catalog_session_alive(const struct catalog *catalog, const struct catalog_session *session,
                           int64_t now_ms);
struct holding *catalog_holding_find(const struct catalog_session *session, uint64_t id);
void catalog_holding_add_locked(struct catalog_session *session, struct holding *holding);
// Takes it out of its session and its segment, and frees it. The record is not touched.
void catalog_holding_end_locked(struct holding *holding);
// It stays with its session, to answer FENCED, but has no segment any more.
void catalog_holding_fence_locked(struct holding *holding);
bool catalog_presumed(const struct catalog_segment *segment, int64_t now_ms);

// catalog_open.c
enum wire_status catalog_open_locked(struct catalog *catalog, struct catalog_session *session,
                                     const struct catalog_open_request *request, int64_t now_ms,
                                     struct catalog_segment_view *view, struct failure *failure);
// Waits until no operation that changes pages (all: none at all) is in flight. -ETIMEDOUT. Lets go
// of C meanwhile.
int catalog_drain_locked(struct catalog *catalog, struct catalog_segment *segment, bool all);
enum wire_status catalog_say(struct failure *failure, enum wire_status status, const char *format,
                             ...) __attribute__((format(printf, 3, 4)));

// catalog_image.c
int catalog_images_load(struct catalog *catalog);  // before the segments are taken in
void catalog_images_link(struct catalog *catalog); // after
void catalog_images_free(struct catalog *catalog);

// catalog_place.c: a base for `bytes`, 0 when there is no room.
uint64_t catalog_place_locked(const struct catalog *catalog, uint64_t bytes);

#endif
