// SPDX-License-Identifier: Apache-2.0
//
// Every bound and every timeout of the product, with its unit in the name. Both ends include this
// file, so a bound that one end keeps is the bound that the other end checks. Timeouts nest:
// rpc < failover < fault timeout < lease (architecture.md, invariant 10).
#ifndef RPC_LIMITS_H
#define RPC_LIMITS_H

enum {
    // Pages and runs.
    LIMIT_PAGE_MIN_BYTES = 4 << 10,
    LIMIT_PAGE_MAX_BYTES = 1 << 20,
    LIMIT_RUN_BYTES = 1 << 20,
    LIMIT_RUN_PAGES = LIMIT_RUN_BYTES / LIMIT_PAGE_MIN_BYTES,
    LIMIT_RESERVE_PAGES = 1 << 20, // that one request gives up, or allocates

    // Messages and records.
    LIMIT_RECORD_DATA_BYTES =
        32 << 10,                   // plain bytes of one data record; Noise allows 65,535 sealed
    LIMIT_SEAL_BYTES = 16,          // what sealing adds to a record
    LIMIT_CONTROL_BYTES = 64 << 10, // one encoded control message
    LIMIT_LANE_IN_FLIGHT_BYTES = 4 << 20,
    LIMIT_LANE_RECORDS_LOG2 = 32, // a connection is replaced before its 2^32nd record

    // Names. Sizes of arrays that hold one, NUL included.
    LIMIT_SEGMENT_NAME_BYTES = 256,
    LIMIT_CLUSTER_NAME_BYTES = 64,
    LIMIT_SERVER_NAME_BYTES = 64,
    LIMIT_PRINCIPAL_NAME_BYTES = 64,
    LIMIT_HOLDER_NAME_BYTES = 96,

    // Server.
    LIMIT_HANDSHAKE_MS = 5000,
    LIMIT_HANDSHAKE_FAILURES_PER_S = 20,
    LIMIT_HANDSHAKE_FAILURES_BURST = 5,
    LIMIT_MADE_ROOM_PER_S = 3072, // connections ended for others at one address; more in need
    LIMIT_CONNECTIONS = 16384,
    LIMIT_CONNECTIONS_PER_KEY = 4096,
    LIMIT_RESERVED_DESCRIPTORS = 96, // of them up to 30 for /metrics
    LIMIT_SEGMENTS_PER_PRINCIPAL = 1024,
    LIMIT_SESSION_SEGMENTS = 256,
    LIMIT_IMAGE_SEGMENTS = 64,         // of one process image; a capsule has as many
    LIMIT_IMAGES_PER_PRINCIPAL = 1024, // that the server remembers
    LIMIT_CAPSULE_MIN_MS = 100,        // for which an image stays parked
    LIMIT_CAPSULE_MAX_MS = 24 * 3600 * 1000,
    LIMIT_IMAGE_KEPT_MS =
        10 * 60 * 1000, // after its capsule expired, so that a late one is told why it is refused
    LIMIT_HEADROOM_BYTES = 64 << 20,
    LIMIT_UNEXPLAINED_BYTES = 64 << 10, // gRPC lane: received but not part of an opened record
    LIMIT_WATCHDOG_MS = 10,
    LIMIT_UNFINISHED_BYTES = 24 << 20, // gRPC lanes: of all messages on their way
    LIMIT_UNREAD_BYTES = 16 << 20,     // of all answers that wait for their clients to take them
    LIMIT_HOLD_MS = 2000, // that a message may keep room, or a buffer, that others wait for

    // Time.
    LIMIT_CONNECT_MS = 5000,
    LIMIT_EMBEDDED_START_MS = 20000, // from the start of an embedded dsmd to its answer
    LIMIT_EMBEDDED_END_MS = 5000,    // for which dsm_close() waits for its end
    LIMIT_RPC_MS = 10000,
    LIMIT_FAILOVER_MS = 20000,
    LIMIT_FAULT_TIMEOUT_MS = 30000,
    LIMIT_LEASE_MS = 60000,
    LIMIT_HEARTBEAT_MS = 5000,
    LIMIT_RECONNECT_MIN_MS = 20,
    LIMIT_RECONNECT_MAX_MS = 500,

    // Client.
    LIMIT_CACHE_MIN_PAGES = 64,
    LIMIT_CACHE_PAGES_PER_THREAD = 32,
    LIMIT_SIGNAL_STACK_BYTES = 64 << 10,
    LIMIT_LANES_PER_SESSION = 64,
    LIMIT_STORES = 8, // that hold one session's segments
    LIMIT_PLACEMENT_ROWS = 64,
    LIMIT_RUN_PIECES = 8, // physical runs of a virtual one: stripes of 128 KiB

    // Migration.
    LIMIT_CAPSULE_BYTES = 16 << 20, // before it is sealed
    LIMIT_CAPSULE_SEGMENTS = LIMIT_IMAGE_SEGMENTS,
    LIMIT_CAPSULE_TASK_BYTES = 4096,
    LIMIT_BUILD_ID_BYTES = 64,
};

#define LIMIT_LANE_BYTES (1ULL << 40) // a connection is replaced before its 2^40th byte
#define LIMIT_LANE_AGE_MS (3600LL * 1000)
#define LIMIT_SEGMENT_BYTES (1ULL << 46)
// Segments get their addresses here, never twice on one server. Thread sanitizer knows only the
// low addresses, so an instrumented build deals those out.
#if defined(__SANITIZE_THREAD__)
#define LIMIT_BASE_LOW 0x001000000000ULL
#define LIMIT_BASE_HIGH 0x007000000000ULL
#else
#define LIMIT_BASE_LOW 0x200000000000ULL
#define LIMIT_BASE_HIGH 0x600000000000ULL
#endif
// Sizes of a principal's NORESERVE segments in sum: no quota counts them, and the addresses are
// everybody's.
#define LIMIT_THIN_BYTES ((LIMIT_BASE_HIGH - LIMIT_BASE_LOW) / 16)

#endif
