// SPDX-License-Identifier: Apache-2.0
//
// The server's fronts: one suite that runs over each kind of lane, on socket pairs and on loopback
// TCP. What only one kind can be asked (raw bytes, pools, HTTP/2) stands in fronts_sock.c and
// fronts_grpc.c.
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fronts_rig.h"
#include "rpc/deadline.h"

static enum rig_kind kind_of(void **state)
{
    return *(const enum rig_kind *)*state;
}

static void control_echoes(struct rig_client *client, uint32_t length)
{
    uint8_t *sent = malloc(length);
    uint8_t *got = malloc(length);
    struct wire_header request = rig_request(WIRE_CONTROL, 0, 0);
    struct wire_header answer;
    request.length = length;
    noise_random(sent, length);
    assert_int_equal(rig_send(client, &request, sent), 0);
    assert_int_equal(rig_receive(client, &answer, got), 0);
    assert_int_equal(answer.length, length);
    assert_memory_equal(sent, got, length);
    free(sent);
    free(got);
}

static void test_every_size_comes_back_whole(void **state)
{
    static const uint32_t counts[] = {1, 2, 7, 8, 9, 255, 256};
    static const uint32_t lengths[] = {1, 100, 1600, 1700, 32767, 32768, 32769, 65536};
    struct rig rig;
    struct rig_client client;
    rig_start(&rig, kind_of(state), 2);
    rig_connect(&rig, &client);
    rig_ping(&client);
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        rig_read(&client, 1000 * i, counts[i]);
        rig_write(&client, 1000 * i, counts[i]);
    }
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        control_echoes(&client, lengths[i]);
    }
    rig_hang_up(&client);
    rig_stop(&rig);
}

static void test_pipelined_requests_are_answered_in_order(void **state)
{
    enum { REQUESTS = 60 };
    static uint8_t pages[9 * RIG_PAGE_BYTES];
    struct rig rig;
    struct rig_client client;
    struct wire_header answer;
    rig_start(&rig, kind_of(state), 1);
    rig_connect(&rig, &client);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        enum wire_op op = i % 3 == 2 ? WIRE_WRITE : WIRE_READ;
        struct wire_header request = rig_request(op, i, 1 + i % 9);
        rig_pattern(pages, i, 1 + i % 9);
        assert_int_equal(rig_send(&client, &request, pages), 0);
    }
    for (uint32_t i = 0; i < REQUESTS; i++) {
        if (i % 3 != 2) {
            rig_expect_read(&client, i, 1 + i % 9);
            continue;
        }
        assert_int_equal(rig_receive(&client, &answer, NULL), 0);
        assert_int_equal(answer.op, WIRE_WRITE | WIRE_ANSWER);
        assert_int_equal(answer.status, WIRE_OK);
        assert_int_equal(answer.page, i);
    }
    rig_hang_up(&client);
    rig_stop(&rig);
}

static void test_a_slow_reader_is_bounded_and_alone(void **state)
{
    enum { RUNS = 64 };
    // What may be on its way to somebody who does not read: the limit, the answer that crossed it,
    // and what the transport keeps (TCP: 4 MiB at this end, 6 MiB at the other).
    const uint64_t bound = LIMIT_LANE_IN_FLIGHT_BYTES / LIMIT_RUN_BYTES + 2 + 10 + 4;
    struct rig rig;
    struct rig_client slow;
    struct rig_client quick;
    rig_start(&rig, kind_of(state), 1);
    rig_connect(&rig, &slow);
    rig_connect(&rig, &quick);
    for (uint32_t i = 0; i < RUNS; i++) {
        struct wire_header request = rig_request(WIRE_READ, i, LIMIT_RUN_PAGES);
        assert_int_equal(rig_send(&slow, &request, NULL), 0);
    }
    for (uint32_t i = 0; i < 100; i++) {
        rig_read(&quick, i, 1 + i);
        rig_write(&quick, i, 1 + i);
    }
    assert_true(atomic_load(&slow.session.messages) <= bound);
    assert_true(atomic_load(&slow.session.messages) < RUNS);
    for (uint32_t i = 0; i < RUNS; i++) {
        rig_expect_read(&slow, i, LIMIT_RUN_PAGES);
    }
    rig_hang_up(&slow);
    rig_hang_up(&quick);
    rig_stop(&rig);
}

static void test_a_slow_reader_that_leaves_is_forgotten(void **state)
{
    struct rig rig;
    struct rig_client slow;
    rig_start(&rig, kind_of(state), 1);
    rig_connect(&rig, &slow);
    for (uint32_t i = 0; i < 32; i++) {
        struct wire_header request = rig_request(WIRE_READ, i, LIMIT_RUN_PAGES);
        assert_int_equal(rig_send(&slow, &request, NULL), 0);
    }
    rig_expect_read(&slow, 0, LIMIT_RUN_PAGES);
    rig_hang_up(&slow);
    assert_int_equal(rig_closed(&slow), -ECONNRESET);
    rig_stop(&rig);
}

static void test_close_is_told_from_a_cut(void **state)
{
    struct rig rig;
    struct rig_client orderly;
    struct rig_client cut;
    rig_start(&rig, kind_of(state), 2);
    rig_connect(&rig, &orderly);
    rig_connect(&rig, &cut);
    rig_ping(&orderly);
    rig_ping(&cut);
    rig_close(&orderly);
    rig_hang_up(&cut);
    assert_int_equal(rig_closed(&orderly), -ESHUTDOWN);
    assert_int_equal(rig_closed(&cut), -ECONNRESET);
    rig_stop(&rig);
}

static void test_a_connection_that_never_spoke_is_closed_when_cut(void **state)
{
    struct rig rig;
    struct rig_client silent;
    int mine;
    int theirs;
    rig_start(&rig, kind_of(state), 1);
    memset(&silent, 0, sizeof(silent));
    silent.session.rig = &rig;
    rig_socket_pair(rig.kind, &mine, &theirs);
    assert_int_equal(rig.front->ops->add(rig.front, theirs, rig_cipher(2), rig_cipher(1),
                                         &silent.session, &silent.session.peer),
                     0);
    close(mine);
    assert_int_equal(rig_closed(&silent), -ECONNRESET);
    rig_stop(&rig);
}

static void test_a_wrong_key_ends_its_peer_only(void **state)
{
    struct rig rig;
    struct rig_client other;
    struct rig_client stranger;
    struct wire_header request = rig_request(WIRE_PING, 0, 0);
    rig_start(&rig, kind_of(state), 1);
    rig_connect(&rig, &other);
    rig_connect_keys(&rig, &stranger, 9, 2);
    assert_int_equal(rig_send(&stranger, &request, NULL), 0);
    assert_int_equal(rig_closed(&stranger), -EBADMSG);
    assert_int_equal(atomic_load(&stranger.session.messages), 0);
    rig_hang_up(&stranger);
    rig_ping(&other);
    rig_hang_up(&other);
    rig_stop(&rig);
}

static void test_shut_while_a_message_runs(void **state)
{
    struct rig rig;
    struct rig_client busy;
    struct rig_client idle;
    struct wire_header request = rig_request(WIRE_PING, 0, 0);
    struct wire_header answer;
    request.segment = RIG_GATE;
    rig_start(&rig, kind_of(state), 2);
    rig_connect(&rig, &busy);
    rig_connect(&rig, &idle);
    rig_ping(&idle);
    assert_int_equal(rig_send(&busy, &request, NULL), 0);
    rig_wait_at_gate(&rig, 1);
    rig_shut(&busy, -ENOKEY);
    rig_shut(&busy, -EINVAL); // the first reason counts
    rig_shut(&idle, -EKEYREVOKED);
    assert_int_equal(rig_closed(&idle), -EKEYREVOKED);
    assert_false(rig_is_closed(&busy));
    rig_open_gate(&rig);
    assert_int_equal(rig_closed(&busy), -ENOKEY);
    assert_int_equal(rig.refused, 1);
    assert_true(rig_receive(&busy, &answer, NULL) < 0);
    rig_hang_up(&busy);
    rig_hang_up(&idle);
    rig_stop(&rig);
}

static void *shutter(void *argument)
{
    struct rig_client *clients = argument;
    for (int i = 0; i < 20; i++) {
        rig_shut(&clients[i], -ENOKEY);
    }
    return NULL;
}

static void test_shut_races_with_requests(void **state)
{
    struct rig rig;
    struct rig_client clients[20];
    pthread_t thread;
    rig_start(&rig, kind_of(state), 2);
    for (int i = 0; i < 20; i++) {
        rig_connect(&rig, &clients[i]);
    }
    assert_int_equal(pthread_create(&thread, NULL, shutter, clients), 0);
    for (int i = 19; i >= 0; i--) {
        struct wire_header request = rig_request(WIRE_READ, 0, 16);
        for (int k = 0; k < 8 && rig_send(&clients[i], &request, NULL) == 0; k++) {
        }
    }
    pthread_join(thread, NULL);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(rig_closed(&clients[i]), -ENOKEY);
        rig_hang_up(&clients[i]);
    }
    rig_stop(&rig);
}

static void test_stop_closes_every_peer(void **state)
{
    struct rig rig;
    struct rig_client clients[10];
    rig_start(&rig, kind_of(state), 3);
    for (uint32_t i = 0; i < 10; i++) {
        rig_connect(&rig, &clients[i]);
        if (i > 0) {
            rig_ping(&clients[i]);
        }
        for (uint32_t k = 0; k < i; k++) { // answers that nobody reads
            struct wire_header request = rig_request(WIRE_READ, k, LIMIT_RUN_PAGES);
            assert_int_equal(rig_send(&clients[i], &request, NULL), 0);
        }
    }
    rig_stop(&rig);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(clients[i].session.closed, 1);
        assert_int_equal(clients[i].session.reason, -ECANCELED);
        rig_hang_up(&clients[i]);
    }
}

static void wear_out(void **state, const struct lane_wear *wear, int least, int most)
{
    struct rig rig;
    struct rig_client client;
    struct wire_header request = rig_request(WIRE_PING, 0, 0);
    struct wire_header answer;
    int answered = 0;
    rig_start(&rig, kind_of(state), 1);
    (rig_is_grpc(rig.kind) ? lane_grpc_front_wear : lane_sock_front_wear)(rig.front, wear);
    rig_connect(&rig, &client);
    while (answered <= most && rig_send(&client, &request, NULL) == 0 &&
           rig_receive(&client, &answer, NULL) == 0) {
        answered++;
    }
    assert_int_equal(rig_closed(&client), -ESTALE);
    assert_in_range(answered, least, most);
    rig_hang_up(&client);
    rig_stop(&rig);
}

static void test_a_connection_wears_out(void **state)
{
    const struct lane_wear records = {
        .records = 10 + LANE_MESSAGE_RECORDS, .bytes = UINT64_MAX, .age_ns = INT64_MAX};
    const struct lane_wear bytes = {
        .records = UINT64_MAX,
        .bytes = 2 * RECORD_MESSAGE_MAX + 20 * WIRE_HEADER_SEALED_BYTES,
        .age_ns = INT64_MAX,
    };
    const struct lane_wear age = {
        .records = UINT64_MAX, .bytes = UINT64_MAX, .age_ns = 50 * DEADLINE_NS_PER_MS};
    wear_out(state, &records, 11, 11);
    wear_out(state, &bytes, 11, 11);
    wear_out(state, &age, 0, INT_MAX - 1); // it ends, whenever that is
    assert_int_equal(lane_wear_product.records, 1ULL << LIMIT_LANE_RECORDS_LOG2);
    assert_int_equal(lane_wear_product.bytes, LIMIT_LANE_BYTES);
    assert_int_equal(lane_wear_product.age_ns, LIMIT_LANE_AGE_MS * DEADLINE_NS_PER_MS);
}

static void test_200_peers_share_the_threads(void **state)
{
    enum { PEERS = 200, TIMER_THREADS = 20 };
    static struct rig_client clients[PEERS];
    struct rig rig;
    rig_start(&rig, kind_of(state), 2);
    rig_connect(&rig, &clients[0]);
    rig_read(&clients[0], 0, LIMIT_RUN_PAGES);
    int threads = rig_threads();
    for (int i = 1; i < PEERS; i++) {
        rig_connect(&rig, &clients[i]);
    }
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < PEERS; i++) {
            rig_write(&clients[i], i, 1 + i % 16);
            rig_read(&clients[i], i, 1 + i % 16);
        }
    }
    // gRPC keeps threads of its own for timers, a few that come and go; they do not grow with the peers.
    assert_in_range(rig_threads(), 1, threads + (rig_is_grpc(rig.kind) ? TIMER_THREADS : 0));
    for (int i = 0; i < PEERS; i++) {
        rig_hang_up(&clients[i]);
        assert_int_equal(rig_closed(&clients[i]), -ECONNRESET);
    }
    rig_stop(&rig);
}

static const struct CMUnitTest suite[] = {
    cmocka_unit_test(test_every_size_comes_back_whole),
    cmocka_unit_test(test_pipelined_requests_are_answered_in_order),
    cmocka_unit_test(test_a_slow_reader_is_bounded_and_alone),
    cmocka_unit_test(test_a_slow_reader_that_leaves_is_forgotten),
    cmocka_unit_test(test_close_is_told_from_a_cut),
    cmocka_unit_test(test_a_connection_that_never_spoke_is_closed_when_cut),
    cmocka_unit_test(test_a_wrong_key_ends_its_peer_only),
    cmocka_unit_test(test_shut_while_a_message_runs),
    cmocka_unit_test(test_shut_races_with_requests),
    cmocka_unit_test(test_stop_closes_every_peer),
    cmocka_unit_test(test_a_connection_wears_out),
    cmocka_unit_test(test_200_peers_share_the_threads),
};

static enum rig_kind group_kind;

static int group_setup(void **state)
{
    *state = &group_kind;
    return 0;
}

int main(int argc, char **argv)
{
    bool grpc = argc > 1 && strcmp(argv[1], "grpc") == 0;
    group_kind = grpc ? RIG_GRPC : RIG_SOCK;
    int failed = cmocka_run_group_tests_name("socket pairs", suite, group_setup, NULL);
    group_kind = grpc ? RIG_GRPC_TCP : RIG_SOCK_TCP;
    return failed + cmocka_run_group_tests_name("loopback TCP", suite, group_setup, NULL);
}
