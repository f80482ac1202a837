// SPDX-License-Identifier: Apache-2.0
//
// What lies between the clients and the server of a simulated run: lanes (lane_loop at the client's end, the service's own
// calls at the other), and every way in which a network can spoil a message: late, lost with its connection, spoiled on
// the way, delivered twice, held back by a partition of one direction or both.
#ifndef TESTS_SIMULATOR_NETWORK_H
#define TESTS_SIMULATOR_NETWORK_H

#include "libdsm/backing/session.h"
#include "server/service.h"

struct network_plan {                   // chances, of ten thousand, of each message
    unsigned slow;                      // it takes up to 50 ms
    unsigned stuck;                     // it takes longer than a client waits for an answer
    unsigned cut_request, cut_answer;   // its connection is cut before, or after it was carried out
    unsigned lose_request, lose_answer; // it never comes, and nobody says so
    unsigned spoil;                     // an answer that does not open
    unsigned twice;       // the server gets the request twice, the second time perhaps much later
    unsigned lost_attach; // the server has the connection, the client does not
    unsigned no_memory;   // of each allocation of the server for a message or a new connection
};
extern struct network_plan network_plan;

struct network_totals {
    uint64_t messages, cut, lost, late, spoiled, repeated, connections;
    uint64_t answers; // that somebody waits for
    uint64_t no_memory;
};
extern struct network_totals network_totals;

// Partitions of one client, by the session's address; until told otherwise.
void network_part(const struct session *session, bool to_server, bool to_client);
void network_join(const struct session *session);
// Requests of this client are held back until release, as by a paused machine.
void network_hold(const struct session *session, bool hold);
void network_server_gone(void); // every connection breaks

// ---- the server (server.c) ----
struct sim_server {
    struct store *store;
    struct service *service; // NULL: it is down
    unsigned life;           // counts its starts
    char directory[128];
};
extern struct sim_server sim_server;
extern const uint8_t sim_key[NOISE_KEY_BYTES]; // the one that is authorized

void server_start(void); // its directory is set
void server_up(void);
void server_kill(void);    // as by kill -9
void server_stop(void);    // in order
void server_replace(void); // down; comes back with another, empty store
void server_keep_copy(void);
void server_restore_copy(void); // down; comes back with the store as it was then
void server_audit(void);        // up: its store is sound
void server_works(bool works);  // from here on, until there: it is the server that allocates
void server_remove(void);

#endif
