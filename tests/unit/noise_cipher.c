// SPDX-License-Identifier: Apache-2.0
//
// Cipher states: what one side seals only the other opens, once, in order; and the pool of guarded
// cells.
#include <pthread.h>

#include "tests/unit/noise_pair.h"

static const uint8_t test_key[NOISE_KEY_BYTES] = {1, 2, 3, 250, 251, 252};

struct channel {
    struct noise_cipher *send, *receive;
};

static struct channel channel_create(enum noise_suite suite)
{
    struct channel c = {noise_cipher_create(), noise_cipher_create()};
    assert_non_null(c.send);
    assert_non_null(c.receive);
    assert_int_equal(noise_cipher_set_key(c.send, suite, test_key), 0);
    assert_int_equal(noise_cipher_set_key(c.receive, suite, test_key), 0);
    return c;
}

static void channel_destroy(struct channel *c)
{
    noise_cipher_destroy(&c->send);
    noise_cipher_destroy(&c->receive);
    assert_null(c->send);
}

static void test_sizes_and_places(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 15, 16, 17, 127, 128, 129, 4096, 32768, 65519};
    static uint8_t plain[65535], sealed[65535], place[65535];
    noise_random(plain, sizeof plain);
    for (const enum noise_suite *suite = pair_suites(); *suite; suite++) {
        struct channel c = channel_create(*suite);
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            size_t bytes = sizes[i];
            assert_int_equal(noise_seal(c.send, plain, bytes, sealed), 0);
            assert_int_equal(noise_open(c.receive, sealed, bytes + 16, place), 0);
            assert_memory_equal(place, plain, bytes);
            assert_int_equal(noise_seal(c.send, place, bytes, place), 0); // in place
            assert_true(bytes < 16 || memcmp(place, plain, bytes) != 0);
            assert_int_equal(noise_open(c.receive, place, bytes + 16, place), 0);
            assert_memory_equal(place, plain, bytes);
            assert_int_equal(noise_cipher_records(c.send), 2 * (i + 1));
            assert_int_equal(noise_cipher_records(c.receive), 2 * (i + 1));
        }
        assert_int_equal(noise_seal(c.send, plain, 65520, sealed), -EMSGSIZE);
        assert_int_equal(noise_seal(c.send, NULL, 0, sealed), 0);
        assert_int_equal(noise_open(c.receive, sealed, 16, NULL), 0);
        channel_destroy(&c);
    }
}

// One record is left out and sealed after those that follow it; who opens them in order sees nothing of that.
static void test_reserved(void **state)
{
    (void)state;
    for (const enum noise_suite *suite = pair_suites(); *suite; suite++) {
        struct channel c = channel_create(*suite);
        static uint8_t records[4][8 + 16], got[8], much[65535], sealed[65535 + 16];
        assert_int_equal(noise_seal(c.send, "record 0", 8, records[0]), 0);
        assert_int_equal(noise_seal_reserved(c.send, "record 1", 8, records[1]), -EINVAL);
        assert_int_equal(noise_reserve(c.send), 0);
        assert_int_equal(noise_reserve(c.send), -EBUSY);
        assert_int_equal(noise_seal(c.send, "record 2", 8, records[2]), 0);
        assert_int_equal(noise_seal_reserved(c.send, "record 1", 8, records[1]), 0);
        assert_int_equal(noise_seal_reserved(c.send, "record 9", 8, records[3]), -EINVAL); // once
        assert_int_equal(noise_seal(c.send, "record 3", 8, records[3]), 0);
        assert_int_equal(noise_cipher_records(c.send), 4);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(noise_open(c.receive, records[i], 24, got), 0);
            assert_memory_equal(got, "record ", 7);
            assert_int_equal(got[7], '0' + i);
        }
        assert_int_equal(noise_reserve(c.send), 0);
        assert_int_equal(noise_seal_reserved(c.send, much, sizeof much, sealed), -EMSGSIZE);
        assert_int_equal(noise_seal_reserved(c.send, "x", 1, sealed), -EINVAL); // it is spent
        assert_int_equal(noise_reserve(c.send), 0);
        noise_cipher_clear(c.send);
        assert_int_equal(noise_seal_reserved(c.send, "x", 1, sealed), -ENOTCONN);
        assert_int_equal(noise_reserve(c.send), -ENOTCONN);
        channel_destroy(&c);
    }
}

// A state that refused one record refuses all, the right one too, and has forgotten its key.
static void assert_dead(struct noise_cipher *cipher, const uint8_t *right, size_t bytes)
{
    static const struct noise_cipher empty;
    uint8_t plain[256];
    assert_int_equal(noise_open(cipher, right, bytes, plain), -ENOTCONN);
    assert_int_equal(noise_seal(cipher, "x", 1, plain), -ENOTCONN);
    assert_memory_equal(&cipher->key, &empty.key, sizeof empty.key);
}

static void test_replay_drop_reorder(void **state)
{
    (void)state;
    for (const enum noise_suite *suite = pair_suites(); *suite; suite++) {
        static const int orders[][2] = {{0, 0}, {1, 0}, {0, 2}}; // replay, reorder, drop
        static const int opened[] = {1, 0, 1};
        for (int i = 0; i < 3; i++) {
            struct channel c = channel_create(*suite);
            uint8_t records[3][64 + 16], plain[64] = "page", got[64];
            for (int r = 0; r < 3; r++) {
                assert_int_equal(noise_seal(c.send, plain, 64, records[r]), 0);
            }
            for (int r = 0; r < opened[i]; r++) {
                assert_int_equal(noise_open(c.receive, records[orders[i][r]], 80, got), 0);
            }
            assert_int_equal(noise_open(c.receive, records[orders[i][opened[i]]], 80, got),
                             -EBADMSG);
            assert_dead(c.receive, records[opened[i]], 80);
            assert_int_equal(noise_cipher_records(c.receive), opened[i]);
            channel_destroy(&c);
        }
    }
}

static void test_every_bit_and_length(void **state)
{
    (void)state;
    for (const enum noise_suite *suite = pair_suites(); *suite; suite++) {
        struct channel c = channel_create(*suite);
        uint8_t record[40 + 16], plain[64] = "page";
        for (unsigned bit = 0; bit < 8 * sizeof record; bit++) {
            assert_int_equal(noise_cipher_set_key(c.send, *suite, test_key), 0);
            assert_int_equal(noise_cipher_set_key(c.receive, *suite, test_key), 0);
            assert_int_equal(noise_seal(c.send, plain, 40, record), 0);
            record[bit / 8] ^= (uint8_t)(1U << bit % 8);
            assert_int_equal(noise_open(c.receive, record, sizeof record, plain + 20), -EBADMSG);
            record[bit / 8] ^= (uint8_t)(1U << bit % 8);
            assert_dead(c.receive, record, sizeof record);
        }
        for (size_t bytes = 0; bytes < sizeof record; bytes++) {
            assert_int_equal(noise_cipher_set_key(c.receive, *suite, test_key), 0);
            assert_int_equal(noise_open(c.receive, record, bytes, plain), -EBADMSG);
            assert_dead(c.receive, record, sizeof record);
        }
        static uint8_t huge[NOISE_MESSAGE_MAX + 1];
        assert_int_equal(noise_cipher_set_key(c.receive, *suite, test_key), 0);
        assert_int_equal(noise_open(c.receive, huge, sizeof huge, huge), -EBADMSG);
        channel_destroy(&c);
    }
}

// Against the library's one-shot functions, with the nonce spelt out: big-endian for AES-GCM,
// little-endian for ChaChaPoly, four zero bytes before.
static void test_nonce_encoding(void **state)
{
    (void)state;
    static const uint8_t big[12] = {0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8};
    static const uint8_t little[12] = {0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1};
    for (const enum noise_suite *suite = pair_suites(); *suite; suite++) {
        struct channel c = channel_create(*suite);
        uint8_t sealed[6 + 16], expected[6 + 16];
        c.send->nonce = UINT64_C(0x0102030405060708);
        assert_int_equal(noise_seal(c.send, "secret", 6, sealed), 0);
        if (*suite == NOISE_AESGCM) {
            (void)crypto_aead_aes256gcm_encrypt(expected, NULL, (const uint8_t *)"secret", 6, NULL,
                                                0, NULL, big, test_key);
        } else {
            (void)crypto_aead_chacha20poly1305_ietf_encrypt(
                expected, NULL, (const uint8_t *)"secret", 6, NULL, 0, NULL, little, test_key);
        }
        assert_memory_equal(sealed, expected, sizeof sealed);
        channel_destroy(&c);
    }
}

static void test_end_of_nonces(void **state)
{
    (void)state;
    for (const enum noise_suite *suite = pair_suites(); *suite; suite++) {
        struct channel c = channel_create(*suite);
        uint8_t record[4 + 16], plain[4];
        c.send->nonce = c.receive->nonce = UINT64_MAX - 1;
        assert_int_equal(noise_seal(c.send, "last", 4, record), 0);
        assert_int_equal(noise_open(c.receive, record, sizeof record, plain), 0);
        for (int i = 0; i < 2; i++) { // it stays there: no nonce comes round again
            assert_int_equal(noise_seal(c.send, "more", 4, record), -EOVERFLOW);
            assert_int_equal(noise_open(c.receive, record, sizeof record, plain), -EOVERFLOW);
        }
        assert_true(noise_cipher_records(c.send) == UINT64_MAX);
        channel_destroy(&c);
    }
}

static void test_without_a_key(void **state)
{
    (void)state;
    uint8_t record[32] = {0};
    struct noise_cipher *cipher = noise_cipher_create();
    assert_int_equal(noise_seal(cipher, record, 1, record), -ENOTCONN);
    assert_int_equal(noise_open(cipher, record, 32, record), -ENOTCONN);
    assert_int_equal(noise_cipher_set_key(cipher, (enum noise_suite)9, test_key), -ENOTSUP);
    assert_int_equal(noise_open(cipher, record, 32, record), -ENOTCONN);
    noise_cipher_destroy(&cipher);
    noise_cipher_destroy(&cipher); // nothing left to do
}

enum { CELLS = 500 };

static void test_pool(void **state)
{
    (void)state;
    static struct noise_cipher *cells[CELLS];
    static const struct noise_cipher empty;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < CELLS; i++) {
            cells[i] = noise_cipher_create();
            assert_non_null(cells[i]);
            assert_int_equal((uintptr_t)cells[i] % 16, 0);
            assert_int_equal(noise_cipher_records(cells[i]), 0);
            assert_memory_equal(&cells[i]->key, &empty.key, sizeof empty.key);
            assert_int_equal(noise_cipher_set_key(cells[i], NOISE_CHACHAPOLY, test_key), 0);
            cells[i]->nonce = (uint64_t)i; // a mark: no two cells are one
        }
        for (int i = 0; i < CELLS; i++) {
            assert_int_equal(noise_cipher_records(cells[i]), i);
        }
        for (int step = 0; step < CELLS; step++) { // neither the order of creation nor its reverse
            noise_cipher_destroy(&cells[step * 7 % CELLS]);
        }
    }
}

// A cell that was given back holds nothing, though its region lives on for its neighbour's sake.
static void test_pool_wipes(void **state)
{
    (void)state;
    static const struct noise_cipher empty;
    struct channel c = channel_create(NOISE_CHACHAPOLY);
    const struct noise_cipher *gone = c.send;
    assert_ptr_equal(gone->region, c.receive->region);
    noise_cipher_destroy(&c.send);
    assert_memory_equal(gone, &empty, sizeof empty);
    channel_destroy(&c);
}

static void *use_pool(void *failed)
{
    for (int i = 0; i < 300; i++) {
        struct noise_cipher *mine[9];
        for (int k = 0; k < 9; k++) {
            mine[k] = noise_cipher_create();
            if (mine[k] == NULL || mine[k]->nonce != 0) {
                *(bool *)failed = true;
                return NULL;
            }
            mine[k]->nonce = (uintptr_t)mine + (unsigned)k;
        }
        for (int k = 0; k < 9; k++) {
            if (mine[k]->nonce != (uintptr_t)mine + (unsigned)k) {
                *(bool *)failed = true;
            }
            noise_cipher_destroy(&mine[k]);
        }
    }
    return NULL;
}

static void test_pool_threads(void **state)
{
    (void)state;
    pthread_t threads[4];
    bool failed[4] = {false};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, use_pool, &failed[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_false(failed[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_and_places),    cmocka_unit_test(test_reserved),
        cmocka_unit_test(test_replay_drop_reorder), cmocka_unit_test(test_every_bit_and_length),
        cmocka_unit_test(test_nonce_encoding),      cmocka_unit_test(test_end_of_nonces),
        cmocka_unit_test(test_without_a_key),       cmocka_unit_test(test_pool),
        cmocka_unit_test(test_pool_wipes),          cmocka_unit_test(test_pool_threads),
    };
    return cmocka_run_group_tests(tests, pair_group_setup, NULL);
}
