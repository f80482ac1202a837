// SPDX-License-Identifier: Apache-2.0
//
// A connection, as its two ends see it: network.c has the server's and the messages, network_client.c the client's.
#ifndef TESTS_SIMULATOR_NETWORK_INTERNAL_H
#define TESTS_SIMULATOR_NETWORK_INTERNAL_H

#include "tests/simulator/network.h"

enum { NETWORK_HELD_NS = 20 * 1000 * 1000 }; // after which what is held back tries again

struct network_client {
    const struct session *session;
    bool no_requests, no_answers, held;
};

struct lane_peer { // the server's end
    void *user;
    bool shut;
    int reason;
    struct wire_header answer;
    bool answered;
    uint8_t payload[LIMIT_RUN_BYTES];
};

struct connection {
    struct lane lane; // first: the client's end
    struct lane *loop;
    const struct network_client *client;
    unsigned life;   // of the server that it leads to
    unsigned users;  // the two ends, and messages on the way
    bool client_has; // the client's end is there
    bool server_has; // so is the server's
    bool broken;     // the client was told that it is cut
    int64_t deadline, last_arrival;
    uint64_t asked, answered;
    int error;              // of the answer
    _Atomic uint32_t news;  // the client's end looks again
    struct lane_peer *peer; // while server_has
    struct wire_header answer;
    uint8_t answer_payload[LIMIT_RUN_BYTES];
};

struct message {
    struct connection *connection;
    uint64_t number;
    int times; // that it was delivered
    struct wire_header header;
    uint8_t payload[];
};

struct network_client *network_client_of(const struct session *session);
int64_t network_travel(void); // how long the next message takes, ns
void network_put(struct connection *c);
void network_list(struct connection *c);               // it has a server's end
bool network_server_lives(const struct connection *c); // the one that it was made to
void network_request_arrives(void *message);
// Closed soon, for the server; the client hears of it later.
void network_end_server(struct connection *c, int reason, int64_t delay);

#endif
