// SPDX-License-Identifier: Apache-2.0
//
// The gRPC front against a client that speaks HTTP/2 by hand, on loopback TCP: what no gRPC
// library would send.
#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fronts_raw.h"
#include "rpc/lane_grpc_front.h"

static void test_a_second_call_ends_the_connection(void **state)
{
    static struct raw_text text;
    struct rig rig;
    struct rig_client client;
    (void)state;
    rig_start(&rig, RIG_GRPC_TCP, 2);
    raw_begin(&rig, &client, &text);
    raw_put_call(&text, 3, "/dsm.Lane/Stream");
    raw_out(&client, &text);
    assert_int_equal(rig_closed(&client),
                     -EPROTO); // even where gRPC refuses the stream before the front sees it
    rig_hang_up(&client);
    rig_stop(&rig);
}

static void test_another_method_is_unimplemented(void **state)
{
    static struct raw_text text;
    static struct raw_text body;
    struct rig rig;
    struct rig_client client;
    (void)state;
    rig_start(&rig, RIG_GRPC_TCP, 1);
    raw_connect(&rig, &client, &text);
    raw_put_call(&text, 1, "/dsm.Lane/Other");
    raw_out(&client, &text);
    assert_true(raw_await(&client, RAW_HEADERS, 1, &body));
    assert_non_null(memmem(body.data, body.bytes, "12", 2)); // UNIMPLEMENTED
    assert_int_equal(atomic_load(&client.session.messages), 0);
    rig_hang_up(&client);
    assert_int_equal(rig_closed(&client), -ECONNRESET);
    rig_stop(&rig);
}

static void test_messages_that_are_no_message(void **state)
{
    static const uint32_t sizes[] = {0, 1, 111, 112, 113, 1000, 16000};
    static struct raw_text text;
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
        raw_put_message(&text, 1, noise, sizes[i]);
        raw_out(&client, &text);
        assert_int_equal(rig_closed(&client), -EBADMSG);
        rig_hang_up(&client);
        text.bytes = 0;
        raw_put_ping(&other, &text, 1);
        assert_int_equal(raw_out(&other, &text), 0);
        raw_expect_pong(&other, 1);
    }
    rig_hang_up(&other);
    rig_stop(&rig);
}

// Frames without end that no record explains. Bytes sent until the connection was cut.
static size_t flood(struct rig_client *client, const struct raw_text *text, size_t most)
{
    size_t sent = 0;
    while (sent < most && raw_out(client, text) == 0) {
        sent += text->bytes;
    }
    return sent;
}

static void check_flood(const struct raw_text *text, bool with_call)
{
    enum { MOST = 64 << 20 };
    static struct raw_text begin;
    struct rig rig;
    struct rig_client client;
    struct rig_client other;
    rig_start(&rig, RIG_GRPC_TCP, 2);
    raw_begin(&rig, &other, &begin);
    if (with_call) {
        raw_begin(&rig, &client, &begin);
    } else {
        raw_connect(&rig, &client, &begin);
        assert_int_equal(raw_out(&client, &begin), 0);
    }
    size_t before = rig_resident_bytes();
    assert_true(flood(&client, text, MOST) < MOST);
    assert_int_equal(rig_closed(&client), -EPROTO);
    assert_true(rig_resident_bytes() < before + (64 << 20));
    rig_hang_up(&client);
    begin.bytes = 0;
    raw_put_ping(&other, &begin, 1);
    assert_int_equal(raw_out(&other, &begin), 0);
    raw_expect_pong(&other, 1);
    rig_hang_up(&other);
    rig_stop(&rig);
}

static void put_dead_calls(struct raw_text *text)
{
    static const uint8_t cancel[4] = {0, 0, 0, 8};
    text->bytes = 0;
    for (uint32_t stream = 3; text->bytes < 32 << 10; stream += 2) {
        raw_put_call(text, stream, "/dsm.Lane/Stream");
        raw_put_frame(text, RAW_RST_STREAM, 0, stream, cancel, sizeof(cancel));
    }
}

static void test_a_flood_of_calls_is_cut(void **state)
{
    static struct raw_text text;
    (void)state;
    put_dead_calls(&text);
    check_flood(&text, true);
    check_flood(&text, false);
}

// Frames of a type that HTTP/2 says to ignore: only the watchdog can know.
static void test_a_flood_of_ignored_frames_is_cut(void **state)
{
    static struct raw_text text;
    static uint8_t filler[16000];
    (void)state;
    text.bytes = 0;
    raw_put_frame(&text, 0x42, 0, 0, filler, sizeof(filler));
    raw_put_frame(&text, 0x42, 0, 0, filler, sizeof(filler));
    check_flood(&text, true);
}

static void test_malformed_requests_end_their_peer(void **state)
{
    static struct raw_text text;
    struct wire_header request;
    struct rig rig;
    (void)state;
    rig_start(&rig, RIG_GRPC_TCP, 1);
    for (size_t i = 0; rig_malformed(i, &request); i++) {
        struct rig_client client;
        raw_begin(&rig, &client, &text);
        raw_put_request(&client, &text, 1, &request);
        raw_out(&client, &text);
        assert_int_equal(rig_closed(&client), -EBADMSG);
        assert_int_equal(atomic_load(&client.session.messages), 1);
        rig_hang_up(&client);
    }
    rig_stop(&rig);
}

// gRPC would gather all of it before it looked at the length.
static void test_an_endless_message_is_cut(void **state)
{
    static struct raw_text text;
    static uint8_t filler[16000] = {0, 0x40}; // begins with the prefix of a message of 1 GiB
    (void)state;
    text.bytes = 0;
    raw_put_frame(&text, RAW_DATA, 0, 1, filler, sizeof(filler));
    raw_put_frame(&text, RAW_DATA, 0, 1, filler, sizeof(filler));
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
    static struct raw_text text;
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
