// SPDX-License-Identifier: Apache-2.0
//
// The running hash, the chaining key and the key under which a handshake's messages are sealed:
// SymmetricState of the specification (5.2), with the hash functions below it (4.3).
//
// HMAC is RFC 2104 over BLAKE2b-512 with its block of 128 bytes: Noise wants that, not BLAKE2b's
// own keyed mode. libsodium 1.0.18 has no HKDF for it, so the dozen lines of it stand here.
//
// What is derived lies on the stack of one function, which wipes it on its way out. The state
// itself is part of a handshake, in guarded memory, and is used by one thread at a time.
#include <assert.h>
#include <string.h>

#include "rpc/noise_internal.h"

enum { BLOCK_BYTES = 128 };

struct part {
    const void *data;
    size_t bytes;
};

// BLAKE2b-512 over the parts, one after the other.
static void hash_parts(const struct part *parts, size_t count, uint8_t out[NOISE_HASH_BYTES])
{
    crypto_generichash_blake2b_state state;
    crypto_generichash_blake2b_init(&state, NULL, 0, NOISE_HASH_BYTES);
    for (size_t i = 0; i < count; i++) {
        crypto_generichash_blake2b_update(&state, parts[i].data, parts[i].bytes);
    }
    crypto_generichash_blake2b_final(&state, out, NOISE_HASH_BYTES);
    sodium_memzero(&state, sizeof state);
}

// HMAC(key, a || b). Keys are never longer than a block here.
static void hmac(const uint8_t key[NOISE_HASH_BYTES], struct part a, struct part b,
                 uint8_t out[NOISE_HASH_BYTES])
{
    uint8_t block[BLOCK_BYTES];
    uint8_t inner[NOISE_HASH_BYTES];
    memset(block, 0x36, sizeof block);
    for (size_t i = 0; i < NOISE_HASH_BYTES; i++) {
        block[i] ^= key[i];
    }
    hash_parts((struct part[]){{block, sizeof block}, a, b}, 3, inner);
    for (size_t i = 0; i < sizeof block; i++) {
        block[i] ^= 0x36 ^ 0x5c;
    }
    hash_parts((struct part[]){{block, sizeof block}, {inner, sizeof inner}}, 2, out);
    sodium_memzero(block, sizeof block);
    sodium_memzero(inner, sizeof inner);
}

// HKDF(chaining_key, input): fills count (2 or 3) outputs, one after the other. The key is read
// before the outputs are written, so outputs[0] may be copied over it by the caller.
static void hkdf(const uint8_t chaining_key[NOISE_HASH_BYTES], const void *input, size_t bytes,
                 size_t count, uint8_t outputs[][NOISE_HASH_BYTES])
{
    static const uint8_t numbers[3] = {1, 2, 3};
    const struct part nothing = {NULL, 0};
    uint8_t secret[NOISE_HASH_BYTES];
    hmac(chaining_key, (struct part){input, bytes}, nothing, secret);
    struct part before = nothing;
    for (size_t i = 0; i < count; i++) {
        hmac(secret, before, (struct part){&numbers[i], 1}, outputs[i]);
        before = (struct part){outputs[i], NOISE_HASH_BYTES};
    }
    sodium_memzero(secret, sizeof secret);
}

// A protocol's name of at most a hash's length stands for its own hash, and every name here is that
// short.
static void name_hash(enum noise_suite suite, const char *pattern, uint8_t hash[NOISE_HASH_BYTES])
{
    const char *parts[] = {"Noise_", pattern, "_25519_",
                           suite == NOISE_AESGCM ? "AESGCM" : "ChaChaPoly", "_BLAKE2b"};
    size_t bytes = 0;
    memset(hash, 0, NOISE_HASH_BYTES);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        size_t length = strlen(parts[i]);
        assert(bytes + length <= NOISE_HASH_BYTES);
        memcpy(hash + bytes, parts[i], length);
        bytes += length;
    }
}

void noise_symmetric_start(struct noise_symmetric *s, enum noise_suite suite,
                           const struct noise_pattern *pattern)
{
    char name[NOISE_PATTERN_NAME_BYTES];
    noise_pattern_name(pattern, name);
    noise_cipher_clear(&s->cipher);
    s->suite = suite;
    name_hash(suite, name, s->hash);
    memcpy(s->chaining_key, s->hash, sizeof s->chaining_key);
}

void noise_mix_hash(struct noise_symmetric *s, const void *data, size_t bytes)
{
    hash_parts((struct part[]){{s->hash, sizeof s->hash}, {data, bytes}}, 2, s->hash);
}

int noise_mix_key(struct noise_symmetric *s, const void *input, size_t bytes)
{
    uint8_t outputs[2][NOISE_HASH_BYTES];
    hkdf(s->chaining_key, input, bytes, 2, outputs);
    memcpy(s->chaining_key, outputs[0], NOISE_HASH_BYTES);
    int error = noise_cipher_set_key(&s->cipher, s->suite, outputs[1]);
    sodium_memzero(outputs, sizeof outputs);
    return error;
}

int noise_mix_key_and_hash(struct noise_symmetric *s, const void *input, size_t bytes)
{
    uint8_t outputs[3][NOISE_HASH_BYTES];
    hkdf(s->chaining_key, input, bytes, 3, outputs);
    memcpy(s->chaining_key, outputs[0], NOISE_HASH_BYTES);
    noise_mix_hash(s, outputs[1], NOISE_HASH_BYTES);
    int error = noise_cipher_set_key(&s->cipher, s->suite, outputs[2]);
    sodium_memzero(outputs, sizeof outputs);
    return error;
}

// What encryption adds at this moment: nothing before the first key.
static size_t tag_bytes(const struct noise_symmetric *s)
{
    return s->cipher.keyed ? NOISE_TAG_BYTES : 0;
}

int noise_encrypt_and_hash(struct noise_symmetric *s, const void *plain, size_t bytes,
                           uint8_t **message)
{
    size_t total = bytes + tag_bytes(s);
    if (s->cipher.keyed) {
        int error = noise_seal_with(&s->cipher, s->hash, sizeof s->hash, plain, bytes, *message);
        if (error != 0) {
            return error;
        }
    } else if (bytes > 0) {
        memmove(*message, plain, bytes);
    }
    noise_mix_hash(s, *message, total);
    *message += total;
    return 0;
}

// Takes `bytes` of plain text (and its tag) from *message and moves it on.
int noise_decrypt_and_hash(struct noise_symmetric *s, const uint8_t **message, void *plain,
                           size_t bytes)
{
    size_t total = bytes + tag_bytes(s);
    uint8_t before[NOISE_HASH_BYTES];
    memcpy(before, s->hash, sizeof before);
    noise_mix_hash(s, *message, total);
    if (s->cipher.keyed) {
        int error = noise_open_with(&s->cipher, before, sizeof before, *message, total, plain);
        if (error != 0) {
            return error;
        }
    } else if (bytes > 0) {
        memmove(plain, *message, bytes);
    }
    *message += total;
    return 0;
}

void noise_symmetric_split(const struct noise_symmetric *s, uint8_t keys[2][NOISE_HASH_BYTES])
{
    hkdf(s->chaining_key, NULL, 0, 2, keys);
}
