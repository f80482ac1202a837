// SPDX-License-Identifier: Apache-2.0
//
// The Noise protocol framework over X25519, BLAKE2b and AES-256-GCM or ChaCha20-Poly1305: patterns as
// rows of tokens, a handshake that walks a row, and the cipher states that it ends in.
// Source: the Noise Protocol Framework, revision 34. Only this room and keyfile.c see libsodium.
//
// Threads: a handshake or cipher state is used by one thread at a time. noise_seal(), its kin, and noise_open()
// are async-signal-safe; nothing else here is.
#ifndef RPC_NOISE_H
#define RPC_NOISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    NOISE_KEY_BYTES = 32,
    NOISE_HASH_BYTES = 64,
    NOISE_TAG_BYTES = 16,
    NOISE_MESSAGE_MAX = 65535
};

// The values are the suite byte of the hello.
enum noise_suite { NOISE_AESGCM = 1, NOISE_CHACHAPOLY = 2 };

struct noise_pattern;   // one row of tokens
struct noise_handshake; // in guarded memory; reusable
struct noise_cipher;    // one direction of a connection; in guarded memory; reusable

// Must be called once before anything else here. 0 or -EIO.
int noise_init(void);
bool noise_suite_available(enum noise_suite suite);
// "IKpsk2", "XX1", ... ; NULL when there is no such row.
const struct noise_pattern *noise_pattern_find(const char *name);
extern const char noise_product_pattern[]; // the row that the product uses

struct noise_parameters {
    const struct noise_pattern *pattern;
    enum noise_suite suite;
    bool initiator;
    const void *prologue;
    size_t prologue_bytes;
    const uint8_t *static_private;          // NOISE_KEY_BYTES each; NULL where the row needs none
    const uint8_t *remote_static;           // NULL where it is not known beforehand
    const uint8_t (*psks)[NOISE_KEY_BYTES]; // in the order in which the row uses them
    size_t psk_count;
    const uint8_t *ephemeral_private; // NULL: random, as it must be outside tests
};

struct noise_handshake *noise_handshake_create(void); // NULL: no memory
void noise_handshake_destroy(struct noise_handshake **handshake);
// Copies what it needs of the parameters. -EINVAL when a key that the row needs is missing.
int noise_handshake_start(struct noise_handshake *handshake,
                          const struct noise_parameters *parameters);
// Writes the next message, which must not overlap the payload (nor when reading). *written only on success. -ENOBUFS, -EPROTO (not our turn), -EBADMSG (bad key).
int noise_handshake_write(struct noise_handshake *handshake, const void *payload,
                          size_t payload_bytes, void *message, size_t capacity, size_t *written);
// Reads the next message. -EBADMSG ends the handshake for good; the state is wiped.
int noise_handshake_read(struct noise_handshake *handshake, const void *message,
                         size_t message_bytes, void *payload, size_t capacity,
                         size_t *payload_bytes);
bool noise_handshake_done(const struct noise_handshake *handshake);
const uint8_t *noise_handshake_hash(const struct noise_handshake *handshake);
const uint8_t *
noise_handshake_remote_static(const struct noise_handshake *handshake); // NULL: unknown
// Once done: sets both cipher states (for one-way rows both, too) and wipes the handshake.
int noise_handshake_split(struct noise_handshake *handshake, struct noise_cipher *send,
                          struct noise_cipher *receive);

struct noise_cipher *noise_cipher_create(void);
void noise_cipher_destroy(struct noise_cipher **cipher);
// Seals `bytes` of plain into sealed (bytes + NOISE_TAG_BYTES; may be the same address). Uses up one
// nonce. -EOVERFLOW at the end of the nonce range, -ENOTCONN without a key.
int noise_seal(struct noise_cipher *cipher, const void *plain, size_t bytes, void *sealed);
// Leaves out one record, which is sealed once what follows it has been: reserve uses up its nonce, seal_reserved seals
// with it. At most one is left out at a time. -EBUSY: one is; -EINVAL: none is.
int noise_reserve(struct noise_cipher *cipher);
int noise_seal_reserved(struct noise_cipher *cipher, const void *plain, size_t bytes, void *sealed);
// Opens sealed_bytes (tag included) into plain (may be the same address). -EBADMSG: not authentic; the
// cipher state is dead from then on (every later call is -ENOTCONN): one failed record ends a session.
int noise_open(struct noise_cipher *cipher, const void *sealed, size_t sealed_bytes, void *plain);
uint64_t noise_cipher_records(const struct noise_cipher *cipher); // nonces used so far

// X25519 key pair; private in caller's guarded memory.
void noise_keypair(uint8_t private_key[NOISE_KEY_BYTES], uint8_t public_key[NOISE_KEY_BYTES]);
int noise_public_key(const uint8_t private_key[NOISE_KEY_BYTES],
                     uint8_t public_key[NOISE_KEY_BYTES]);
void noise_random(void *to, size_t bytes);
enum { NOISE_DIGEST_BYTES = 32 };
void noise_digest(const void *bytes, size_t count,
                  uint8_t digest[NOISE_DIGEST_BYTES]); // BLAKE2b-256
void noise_wipe(void *secret, size_t bytes);

#endif
