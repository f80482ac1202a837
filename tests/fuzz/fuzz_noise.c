// SPDX-License-Identifier: Apache-2.0
//
// libFuzzer: arbitrary bytes as message 1 for a server, as message 2 for a client, and as a
// record, for both ciphers. Keys are fixed, so a finding can be repeated. The first byte chooses
// the target, the rest is the message. Whatever comes, the answer is a refusal and the state is
// dead; a message that opens would be a forgery, and aborts.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/noise_internal.h"

static const uint8_t client_private[NOISE_KEY_BYTES] = {1};
static const uint8_t server_private[NOISE_KEY_BYTES] = {2};
static const uint8_t ephemeral_private[NOISE_KEY_BYTES] = {3};
static const uint8_t psks[1][NOISE_KEY_BYTES];

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void start(struct noise_handshake *handshake, enum noise_suite suite, bool initiator)
{
    static uint8_t server_public[NOISE_KEY_BYTES];
    require(noise_public_key(server_private, server_public) == 0);
    const struct noise_parameters parameters = {
        .pattern = noise_pattern_find(noise_product_pattern),
        .suite = suite,
        .initiator = initiator,
        .static_private = initiator ? client_private : server_private,
        .remote_static = initiator ? server_public : NULL,
        .psks = psks,
        .psk_count = 1,
        .ephemeral_private = ephemeral_private,
    };
    require(noise_handshake_start(handshake, &parameters) == 0);
}

static void try_message(enum noise_suite suite, bool initiator, const uint8_t *data, size_t bytes)
{
    static uint8_t payload[NOISE_MESSAGE_MAX];
    uint8_t message[96];
    size_t written = 0;
    struct noise_handshake *handshake = noise_handshake_create();
    require(handshake != NULL);
    start(handshake, suite, initiator);
    if (initiator) {
        require(noise_handshake_write(handshake, NULL, 0, message, sizeof message, &written) == 0);
    }
    require(noise_handshake_read(handshake, data, bytes, payload, sizeof payload, &written) ==
            -EBADMSG);
    require(!noise_handshake_done(handshake));
    require(noise_handshake_read(handshake, data, bytes, payload, sizeof payload, &written) ==
            -EPROTO);
    noise_handshake_destroy(&handshake);
}

static void try_record(enum noise_suite suite, const uint8_t *data, size_t bytes)
{
    static uint8_t plain[NOISE_MESSAGE_MAX];
    struct noise_cipher *cipher = noise_cipher_create();
    require(cipher != NULL && noise_cipher_set_key(cipher, suite, client_private) == 0);
    require(noise_open(cipher, data, bytes, plain) == -EBADMSG);
    require(noise_open(cipher, data, bytes, plain) == -ENOTCONN);
    noise_cipher_destroy(&cipher);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    require(noise_init() == 0);
    if (bytes == 0) {
        return 0;
    }
    enum noise_suite suite = data[0] & 1 ? NOISE_AESGCM : NOISE_CHACHAPOLY;
    if (!noise_suite_available(suite)) {
        return 0;
    }
    if (data[0] & 4) {
        try_record(suite, data + 1, bytes - 1);
    } else {
        try_message(suite, data[0] & 2, data + 1, bytes - 1);
    }
    return 0;
}
