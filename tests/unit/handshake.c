// SPDX-License-Identifier: Apache-2.0
//
// Both ends of the handshake against each other, with a relay between them that may pass one byte
// at a time, flip a bit, cut, or add bytes. The client runs on a thread of its own (it blocks),
// relay and server on the test's. No test waits for time to pass but the two that are about
// time-outs.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/deadline.h"
#include "rpc/handshake.h"
#include "rpc/handshake_wire.h"

enum {
    TO_SERVER = 0,
    TO_CLIENT = 1,
    NEVER = INT32_MAX,
    TO_SERVER_BYTES =
        HANDSHAKE_HELLO_1_BYTES + WIRE_HEADER_SEALED_BYTES + HANDSHAKE_ATTACH_SEALED_BYTES,
    TO_CLIENT_BYTES =
        HANDSHAKE_VERDICT_BYTES + WIRE_HEADER_SEALED_BYTES + HANDSHAKE_ATTACHED_SEALED_BYTES,
};

struct script { // what the relay does
    int direction;
    int flip_bit;  // of the bytes in this direction
    int cut_after; // bytes
    int add_after; // bytes: one more byte is put in
    int chunk;     // bytes passed at once
};
static const struct script honest = {TO_SERVER, NEVER, NEVER, NEVER, 4096};

struct policy { // what the server's owner says
    enum wire_status verdict;
    const char *text;
    enum wire_status attached;
    const uint8_t *psk;
};

struct run {
    struct handshake_client client;
    struct policy policy;
    struct script script;
    int client_fd, client_relay, server_relay, server_fd;
    size_t passed[2];
    bool ended[2];
    // results
    int error;
    enum wire_status refusal;
    struct failure failure;
    struct wire_attached attached;
    struct noise_cipher *send, *receive;
    enum handshake_state server_state;
    struct noise_cipher *server_send, *server_receive;
    struct wire_hello server_hello;
    struct wire_attach server_attach;
    uint8_t server_client_key[NOISE_KEY_BYTES];
};

static struct key_identity client_identity, server_identity;
static struct handshake_slot *slot;
static struct handshake *server;
static const uint8_t no_psk[NOISE_KEY_BYTES];

static struct run run_new(void)
{
    struct run run = {.script = honest};
    run.client.identity = &client_identity;
    memcpy(run.client.server_key, server_identity.public_key, NOISE_KEY_BYTES);
    run.client.hello = (struct wire_hello){.version = WIRE_VERSION,
                                           .suite = NOISE_CHACHAPOLY,
                                           .role = WIRE_ROLE_CLIENT,
                                           .lane_kind = WIRE_LANE_SOCK,
                                           .cluster = "test",
                                           .server = "one"};
    run.client.attach = (struct wire_attach){
        .instance = {1, 2, 3, 4}, .generation = 77, .lane = 5, .holder = "host 1 test"};
    run.policy.psk = no_psk;
    return run;
}

static void *client_thread(void *argument)
{
    struct run *run = argument;
    run->error =
        handshake_connect(run->client_fd, &run->client, deadline_now() + 20000000000, &run->send,
                          &run->receive, &run->attached, &run->refusal, &run->failure);
    if (run->error != 0) {
        close(run->client_fd);
        run->client_fd = -1;
    }
    return NULL;
}

static void relay_end(struct run *run, int direction)
{
    shutdown(direction == TO_SERVER ? run->server_relay : run->client_relay, SHUT_WR);
    run->ended[direction] = true;
}

static void relay_write(int fd, const uint8_t *bytes, size_t count)
{
    (void)!send(fd, bytes, count, MSG_NOSIGNAL); // the other end may have gone
}

// Passes one chunk. True when there was one (or an end).
static bool relay_pass(struct run *run, int direction)
{
    const struct script *s = &run->script;
    int from = direction == TO_SERVER ? run->client_relay : run->server_relay;
    int to = direction == TO_SERVER ? run->server_relay : run->client_relay;
    uint8_t bytes[4096];
    if (run->ended[direction]) {
        return false;
    }
    size_t want = (size_t)s->chunk;
    bool here = s->direction == direction;
    if (here && run->passed[direction] + want > (size_t)s->cut_after) {
        want = (size_t)s->cut_after - run->passed[direction];
    }
    ssize_t got = want == 0 ? 0 : recv(from, bytes, want, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    if (got <= 0) {
        relay_end(run, direction);
        return true;
    }
    size_t first = run->passed[direction];
    run->passed[direction] += (size_t)got;
    if (here && s->flip_bit != NEVER && (size_t)s->flip_bit / 8 >= first &&
        (size_t)s->flip_bit / 8 < run->passed[direction]) {
        uint8_t *byte = &bytes[(size_t)s->flip_bit / 8 - first];
        *byte = (uint8_t)(*byte ^ 1u << s->flip_bit % 8);
    }
    relay_write(to, bytes, (size_t)got);
    if (here && first < (size_t)s->add_after && run->passed[direction] >= (size_t)s->add_after) {
        relay_write(to, (const uint8_t *)"!", 1);
    }
    return true;
}

static enum handshake_state server_advance(struct run *run)
{
    switch (handshake_step(server)) {
    case HANDSHAKE_MESSAGE_1:
        run->server_hello = *handshake_hello(server);
        return handshake_open(server, slot, &server_identity, run->policy.psk);
    case HANDSHAKE_KNOWN:
        memcpy(run->server_client_key, handshake_client_key(server), NOISE_KEY_BYTES);
        return handshake_verdict(server, run->policy.verdict, run->policy.text);
    case HANDSHAKE_ATTACHING: {
        struct wire_attached attached = {.store_id = {8}, .incarnation = 3, .lease_ms = 60000};
        run->server_attach = *handshake_attach(server);
        return handshake_attached(server, run->policy.attached, &attached);
    }
    default:
        return handshake_step(server);
    }
}

static bool terminal(enum handshake_state state)
{
    return state == HANDSHAKE_DONE || state == HANDSHAKE_REFUSED || state == HANDSHAKE_FAILED;
}

static void wait_for_something(struct run *run, enum handshake_state state)
{
    struct pollfd polls[] = {
        {run->ended[TO_SERVER] ? -1 : run->client_relay, POLLIN, 0},
        {run->ended[TO_CLIENT] ? -1 : run->server_relay, POLLIN, 0},
        {run->server_fd, state == HANDSHAKE_SENDING ? POLLOUT : POLLIN, 0},
    };
    assert_true(poll(polls, 3, 20000) > 0);
}

static void run_loop(struct run *run)
{
    enum handshake_state state = server_advance(run);
    while (!terminal(state)) {
        bool moved = relay_pass(run, TO_SERVER);
        moved |= relay_pass(run, TO_CLIENT);
        enum handshake_state before = state;
        state = server_advance(run);
        if (!moved && state == before) {
            wait_for_something(run, state);
        }
    }
    run->server_state = state;
    if (state == HANDSHAKE_DONE) {
        handshake_take(server, &run->server_send, &run->server_receive);
    } else {
        shutdown(run->server_fd, SHUT_RDWR);
    }
    while (relay_pass(run, TO_CLIENT)) {
    }
}

static void run_go(struct run *run)
{
    int a[2], b[2];
    pthread_t thread;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, a), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, b), 0);
    run->client_fd = a[0];
    run->client_relay = a[1];
    run->server_relay = b[0];
    run->server_fd = b[1];
    handshake_start(server, run->server_fd);
    assert_int_equal(pthread_create(&thread, NULL, client_thread, run), 0);
    run_loop(run);
    pthread_join(thread, NULL);
    handshake_end(server);
    close(a[1]);
    close(b[0]);
    close(b[1]);
    if (run->client_fd >= 0) {
        close(run->client_fd);
    }
}

static void run_free(struct run *run)
{
    noise_cipher_destroy(&run->send);
    noise_cipher_destroy(&run->receive);
    noise_cipher_destroy(&run->server_send);
    noise_cipher_destroy(&run->server_receive);
}

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
    for (uint8_t suite = NOISE_AESGCM; suite <= NOISE_CHACHAPOLY; suite++) {
        if (noise_suite_available((enum noise_suite)suite)) {
            struct run run = run_new();
            run.client.hello.suite = suite;
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
    uint8_t psk[NOISE_KEY_BYTES] = "thirty-two bytes, known to both";
    memcpy(run.client.psk, psk, sizeof psk);
    run.policy.psk = psk;
    run_go(&run);
    assert_done(&run);
}

static void assert_dropped(struct run *run)
{
    assert_int_equal(run->error, -ECONNRESET);
    assert_int_equal(run->server_state, HANDSHAKE_FAILED);
    assert_int_equal(run->passed[TO_CLIENT], 0); // not a byte in answer
    assert_non_null(strstr(run->failure.text, "check server_key"));
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
    run.client.psk[31] = 1;
    run_go(&run);
    assert_int_equal(run.error, -EBADMSG);
    assert_int_equal(run.server_state, HANDSHAKE_FAILED);
    assert_non_null(strstr(run.failure.text, "psk"));
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
    assert_int_equal(handshake_open(server, slot, &server_identity, no_psk), HANDSHAKE_FAILED);
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

static int set_up(void **state)
{
    (void)state;
    assert_int_equal(noise_init(), 0);
    noise_keypair(client_identity.private_key, client_identity.public_key);
    noise_keypair(server_identity.private_key, server_identity.public_key);
    slot = handshake_slot_create();
    server = malloc(handshake_bytes());
    return slot == NULL || server == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    free(server);
    handshake_slot_destroy(&slot);
    return 0;
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
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
