// SPDX-License-Identifier: Apache-2.0
//
// The Noise handshake: walks one row of tokens (noise_pattern.c) and ends in two cipher states
// (noise_cipher.c). This is HandshakeState of the specification (5.3); its SymmetricState is
// noise_symmetric.c.
//
//   clear --start--> running --write, read in turn--> done --split--> clear
//                      | a message that does not open, a bad public key
//                      +--> clear
//
// Only what is running or done holds secrets; every way back to clear wipes the whole state, so
// nothing can be asked of a handshake that failed. It must never say more about a failure than
// -EBADMSG, never write a message after one, and never draw an ephemeral key from anywhere but the
// random source outside tests.
//
// In a row with a psk every e is mixed into the key as well (9.2), else two messages that begin
// with psk would be sealed with one key and one nonce.
//
// The state lives in guarded memory and is used by one thread at a time. Secrets in passing lie on
// the stack of one function, which wipes them on its way out. One function per pattern, as a small
// implementation has it, was rejected: only the product's would then be what the vectors cannot
// reach.
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "rpc/noise_internal.h"

enum phase { CLEAR, RUNNING, DONE };

struct noise_handshake {
    struct noise_symmetric symmetric;
    uint8_t static_private[NOISE_KEY_BYTES];
    uint8_t static_public[NOISE_KEY_BYTES];
    uint8_t ephemeral_private[NOISE_KEY_BYTES];
    uint8_t ephemeral_public[NOISE_KEY_BYTES];
    uint8_t remote_static[NOISE_KEY_BYTES];
    uint8_t remote_ephemeral[NOISE_KEY_BYTES];
    uint8_t psks[NOISE_PSKS][NOISE_KEY_BYTES];
    const struct noise_pattern *pattern;
    enum phase phase;
    unsigned message; // the next one's place in the row
    unsigned psk;     // the next one's place in psks
    bool initiator;
    bool ephemeral_given;
    bool remote_static_given; // by the caller
    bool remote_static_known; // by the caller, or read from a message
};
static_assert(sizeof(struct noise_handshake) % 16 == 0, "guarded memory is aligned at its end");

int noise_init(void)
{
    return sodium_init() < 0 ? -EIO : 0;
}

bool noise_suite_available(enum noise_suite suite)
{
    switch (suite) {
    case NOISE_AESGCM:
        return crypto_aead_aes256gcm_is_available() == 1;
    case NOISE_CHACHAPOLY:
        return true;
    }
    return false;
}

void noise_keypair(uint8_t private_key[NOISE_KEY_BYTES], uint8_t public_key[NOISE_KEY_BYTES])
{
    randombytes_buf(private_key, NOISE_KEY_BYTES);
    (void)crypto_scalarmult_base(public_key, private_key);
}

int noise_public_key(const uint8_t private_key[NOISE_KEY_BYTES],
                     uint8_t public_key[NOISE_KEY_BYTES])
{
    return crypto_scalarmult_base(public_key, private_key) == 0 ? 0 : -EINVAL;
}

void noise_digest(const void *bytes, size_t count, uint8_t digest[NOISE_DIGEST_BYTES])
{
    (void)crypto_generichash_blake2b(digest, NOISE_DIGEST_BYTES, bytes, count, NULL, 0);
}

void noise_random(void *to, size_t bytes)
{
    randombytes_buf(to, bytes);
}

void noise_wipe(void *secret, size_t bytes)
{
    sodium_memzero(secret, bytes);
}

static bool row_has_psk(const struct noise_handshake *h)
{
    return h->pattern->psk_places != 0;
}

static const uint8_t *row_tokens(const struct noise_handshake *h)
{
    return h->pattern->messages[h->message];
}

static bool my_turn(const struct noise_handshake *h)
{
    return (h->message % 2 == 0) == h->initiator;
}

static void handshake_clear(struct noise_handshake *h)
{
    sodium_memzero(h, sizeof *h); // phase: CLEAR
}

static int mix_dh(struct noise_handshake *h, const uint8_t *private_key, const uint8_t *public_key)
{
    uint8_t shared[NOISE_KEY_BYTES];
    int error = -EBADMSG; // a point of low order: the result would be known to everybody
    if (crypto_scalarmult(shared, private_key, public_key) == 0) {
        error = noise_mix_key(&h->symmetric, shared, sizeof shared);
    }
    sodium_memzero(shared, sizeof shared);
    return error;
}

// ee, es, se, ss: the first letter is the initiator's key.
static int mix_dh_token(struct noise_handshake *h, enum noise_token token)
{
    bool initiator_static = token == NOISE_SE || token == NOISE_SS;
    bool responder_static = token == NOISE_ES || token == NOISE_SS;
    bool mine = h->initiator ? initiator_static : responder_static;
    bool theirs = h->initiator ? responder_static : initiator_static;
    return mix_dh(h, mine ? h->static_private : h->ephemeral_private,
                  theirs ? h->remote_static : h->remote_ephemeral);
}

// The tokens that both sides treat alike.
static int mix_token(struct noise_handshake *h, enum noise_token token)
{
    if (token == NOISE_PSK) {
        assert(h->psk < NOISE_PSKS);
        return noise_mix_key_and_hash(&h->symmetric, h->psks[h->psk++], NOISE_KEY_BYTES);
    }
    return mix_dh_token(h, token);
}

// An ephemeral key that was sent or received, as every row treats it.
static int mix_ephemeral(struct noise_handshake *h, const uint8_t public_key[NOISE_KEY_BYTES])
{
    noise_mix_hash(&h->symmetric, public_key, NOISE_KEY_BYTES);
    return row_has_psk(h) ? noise_mix_key(&h->symmetric, public_key, NOISE_KEY_BYTES) : 0;
}

static int write_ephemeral(struct noise_handshake *h, uint8_t **message)
{
    if (!h->ephemeral_given) {
        randombytes_buf(h->ephemeral_private, NOISE_KEY_BYTES);
    }
    (void)crypto_scalarmult_base(h->ephemeral_public, h->ephemeral_private);
    memcpy(*message, h->ephemeral_public, NOISE_KEY_BYTES);
    *message += NOISE_KEY_BYTES;
    return mix_ephemeral(h, h->ephemeral_public);
}

static int read_ephemeral(struct noise_handshake *h, const uint8_t **message)
{
    memcpy(h->remote_ephemeral, *message, NOISE_KEY_BYTES);
    *message += NOISE_KEY_BYTES;
    return mix_ephemeral(h, h->remote_ephemeral);
}

// A static key that was expected is compared with the one that came.
static int read_static(struct noise_handshake *h, const uint8_t **message)
{
    uint8_t key[NOISE_KEY_BYTES];
    int error = noise_decrypt_and_hash(&h->symmetric, message, key, sizeof key);
    if (error != 0) {
        return error;
    }
    if (h->remote_static_given && sodium_memcmp(key, h->remote_static, sizeof key) != 0) {
        return -EBADMSG;
    }
    memcpy(h->remote_static, key, sizeof key);
    h->remote_static_known = true;
    return 0;
}

static int walk_writing(struct noise_handshake *h, uint8_t **message)
{
    int error = 0;
    for (const uint8_t *token = row_tokens(h); *token != NOISE_END && error == 0; token++) {
        if (*token == NOISE_E) {
            error = write_ephemeral(h, message);
        } else if (*token == NOISE_S) {
            error =
                noise_encrypt_and_hash(&h->symmetric, h->static_public, NOISE_KEY_BYTES, message);
        } else {
            error = mix_token(h, (enum noise_token) * token);
        }
    }
    return error;
}

static int walk_reading(struct noise_handshake *h, const uint8_t **message)
{
    int error = 0;
    for (const uint8_t *token = row_tokens(h); *token != NOISE_END && error == 0; token++) {
        if (*token == NOISE_E) {
            error = read_ephemeral(h, message);
        } else if (*token == NOISE_S) {
            error = read_static(h, message);
        } else {
            error = mix_token(h, (enum noise_token) * token);
        }
    }
    return error;
}

static size_t tag_bytes(bool keyed)
{
    return keyed ? NOISE_TAG_BYTES : 0;
}

// Bytes of the next message beside its payload, known before any of it is processed.
static size_t message_overhead(const struct noise_handshake *h)
{
    size_t bytes = 0;
    bool keyed = h->symmetric.cipher.keyed;
    for (const uint8_t *token = row_tokens(h); *token != NOISE_END; token++) {
        if (*token == NOISE_S) {
            bytes += NOISE_KEY_BYTES + tag_bytes(keyed);
        } else if (*token == NOISE_E) {
            bytes += NOISE_KEY_BYTES;
            keyed = keyed || row_has_psk(h);
        } else {
            keyed = true;
        }
    }
    return bytes + tag_bytes(keyed);
}

static void message_next(struct noise_handshake *h)
{
    h->message++;
    if (h->message == NOISE_ROW_MESSAGES || *row_tokens(h) == NOISE_END) {
        h->phase = DONE;
    }
}

struct noise_handshake *noise_handshake_create(void)
{
    struct noise_handshake *h = sodium_malloc(sizeof *h);
    if (h != NULL) {
        assert((uintptr_t)h % 16 == 0);
        handshake_clear(h);
    }
    return h;
}

void noise_handshake_destroy(struct noise_handshake **handshake)
{
    sodium_free(*handshake); // wipes
    *handshake = NULL;
}

// Whether this side of the row needs a static key of its own; psks counts its psk tokens.
static bool row_needs_static(const struct noise_pattern *pattern, bool initiator, size_t *psks)
{
    bool needs = pattern->known & (initiator ? NOISE_FIRST : NOISE_SECOND);
    *psks = 0;
    for (unsigned i = 0; i < NOISE_ROW_MESSAGES; i++) {
        for (const uint8_t *token = pattern->messages[i]; *token != NOISE_END; token++) {
            needs = needs || (*token == NOISE_S && (i % 2 == 0) == initiator);
            *psks += *token == NOISE_PSK;
        }
    }
    return needs;
}

static int parameters_check(const struct noise_parameters *p)
{
    if (p->pattern == NULL) {
        return -EINVAL;
    }
    size_t psks;
    bool needs_static = row_needs_static(p->pattern, p->initiator, &psks);
    bool needs_remote = p->pattern->known & (p->initiator ? NOISE_SECOND : NOISE_FIRST);
    if ((needs_static && p->static_private == NULL) || (needs_remote && p->remote_static == NULL) ||
        p->psk_count != psks || (psks > 0 && p->psks == NULL)) {
        return -EINVAL;
    }
    return noise_suite_available(p->suite) ? 0 : -ENOTSUP;
}

static void copy_keys(struct noise_handshake *h, const struct noise_parameters *p)
{
    if (p->static_private != NULL) {
        memcpy(h->static_private, p->static_private, NOISE_KEY_BYTES);
        (void)crypto_scalarmult_base(h->static_public, h->static_private);
    }
    if (p->remote_static != NULL) {
        memcpy(h->remote_static, p->remote_static, NOISE_KEY_BYTES);
        h->remote_static_given = true;
        h->remote_static_known = p->pattern->known & (p->initiator ? NOISE_SECOND : NOISE_FIRST);
    }
    if (p->ephemeral_private != NULL) {
        memcpy(h->ephemeral_private, p->ephemeral_private, NOISE_KEY_BYTES);
        h->ephemeral_given = true;
    }
    if (p->psk_count > 0) {
        memcpy(h->psks, p->psks, p->psk_count * NOISE_KEY_BYTES);
    }
}

int noise_handshake_start(struct noise_handshake *h, const struct noise_parameters *p)
{
    handshake_clear(h);
    int error = parameters_check(p);
    if (error != 0) {
        return error;
    }
    h->pattern = p->pattern;
    h->initiator = p->initiator;
    copy_keys(h, p);
    noise_symmetric_start(&h->symmetric, p->suite, p->pattern);
    noise_mix_hash(&h->symmetric, p->prologue, p->prologue_bytes);
    if (h->pattern->known & NOISE_FIRST) {
        noise_mix_hash(&h->symmetric, h->initiator ? h->static_public : h->remote_static,
                       NOISE_KEY_BYTES);
    }
    if (h->pattern->known & NOISE_SECOND) {
        noise_mix_hash(&h->symmetric, h->initiator ? h->remote_static : h->static_public,
                       NOISE_KEY_BYTES);
    }
    h->phase = RUNNING;
    return 0;
}

int noise_handshake_write(struct noise_handshake *h, const void *payload, size_t payload_bytes,
                          void *message, size_t capacity, size_t *written)
{
    if (h->phase != RUNNING || !my_turn(h)) {
        return -EPROTO;
    }
    size_t overhead = message_overhead(h);
    size_t limit = capacity < NOISE_MESSAGE_MAX ? capacity : NOISE_MESSAGE_MAX;
    if (overhead > limit || payload_bytes > limit - overhead) {
        return -ENOBUFS;
    }
    uint8_t *at = message;
    int error = walk_writing(h, &at);
    if (error == 0) {
        error = noise_encrypt_and_hash(&h->symmetric, payload, payload_bytes, &at);
    }
    if (error != 0) {
        handshake_clear(h);
        return error;
    }
    assert((size_t)(at - (uint8_t *)message) == overhead + payload_bytes);
    message_next(h);
    *written = overhead + payload_bytes;
    return 0;
}

int noise_handshake_read(struct noise_handshake *h, const void *message, size_t message_bytes,
                         void *payload, size_t capacity, size_t *payload_bytes)
{
    if (h->phase != RUNNING || my_turn(h)) {
        return -EPROTO;
    }
    size_t overhead = message_overhead(h);
    if (message_bytes < overhead || message_bytes > NOISE_MESSAGE_MAX) {
        handshake_clear(h);
        return -EBADMSG;
    }
    size_t bytes = message_bytes - overhead;
    if (bytes > capacity) {
        return -ENOBUFS;
    }
    const uint8_t *at = message;
    int error = walk_reading(h, &at);
    if (error == 0) {
        error = noise_decrypt_and_hash(&h->symmetric, &at, payload, bytes);
    }
    if (error != 0) {
        handshake_clear(h);
        return -EBADMSG;
    }
    message_next(h);
    *payload_bytes = bytes;
    return 0;
}

bool noise_handshake_done(const struct noise_handshake *h)
{
    return h->phase == DONE;
}

const uint8_t *noise_handshake_hash(const struct noise_handshake *h)
{
    return h->phase == DONE ? h->symmetric.hash : NULL;
}

const uint8_t *noise_handshake_remote_static(const struct noise_handshake *h)
{
    return h->remote_static_known ? h->remote_static : NULL;
}

// The first key is the initiator's to send with.
int noise_handshake_split(struct noise_handshake *h, struct noise_cipher *send,
                          struct noise_cipher *receive)
{
    if (h->phase != DONE) {
        return -EPROTO;
    }
    enum noise_suite suite = h->symmetric.suite;
    uint8_t keys[2][NOISE_HASH_BYTES];
    noise_symmetric_split(&h->symmetric, keys);
    int error = noise_cipher_set_key(send, suite, keys[h->initiator ? 0 : 1]);
    if (error == 0) {
        error = noise_cipher_set_key(receive, suite, keys[h->initiator ? 1 : 0]);
    }
    sodium_memzero(keys, sizeof keys);
    handshake_clear(h);
    if (error != 0) {
        noise_cipher_clear(send);
    }
    return error;
}
