// SPDX-License-Identifier: Apache-2.0
//
// Both ends of the handshake, with a relay between them that may pass one byte at a time, flip a
// bit, cut, or add bytes. The client runs on a thread of its own (it blocks), relay and server on
// the test's.
#ifndef TESTS_UNIT_HANDSHAKE_RIG_H
#define TESTS_UNIT_HANDSHAKE_RIG_H

#include "rpc/handshake.h"
#include "rpc/handshake_wire.h"

enum {
    TO_SERVER = 0,
    TO_CLIENT = 1,
    NEVER = INT32_MAX,
    TO_SERVER_BYTES =
        HANDSHAKE_HELLO_1_BYTES + WIRE_HEADER_SEALED_BYTES + HANDSHAKE_ATTACH_SEALED_BYTES,
    TO_CLIENT_BYTES =
        HANDSHAKE_VERDICT_BYTES + WIRE_HEADER_SEALED_BYTES + HANDSHAKE_ATTACHED_SEALED_BYTES,
};

struct script { // what the relay does
    int direction;
    int flip_bit;  // of the bytes in this direction
    int cut_after; // bytes
    int add_after; // bytes: one more byte is put in
    int chunk;     // bytes passed at once
};

struct policy { // what the server's owner says
    enum wire_status verdict;
    const char *text;
    enum wire_status attached;
    const uint8_t *psk; // NULL: zeros
};

struct run {
    struct handshake_client client;
    struct policy policy;
    struct script script;
    int client_fd, client_relay, server_relay, server_fd;
    size_t passed[2];
    bool ended[2];
    // results
    int error;
    enum wire_status refusal;
    struct failure failure;
    struct wire_attached attached;
    struct noise_cipher *send, *receive;
    enum handshake_state server_state;
    struct noise_cipher *server_send, *server_receive;
    struct wire_hello server_hello;
    struct wire_attach server_attach;
    uint8_t server_client_key[NOISE_KEY_BYTES];
};

// What a server has for all its handshakes.
extern struct key_identity client_identity, server_identity;
extern struct handshake_slot *slot;
extern struct handshake *server;

int rig_set_up(void **state); // cmocka's group set-up and tear-down
int rig_tear_down(void **state);

struct run run_new(void); // an honest relay, a server that says yes
void run_go(struct run *run);
void run_free(struct run *run); // the ciphers

#endif
