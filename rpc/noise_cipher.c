// SPDX-License-Identifier: Apache-2.0
//
// Cipher states: one direction of a connection, a key that is expanded once, and a nonce that
// counts. Nonces are never sent, so a record that is replayed, dropped or reordered does not open;
// and what does not open ends the cipher state for good, its key wiped, so that nobody can ask it
// twice.
//
//   clear --set_key--> keyed --open fails--> dead (= clear, but its count of records stays)
//
// noise_seal() and noise_open() touch the state and the caller's buffers only: no lock, no
// allocation, no errno that matters; they run in signal handlers. One thread at a time uses a
// state.
//
// The memory: keys live in sodium_malloc() regions (guard pages, locked where the limit allows,
// left out of cores). A region for each state would take four pages and four mappings of its own;
// 16,384 connections have 32,768 states, which is half of a process's mappings. So a region is a
// block of four pages with 30 cells. The pool of regions is the one file-scope variable of this
// room: it stands for the process's guarded memory, as malloc's heap does, and has a lock of its
// own, which create and destroy take and no other function. A cell is wiped when it is given back;
// a region is given back when it is empty and another one has room.
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/noise_internal.h"

enum { CELLS = 30, NONCE_BYTES = 12 };

// sodium_malloc() puts the end of a region at the end of a page, so the cells are aligned when
// their size is.
static_assert(sizeof(struct noise_cipher) % 16 == 0, "cells of a region must stay aligned for AES");
static_assert(CELLS * sizeof(struct noise_cipher) + 16 <= 4 * 4096UL, "a region is four pages");
static_assert((int)crypto_aead_aes256gcm_NPUBBYTES == NONCE_BYTES, "nonce of AES-GCM");
static_assert((int)crypto_aead_chacha20poly1305_ietf_NPUBBYTES == NONCE_BYTES, "nonce of ChaCha");

struct noise_cipher_region {
    struct noise_cipher_region *next; // P
    uint32_t used;                    // P: bit i: cell i is given out
    struct noise_cipher *cells;       // constant
};

static pthread_mutex_t pool_lock =
    PTHREAD_MUTEX_INITIALIZER;           // P; a leaf: nothing is locked under it
static struct noise_cipher_region *pool; // P

static bool region_full(const struct noise_cipher_region *region)
{
    return region->used == (UINT32_C(1) << CELLS) - 1;
}

static struct noise_cipher_region *region_create(void)
{
    struct noise_cipher_region *region = calloc(1, sizeof *region);
    if (region == NULL) {
        return NULL;
    }
    region->cells = sodium_malloc(CELLS * sizeof *region->cells);
    if (region->cells == NULL) {
        free(region);
        return NULL;
    }
    assert((uintptr_t)region->cells % 16 == 0);
    return region;
}

static void region_destroy(struct noise_cipher_region *region)
{
    sodium_free(region->cells);
    free(region);
}

// The first region with room, or NULL. Regions fill up from the front, so the walk is short unless
// thousands of connections live, and a handshake costs far more than that walk.
static struct noise_cipher_region *pool_room(void)
{
    struct noise_cipher_region *region = pool;
    while (region != NULL && region_full(region)) {
        region = region->next;
    }
    return region;
}

static struct noise_cipher *cell_take(struct noise_cipher_region *region)
{
    unsigned i = 0;
    while (region->used >> i & 1) {
        i++;
    }
    region->used |= UINT32_C(1) << i;
    struct noise_cipher *cell = &region->cells[i];
    memset(cell, 0, sizeof *cell);
    cell->region = region;
    return cell;
}

static void pool_unlink(const struct noise_cipher_region *region)
{
    struct noise_cipher_region **link = &pool;
    while (*link != region) {
        link = &(*link)->next;
    }
    *link = region->next;
}

struct noise_cipher *noise_cipher_create(void)
{
    struct noise_cipher *cipher = NULL;
    pthread_mutex_lock(&pool_lock);
    struct noise_cipher_region *region = pool_room();
    if (region == NULL) {
        region = region_create();
        if (region == NULL) {
            goto out;
        }
        region->next = pool;
        pool = region;
    }
    cipher = cell_take(region);
out:
    pthread_mutex_unlock(&pool_lock);
    return cipher;
}

void noise_cipher_destroy(struct noise_cipher **cipher)
{
    if (*cipher == NULL) {
        return;
    }
    struct noise_cipher_region *region = (*cipher)->region;
    uint32_t bit = UINT32_C(1) << (*cipher - region->cells);
    sodium_memzero(*cipher, sizeof **cipher);
    *cipher = NULL;
    pthread_mutex_lock(&pool_lock);
    assert(region->used & bit);
    region->used &= ~bit;
    bool surplus = false;
    if (region->used == 0) {
        pool_unlink(region);
        surplus = pool_room() != NULL;
        if (!surplus) {
            region->next = pool;
            pool = region;
        }
    }
    pthread_mutex_unlock(&pool_lock);
    if (surplus) {
        region_destroy(region);
    }
}

int noise_cipher_set_key(struct noise_cipher *cipher, enum noise_suite suite,
                         const uint8_t key[NOISE_KEY_BYTES])
{
    noise_cipher_clear(cipher);
    if (!noise_suite_available(suite)) {
        return -ENOTSUP;
    }
    if (suite == NOISE_AESGCM) {
        if (crypto_aead_aes256gcm_beforenm(&cipher->key.aes, key) != 0) {
            return -ENOTSUP;
        }
    } else {
        memcpy(cipher->key.chacha, key, NOISE_KEY_BYTES);
    }
    cipher->suite = (uint8_t)suite;
    cipher->nonce = 0;
    cipher->reserved = UINT64_MAX;
    cipher->keyed = true;
    return 0;
}

void noise_cipher_clear(struct noise_cipher *cipher)
{
    sodium_memzero(&cipher->key, sizeof cipher->key);
    cipher->keyed = false;
}

// Four zero bytes, then the counter: big-endian for AES-GCM, little-endian for ChaChaPoly (section
// 12).
static void nonce_encode(const struct noise_cipher *cipher, uint64_t nonce, uint8_t to[NONCE_BYTES])
{
    memset(to, 0, 4);
    for (unsigned i = 0; i < 8; i++) {
        unsigned byte = cipher->suite == NOISE_AESGCM ? 7 - i : i;
        to[4 + i] = (uint8_t)(nonce >> (8 * byte));
    }
}

// Whether the state may seal or open one more record.
static int cipher_check(const struct noise_cipher *cipher)
{
    if (!cipher->keyed) {
        return -ENOTCONN;
    }
    return cipher->nonce == UINT64_MAX ? -EOVERFLOW : 0;
}

static int seal_as(struct noise_cipher *cipher, uint64_t number, const void *associated,
                   size_t associated_bytes, const void *plain, size_t bytes, void *sealed)
{
    if (bytes > NOISE_MESSAGE_MAX - NOISE_TAG_BYTES) {
        return -EMSGSIZE;
    }
    uint8_t nonce[NONCE_BYTES];
    nonce_encode(cipher, number, nonce);
    if (cipher->suite == NOISE_AESGCM) {
        (void)crypto_aead_aes256gcm_encrypt_afternm(sealed, NULL, plain, bytes, associated,
                                                    associated_bytes, NULL, nonce,
                                                    &cipher->key.aes);
    } else {
        (void)crypto_aead_chacha20poly1305_ietf_encrypt(sealed, NULL, plain, bytes, associated,
                                                        associated_bytes, NULL, nonce,
                                                        cipher->key.chacha);
    }
    return 0;
}

int noise_seal_with(struct noise_cipher *cipher, const void *associated, size_t associated_bytes,
                    const void *plain, size_t bytes, void *sealed)
{
    int error = cipher_check(cipher);
    error = error != 0 ? error
                       : seal_as(cipher, cipher->nonce, associated, associated_bytes, plain, bytes,
                                 sealed);
    cipher->nonce += error == 0;
    return error;
}

int noise_reserve(struct noise_cipher *cipher)
{
    int error = cipher_check(cipher);
    if (error == 0 && cipher->reserved != UINT64_MAX) {
        error = -EBUSY;
    }
    if (error == 0) {
        cipher->reserved = cipher->nonce++;
    }
    return error;
}

int noise_seal_reserved(struct noise_cipher *cipher, const void *plain, size_t bytes, void *sealed)
{
    if (!cipher->keyed) {
        return -ENOTCONN;
    }
    uint64_t number = cipher->reserved;
    if (number == UINT64_MAX) {
        return -EINVAL;
    }
    cipher->reserved = UINT64_MAX; // whatever comes: a nonce is used once
    return seal_as(cipher, number, NULL, 0, plain, bytes, sealed);
}

int noise_open_with(struct noise_cipher *cipher, const void *associated, size_t associated_bytes,
                    const void *sealed, size_t sealed_bytes, void *plain)
{
    int error = cipher_check(cipher);
    if (error != 0) {
        return error;
    }
    if (sealed_bytes < NOISE_TAG_BYTES || sealed_bytes > NOISE_MESSAGE_MAX) {
        noise_cipher_clear(cipher);
        return -EBADMSG;
    }
    uint8_t none; // libsodium takes a NULL result for "verify only"; an empty one is something else
    uint8_t *to = plain != NULL ? plain : &none;
    uint8_t nonce[NONCE_BYTES];
    nonce_encode(cipher, cipher->nonce, nonce);
    int result;
    if (cipher->suite == NOISE_AESGCM) {
        result =
            crypto_aead_aes256gcm_decrypt_afternm(to, NULL, NULL, sealed, sealed_bytes, associated,
                                                  associated_bytes, nonce, &cipher->key.aes);
    } else {
        result = crypto_aead_chacha20poly1305_ietf_decrypt(to, NULL, NULL, sealed, sealed_bytes,
                                                           associated, associated_bytes, nonce,
                                                           cipher->key.chacha);
    }
    if (result != 0) {
        noise_cipher_clear(cipher);
        return -EBADMSG;
    }
    cipher->nonce++;
    return 0;
}

int noise_seal(struct noise_cipher *cipher, const void *plain, size_t bytes, void *sealed)
{
    return noise_seal_with(cipher, NULL, 0, plain, bytes, sealed);
}

int noise_open(struct noise_cipher *cipher, const void *sealed, size_t sealed_bytes, void *plain)
{
    return noise_open_with(cipher, NULL, 0, sealed, sealed_bytes, plain);
}

uint64_t noise_cipher_records(const struct noise_cipher *cipher)
{
    return cipher->nonce;
}
