// SPDX-License-Identifier: Apache-2.0
//
// The raw cost of sealing and opening a record, through the very functions that lanes use (rpc/noise.h). Keys
// come from a handshake of the product's own pattern between two ends in this process: there is no other door to
// a cipher state, and none should be made for a measurement.
//
// A record is opened right after it was sealed, since a cipher state opens in order only; both are timed apart.
// The plain text is warm in the cache, as it is on a fault (the store's page has just been read).
#include "tools/dsmperf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/noise.h"

uint32_t perf_cipher_suite(void)
{
    return noise_suite_available(NOISE_AESGCM) ? NOISE_AESGCM : NOISE_CHACHAPOLY;
}

static const uint8_t no_psk[1][NOISE_KEY_BYTES];

static int start_end(struct noise_handshake *handshake, uint32_t suite, bool initiator,
                     const uint8_t *own_private, const uint8_t *remote_public)
{
    struct noise_parameters parameters = {
        .pattern = noise_pattern_find(noise_product_pattern),
        .suite = (enum noise_suite)suite,
        .initiator = initiator,
        .prologue = "dsmperf",
        .prologue_bytes = 7,
        .static_private = own_private,
        .remote_static = initiator ? remote_public : NULL,
        .psks = no_psk,
        .psk_count = 1,
    };
    return noise_handshake_start(handshake, &parameters);
}

static int shake_hands(struct noise_handshake *ends[2])
{
    uint8_t message[512];
    uint8_t payload[512];
    for (int turn = 0; !noise_handshake_done(ends[0]) || !noise_handshake_done(ends[1]);
         turn = 1 - turn) {
        size_t written = 0;
        size_t read_bytes = 0;
        int result = noise_handshake_write(ends[turn], "", 0, message, sizeof(message), &written);
        if (result == 0) {
            result = noise_handshake_read(ends[1 - turn], message, written, payload,
                                          sizeof(payload), &read_bytes);
        }
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

// ciphers: initiator's send and receive, responder's send and receive.
static int make_keys(struct noise_handshake *ends[2], struct noise_cipher *ciphers[4],
                     uint32_t suite)
{
    uint8_t private_keys[2][NOISE_KEY_BYTES];
    uint8_t public_keys[2][NOISE_KEY_BYTES];
    int result = 0;
    for (int end = 0; end < 2; end++) {
        noise_keypair(private_keys[end], public_keys[end]);
    }
    for (int end = 0; end < 2 && result == 0; end++) {
        result = start_end(ends[end], suite, end == 0, private_keys[end], public_keys[1 - end]);
    }
    if (result == 0) {
        result = shake_hands(ends);
    }
    for (size_t end = 0; end < 2 && result == 0; end++) {
        result = noise_handshake_split(ends[end], ciphers[2 * end], ciphers[2 * end + 1]);
    }
    noise_wipe(private_keys, sizeof(private_keys));
    return result;
}

int perf_cipher_pair(uint32_t suite, struct noise_cipher **send, struct noise_cipher **receive)
{
    struct noise_handshake *ends[2] = {noise_handshake_create(), noise_handshake_create()};
    struct noise_cipher *ciphers[4];
    int result = ends[0] == NULL || ends[1] == NULL ? -ENOMEM : 0;
    for (int i = 0; i < 4; i++) {
        ciphers[i] = noise_cipher_create();
        if (ciphers[i] == NULL) {
            result = -ENOMEM;
        }
    }
    if (result == 0) {
        result = make_keys(ends, ciphers, suite);
    }
    if (result == 0) { // one direction is enough: the initiator's send, the responder's receive
        *send = ciphers[0];
        *receive = ciphers[3];
        ciphers[0] = ciphers[3] = NULL;
    }
    for (int i = 0; i < 4; i++) {
        noise_cipher_destroy(&ciphers[i]);
    }
    noise_handshake_destroy(&ends[0]);
    noise_handshake_destroy(&ends[1]);
    return result;
}

static int measure_pair(struct noise_cipher *send, struct noise_cipher *receive,
                        const struct perf_question *question, uint8_t *plain, uint8_t *sealed,
                        struct perf_samples *samples)
{
    for (uint32_t i = 0; i < question->count; i++) {
        double start = perf_now_us();
        int result = noise_seal(send, plain, question->bytes, sealed);
        double middle = perf_now_us();
        if (result == 0) {
            result = noise_open(receive, sealed, question->bytes + NOISE_TAG_BYTES, plain);
        }
        double end = perf_now_us();
        if (result == 0) {
            result = perf_samples_add(samples,
                                      question->kind == PERF_SEAL ? middle - start : end - middle);
        }
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

int perf_cipher_measure(const struct perf_question *question, struct perf_samples *samples)
{
    struct noise_cipher *send = NULL;
    struct noise_cipher *receive = NULL;
    int result = perf_cipher_pair(question->suite, &send, &receive);
    uint8_t *plain = malloc(question->bytes);
    uint8_t *sealed = malloc(question->bytes + NOISE_TAG_BYTES);
    if (result == 0 && (plain == NULL || sealed == NULL)) {
        result = -ENOMEM;
    }
    if (result == 0) {
        memset(plain, 0x5a, question->bytes);
        result = measure_pair(send, receive, question, plain, sealed, samples);
    }
    free(plain);
    free(sealed);
    noise_cipher_destroy(&send);
    noise_cipher_destroy(&receive);
    return result;
}
