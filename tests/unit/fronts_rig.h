// SPDX-License-Identifier: Apache-2.0
//
// What the tests of the fronts share: a service that answers as a store would, and the client's
// end of a connection to it, over either kind of lane, on socket pairs or loopback TCP.
#ifndef TESTS_UNIT_FRONTS_RIG_H
#define TESTS_UNIT_FRONTS_RIG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "rpc/lane.h"
#include "rpc/lane_peer.h"

enum rig_kind { RIG_SOCK, RIG_SOCK_TCP, RIG_GRPC, RIG_GRPC_TCP };
enum { RIG_WAIT_S = 30, RIG_PAGE_BYTES = LIMIT_PAGE_MIN_BYTES };
enum { RIG_GATE = 77 }; // a PING of this segment waits in message() until the gate is opened

struct rig {
    enum rig_kind kind;
    struct lane_front *front;
    struct lane_service service;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool gate_open; // under the lock
    int at_gate;    // under the lock
    int refused;    // under the lock: answers that the front did not take
    _Atomic int overlaps;
    struct spin_share spinning;
    _Atomic uint64_t spun, slept;
};

struct rig_session { // the service's side of one connection
    struct rig *rig;
    struct lane_peer *peer; // NULL once closed; under the rig's lock
    _Atomic int inside;
    _Atomic uint64_t messages;
    int closed; // under the rig's lock: how often
    int reason;
};

struct rig_client {
    struct rig_session session;
    int fd;                       // sock: the client's own end
    struct noise_cipher *send;    // sock
    struct noise_cipher *receive; // sock
    struct lane *lane;            // gRPC
};

void rig_start(struct rig *rig, enum rig_kind kind, int threads);
void rig_stop(struct rig *rig); // the front; sessions keep what they saw
bool rig_is_grpc(enum rig_kind kind);

// Both ends of a new connection: *mine and *theirs are its sockets.
void rig_socket_pair(enum rig_kind kind, int *mine, int *theirs);
struct noise_cipher *rig_cipher(uint8_t key);

void rig_connect(struct rig *rig, struct rig_client *client);
void rig_connect_keys(struct rig *rig, struct rig_client *client, uint8_t send, uint8_t receive);
void rig_close(struct rig_client *client);   // in order
void rig_hang_up(struct rig_client *client); // without CLOSE
// Shuts the peer from the caller's thread, as a service would: under its lock, unless it is closed.
void rig_shut(struct rig_client *client, int reason);
int rig_closed(struct rig_client *client); // waits for closed(); returns its reason
bool rig_is_closed(struct rig_client *client);
void rig_wait_at_gate(struct rig *rig, int count);
void rig_open_gate(struct rig *rig);

// 0 or -errno. A request's payload is the pages' pattern (WRITE) or bytes of CONTROL.
int rig_send(struct rig_client *client, const struct wire_header *header, const void *payload);
int rig_receive(struct rig_client *client, struct wire_header *header, void *payload);

struct wire_header rig_request(enum wire_op op, uint64_t page, uint32_t count);
// Requests without payload that are authentic, but that no honest client sends. False: there is no
// i-th.
bool rig_malformed(size_t i, struct wire_header *request);
void rig_pattern(uint8_t *to, uint64_t page, uint32_t count);
// One request and its answer, checked.
void rig_ping(struct rig_client *client);
void rig_read(struct rig_client *client, uint64_t page, uint32_t count);
void rig_write(struct rig_client *client, uint64_t page, uint32_t count);
void rig_expect_read(struct rig_client *client, uint64_t page, uint32_t count); // answer of a READ

int rig_threads(void); // of this process
size_t rig_resident_bytes(void);

#endif
