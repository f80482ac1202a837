// SPDX-License-Identifier: Apache-2.0
//
// The wire. A message is one header record of fixed size, sealed, and then `length` bytes of payload cut
// into records of at most LIMIT_RECORD_DATA_BYTES, each sealed. No length is ever sent in plain: the
// header, once opened and checked, says how much follows. All integers are little-endian; encode and
// decode are explicit; no struct is ever cast to bytes.
//
// READ answers and WRITE requests carry page data: bit i of `map` says that the data of page (page + i)
// follows (in order, compacted); a clear bit is a page of zeros, which takes no bytes.
//
// Threads: pure functions, async-signal-safe.
#ifndef RPC_WIRE_H
#define RPC_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rpc/limits.h"

enum {
    WIRE_VERSION = 1,
    WIRE_MAGIC_BYTES = 8,
    WIRE_HELLO_BYTES = 160,
    WIRE_HEADER_BYTES = 96,
    WIRE_HEADER_SEALED_BYTES = WIRE_HEADER_BYTES + LIMIT_SEAL_BYTES,
    WIRE_MAP_BYTES = LIMIT_RUN_PAGES / 8,
    WIRE_ATTACH_BYTES = 160,
    WIRE_ATTACHED_BYTES = 256,
    WIRE_ID_BYTES = 16,
    WIRE_TOKEN_BYTES = 32,  // what a capsule shows to be redeemed
    WIRE_DIGEST_BYTES = 32, // of a token; of code
};

enum wire_op {
    WIRE_ATTACH = 1, // first record of a connection: which session, lane, generation
    WIRE_READ = 2,
    WIRE_WRITE = 3,
    WIRE_DISCARD = 4,
    WIRE_CONTROL = 5,  // payload: dsm.proto
    WIRE_PING = 6,     // also renews the session's lease
    WIRE_CLOSE = 7,    // authenticated end of a connection: tells an end from a cut
    WIRE_GIVE_UP = 8,  // pages lose their backing, and the segment what was promised for them
    WIRE_ALLOCATE = 9, // pages without backing have it again, as zeros; others are passed over
    WIRE_LAST_OP = WIRE_ALLOCATE,
};
enum { WIRE_ANSWER = 0x8000 }; // op of an answer: op of the request | WIRE_ANSWER

enum wire_status {
    WIRE_OK = 0,
    WIRE_FENCED = 1,     // epoch lower than the segment's
    WIRE_NO_SEGMENT = 2, // unknown, deleted or not this principal's
    WIRE_NOT_OPEN = 3,   // this session has not (yet, after a restart) opened it
    WIRE_BOUNDS = 4, // page + count beyond the segment, or overflowing, or count 0; or no backing
    WIRE_NO_SPACE = 5,
    WIRE_OVER_QUOTA = 6,
    WIRE_NOT_ALLOWED = 7, // a right is missing, or opened for reading only
    WIRE_STORE_ERROR = 8, // the store's medium failed
    WIRE_BUSY = 9,        // open elsewhere; the answer names the holder
    WIRE_EXISTS = 10,
    WIRE_INVALID = 11,  // a field out of its range
    WIRE_TOO_MANY = 12, // segments, connections, lanes
    WIRE_DRAINING = 13,
    WIRE_UNAUTHORIZED = 14, // key not in the authorized file
    WIRE_WRONG_CLUSTER = 15,
    WIRE_WRONG_SERVER = 16,
    WIRE_OLD_VERSION = 17,
    WIRE_STALE_GENERATION = 18,
    WIRE_EXPIRED = 19, // the capsule is too old
    WIRE_USED = 20,    // the capsule was redeemed, or its image taken back
    WIRE_STATUS_COUNT
};

// A mover talks to a host's "dsmctl agent" (tools/mover_link.h), the others to a dsmd.
enum wire_role { WIRE_ROLE_CLIENT = 1, WIRE_ROLE_TOOL = 2, WIRE_ROLE_MOVER = 3 };
enum wire_lane_kind { WIRE_LANE_SOCK = 1, WIRE_LANE_GRPC = 2 };

extern const uint8_t wire_magic[WIRE_MAGIC_BYTES]; // a hello begins with it

struct wire_hello { // sent in plain; the prologue of the handshake
    uint16_t version;
    uint8_t suite; // enum noise_suite
    uint8_t role;
    uint8_t lane_kind;
    char cluster[LIMIT_CLUSTER_NAME_BYTES];
    char server[LIMIT_SERVER_NAME_BYTES]; // may be ""
};

struct wire_header {
    uint16_t op;
    uint16_t status;  // answers; 0 in requests
    uint32_t length;  // payload bytes that follow
    uint64_t request; // chosen by the client, echoed
    uint64_t segment;
    uint64_t epoch;
    uint64_t page;
    uint32_t count; // pages
    uint32_t done;  // answers: pages that were done before the one that failed
    uint64_t
        version; // WRITE, DISCARD, GIVE_UP, ALLOCATE: version given to every page; answers: highest applied to the segment
    union {
        uint64_t hint; // READ: page that will probably be asked for next, or WIRE_NO_HINT
        struct {       // answers
            uint32_t
                server_ns; // from the request's arrival to the first byte of this; at most UINT32_MAX
            uint32_t cipher_ns; // of these, spent in the server's cipher
        };
    };
    uint8_t map[WIRE_MAP_BYTES];
};
#define WIRE_NO_HINT UINT64_MAX

struct wire_attach {
    uint8_t instance[WIRE_ID_BYTES];      // of the session
    uint64_t generation;                  // of this lane; a higher one replaces a lower one
    uint32_t lane;                        // < LIMIT_LANES_PER_SESSION
    char holder[LIMIT_HOLDER_NAME_BYTES]; // "host pid program", for messages that name a holder
};

struct wire_attached {
    uint8_t store_id[WIRE_ID_BYTES];
    uint64_t incarnation;
    uint32_t lease_ms;
    uint32_t rights;
    char text[192]; // a refusal's sentence
};

// encode: writes exactly WIRE_*_BYTES. decode: 0, or -EBADMSG for anything that is not canonical (bad magic,
// unknown op or status, name without NUL or with bytes outside [!-~] or "/"-free rules, non-zero padding).
void wire_hello_encode(const struct wire_hello *hello, uint8_t *to);
int wire_hello_decode(const uint8_t *from, struct wire_hello *hello);
void wire_header_encode(const struct wire_header *header, uint8_t *to);
int wire_header_decode(const uint8_t *from, struct wire_header *header);
void wire_attach_encode(const struct wire_attach *attach, uint8_t *to);
int wire_attach_decode(const uint8_t *from, struct wire_attach *attach);
void wire_attached_encode(const struct wire_attached *attached, uint8_t *to);
int wire_attached_decode(const uint8_t *from, struct wire_attached *attached);

// 0, or -EBADMSG unless op is a request that a server may get and its length, count, page and map agree with
// each other and with the bounds above (page + count is checked against overflow; page_bytes is not known
// here). The same for answers on the client's side.
int wire_request_check(const struct wire_header *header);
int wire_answer_check(const struct wire_header *header, const struct wire_header *request);

unsigned wire_map_count(const uint8_t *map, unsigned pages); // set bits among the first `pages`
static inline bool wire_map_get(const uint8_t *map, unsigned i)
{
    return (map[i / 8] >> (i % 8)) & 1;
}
static inline void wire_map_set(uint8_t *map, unsigned i)
{
    map[i / 8] = (uint8_t)(map[i / 8] | 1u << (i % 8));
}

// Sealed bytes of a payload of `length`: its records and their tags.
static inline size_t wire_sealed_bytes(size_t length)
{
    size_t records = (length + LIMIT_RECORD_DATA_BYTES - 1) / LIMIT_RECORD_DATA_BYTES;
    return length + records * LIMIT_SEAL_BYTES;
}

// A segment's name: 1 to 255 bytes of [A-Za-z0-9._@:+=-] in parts joined by "/", no part "." or ".." or empty.
bool wire_segment_name_valid(const char *name);
int wire_status_errno(enum wire_status status);        // 0 or -errno
const char *wire_status_text(enum wire_status status); // a sentence's worth, English

#endif
