// SPDX-License-Identifier: Apache-2.0
//
// What the tests of a running dsmd share: one dsmd on a loopback port with keys made for it,
// clients that speak to it over direct lanes, and control calls.
#ifndef TESTS_E2E_SERVER_RIG_H
#define TESTS_E2E_SERVER_RIG_H

#include <rpc/dsm.pb-c.h>
#include <sys/types.h>

#include "rpc/handshake.h"
#include "rpc/lane.h"

enum { PAGE = 4096, RIG_KEYS = 3, RIG_OPTIONS = 8 };

struct server {
    char directory[64];
    char server_key[KEYFILE_TEXT_BYTES];
    char keys[RIG_KEYS][KEYFILE_TEXT_BYTES]; // public halves of client-0.key, ...
    const char *options[RIG_OPTIONS];        // given to dsmd besides
    uint16_t port;                           // 0: any; stays over restarts
    pid_t pid;
};

int server_setup(void **state); // keys 0 and 1 are authorized, of "alice" and "bob"; nothing runs
int server_teardown(void **state); // kills and removes
void server_path(const struct server *server, const char *name, char path[128]);
void server_authorize(const struct server *server, const char *text); // replaces the file
void server_start(struct server *server);
int server_try(struct server *server, char *said, size_t bytes); // runs until it ends: exit code
void server_kill(struct server *server);
int server_stop(struct server *server);                          // SIGTERM; exit code
bool server_said(const struct server *server, const char *text); // in its log
int server_threads(const struct server *server);                 // its own, not gRPC's

struct client {
    int key;          // number of the key file
    uint8_t instance; // number of the process
    uint32_t number;  // of the lane
    uint64_t generation;
    const char *cluster, *name, *server_key; // NULL: the right ones
    const uint8_t *psk;                      // NULL: zeros
    enum wire_lane_kind kind;
    // Out.
    struct lane *lane;
    struct wire_attached attached;
    enum wire_status refusal;
    struct failure failure;
};

int client_try(struct server *server, struct client *client); // 0 or handshake_connect()'s error
void client_connect(struct server *server, struct client *client); // must succeed
int server_connect(const struct server *server);                   // a raw socket

// One request and its answer; the lane must not break. Read data goes to `data` (its first page),
// control to packed.
enum wire_status call(struct client *client, struct wire_header *request, const void *payload,
                      struct wire_header *answer, uint8_t *data, size_t bytes);
int ping(struct client *client); // 0, or the error that broke the lane
enum wire_status write_page(struct client *client, uint64_t segment, uint64_t epoch, uint64_t page,
                            uint64_t version, uint8_t fill);
// *fill: the byte that all of the page consist of; fails the test when they differ.
enum wire_status read_page(struct client *client, uint64_t segment, uint64_t epoch, uint64_t page,
                           uint8_t *fill);

// The answer is the caller's, to be freed by dsm__control_answer__free_unpacked(); NULL when there
// was none.
enum wire_status control(struct client *client, const Dsm__Control *message,
                         Dsm__ControlAnswer **answer);
struct opened {
    uint64_t id, epoch, highest;
    char detail[320];
};
enum wire_status create(struct client *client, const char *name, uint8_t operation,
                        struct opened *opened);
enum wire_status open_by_name(struct client *client, const char *name, bool write, bool takeover,
                              struct opened *opened);
enum wire_status open_again(struct client *client, uint64_t id, uint64_t epoch,
                            struct opened *opened);
enum wire_status close_segment(struct client *client, uint64_t id);

#endif
