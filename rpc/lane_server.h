// SPDX-License-Identifier: Apache-2.0
//
// The server's end of lanes. A front (one per kind of lane) owns a fixed number of threads; each connection is
// a `peer`. The front opens and checks a whole request, then calls the service, on one of its threads, one
// message of a peer at a time; the service answers before it returns, with lane_peer_answer().
//
// Answers of a peer that does not read them are kept up to LIMIT_LANE_IN_FLIGHT_BYTES; then the front stops
// reading that peer (and no other). Memory: an idle peer costs at most 48 KiB; request payloads of up to
// LIMIT_RUN_BYTES come from a pool of the front, and a peer waits for its turn when that is used up.
#ifndef RPC_LANE_SERVER_H
#define RPC_LANE_SERVER_H

#include <stdint.h>
#include <sys/uio.h>

#include "rpc/noise.h"
#include "rpc/spin.h"
#include "rpc/wire.h"

struct lane_front;
struct lane_peer;

struct lane_service {
    // Must call lane_peer_answer() once for each message, before it returns. payload: header->length bytes,
    // the front's, valid during the call.
    void (*message)(void *user, struct lane_peer *peer, const struct wire_header *request,
                    const uint8_t *payload);
    // The peer is gone; no message() for it runs or will run. Called once. `reason`: -ESHUTDOWN CLOSE was said,
    // else why. The user pointer is the service's again.
    void (*closed)(void *user, int reason);
};

struct lane_front_ops {
    // Takes over fd and ciphers, also on failure. `user` comes back in the service's calls. 0 or -errno.
    int (*add)(struct lane_front *front, int fd, struct noise_cipher *send,
               struct noise_cipher *receive, void *user, struct lane_peer **peer);
    void (*stop)(
        struct lane_front *front); // ends every peer (closed() is called), joins the threads, frees
};

struct lane_front {
    const struct lane_front_ops *ops;
};

// Fronts. NULL and errno on failure. threads >= 1. spin outlives the front; NULL: threads sleep at once.
struct lane_front *lane_sock_front_create(const struct lane_service *service, int threads,
                                          struct spin_share *spin);
struct lane_front *lane_grpc_front_create(const struct lane_service *service, int threads);

// Seals header and header->length payload bytes, gathered from the pieces during the call, and sends or queues
// them. Only from within message(), on its thread. 0, or -ENOTCONN when the peer is dead (closed() will follow).
int lane_peer_answer(struct lane_peer *peer, const struct wire_header *header,
                     const struct iovec *pieces, int count);
// What the request that was answered last has cost: from its arrival until now, and the sealing of the first portion of its answer. Only from
// within message(), after the answer.
struct lane_cost {
    uint64_t ns, cipher_ns;
};
struct lane_cost lane_peer_cost(const struct lane_peer *peer);
// Ends the peer from any thread that holds a reference by way of not having seen closed() yet: reads and writes
// stop, closed() follows on the front's own thread.
void lane_peer_shut(struct lane_peer *peer, int reason);

// Bytes that the peer's opened records took on the wire, against what TCP says it received: the watchdog of
// security.md runs inside lane_grpc_front.
#endif
