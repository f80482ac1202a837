// SPDX-License-Identifier: Apache-2.0
//
// What the files of the Noise room share, and what its tests may reach into. Nobody else includes
// this.
#ifndef RPC_NOISE_INTERNAL_H
#define RPC_NOISE_INTERNAL_H

#include <sodium.h>

#include "rpc/noise.h"

enum {
    NOISE_ROW_MESSAGES = 4,
    NOISE_ROW_TOKENS = 8,                // of one message, NOISE_END included
    NOISE_PSKS = 1 + NOISE_ROW_MESSAGES, // one before the first message, one after each
    NOISE_PSK_TEXT_BYTES = 5 * NOISE_PSKS + 1,
    NOISE_PATTERN_NAME_BYTES = 4 + NOISE_PSK_TEXT_BYTES,
};

enum noise_token { NOISE_END, NOISE_E, NOISE_S, NOISE_EE, NOISE_ES, NOISE_SE, NOISE_SS, NOISE_PSK };

enum noise_known { NOISE_NONE = 0, NOISE_FIRST = 1, NOISE_SECOND = 2, NOISE_BOTH = 3 };

struct noise_pattern {
    char base[5];       // the name without its psk modifiers
    uint8_t known;      // pre-messages: of enum noise_known, whose static is known before
    uint8_t psk_places; // bit i: "pski" is part of the name
    uint8_t messages[NOISE_ROW_MESSAGES]
                    [NOISE_ROW_TOKENS]; // of enum noise_token, initiator's first
};

// "IKpsk2", as in the protocol's name.
void noise_pattern_name(const struct noise_pattern *pattern, char name[NOISE_PATTERN_NAME_BYTES]);

struct noise_cipher_region;

struct noise_cipher {
    union {
        crypto_aead_aes256gcm_state aes; // the expanded key
        uint8_t chacha[NOISE_KEY_BYTES];
    } key;
    uint64_t nonce;                     // the next one; UINT64_MAX is never used
    uint64_t reserved;                  // one that is still to be sealed with; UINT64_MAX: none
    struct noise_cipher_region *region; // NULL: part of a handshake
    uint8_t suite;                      // enum noise_suite
    bool keyed;
};

// Gives the cipher state a key and starts its nonces at 0. 0, or -ENOTSUP when the CPU lacks the
// suite.
int noise_cipher_set_key(struct noise_cipher *cipher, enum noise_suite suite,
                         const uint8_t key[NOISE_KEY_BYTES]);
// Forgets key and nonce; the memory stays.
void noise_cipher_clear(struct noise_cipher *cipher);
// noise_seal() and noise_open() with associated data.
int noise_seal_with(struct noise_cipher *cipher, const void *associated, size_t associated_bytes,
                    const void *plain, size_t bytes, void *sealed);
int noise_open_with(struct noise_cipher *cipher, const void *associated, size_t associated_bytes,
                    const void *sealed, size_t sealed_bytes, void *plain);

struct noise_symmetric {
    struct noise_cipher cipher;
    uint8_t chaining_key[NOISE_HASH_BYTES];
    uint8_t hash[NOISE_HASH_BYTES];
    enum noise_suite suite;
};

void noise_symmetric_start(struct noise_symmetric *s, enum noise_suite suite,
                           const struct noise_pattern *pattern);
void noise_mix_hash(struct noise_symmetric *s, const void *data, size_t bytes);
int noise_mix_key(struct noise_symmetric *s, const void *input, size_t bytes);
int noise_mix_key_and_hash(struct noise_symmetric *s, const void *input, size_t bytes);
// Appends to *message and moves it on.
int noise_encrypt_and_hash(struct noise_symmetric *s, const void *plain, size_t bytes,
                           uint8_t **message);
// Takes `bytes` of plain text (and its tag) from *message and moves it on.
int noise_decrypt_and_hash(struct noise_symmetric *s, const uint8_t **message, void *plain,
                           size_t bytes);
// keys[0] is the initiator's to send with, keys[1] the responder's; the first NOISE_KEY_BYTES of
// each. The caller wipes.
void noise_symmetric_split(const struct noise_symmetric *s, uint8_t keys[2][NOISE_HASH_BYTES]);

#endif
