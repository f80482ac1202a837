// SPDX-License-Identifier: Apache-2.0
//
// Both ends of the handshake against each other, over the relay of handshake_rig.h: that they
// agree, that a refusal says why, and that whatever is changed, cut, added or not to be believed
// ends it, at the right end and with the right error. No test waits for time to pass but the one
// about time-outs.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/deadline.h"
#include "tests/unit/handshake_rig.h"

static void assert_talk(struct noise_cipher *from, struct noise_cipher *to)
{
    uint8_t sealed[5 + NOISE_TAG_BYTES], plain[5];
    assert_int_equal(noise_seal(from, "hallo", 5, sealed), 0);
    assert_int_equal(noise_open(to, sealed, sizeof sealed, plain), 0);
    assert_memory_equal(plain, "hallo", 5);
}

static void assert_done(struct run *run)
{
    assert_int_equal(run->error, 0);
    assert_int_equal(run->server_state, HANDSHAKE_DONE);
    assert_int_equal(run->attached.incarnation, 3);
    assert_int_equal(run->attached.store_id[0], 8);
    assert_string_equal(run->server_hello.server, "one");
    assert_int_equal(run->server_attach.generation, 77);
    assert_string_equal(run->server_attach.holder, "host 1 test");
    assert_memory_equal(run->server_client_key, client_identity.public_key, NOISE_KEY_BYTES);
    assert_talk(run->send, run->server_receive);
    assert_talk(run->server_send, run->receive);
    assert_int_equal(run->passed[TO_SERVER], TO_SERVER_BYTES);
    assert_int_equal(run->passed[TO_CLIENT], TO_CLIENT_BYTES);
    run_free(run);
}

static void both_ends_agree(void **state)
{
    (void)state;
    for (int suite = NOISE_AESGCM; suite <= NOISE_CHACHAPOLY; suite++) {
        if (noise_suite_available((enum noise_suite)suite)) {
            struct run run = run_new();
            run.client.hello.suite = (uint8_t)suite;
            run_go(&run);
            assert_done(&run);
        }
    }
}

static void one_byte_at_a_time(void **state)
{
    (void)state;
    struct run run = run_new();
    run.script.chunk = 1;
    run_go(&run);
    assert_done(&run);
}

static void a_shared_psk_is_agreed_on(void **state)
{
    (void)state;
    struct run run = run_new();
    const uint8_t psk[NOISE_KEY_BYTES] = "thirty-two bytes, known to both";
    run.client.psk = psk;
    run.policy.psk = psk;
    run_go(&run);
    assert_done(&run);
}

static void assert_dropped(struct run *run)
{
    assert_int_equal(run->error, -ECONNRESET);
    assert_int_equal(run->server_state, HANDSHAKE_FAILED);
    assert_int_equal(run->passed[TO_CLIENT], 0); // not a byte in answer
    assert_non_null(strstr(run->failure.text, "check DSM_SERVER_KEY"));
    assert_null(run->send);
    assert_null(run->receive);
}

static void wrong_server_key_is_dropped_in_silence(void **state)
{
    (void)state;
    struct run run = run_new();
    memcpy(run.client.server_key, client_identity.public_key, NOISE_KEY_BYTES);
    run_go(&run);
    assert_dropped(&run);
}

// The psk comes into play in message 2: the client finds out, and the server never gets an ATTACH.
static void wrong_psk_is_found_by_the_client(void **state)
{
    (void)state;
    struct run run = run_new();
    const uint8_t other[NOISE_KEY_BYTES] = {1};
    run.client.psk = other;
    run_go(&run);
    assert_int_equal(run.error, -EBADMSG);
    assert_int_equal(run.server_state, HANDSHAKE_FAILED);
    assert_non_null(strstr(run.failure.text, "DSM_PSK_FILE"));
    assert_null(run.send);
}

static void unknown_suite_is_dropped(void **state)
{
    (void)state;
    struct run run = run_new();
    run.script.flip_bit = 10 * 8 + 3; // the suite's byte
    run_go(&run);
    assert_dropped(&run);
}

static void assert_refused(struct run *run, enum wire_status status, const char *text)
{
    assert_int_equal(run->error, -EACCES);
    assert_int_equal(run->refusal, status);
    assert_int_equal(run->server_state, HANDSHAKE_REFUSED);
    assert_non_null(strstr(run->failure.text, text));
    assert_null(run->send);
    assert_null(run->server_send);
}

static void an_unknown_key_reads_why(void **state)
{
    (void)state;
    struct run run = run_new();
    run.policy.verdict = WIRE_UNAUTHORIZED;
    run.policy.text = "the key AbC= is not in /etc/dsm/authorized";
    run_go(&run);
    assert_refused(&run, WIRE_UNAUTHORIZED, "the key AbC= is not in /etc/dsm/authorized");
}

static void a_refusal_without_words_gets_some(void **state)
{
    (void)state;
    struct run run = run_new();
    run.policy.verdict = WIRE_WRONG_CLUSTER;
    run_go(&run);
    assert_refused(&run, WIRE_WRONG_CLUSTER, wire_status_text(WIRE_WRONG_CLUSTER));
    run = run_new();
    run.policy.attached = WIRE_STALE_GENERATION;
    run_go(&run);
    assert_refused(&run, WIRE_STALE_GENERATION, wire_status_text(WIRE_STALE_GENERATION));
}

static void a_version_from_the_future_is_told_so(void **state)
{
    (void)state;
    struct run run = run_new();
    run.client.hello.version = WIRE_VERSION + 1;
    run_go(&run);
    assert_refused(&run, WIRE_OLD_VERSION, "versions");
}

// Whatever bit is flipped on the way, neither end takes the connection for good: the client never,
// the server only where the flip is in its very last message.
static void every_flipped_bit_ends_it(void **state)
{
    (void)state;
    static const int bytes[2] = {TO_SERVER_BYTES, TO_CLIENT_BYTES};
    for (int direction = 0; direction < 2; direction++) {
        for (int bit = 0; bit < bytes[direction] * 8; bit++) {
            struct run run = run_new();
            run.script.direction = direction;
            run.script.flip_bit = bit;
            run_go(&run);
            assert_int_not_equal(run.error, 0);
            assert_null(run.send);
            bool last = direction == TO_CLIENT && bit / 8 >= HANDSHAKE_VERDICT_BYTES;
            assert_int_equal(run.server_state, last ? HANDSHAKE_DONE : HANDSHAKE_FAILED);
            run_free(&run);
        }
    }
}

static void every_cut_ends_it(void **state)
{
    (void)state;
    static const int bytes[2] = {TO_SERVER_BYTES, TO_CLIENT_BYTES};
    for (int direction = 0; direction < 2; direction++) {
        for (int cut = 0; cut < bytes[direction]; cut++) {
            struct run run = run_new();
            run.script.direction = direction;
            run.script.cut_after = cut;
            run_go(&run);
            assert_int_equal(run.error, -ECONNRESET);
            bool last = direction == TO_CLIENT && cut >= HANDSHAKE_VERDICT_BYTES;
            assert_int_equal(run.server_state, last ? HANDSHAKE_DONE : HANDSHAKE_FAILED);
            run_free(&run);
        }
    }
}

static void a_client_that_does_not_wait_is_dropped(void **state)
{
    (void)state;
    static const int after[] = {HANDSHAKE_HELLO_1_BYTES, TO_SERVER_BYTES};
    for (int i = 0; i < 2; i++) {
        struct run run = run_new();
        run.script.add_after = after[i];
        run_go(&run);
        assert_int_not_equal(run.error, 0);
        assert_int_equal(run.server_state, HANDSHAKE_FAILED);
        assert_null(run.send);
    }
}

static void send_to_server(int fd, const void *bytes, size_t count)
{
    assert_int_equal(send(fd, bytes, count, MSG_NOSIGNAL), (ssize_t)count);
}

static void strangers_are_dropped_at_their_first_wrong_byte(void **state)
{
    (void)state;
    static const char *const garbage[] = {"GET / HTTP/1.1\r\n", "\x16\x03\x01\x02", "dsm-lanF",
                                          "PRI * HTTP/2.0", "\xff"};
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        handshake_start(server, pair[1]);
        assert_int_equal(handshake_step(server), HANDSHAKE_WAITING);
        send_to_server(pair[0], garbage[i], strlen(garbage[i]));
        assert_int_equal(handshake_step(server), HANDSHAKE_FAILED);
        assert_int_equal(handshake_step(server), HANDSHAKE_FAILED);
        handshake_end(server);
        close(pair[0]);
        close(pair[1]);
    }
}

// Calls that do not fit the state, as a bug of the owner might make them, end in FAILED.
static void calls_out_of_turn_fail(void **state)
{
    (void)state;
    int pair[2];
    struct wire_attached attached = {0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    handshake_start(server, pair[1]);
    assert_int_equal(handshake_verdict(server, WIRE_OK, NULL), HANDSHAKE_FAILED);
    handshake_start(server, pair[1]);
    assert_int_equal(handshake_attached(server, WIRE_OK, &attached), HANDSHAKE_FAILED);
    handshake_start(server, pair[1]);
    assert_int_equal(handshake_open(server, slot, &server_identity, NULL), HANDSHAKE_FAILED);
    handshake_end(server);
    close(pair[0]);
    close(pair[1]);
}

static void silence_is_a_timeout(void **state)
{
    (void)state;
    struct run run = run_new();
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    int64_t deadline = deadline_now() + 30 * DEADLINE_NS_PER_MS;
    int error = handshake_connect(pair[0], &run.client, deadline, &run.send, &run.receive,
                                  &run.attached, &run.refusal, &run.failure);
    assert_int_equal(error, -ETIMEDOUT);
    assert_true(deadline_now() >= deadline);
    assert_non_null(strstr(run.failure.text, "no answer"));
    close(pair[0]);
    close(pair[1]);
}

static void names_are_checked_before_anything_is_sent(void **state)
{
    (void)state;
    struct run run = run_new();
    int pair[2];
    char byte;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    strcpy(run.client.hello.cluster, "a/b");
    int error = handshake_connect(pair[0], &run.client, INT64_MAX, &run.send, &run.receive,
                                  &run.attached, &run.refusal, &run.failure);
    assert_int_equal(error, -EINVAL);
    assert_int_equal(recv(pair[1], &byte, 1, MSG_DONTWAIT), -1);
    close(pair[0]);
    close(pair[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ends_agree),
        cmocka_unit_test(one_byte_at_a_time),
        cmocka_unit_test(a_shared_psk_is_agreed_on),
        cmocka_unit_test(wrong_server_key_is_dropped_in_silence),
        cmocka_unit_test(wrong_psk_is_found_by_the_client),
        cmocka_unit_test(unknown_suite_is_dropped),
        cmocka_unit_test(an_unknown_key_reads_why),
        cmocka_unit_test(a_refusal_without_words_gets_some),
        cmocka_unit_test(a_version_from_the_future_is_told_so),
        cmocka_unit_test(every_flipped_bit_ends_it),
        cmocka_unit_test(every_cut_ends_it),
        cmocka_unit_test(a_client_that_does_not_wait_is_dropped),
        cmocka_unit_test(strangers_are_dropped_at_their_first_wrong_byte),
        cmocka_unit_test(calls_out_of_turn_fail),
        cmocka_unit_test(silence_is_a_timeout),
        cmocka_unit_test(names_are_checked_before_anything_is_sent),
    };
    return cmocka_run_group_tests(tests, rig_set_up, rig_tear_down);
}
