// SPDX-License-Identifier: Apache-2.0
//
// Between the two files of what looks below gRPC lanes: lane_http2_front.c has the frames and the table of connections,
// lane_http2_room_front.c the room for messages that are on their way. Everything here under the former's lock.
#ifndef RPC_LANE_HTTP2_FRONT_H
#define RPC_LANE_HTTP2_FRONT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

enum { HTTP2_PREFIX_BYTES = 5 }; // before each message: 0, and its length

struct http2_room { // of one connection; zeros but for fd and limited in the beginning
    TAILQ_ENTRY(http2_room) link;
    int fd;
    bool limited; // its large messages wait for room
    bool called;  // it has a call that takes messages
    uint8_t prefix[HTTP2_PREFIX_BYTES];
    unsigned have;
    uint32_t left;   // of the message that comes
    unsigned whole;  // messages that came and that nobody is done with
    uint32_t wanted; // the message's, while it waits: in line once it is called
    size_t held;     // of it, and of those before it that nobody has taken yet
    int64_t since;   // when it got room, or the one before it was done; CLOCK_MONOTONIC
    size_t came;     // of it since then
};

// These bytes of the call have come. False: no message of ours begins so.
bool http2_room_bytes(struct http2_room *room, const uint8_t *data, size_t bytes);
// Not a byte more is to be read now; when there is room, the socket tells gRPC so.
bool http2_room_waits(const struct http2_room *room);
void http2_room_called(struct http2_room *room);
// The service is done with a message; bytes: its length.
void http2_room_taken(struct http2_room *room, size_t bytes);
void http2_room_leave(struct http2_room *room);
// The next one behind `room` (NULL: the first) that has kept others waiting for too long; NULL: none.
struct http2_room *http2_room_overdue(struct http2_room *room, int64_t now);
// It has its time again.
void http2_room_again(struct http2_room *room);
bool http2_room_crowded(void); // somebody waits

#endif
