// SPDX-License-Identifier: Apache-2.0
//
// Two sides of a handshake with fresh keys, for the tests of the Noise room.
#ifndef TESTS_UNIT_NOISE_PAIR_H
#define TESTS_UNIT_NOISE_PAIR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "rpc/noise_internal.h"

enum { PAIR_MESSAGE_1 = 96, PAIR_MESSAGE_2 = 48 };

struct pair {
    uint8_t client_private[NOISE_KEY_BYTES], client_public[NOISE_KEY_BYTES];
    uint8_t server_private[NOISE_KEY_BYTES], server_public[NOISE_KEY_BYTES];
    uint8_t psks[NOISE_PSKS][NOISE_KEY_BYTES];
    struct noise_parameters client_parameters, server_parameters;
    struct noise_handshake *client, *server;
    struct noise_cipher *client_send, *client_receive, *server_send, *server_receive;
};

static inline size_t pair_psk_count(const struct noise_pattern *pattern)
{
    return (size_t)__builtin_popcount(pattern->psk_places);
}

static inline void pair_create(struct pair *p, const char *row, enum noise_suite suite)
{
    static const char prologue[] = "the hello";
    noise_keypair(p->client_private, p->client_public);
    noise_keypair(p->server_private, p->server_public);
    noise_random(p->psks, sizeof p->psks);
    const struct noise_pattern *pattern = noise_pattern_find(row);
    assert_non_null(pattern);
    struct noise_parameters parameters = {
        .pattern = pattern,
        .suite = suite,
        .initiator = true,
        .prologue = prologue,
        .prologue_bytes = sizeof prologue,
        .static_private = p->client_private,
        .remote_static = p->server_public,
        .psks = (const uint8_t(*)[NOISE_KEY_BYTES])p->psks,
        .psk_count = pair_psk_count(pattern),
    };
    p->client_parameters = parameters;
    parameters.initiator = false;
    parameters.static_private = p->server_private;
    parameters.remote_static = pattern->known & NOISE_FIRST ? p->client_public : NULL;
    p->server_parameters = parameters;
    p->client = noise_handshake_create();
    p->server = noise_handshake_create();
    p->client_send = noise_cipher_create();
    p->client_receive = noise_cipher_create();
    p->server_send = noise_cipher_create();
    p->server_receive = noise_cipher_create();
    assert_true(p->client && p->server && p->client_send && p->client_receive && p->server_send &&
                p->server_receive);
}

static inline void pair_start(struct pair *p)
{
    assert_int_equal(noise_handshake_start(p->client, &p->client_parameters), 0);
    assert_int_equal(noise_handshake_start(p->server, &p->server_parameters), 0);
}

// One message with an empty payload from one side to the other; what the reader says.
static inline int pair_pass(struct noise_handshake *from, struct noise_handshake *to)
{
    uint8_t message[512];
    size_t bytes = 0;
    assert_int_equal(noise_handshake_write(from, NULL, 0, message, sizeof message, &bytes), 0);
    return noise_handshake_read(to, message, bytes, NULL, 0, &bytes);
}

static inline void pair_split(struct pair *p)
{
    assert_int_equal(noise_handshake_split(p->client, p->client_send, p->client_receive), 0);
    assert_int_equal(noise_handshake_split(p->server, p->server_send, p->server_receive), 0);
}

// From nothing to four cipher states.
static inline void pair_connect(struct pair *p)
{
    pair_start(p);
    assert_int_equal(pair_pass(p->client, p->server), 0);
    assert_int_equal(pair_pass(p->server, p->client), 0);
    pair_split(p);
}

static inline void pair_destroy(struct pair *p)
{
    noise_handshake_destroy(&p->client);
    noise_handshake_destroy(&p->server);
    noise_cipher_destroy(&p->client_send);
    noise_cipher_destroy(&p->client_receive);
    noise_cipher_destroy(&p->server_send);
    noise_cipher_destroy(&p->server_receive);
}

// The suites of this CPU, ended by 0.
static inline const enum noise_suite *pair_suites(void)
{
    static const enum noise_suite both[] = {NOISE_CHACHAPOLY, NOISE_AESGCM, 0};
    static const enum noise_suite one[] = {NOISE_CHACHAPOLY, 0};
    return noise_suite_available(NOISE_AESGCM) ? both : one;
}

static inline int pair_group_setup(void **state)
{
    (void)state;
    return noise_init();
}

#endif
