// SPDX-License-Identifier: Apache-2.0
//
// One connection: address, TCP, handshake, lane. Only session.c calls it.
#ifndef LIBDSM_BACKING_CONNECT_H
#define LIBDSM_BACKING_CONNECT_H

#include "libdsm/backing/session.h"

// Reads keys, splits the address, draws the instance id. 0 or -errno with a sentence.
int connect_prepare(struct session *session, struct failure *failure);
void connect_forget(struct session *session);
// A connected lane of the kind that its class asks for; *attached is what the server said. 0 or -errno with a sentence.
int connect_lane(struct session *session, const struct backing_lane *lane, uint64_t generation,
                 struct lane **connected, struct wire_attached *attached, struct failure *failure);

#endif
