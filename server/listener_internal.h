// SPDX-License-Identifier: Apache-2.0
//
// What the listener's own files share. listener.c: the thread, accept, places; listener_pending.c:
// one connection from hello to lane; listener_bind.c: addresses and sockets; listener_rate.c:
// failed handshakes by address; listener_pace.c: how fast connections make room for others; listener_count.c: what became of
// connections. All of it belongs to the listener's thread, so there are no locks.
#ifndef SERVER_LISTENER_INTERNAL_H
#define SERVER_LISTENER_INTERNAL_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "server/listener.h"

enum {
    LISTENER_SOCKETS = 32,
    LISTENER_PENDING = 4096,
    LISTENER_RATE_SETS = 512,
    LISTENER_RATE_WAYS = 4,
    LISTENER_PAUSE_MS = 50,       // accept rests after a shortage
    LISTENER_ACCEPTS = 64,        // in a row
    LISTENER_PACE_MS = 10,        // accept rests when as many have made room as may
    LISTENER_PACE_SLEPT_MS = 100, // of which it makes up
};

struct address_key { // IPv4 (mapped), or the network half of IPv6
    uint8_t bytes[16];
};

struct rate_entry {
    struct address_key address;
    int64_t seen_ms;
    double tokens;
};
struct rate {
    uint64_t seed;
    struct rate_entry entries[LISTENER_RATE_SETS][LISTENER_RATE_WAYS];
};

// True when the address has failed so often that it must wait.
bool rate_exceeded(struct rate *rate, const struct address_key *address, int64_t now_ms);
void rate_failed(struct rate *rate, const struct address_key *address, int64_t now_ms);

struct pace { // of those that make room for others, at one socket
    int64_t grown_ms;
    int64_t thousandths; // of a token; each takes one
};

void pace_grow(struct pace *pace, int64_t now_ms);
bool pace_line_is_long(unsigned length, unsigned limit);
bool pace_allows(struct pace *pace, int fd, int64_t now_ms); // whether one more may, now
void pace_made_room(struct pace *pace);

struct pending { // a connection that is not a lane yet
    TAILQ_ENTRY(pending) link;
    struct handshake *handshake;
    struct service_lane *lane; // attached, not started
    struct wire_attached attached;
    struct address_key address;
    char text[INET6_ADDRSTRLEN];
    int64_t accepted_ns; // CLOCK_MONOTONIC
    int64_t deadline_ms;
    uint32_t refused; // enum wire_status that it was told; WIRE_OK: none
    uint32_t interest;
    int fd;
    bool silent;  // message 1 is not complete
    bool proven;  // ATTACH has opened: the peer holds the key, and message 1 was no replay
    bool waiting; // for the older lane's end
};
TAILQ_HEAD(pendings, pending);

struct tallies { // of struct listener_counts
    _Atomic uint64_t accepted[WIRE_LANE_GRPC + 1];
    _Atomic uint64_t refused[WIRE_STATUS_COUNT];
    _Atomic uint64_t dropped[LISTENER_DROPS];
};

struct listener {
    struct listener_options options;
    struct handshake_slot *slot;
    struct pending *places;
    uint8_t *handshakes;
    struct pendings free, busy; // busy: oldest first
    unsigned waiting;
    int sockets[LISTENER_SOCKETS];
    size_t socket_count;
    struct pace paces[LISTENER_SOCKETS];
    bool scarce;   // who came last needed the place of another
    bool embedded; // the only socket is a program's, over which connections come ready made
    uint16_t port;
    int epoll, wake;
    int64_t paused_until_ms; // 0: not paused
    int descriptor_limit;
    pthread_t thread;
    bool running;
    _Atomic bool stopping;
    struct rate rate;
    struct tallies tallies; // read by others
};

// listener_bind.c
int listener_bind(struct listener *listener, const char *address, struct failure *failure);
// listener_pending.c
void pending_step(struct listener *listener, struct pending *pending, int64_t now_ms);
// listener_count.c
void listener_add(_Atomic uint64_t *tally);
void listener_dropped(struct listener *listener, const char *from, enum listener_drop why,
                      int64_t now_ms);            // counts and logs it
bool listener_drop_fails(enum listener_drop why); // a failure of its address
// listener.c: closes and gives the place back.
void pending_drop(struct listener *listener, struct pending *pending, int64_t now_ms,
                  enum listener_drop why);
void pending_release(struct listener *listener, struct pending *pending); // without closing fd
int pending_watch(struct listener *listener, struct pending *pending, uint32_t interest);

#endif
