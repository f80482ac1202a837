// SPDX-License-Identifier: Apache-2.0
//
// The handshake against those who would break it: each test is a line of the list of bad input,
// for both ciphers. That the messages are the right ones is shown by the published vectors; here
// is what must not work, and that what works for one pattern works for every row.
#include "tests/unit/noise_pair.h"

static void test_product_sizes(void **state)
{
    (void)state;
    for (const enum noise_suite *suite = pair_suites(); *suite; suite++) {
        struct pair p;
        uint8_t message[PAIR_MESSAGE_1];
        size_t bytes = 0;
        pair_create(&p, noise_product_pattern, *suite);
        pair_start(&p);
        assert_int_equal(noise_handshake_write(p.client, NULL, 0, message, PAIR_MESSAGE_1, &bytes),
                         0);
        assert_int_equal(bytes, PAIR_MESSAGE_1);
        assert_null(noise_handshake_remote_static(p.server));
        assert_int_equal(noise_handshake_read(p.server, message, bytes, NULL, 0, &bytes), 0);
        assert_int_equal(bytes, 0);
        assert_memory_equal(noise_handshake_remote_static(p.server), p.client_public, 32);
        assert_false(noise_handshake_done(p.server));
        assert_null(noise_handshake_hash(p.server));
        assert_int_equal(noise_handshake_write(p.server, NULL, 0, message, PAIR_MESSAGE_2, &bytes),
                         0);
        assert_int_equal(bytes, PAIR_MESSAGE_2);
        assert_int_equal(noise_handshake_read(p.client, message, bytes, NULL, 0, &bytes), 0);
        assert_true(noise_handshake_done(p.server) && noise_handshake_done(p.client));
        assert_memory_equal(noise_handshake_hash(p.client), noise_handshake_hash(p.server), 64);
        pair_split(&p);
        char text[8 + NOISE_TAG_BYTES] = "request";
        assert_int_equal(noise_seal(p.client_send, text, 8, text), 0);
        assert_int_equal(noise_open(p.server_receive, text, sizeof text, text), 0);
        assert_string_equal(text, "request");
        assert_int_equal(noise_seal(p.server_send, "answer", 8, text), 0);
        assert_int_equal(noise_open(p.client_receive, text, sizeof text, text), 0);
        assert_string_equal(text, "answer");
        pair_destroy(&p);
    }
}

// Every way back from a failed handshake is closed.
static void assert_dead(struct noise_handshake *handshake, struct pair *p)
{
    uint8_t message[512];
    size_t bytes = 7;
    assert_false(noise_handshake_done(handshake));
    assert_null(noise_handshake_hash(handshake));
    assert_null(noise_handshake_remote_static(handshake));
    assert_int_equal(noise_handshake_write(handshake, NULL, 0, message, sizeof message, &bytes),
                     -EPROTO);
    assert_int_equal(noise_handshake_read(handshake, message, 96, NULL, 0, &bytes), -EPROTO);
    assert_int_equal(noise_handshake_split(handshake, p->client_send, p->client_receive), -EPROTO);
    assert_int_equal(bytes, 7);
}

static void write_message_1(struct pair *p, uint8_t message[PAIR_MESSAGE_1 + 1])
{
    size_t bytes = 0;
    pair_start(p);
    assert_int_equal(noise_handshake_write(p->client, NULL, 0, message, PAIR_MESSAGE_1, &bytes), 0);
}

static void write_message_2(struct pair *p, uint8_t message[PAIR_MESSAGE_2 + 1])
{
    size_t bytes = 0;
    pair_start(p);
    assert_int_equal(pair_pass(p->client, p->server), 0);
    assert_int_equal(noise_handshake_write(p->server, NULL, 0, message, PAIR_MESSAGE_2, &bytes), 0);
}

static void assert_refused(struct noise_handshake *reader, const uint8_t *message, size_t bytes,
                           struct pair *p)
{
    uint8_t payload[PAIR_MESSAGE_1];
    size_t payload_bytes = 7;
    assert_int_equal(
        noise_handshake_read(reader, message, bytes, payload, sizeof payload, &payload_bytes),
        -EBADMSG);
    assert_int_equal(payload_bytes, 7);
    assert_dead(reader, p);
}

static void test_every_bit_flipped(void **state)
{
    (void)state;
    for (const enum noise_suite *suite = pair_suites(); *suite; suite++) {
        struct pair p;
        uint8_t message[PAIR_MESSAGE_1 + 1];
        pair_create(&p, noise_product_pattern, *suite);
        for (unsigned bit = 0; bit < 8 * PAIR_MESSAGE_1; bit++) {
            write_message_1(&p, message);
            message[bit / 8] ^= (uint8_t)(1U << bit % 8);
            assert_refused(p.server, message, PAIR_MESSAGE_1, &p);
        }
        for (unsigned bit = 0; bit < 8 * PAIR_MESSAGE_2; bit++) {
            write_message_2(&p, message);
            message[bit / 8] ^= (uint8_t)(1U << bit % 8);
            assert_refused(p.client, message, PAIR_MESSAGE_2, &p);
        }
        pair_destroy(&p);
    }
}

static void test_every_other_length(void **state)
{
    (void)state;
    for (const enum noise_suite *suite = pair_suites(); *suite; suite++) {
        struct pair p;
        uint8_t message[PAIR_MESSAGE_1 + 1] = {0};
        pair_create(&p, noise_product_pattern, *suite);
        for (size_t bytes = 0; bytes <= PAIR_MESSAGE_1 + 1; bytes++) {
            if (bytes != PAIR_MESSAGE_1) {
                write_message_1(&p, message);
                assert_refused(p.server, message, bytes, &p);
            }
        }
        for (size_t bytes = 0; bytes <= PAIR_MESSAGE_2 + 1; bytes++) {
            if (bytes != PAIR_MESSAGE_2) {
                write_message_2(&p, message);
                assert_refused(p.client, message, bytes, &p);
            }
        }
        static const uint8_t huge[NOISE_MESSAGE_MAX + 1];
        pair_start(&p);
        assert_refused(p.server, huge, sizeof huge, &p);
        pair_destroy(&p);
    }
}

// The points whose multiples are known to everybody, in every encoding.
static const uint8_t low_order[][NOISE_KEY_BYTES] = {
    {0},
    {1},
    {0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3,
     0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32,
     0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00},
    {0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1,
     0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c,
     0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57},
    {0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
    {0xed, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
    {0xee, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
};
enum { LOW_ORDER = sizeof low_order / sizeof low_order[0] };

// A shared secret of zeros where the public key is NULL: what an attacker with a low-order point
// computes.
static void forge_dh(struct noise_symmetric *s, const uint8_t *private_key,
                     const uint8_t *public_key)
{
    uint8_t shared[NOISE_KEY_BYTES] = {0};
    if (public_key != NULL) {
        assert_int_equal(crypto_scalarmult(shared, private_key, public_key), 0);
    }
    assert_int_equal(noise_mix_key(s, shared, sizeof shared), 0);
}

// Message 1 of the product by an attacker who sends a point of low order as its ephemeral or its
// static key, and seals all with the keys that come of that.
static void forge_message_1(const struct pair *p, const uint8_t *point, bool as_static,
                            uint8_t message[PAIR_MESSAGE_1])
{
    const struct noise_parameters *parameters = &p->client_parameters;
    struct noise_symmetric s;
    uint8_t private_key[NOISE_KEY_BYTES];
    uint8_t *at = message + NOISE_KEY_BYTES;
    noise_symmetric_start(&s, parameters->suite, parameters->pattern);
    noise_mix_hash(&s, parameters->prologue, parameters->prologue_bytes);
    noise_mix_hash(&s, p->server_public, NOISE_KEY_BYTES);
    noise_keypair(private_key, message);
    if (!as_static && point != NULL) {
        memcpy(message, point, NOISE_KEY_BYTES);
    }
    noise_mix_hash(&s, message, NOISE_KEY_BYTES);
    assert_int_equal(noise_mix_key(&s, message, NOISE_KEY_BYTES), 0);
    forge_dh(&s, private_key, as_static || point == NULL ? p->server_public : NULL); // es
    const uint8_t *sent = as_static && point != NULL ? point : p->client_public;
    assert_int_equal(noise_encrypt_and_hash(&s, sent, NOISE_KEY_BYTES, &at), 0);
    forge_dh(&s, p->client_private, as_static && point != NULL ? NULL : p->server_public); // ss
    assert_int_equal(noise_encrypt_and_hash(&s, NULL, 0, &at), 0);
}

static void test_low_order_points(void **state)
{
    (void)state;
    for (const enum noise_suite *suite = pair_suites(); *suite; suite++) {
        struct pair p;
        uint8_t message[PAIR_MESSAGE_1];
        size_t bytes = 0;
        pair_create(&p, noise_product_pattern, *suite);
        pair_start(&p);
        forge_message_1(&p, NULL, false,
                        message); // the forger works: without a bad point it gets in
        assert_int_equal(noise_handshake_read(p.server, message, sizeof message, NULL, 0, &bytes),
                         0);
        for (int i = 0; i < LOW_ORDER; i++) {
            pair_start(&p);
            forge_message_1(&p, low_order[i], false, message);
            assert_refused(p.server, message, sizeof message, &p);
            pair_start(&p);
            forge_message_1(&p, low_order[i], true, message);
            assert_refused(p.server, message, sizeof message, &p);
            p.client_parameters.remote_static = low_order[i]; // a server's key that is none
            pair_start(&p);
            assert_int_equal(
                noise_handshake_write(p.client, NULL, 0, message, sizeof message, &bytes),
                -EBADMSG);
            assert_dead(p.client, &p);
            p.client_parameters.remote_static = p.server_public;
        }
        pair_destroy(&p);
    }
}

// Message 1 can be replayed; nothing can be done with the answer.
static void test_replayed_message_1(void **state)
{
    (void)state;
    for (const enum noise_suite *suite = pair_suites(); *suite; suite++) {
        struct pair p;
        uint8_t message[PAIR_MESSAGE_1 + 1];
        uint8_t record[32 + NOISE_TAG_BYTES] = "the first record";
        size_t bytes;
        pair_create(&p, noise_product_pattern, *suite);
        write_message_1(&p, message);
        assert_int_equal(noise_handshake_read(p.server, message, PAIR_MESSAGE_1, NULL, 0, &bytes),
                         0);
        struct noise_handshake *other = noise_handshake_create();
        assert_int_equal(noise_handshake_start(other, &p.server_parameters), 0);
        assert_int_equal(noise_handshake_read(other, message, PAIR_MESSAGE_1, NULL, 0, &bytes), 0);
        uint8_t answer[PAIR_MESSAGE_2];
        assert_int_equal(noise_handshake_write(other, NULL, 0, answer, sizeof answer, &bytes), 0);
        assert_int_equal(pair_pass(p.server, p.client), 0);
        pair_split(&p);
        struct noise_cipher *send = noise_cipher_create();
        struct noise_cipher *receive = noise_cipher_create();
        assert_int_equal(noise_handshake_split(other, send, receive), 0);
        assert_int_equal(noise_seal(p.client_send, record, 32, record), 0);
        assert_int_equal(noise_open(receive, record, sizeof record, record), -EBADMSG);
        noise_cipher_destroy(&send);
        noise_cipher_destroy(&receive);
        noise_handshake_destroy(&other);
        pair_destroy(&p);
    }
}

static void test_reflection(void **state)
{
    (void)state;
    for (const enum noise_suite *suite = pair_suites(); *suite; suite++) {
        struct pair p;
        uint8_t message[PAIR_MESSAGE_1 + 1];
        pair_create(&p, noise_product_pattern, *suite);
        write_message_1(&p, message);
        assert_refused(p.client, message, PAIR_MESSAGE_1, &p);
        write_message_1(&p, message);
        assert_refused(p.client, message, PAIR_MESSAGE_2, &p);
        uint8_t record[32 + NOISE_TAG_BYTES] = "a request";
        pair_connect(&p);
        assert_int_equal(noise_seal(p.client_send, record, 32, record), 0);
        assert_int_equal(noise_open(p.client_receive, record, sizeof record, record), -EBADMSG);
        pair_destroy(&p);
    }
}

static void test_what_both_must_share(void **state)
{
    (void)state;
    const uint8_t psk[1][NOISE_KEY_BYTES] = {{0}};
    for (const enum noise_suite *suite = pair_suites(); *suite; suite++) {
        struct pair p;
        pair_create(&p, noise_product_pattern, *suite);
        const struct noise_parameters good = p.client_parameters;

        p.client_parameters.prologue = "the hellO";
        pair_start(&p);
        assert_int_equal(pair_pass(p.client, p.server), -EBADMSG);
        p.client_parameters = good;
        p.client_parameters.prologue_bytes--;
        pair_start(&p);
        assert_int_equal(pair_pass(p.client, p.server), -EBADMSG);
        p.client_parameters = good;
        p.client_parameters.remote_static = p.client_public;
        pair_start(&p);
        assert_int_equal(pair_pass(p.client, p.server), -EBADMSG);
        p.client_parameters = good;
        p.client_parameters.psks = psk; // mixed in at the end of message 2
        pair_start(&p);
        assert_int_equal(pair_pass(p.client, p.server), 0);
        assert_int_equal(pair_pass(p.server, p.client), -EBADMSG);
        assert_dead(p.client, &p);
        p.client_parameters = good;
        p.client_parameters.suite = *suite == NOISE_AESGCM ? NOISE_CHACHAPOLY : NOISE_AESGCM;
        if (noise_suite_available(p.client_parameters.suite)) {
            pair_start(&p);
            assert_int_equal(pair_pass(p.client, p.server), -EBADMSG);
        }
        p.client_parameters = good;
        p.client_parameters.pattern = noise_pattern_find("IKpsk1");
        pair_start(&p);
        assert_int_equal(pair_pass(p.client, p.server), -EBADMSG);
        pair_destroy(&p);
    }
}

static void test_out_of_turn(void **state)
{
    (void)state;
    struct pair p;
    uint8_t message[PAIR_MESSAGE_1 + 1];
    size_t bytes = 7;
    pair_create(&p, noise_product_pattern, NOISE_CHACHAPOLY);
    assert_dead(p.client, &p); // not started
    pair_start(&p);
    assert_int_equal(noise_handshake_read(p.client, message, 96, NULL, 0, &bytes), -EPROTO);
    assert_int_equal(noise_handshake_write(p.server, NULL, 0, message, 96, &bytes), -EPROTO);
    assert_int_equal(noise_handshake_split(p.client, p.client_send, p.client_receive), -EPROTO);
    assert_int_equal(bytes, 7);
    assert_int_equal(pair_pass(p.client, p.server), 0); // none of it did harm
    assert_int_equal(noise_handshake_write(p.client, NULL, 0, message, 96, &bytes), -EPROTO);
    assert_int_equal(noise_handshake_read(p.server, message, 96, NULL, 0, &bytes), -EPROTO);
    assert_int_equal(pair_pass(p.server, p.client), 0);
    assert_int_equal(noise_handshake_write(p.client, NULL, 0, message, 96, &bytes), -EPROTO);
    assert_int_equal(noise_handshake_read(p.client, message, 96, NULL, 0, &bytes), -EPROTO);
    pair_split(&p);
    assert_dead(p.client, &p); // it can be split once
    pair_connect(&p);          // and started again
    pair_destroy(&p);
}

static void test_too_little_room(void **state)
{
    (void)state;
    static uint8_t message[NOISE_MESSAGE_MAX + 1];
    static uint8_t payload[NOISE_MESSAGE_MAX + 1];
    static uint8_t opened[NOISE_MESSAGE_MAX + 1];
    const size_t most = NOISE_MESSAGE_MAX - PAIR_MESSAGE_1;
    struct pair p;
    size_t bytes = 7;
    pair_create(&p, noise_product_pattern, NOISE_CHACHAPOLY);
    pair_start(&p);
    for (size_t room = 0; room < PAIR_MESSAGE_1; room++) {
        assert_int_equal(noise_handshake_write(p.client, NULL, 0, message, room, &bytes), -ENOBUFS);
    }
    assert_int_equal(
        noise_handshake_write(p.client, payload, most + 1, message, sizeof message, &bytes),
        -ENOBUFS);
    assert_int_equal(
        noise_handshake_write(p.client, payload, SIZE_MAX, message, sizeof message, &bytes),
        -ENOBUFS);
    assert_int_equal(bytes, 7);
    memset(payload, 5, sizeof payload);
    assert_int_equal(
        noise_handshake_write(p.client, payload, most, message, sizeof message, &bytes), 0);
    assert_int_equal(bytes, NOISE_MESSAGE_MAX);
    assert_int_equal(noise_handshake_read(p.server, message, bytes, payload, most - 1, &bytes),
                     -ENOBUFS);
    assert_int_equal(noise_handshake_read(p.server, message, bytes, opened, most, &bytes), 0);
    assert_int_equal(bytes, most);
    assert_memory_equal(opened, payload, most);
    pair_destroy(&p);
}

static void test_missing_keys(void **state)
{
    (void)state;
    struct pair p;
    pair_create(&p, noise_product_pattern, NOISE_CHACHAPOLY);
    const struct noise_parameters good = p.client_parameters;
    struct noise_parameters bad[7];
    for (int i = 0; i < 7; i++) {
        bad[i] = good;
    }
    bad[0].static_private = NULL;
    bad[1].remote_static = NULL;
    bad[2].psk_count = 0;
    bad[3].psk_count = 2;
    bad[4].psks = NULL;
    bad[5].pattern = NULL;
    bad[6] = p.server_parameters;
    bad[6].static_private = NULL;
    for (int i = 0; i < 7; i++) {
        assert_int_equal(noise_handshake_start(p.client, &bad[i]), -EINVAL);
        assert_dead(p.client, &p);
    }
    bad[0] = good;
    bad[0].suite = (enum noise_suite)3;
    assert_int_equal(noise_handshake_start(p.client, &bad[0]), -ENOTSUP);
    assert_false(noise_suite_available((enum noise_suite)0));
    pair_destroy(&p);
}

static void test_fresh_keys_each_time(void **state)
{
    (void)state;
    struct pair p;
    uint8_t first[PAIR_MESSAGE_1 + 1], second[PAIR_MESSAGE_1 + 1];
    pair_create(&p, noise_product_pattern, NOISE_CHACHAPOLY);
    write_message_1(&p, first);
    write_message_1(&p, second);
    assert_memory_not_equal(first, second, NOISE_KEY_BYTES);
    assert_memory_not_equal(first + NOISE_KEY_BYTES, second + NOISE_KEY_BYTES, NOISE_KEY_BYTES);
    pair_destroy(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_product_sizes),        cmocka_unit_test(test_every_bit_flipped),
        cmocka_unit_test(test_every_other_length),   cmocka_unit_test(test_low_order_points),
        cmocka_unit_test(test_replayed_message_1),   cmocka_unit_test(test_reflection),
        cmocka_unit_test(test_what_both_must_share), cmocka_unit_test(test_out_of_turn),
        cmocka_unit_test(test_too_little_room),      cmocka_unit_test(test_missing_keys),
        cmocka_unit_test(test_fresh_keys_each_time),
    };
    return cmocka_run_group_tests(tests, pair_group_setup, NULL);
}
