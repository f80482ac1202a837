// SPDX-License-Identifier: Apache-2.0
//
// What the service has done: requests by operation and status, bytes, times. Counted by the fronts' threads without a lock,
// read by anybody at any time.
#ifndef SERVER_TALLY_H
#define SERVER_TALLY_H

#include "rpc/latency.h"
#include "rpc/wire.h"

enum { TALLY_OPS = WIRE_LAST_OP + 1 }; // by enum wire_op; 0 is any other

struct tally;

struct tally_sums {
    uint64_t answers[TALLY_OPS][WIRE_STATUS_COUNT];
    uint64_t received_bytes[TALLY_OPS],
        sent_bytes[TALLY_OPS]; // of payload: pages, control messages
    uint64_t latency_ns[TALLY_OPS];
    uint64_t latency[TALLY_OPS][LATENCY_BUCKETS];
};

struct tally *tally_create(void); // NULL: no memory
void tally_destroy(struct tally **tally);
// A request is answered; and, when the answer has been handed over, ns after the request came.
void tally_request(struct tally *tally, const struct wire_header *request,
                   const struct wire_header *answer);
void tally_duration(struct tally *tally, const struct wire_header *request, uint64_t ns);
void tally_read(const struct tally *tally, struct tally_sums *sums);
const char *tally_op_name(unsigned op);         // "read"
const char *tally_status_name(unsigned status); // "no_space"

#endif
