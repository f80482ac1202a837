// SPDX-License-Identifier: Apache-2.0
//
// A front that is no network: the test, or a fuzz target, has the service's connections in its hand. It says what a client
// would, by service_calls, and sees what is answered.
#ifndef TESTS_UNIT_SERVICE_RIG_H
#define TESTS_UNIT_SERVICE_RIG_H

#include "server/service.h"

struct lane_peer {
    void *user; // the service's
    int shut;   // why, or 0
    unsigned answers;
    struct wire_header answer; // the last one
    uint8_t payload[LIMIT_RUN_BYTES];
};

struct rig_front {
    struct lane_front front;
    struct lane_peer *coming; // what the next connection becomes; the caller's
    int error;                // add() ends so
    bool closes;              // the connection ends within add()
};

void rig_front_init(struct rig_front *own);
void rig_front_woken(void *context); // service_options.wake: nothing
// Hands a request in, which must be answered once. The status of the answer.
enum wire_status rig_front_ask(struct lane_peer *peer, const struct wire_header *request,
                               const void *payload);

#endif
