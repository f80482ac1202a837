// SPDX-License-Identifier: Apache-2.0
//
// Cipher pairs for two ends that live in one process. They come out of the product's own handshake,
// played between two states in memory, since there is no other way to key a cipher and there should
// be none: a back door that sets keys would be there in the product as well.
#include "rpc/noise_pair.h"

#include <errno.h>

enum { MESSAGE_ROOM = 256 };

static int start(struct noise_handshake *handshake, enum noise_suite suite, bool initiator,
                 const uint8_t *own, const uint8_t *remote)
{
    static const uint8_t psk[1][NOISE_KEY_BYTES];
    const struct noise_parameters parameters = {
        .pattern = noise_pattern_find(noise_product_pattern),
        .suite = suite,
        .initiator = initiator,
        .prologue = "pair",
        .prologue_bytes = 4,
        .static_private = own,
        .remote_static = remote,
        .psks = psk,
        .psk_count = 1,
    };
    return noise_handshake_start(handshake, &parameters);
}

static int pass_message(struct noise_handshake *from, struct noise_handshake *to)
{
    uint8_t message[MESSAGE_ROOM], nothing[1];
    size_t bytes, payload;
    int error = noise_handshake_write(from, NULL, 0, message, sizeof message, &bytes);
    return error != 0 ? error : noise_handshake_read(to, message, bytes, nothing, 0, &payload);
}

static int play(struct noise_handshake *ends[2], struct noise_pair *pair, enum noise_suite suite)
{
    uint8_t private_keys[2][NOISE_KEY_BYTES], public_keys[2][NOISE_KEY_BYTES];
    noise_keypair(private_keys[0], public_keys[0]);
    noise_keypair(private_keys[1], public_keys[1]);
    int error = start(ends[0], suite, true, private_keys[0], public_keys[1]);
    if (error == 0) {
        error = start(ends[1], suite, false, private_keys[1], NULL);
    }
    for (unsigned turn = 0; error == 0 && !noise_handshake_done(ends[0]); turn++) {
        error = pass_message(ends[turn % 2], ends[1 - turn % 2]);
    }
    for (unsigned i = 0; i < 2 && error == 0; i++) {
        error = noise_handshake_split(ends[i], pair->send[i], pair->receive[i]);
    }
    noise_wipe(private_keys, sizeof private_keys);
    return error;
}

int noise_pair_create(struct noise_pair *pair, enum noise_suite suite)
{
    struct noise_handshake *ends[2] = {NULL, NULL};
    struct noise_pair made = {{NULL, NULL}, {NULL, NULL}};
    int error = noise_init();
    for (unsigned i = 0; i < 2 && error == 0; i++) {
        ends[i] = noise_handshake_create();
        made.send[i] = noise_cipher_create();
        made.receive[i] = noise_cipher_create();
        if (ends[i] == NULL || made.send[i] == NULL || made.receive[i] == NULL) {
            error = -ENOMEM;
        }
    }
    if (error == 0) {
        error = play(ends, &made, suite);
    }
    for (unsigned i = 0; i < 2; i++) {
        if (ends[i] != NULL) {
            noise_handshake_destroy(&ends[i]);
        }
    }
    if (error != 0) {
        noise_pair_destroy(&made);
        return error;
    }
    *pair = made;
    return 0;
}

void noise_pair_destroy(struct noise_pair *pair)
{
    for (unsigned i = 0; i < 2; i++) {
        noise_cipher_destroy(&pair->send[i]);
        noise_cipher_destroy(&pair->receive[i]);
    }
}
