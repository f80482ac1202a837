// SPDX-License-Identifier: Apache-2.0
//
// The listener: accepts, runs handshakes, attaches, and hands what is authenticated to a front. One
// thread, fixed memory.
#ifndef SERVER_LISTENER_H
#define SERVER_LISTENER_H

#include "rpc/handshake.h"
#include "server/log.h"
#include "server/service.h"

struct listener;

struct listener_options { // all borrowed; outlive the listener
    struct service *service;
    struct lane_front *sock_front, *grpc_front;
    const struct key_identity *identity;
    const uint8_t *psk; // NOISE_KEY_BYTES; NULL: zeros
    const char *cluster, *name;
    struct log *log;
};

// Why a connection did not become a lane. Who was told why is counted by the status that it was told.
enum listener_drop {
    LISTENER_DROP_TOLD,
    LISTENER_DROP_FAILURES, // its address has failed too often
    LISTENER_DROP_NO_PLACE,
    LISTENER_DROP_SILENT, // and its place was needed
    LISTENER_DROP_UNPROVEN,
    LISTENER_DROP_LATE,
    LISTENER_DROP_GONE,
    LISTENER_DROP_BROKEN, // what it said does not open
    LISTENER_DROP_SHORTAGE,
    LISTENER_DROP_STOPPING,
    LISTENER_DROPS
};
struct listener_counts {
    uint64_t
        accepted[WIRE_LANE_GRPC + 1]; // lanes that were handed to a front, by enum wire_lane_kind
    uint64_t refused[WIRE_STATUS_COUNT]; // that were told so
    uint64_t dropped[LISTENER_DROPS];
};

// Binds and listens on every address ("host:port", "[v6]:port"); nothing is accepted yet.
// -EADDRINUSE, -EINVAL, ..., each with a sentence.
int listener_create(char *const *addresses, size_t count, struct listener **listener,
                    struct failure *failure);
// The listener of an embedded server: connections are taken from messages on `control`, which stays the caller's.
int listener_create_embedded(int control, struct listener **listener, struct failure *failure);
// Whether an address is one that could be listened on; nothing is bound. -EINVAL with a sentence.
int listener_check(const char *address, struct failure *failure);
uint16_t listener_port(const struct listener *listener); // of the first address
void listener_count(const struct listener *listener, struct listener_counts *counts); // any thread
const char *listener_drop_name(enum listener_drop drop);                              // "late"
int listener_start(struct listener *listener, const struct listener_options *options);
void listener_wake(void *listener); // any thread: ask again for the lanes that wait
// Stops accepting, drops what is not attached yet, joins the thread. Wakes may still come until the
// fronts have stopped too; then destroy.
void listener_stop(struct listener *listener);
void listener_destroy(struct listener **listener);

#endif
