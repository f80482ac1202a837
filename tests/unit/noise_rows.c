// SPDX-License-Identifier: Apache-2.0
//
// Every row of the pattern table, each with every set of psk places, through both sides. The
// published vectors have one psk at most and a third of the rows; here a row that both sides walk
// alike but with a psk that counts for nothing would be seen.
#include <stdio.h>

#include "tests/unit/noise_pair.h"

static void assert_dead(struct noise_handshake *handshake)
{
    assert_null(noise_handshake_hash(handshake));
    assert_null(noise_handshake_remote_static(handshake));
}

static const char *const bases[] = {
    "N",    "K",   "X",   "NN",   "NK",  "NX",  "KN",   "KK",  "KX",  "IN",  "IK",   "IX",   "XN",
    "XK",   "XX",  "NK1", "KK1",  "IK1", "NX1", "XK1",  "XX1", "K1N", "K1K", "KX1",  "K1X",  "K1K1",
    "K1X1", "I1N", "I1K", "I1K1", "I1X", "IX1", "I1X1", "X1N", "X1K", "X1X", "X1K1", "X1X1",
};

static unsigned row_messages(const struct noise_pattern *pattern)
{
    unsigned messages = 0;
    while (messages < NOISE_ROW_MESSAGES && pattern->messages[messages][0] != NOISE_END) {
        messages++;
    }
    return messages;
}

// Walks all messages; the first error of a reader.
static int walk(struct pair *p, unsigned messages)
{
    int error = 0;
    pair_start(p);
    for (unsigned i = 0; i < messages && error == 0; i++) {
        error = i % 2 == 0 ? pair_pass(p->client, p->server) : pair_pass(p->server, p->client);
    }
    return error;
}

static void try_row(const char *name, unsigned psks)
{
    struct pair p;
    pair_create(&p, name, NOISE_CHACHAPOLY);
    unsigned messages = row_messages(p.client_parameters.pattern);
    assert_int_equal(walk(&p, messages), 0);
    assert_true(noise_handshake_done(p.client) && noise_handshake_done(p.server));
    assert_memory_equal(noise_handshake_hash(p.client), noise_handshake_hash(p.server), 64);
    assert_int_equal(p.client_parameters.psk_count, psks);
    for (unsigned wrong = 0; wrong < psks; wrong++) { // each psk counts
        uint8_t others[NOISE_PSKS][NOISE_KEY_BYTES];
        memcpy(others, p.psks, sizeof others);
        others[wrong][31] ^= 1;
        p.client_parameters.psks = (const uint8_t(*)[NOISE_KEY_BYTES])others;
        assert_int_equal(walk(&p, messages), -EBADMSG);
    }
    pair_destroy(&p);
}

// Every base with every set of psk places, through both sides.
static void test_every_row(void **state)
{
    (void)state;
    unsigned rows = 0;
    for (size_t i = 0; i < sizeof bases / sizeof bases[0]; i++) {
        unsigned places = 1 + row_messages(noise_pattern_find(bases[i]));
        for (unsigned set = 0; set < 1U << places; set++) {
            char name[64];
            int at = snprintf(name, sizeof name, "%s", bases[i]);
            const char *joint = "";
            for (unsigned place = 0; place < places; place++) {
                if (set >> place & 1) {
                    at += snprintf(name + at, sizeof name - (size_t)at, "%spsk%u", joint, place);
                    joint = "+";
                }
            }
            try_row(name, (unsigned)__builtin_popcount(set));
            rows++;
        }
    }
    assert_int_equal(rows, 556);
}

static void test_unknown_rows(void **state)
{
    (void)state;
    static const char *const names[] = {"",        "I",       "ik",          "IKpsk3",
                                        "IKpsk2+", "IKpsk",   "IKpsk2+psk1", "IKpsk2psk1",
                                        "IK+psk2", "IKpsk22", "IKfallback",  "Noise_IK",
                                        "XXpsk4",  "Npsk2",   "IKpsk2 ",     "IKpsk1+psk1"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_null(noise_pattern_find(names[i]));
    }
    assert_string_equal(noise_product_pattern, "IKpsk2");
}

// A static key that is sent is compared with the one that was expected.
static void test_expected_static(void **state)
{
    (void)state;
    struct pair p;
    pair_create(&p, "XX", NOISE_CHACHAPOLY);
    pair_start(&p);
    assert_null(noise_handshake_remote_static(p.client)); // expected is not known
    assert_int_equal(walk(&p, 3), 0);
    assert_memory_equal(noise_handshake_remote_static(p.client), p.server_public, 32);
    p.client_parameters.remote_static = p.client_public;
    assert_int_equal(walk(&p, 3), -EBADMSG);
    assert_dead(p.client);
    pair_destroy(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row),
        cmocka_unit_test(test_unknown_rows),
        cmocka_unit_test(test_expected_static),
    };
    return cmocka_run_group_tests(tests, pair_group_setup, NULL);
}
