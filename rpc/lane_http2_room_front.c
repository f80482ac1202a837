// SPDX-License-Identifier: Apache-2.0
//
// The room for messages on their way over gRPC lanes. gRPC keeps what has come of a message until all of it has, up to
// 1 MiB for each connection, and knows no bound for all of them together: who begins a long message on each of the
// connections that a key may have, and never ends one, would hold gigabytes. So a long message needs room before more
// of it is read than the first piece: LIMIT_UNFINISHED_BYTES for all of them. Who finds none waits in line, its bytes
// in the kernel's buffers, whose bounds are the system's; the sender is held back by TCP then.
//
// A message has its room until the service is done with it. Who has room and does not send, while others wait, is ended:
// after LIMIT_HOLD_MS, and longer the more has come. Short messages are not counted: one piece of reading holds them. As
// long as a message of it is whole, a connection waits for a worker or for the service, not they for it; unless it is not
// read because it does not take its answers: then it must take them as fast as a message must come.
//
// How gRPC is stopped: its recvmsg() is told that nothing is there (lane_http2_front.c). It waits for the next edge of
// its epoll set then, which setting SO_RCVLOWAT makes, if there is something to read.
//
// Only a connection with a call takes part: what comes before nobody would ever take out.
//
// Rejected: to end who began first when it gets too much. Many honest clients that clean at once over a slow network are
// no attack, and they would begin again. Rejected, too: not to ask gRPC for a message before there is room. It reads 64 KiB
// of each connection all the same, and one cannot know that there is a message to ask for.
//
// Lock: G of lane_http2_front.c, for all of it. One room for the process, as that table is.
#include "rpc/lane_http2_front.h"

#include <string.h>
#include <sys/socket.h>

#include "rpc/deadline.h"
#include "rpc/lane_grpc_front.h"

enum { SHORT_BYTES = GRPC_READ_BYTES };

TAILQ_HEAD(http2_rooms, http2_room);
static struct http2_rooms line = TAILQ_HEAD_INITIALIZER(line);       // G
static struct http2_rooms holders = TAILQ_HEAD_INITIALIZER(holders); // G
static size_t held_bytes;                                            // G

static void begin(struct http2_room *room)
{
    room->since = deadline_now();
    room->came = 0;
}

static bool fits(const struct http2_room *room)
{
    return held_bytes + room->wanted <= LIMIT_UNFINISHED_BYTES;
}

static void grant(struct http2_room *room)
{
    if (room->held == 0) {
        TAILQ_INSERT_TAIL(&holders, room, link);
    }
    room->held += room->wanted;
    held_bytes += room->wanted;
    room->wanted = 0;
    begin(room);
}

static void grant_first(void)
{
    static const int one = 1;
    struct http2_room *room;
    while ((room = TAILQ_FIRST(&line)) != NULL && fits(room)) {
        TAILQ_REMOVE(&line, room, link);
        grant(room);
        (void)setsockopt(room->fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one);
    }
}

// One that holds room already, for messages before, has it without waiting: it must not stand in line for what it holds.
static void ask(struct http2_room *room)
{
    if (room->held > 0 || (TAILQ_EMPTY(&line) && fits(room))) {
        grant(room);
    } else {
        TAILQ_INSERT_TAIL(&line, room, link);
    }
}

static bool message_begins(struct http2_room *room)
{
    const uint8_t *prefix = room->prefix;
    uint32_t length = (uint32_t)prefix[1] << 24 | (uint32_t)prefix[2] << 16 |
                      (uint32_t)prefix[3] << 8 | prefix[4];
    room->have = 0;
    if (prefix[0] != 0 || length > RECORD_MESSAGE_MAX) {
        return false;
    }
    room->left = length;
    room->whole += length == 0;
    if (room->limited && length > SHORT_BYTES) {
        room->wanted = length;
        if (room->called) {
            ask(room);
        }
    }
    return true;
}

bool http2_room_bytes(struct http2_room *room, const uint8_t *data, size_t bytes)
{
    while (bytes > 0) {
        size_t want = room->left > 0 ? room->left : HTTP2_PREFIX_BYTES - room->have;
        size_t part = want < bytes ? want : bytes;
        if (room->left > 0) {
            room->left -= (uint32_t)part;
            room->whole += room->left == 0;
            room->came += part;
        } else {
            memcpy(room->prefix + room->have, data, part);
            room->have += (unsigned)part;
        }
        data += part;
        bytes -= part;
        if (room->have == HTTP2_PREFIX_BYTES && !message_begins(room)) {
            return false;
        }
    }
    return true;
}

bool http2_room_waits(const struct http2_room *room)
{
    return room->wanted > 0;
}

void http2_room_called(struct http2_room *room)
{
    room->called = true;
    if (room->wanted > 0) {
        TAILQ_INSERT_TAIL(&line, room, link);
        grant_first();
    }
}

static void give(struct http2_room *room, size_t bytes)
{
    room->held -= bytes;
    held_bytes -= bytes;
    if (bytes > 0 && room->held == 0) {
        TAILQ_REMOVE(&holders, room, link);
    }
    grant_first();
}

void http2_room_taken(struct http2_room *room, size_t bytes)
{
    room->whole--;
    if (room->held > 0) {
        begin(room); // whatever was in work, the message behind it could not come
        if (bytes > SHORT_BYTES) {
            give(room, bytes);
        }
    }
}

void http2_room_leave(struct http2_room *room)
{
    if (room->called && room->wanted > 0) {
        TAILQ_REMOVE(&line, room, link);
    }
    room->wanted = 0;
    room->limited = false; // what still comes is not read
    give(room, room->held);
}

struct http2_room *http2_room_overdue(struct http2_room *room, int64_t now)
{
    room = room == NULL ? TAILQ_FIRST(&holders) : TAILQ_NEXT(room, link);
    for (; room != NULL && !TAILQ_EMPTY(&line); room = TAILQ_NEXT(room, link)) {
        int64_t patience_ms = LIMIT_HOLD_MS + (int64_t)(room->came / LANE_SLOWEST_BYTES_PER_MS);
        if (now - room->since > patience_ms * DEADLINE_NS_PER_MS) {
            return room;
        }
    }
    return NULL;
}

void http2_room_again(struct http2_room *room)
{
    begin(room);
}

bool http2_room_crowded(void)
{
    return !TAILQ_EMPTY(&line);
}
