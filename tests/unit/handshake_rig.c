// SPDX-License-Identifier: Apache-2.0
//
// See handshake_rig.h. Nothing here waits for time to pass: the loop moves on when bytes, an end,
// or the client's thread say so, and gives up (the test fails) after 20 s without any of them.
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
#include "tests/unit/handshake_rig.h"

struct key_identity client_identity, server_identity;
struct handshake_slot *slot;
struct handshake *server;

static const struct script honest = {TO_SERVER, NEVER, NEVER, NEVER, 4096};

struct run run_new(void)
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
    return run;
}

static void *client_thread(void *argument)
{
    struct run *run = argument;
    run->error =
        handshake_connect(run->client_fd, &run->client, deadline_after_ms(20000), &run->send,
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

void run_go(struct run *run)
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

void run_free(struct run *run)
{
    noise_cipher_destroy(&run->send);
    noise_cipher_destroy(&run->receive);
    noise_cipher_destroy(&run->server_send);
    noise_cipher_destroy(&run->server_receive);
}

int rig_set_up(void **state)
{
    (void)state;
    assert_int_equal(noise_init(), 0);
    noise_keypair(client_identity.private_key, client_identity.public_key);
    noise_keypair(server_identity.private_key, server_identity.public_key);
    slot = handshake_slot_create();
    server = malloc(handshake_bytes());
    return slot == NULL || server == NULL;
}

int rig_tear_down(void **state)
{
    (void)state;
    free(server);
    handshake_slot_destroy(&slot);
    return 0;
}
