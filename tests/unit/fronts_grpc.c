// SPDX-License-Identifier: Apache-2.0
//
// The gRPC front against a client that speaks HTTP/2 by hand, on loopback TCP: what no gRPC
// library would send. The writer knows just enough of HTTP/2: frames, literal header fields
// without indexing, no flow control beyond the first 64 KiB.
#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "fronts_rig.h"
#include "rpc/lane_grpc_front.h"

enum { DATA = 0, HEADERS = 1, RST_STREAM = 3, SETTINGS = 4, PING = 6 };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };
enum { FRAME_HEADER_BYTES = 9, PREFIX_BYTES = 5 };

struct text { // grows no further than its array
    size_t bytes;
    uint8_t data[64 << 10];
};

static void put(struct text *text, const void *data, size_t bytes)
{
    assert_true(text->bytes + bytes <= sizeof(text->data));
    if (bytes > 0) {
        memcpy(text->data + text->bytes, data, bytes);
    }
    text->bytes += bytes;
}

static void put_frame(struct text *text, uint8_t type, uint8_t flags, uint32_t stream,
                      const void *payload, size_t bytes)
{
    uint8_t head[FRAME_HEADER_BYTES] = {(uint8_t)(bytes >> 16),
                                        (uint8_t)(bytes >> 8),
                                        (uint8_t)bytes,
                                        type,
                                        flags,
                                        (uint8_t)(stream >> 24),
                                        (uint8_t)(stream >> 16),
                                        (uint8_t)(stream >> 8),
                                        (uint8_t)stream};
    put(text, head, sizeof(head));
    put(text, payload, bytes);
}

static void put_field(struct text *text, const char *name, const char *value)
{
    uint8_t lengths[2] = {(uint8_t)strlen(name), (uint8_t)strlen(value)};
    put(text, "\0", 1); // literal, not indexed, new name
    put(text, &lengths[0], 1);
    put(text, name, lengths[0]);
    put(text, &lengths[1], 1);
    put(text, value, lengths[1]);
}

static void put_call(struct text *text, uint32_t stream, const char *method)
{
    static struct text fields;
    fields.bytes = 0;
    put_field(&fields, ":method", "POST");
    put_field(&fields, ":scheme", "http");
    put_field(&fields, ":path", method);
    put_field(&fields, ":authority", "dsm");
    put_field(&fields, "te", "trailers");
    put_field(&fields, "content-type", "application/grpc");
    put_frame(text, HEADERS, END_HEADERS, stream, fields.data, fields.bytes);
}

static void put_message(struct text *text, uint32_t stream, const void *message, uint32_t bytes)
{
    static struct text body;
    uint32_t length = htonl(bytes);
    body.bytes = 0;
    put(&body, "\0", 1);
    put(&body, &length, sizeof(length));
    put(&body, message, bytes);
    put_frame(text, DATA, 0, stream, body.data, body.bytes);
}

static int put_out(struct rig_client *client, const struct text *text)
{
    for (size_t sent = 0; sent < text->bytes;) {
        ssize_t part = send(client->fd, text->data + sent, text->bytes - sent, MSG_NOSIGNAL);
        if (part < 0) {
            return -errno;
        }
        sent += (size_t)part;
    }
    return 0;
}

// Reads frames until one of the type on the stream; its payload goes to `body`. False at the end.
static bool await(struct rig_client *client, uint8_t type, uint32_t stream, struct text *body)
{
    for (;;) {
        uint8_t head[FRAME_HEADER_BYTES];
        if (recv(client->fd, head, sizeof(head), MSG_WAITALL) != (ssize_t)sizeof(head)) {
            return false;
        }
        body->bytes = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        uint32_t id =
            (uint32_t)head[5] << 24 | (uint32_t)head[6] << 16 | (uint32_t)head[7] << 8 | head[8];
        assert_true(body->bytes <= sizeof(body->data));
        if (body->bytes > 0 &&
            recv(client->fd, body->data, body->bytes, MSG_WAITALL) != (ssize_t)body->bytes) {
            return false;
        }
        if (head[3] == type && id == stream) {
            return true;
        }
    }
}

static void raw_connect(struct rig *rig, struct rig_client *client, struct text *text)
{
    int theirs;
    memset(client, 0, sizeof(*client));
    client->session.rig = rig;
    rig_socket_pair(rig->kind, &client->fd, &theirs);
    client->send = rig_cipher(1);
    client->receive = rig_cipher(2);
    assert_int_equal(rig->front->ops->add(rig->front, theirs, rig_cipher(2), rig_cipher(1),
                                          &client->session, &client->session.peer),
                     0);
    text->bytes = 0;
    put(text, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    put_frame(text, SETTINGS, 0, 0, NULL, 0);
    put_frame(text, SETTINGS, ACK, 0, NULL, 0);
}

static void put_request(struct rig_client *client, struct text *text, uint32_t stream,
                        const struct wire_header *request)
{
    struct record_source source;
    uint8_t sealed[WIRE_HEADER_SEALED_BYTES];
    assert_int_equal(record_source_start(&source, client->send, request, NULL, 0), 0);
    assert_int_equal(record_source_seal(&source, sealed), 0);
    put_message(text, stream, sealed, sizeof(sealed));
}

static void put_ping(struct rig_client *client, struct text *text, uint32_t stream)
{
    struct wire_header request = rig_request(WIRE_PING, 0, 0);
    put_request(client, text, stream, &request);
}

static void expect_pong(struct rig_client *client, uint32_t stream)
{
    static struct text body;
    struct wire_header answer;
    assert_true(await(client, DATA, stream, &body));
    assert_int_equal(body.bytes, PREFIX_BYTES + WIRE_HEADER_SEALED_BYTES);
    assert_int_equal(record_header_open(client->receive, body.data + PREFIX_BYTES, &answer), 0);
    assert_int_equal(answer.op, WIRE_PING | WIRE_ANSWER);
}

// A connection with its call open and one ping answered.
static void raw_begin(struct rig *rig, struct rig_client *client, struct text *text)
{
    raw_connect(rig, client, text);
    put_call(text, 1, "/dsm.Lane/Stream");
    put_ping(client, text, 1);
    assert_int_equal(put_out(client, text), 0);
    expect_pong(client, 1);
    text->bytes = 0;
}

static void test_a_second_call_ends_the_connection(void **state)
{
    static struct text text;
    struct rig rig;
    struct rig_client client;
    (void)state;
    rig_start(&rig, RIG_GRPC_TCP, 2);
    raw_begin(&rig, &client, &text);
    put_call(&text, 3, "/dsm.Lane/Stream");
    put_out(&client, &text);
    assert_int_equal(rig_closed(&client),
                     -EPROTO); // even where gRPC refuses the stream before the front sees it
    rig_hang_up(&client);
    rig_stop(&rig);
}

static void test_another_method_is_unimplemented(void **state)
{
    static struct text text;
    static struct text body;
    struct rig rig;
    struct rig_client client;
    (void)state;
    rig_start(&rig, RIG_GRPC_TCP, 1);
    raw_connect(&rig, &client, &text);
    put_call(&text, 1, "/dsm.Lane/Other");
    put_out(&client, &text);
    assert_true(await(&client, HEADERS, 1, &body));
    assert_non_null(memmem(body.data, body.bytes, "12", 2)); // UNIMPLEMENTED
    assert_int_equal(atomic_load(&client.session.messages), 0);
    rig_hang_up(&client);
    assert_int_equal(rig_closed(&client), -ECONNRESET);
    rig_stop(&rig);
}

static void test_messages_that_are_no_message(void **state)
{
    static const uint32_t sizes[] = {0, 1, 111, 112, 113, 1000, 16000};
    static struct text text;
    static uint8_t noise[16000];
    struct rig rig;
    struct rig_client other;
    (void)state;
    noise_random(noise, sizeof(noise));
    rig_start(&rig, RIG_GRPC_TCP, 1);
    raw_begin(&rig, &other, &text);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct rig_client client;
        raw_begin(&rig, &client, &text);
        put_message(&text, 1, noise, sizes[i]);
        put_out(&client, &text);
        assert_int_equal(rig_closed(&client), -EBADMSG);
        rig_hang_up(&client);
        text.bytes = 0;
        put_ping(&other, &text, 1);
        assert_int_equal(put_out(&other, &text), 0);
        expect_pong(&other, 1);
    }
    rig_hang_up(&other);
    rig_stop(&rig);
}

// Frames without end that no record explains. Bytes sent until the connection was cut.
static size_t flood(struct rig_client *client, const struct text *text, size_t most)
{
    size_t sent = 0;
    while (sent < most && put_out(client, text) == 0) {
        sent += text->bytes;
    }
    return sent;
}

static void check_flood(const struct text *text, bool with_call)
{
    enum { MOST = 64 << 20 };
    static struct text begin;
    struct rig rig;
    struct rig_client client;
    struct rig_client other;
    rig_start(&rig, RIG_GRPC_TCP, 2);
    raw_begin(&rig, &other, &begin);
    if (with_call) {
        raw_begin(&rig, &client, &begin);
    } else {
        raw_connect(&rig, &client, &begin);
        assert_int_equal(put_out(&client, &begin), 0);
    }
    size_t before = rig_resident_bytes();
    assert_true(flood(&client, text, MOST) < MOST);
    assert_int_equal(rig_closed(&client), -EPROTO);
    assert_true(rig_resident_bytes() < before + (64 << 20));
    rig_hang_up(&client);
    begin.bytes = 0;
    put_ping(&other, &begin, 1);
    assert_int_equal(put_out(&other, &begin), 0);
    expect_pong(&other, 1);
    rig_hang_up(&other);
    rig_stop(&rig);
}

static void put_dead_calls(struct text *text)
{
    static const uint8_t cancel[4] = {0, 0, 0, 8};
    text->bytes = 0;
    for (uint32_t stream = 3; text->bytes < 32 << 10; stream += 2) {
        put_call(text, stream, "/dsm.Lane/Stream");
        put_frame(text, RST_STREAM, 0, stream, cancel, sizeof(cancel));
    }
}

static void test_a_flood_of_calls_is_cut(void **state)
{
    static struct text text;
    (void)state;
    put_dead_calls(&text);
    check_flood(&text, true);
    check_flood(&text, false);
}

// Frames of a type that HTTP/2 says to ignore: only the watchdog can know.
static void test_a_flood_of_ignored_frames_is_cut(void **state)
{
    static struct text text;
    static uint8_t filler[16000];
    (void)state;
    text.bytes = 0;
    put_frame(&text, 0x42, 0, 0, filler, sizeof(filler));
    put_frame(&text, 0x42, 0, 0, filler, sizeof(filler));
    check_flood(&text, true);
}

static void test_malformed_requests_end_their_peer(void **state)
{
    static struct text text;
    struct wire_header request;
    struct rig rig;
    (void)state;
    rig_start(&rig, RIG_GRPC_TCP, 1);
    for (size_t i = 0; rig_malformed(i, &request); i++) {
        struct rig_client client;
        raw_begin(&rig, &client, &text);
        put_request(&client, &text, 1, &request);
        put_out(&client, &text);
        assert_int_equal(rig_closed(&client), -EBADMSG);
        assert_int_equal(atomic_load(&client.session.messages), 1);
        rig_hang_up(&client);
    }
    rig_stop(&rig);
}

// gRPC would gather all of it before it looked at the length.
static void test_an_endless_message_is_cut(void **state)
{
    static struct text text;
    static uint8_t filler[16000] = {0, 0x40}; // begins with the prefix of a message of 1 GiB
    (void)state;
    text.bytes = 0;
    put_frame(&text, DATA, 0, 1, filler, sizeof(filler));
    put_frame(&text, DATA, 0, 1, filler, sizeof(filler));
    check_flood(&text, true);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool heap_counts = false; // their allocators do not tell
#else
static const bool heap_counts = true;
#endif

static void test_an_idle_peer_is_small(void **state)
{
    enum { PEERS = 100, MOST_BYTES = 40 << 10 };
    static struct rig_client clients[PEERS];
    static struct text text;
    struct rig rig;
    struct rig_client first;
    (void)state;
    if (!heap_counts) {
        skip();
    }
    rig_start(&rig, RIG_GRPC_TCP, 2);
    raw_begin(&rig, &first, &text);
    size_t before = mallinfo2().uordblks;
    for (int i = 0; i < PEERS; i++) {
        raw_begin(&rig, &clients[i], &text);
    }
    size_t after = mallinfo2().uordblks;
    assert_true(after - before <= (size_t)PEERS * MOST_BYTES);
    for (int i = 0; i < PEERS; i++) {
        rig_hang_up(&clients[i]);
    }
    rig_hang_up(&first);
    rig_stop(&rig);
}

static void test_long_requests_leave_little_behind(void **state)
{
    enum { PEERS = 10, WRITES = 12, MOST_BYTES = 2 * GRPC_READ_BYTES };
    struct rig_client clients[PEERS];
    struct rig rig;
    (void)state;
    if (!heap_counts) {
        skip();
    }
    rig_start(&rig, RIG_GRPC_TCP, 2);
    for (int i = 0; i < PEERS; i++) {
        rig_connect(&rig, &clients[i]);
        rig_write(&clients[i], 0, 1);
    }
    size_t before = mallinfo2().uordblks;
    for (int i = 0; i < PEERS * WRITES; i++) {
        rig_write(&clients[i % PEERS], 0, LIMIT_RUN_PAGES);
    }
    for (int i = 0; i < PEERS; i++) {
        rig_ping(&clients[i]);
    }
    size_t after = mallinfo2().uordblks;
    assert_true(after < before + (size_t)PEERS * MOST_BYTES);
    for (int i = 0; i < PEERS; i++) {
        rig_hang_up(&clients[i]);
    }
    rig_stop(&rig);
}

// What HTTP/2 adds to honest traffic must stay below the watchdog's allowance, with room to spare.
static void test_honest_traffic_is_explained(void **state)
{
    struct rig rig;
    struct rig_client client;
    (void)state;
    rig_start(&rig, RIG_GRPC_TCP, 2);
    rig_connect(&rig, &client);
    for (uint32_t i = 0; i < 8000; i++) {
        rig_ping(&client);
    }
    for (uint32_t i = 0; i < 60; i++) {
        rig_read(&client, i, LIMIT_RUN_PAGES);
        rig_write(&client, i, LIMIT_RUN_PAGES);
    }
    pthread_mutex_lock(&rig.lock); // it cannot be closed meanwhile
    struct grpc_peer *peer = (struct grpc_peer *)client.session.peer;
    int64_t unexplained = peer != NULL ? lane_watchdog_unexplained(peer) : INT64_MAX;
    int64_t allowance = peer != NULL ? lane_watchdog_allowance(peer) : 0;
    pthread_mutex_unlock(&rig.lock);
    assert_true(unexplained < allowance / 4);
    rig_hang_up(&client);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_second_call_ends_the_connection),
        cmocka_unit_test(test_another_method_is_unimplemented),
        cmocka_unit_test(test_messages_that_are_no_message),
        cmocka_unit_test(test_malformed_requests_end_their_peer),
        cmocka_unit_test(test_an_endless_message_is_cut),
        cmocka_unit_test(test_a_flood_of_calls_is_cut),
        cmocka_unit_test(test_a_flood_of_ignored_frames_is_cut),
        cmocka_unit_test(test_an_idle_peer_is_small),
        cmocka_unit_test(test_long_requests_leave_little_behind),
        cmocka_unit_test(test_honest_traffic_is_explained),

    };
    return cmocka_run_group_tests_name("gRPC front, raw HTTP/2", tests, NULL, NULL);
}
