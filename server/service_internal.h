// SPDX-License-Identifier: Apache-2.0
//
// What the service's own files share: service.c has the messages, service_control.c the control
// operations, service_lanes.c the registry of lanes, service_refused.c what the log says of clients.
//
// Lock letters: G grants_lock; R lanes_lock. G is taken before R and before the catalog's, R before
// the fronts' own locks.
#ifndef SERVER_SERVICE_INTERNAL_H
#define SERVER_SERVICE_INTERNAL_H

#include <pthread.h>

#include "server/service.h"
#include "server/tally.h"

enum { SERVICE_LANE_BUCKETS = 4096, SERVICE_KEY_BUCKETS = 256, SERVICE_ADDRESS_BYTES = 46 };

struct service_lane {
    struct service_lane *next; // R  in its bucket
    struct service *service;   // const, as all without a letter
    struct catalog_session *session;
    uint8_t instance[WIRE_ID_BYTES];
    uint8_t key[NOISE_KEY_BYTES];
    char holder[LIMIT_HOLDER_NAME_BYTES]; // what it says of itself
    char principal[LIMIT_PRINCIPAL_NAME_BYTES];
    char address[SERVICE_ADDRESS_BYTES];
    uint64_t generation;
    uint32_t number;
    bool started;           // R  handed to a front
    bool closed;            // R  its closed() came
    bool starting;          // R  the listener is in service_lane_start()
    bool doomed;            // R  a newer one came, or its key is gone
    struct lane_peer *peer; // R
};

struct service_key { // how many connections a key has
    struct service_key *next;
    uint8_t key[NOISE_KEY_BYTES];
    unsigned count;
};

struct service {
    uint64_t serial; // tells services of one process apart, for threads that registered with one
    struct service_options options;
    struct catalog *catalog;
    struct tally *tally;
    int64_t started_ms;
    pthread_mutex_t grants_lock;
    struct key_grants *grants; // G
    pthread_mutex_t lanes_lock;
    struct service_lane *lanes[SERVICE_LANE_BUCKETS]; // R
    struct service_key *keys[SERVICE_KEY_BUCKETS];    // R
    unsigned lane_count;                              // R
    _Atomic bool draining;
    _Atomic uint64_t requests, pages_read, pages_written;
};

// service_control.c: answers a WIRE_CONTROL message.
void service_control(struct service_lane *lane, struct lane_peer *peer,
                     const struct wire_header *request, const uint8_t *payload, int64_t now_ms);
// service.c
struct wire_header service_answer(const struct wire_header *request, enum wire_status status);
// Every answer goes out here. A peer that is dead is its front's business.
void service_reply(struct service_lane *lane, struct lane_peer *peer,
                   const struct wire_header *request, const struct wire_header *answer,
                   const struct iovec *pieces, int count);

// service_lanes.c
void service_lane_closed(void *user, int reason);
unsigned service_lane_count(struct service *service);

// service_refused.c: for the log. detail: a sentence, or NULL.
void service_say_refused(const struct service_lane *lane, const struct wire_header *request,
                         const struct wire_header *answer, const char *detail);
void service_say_ended(const struct service_lane *lane, int reason);

#endif
