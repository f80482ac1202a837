// SPDX-License-Identifier: Apache-2.0
//
// The sock front against a client that sends raw bytes: every flipped byte, every truncation,
// replays; payloads that stall and the pool that they come from; what an idle peer takes.
#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "fronts_rig.h"
#include "rpc/lane_sock_front.h"

static uint8_t pages[LIMIT_RUN_BYTES];

struct sealed {
    size_t bytes;
    uint8_t data[RECORD_MESSAGE_MAX];
};

static void seal(struct rig_client *client, const struct wire_header *header, struct sealed *sealed)
{
    struct iovec piece = {pages, header->length};
    struct record_source source;
    size_t next;
    rig_pattern(pages, header->page, header->length / RIG_PAGE_BYTES);
    assert_int_equal(record_source_start(&source, client->send, header, &piece, 1), 0);
    sealed->bytes = 0;
    while ((next = record_source_bytes(&source)) > 0) {
        assert_int_equal(record_source_seal(&source, sealed->data + sealed->bytes), 0);
        sealed->bytes += next;
    }
}

static void put(struct rig_client *client, const uint8_t *data, size_t bytes)
{
    for (size_t sent = 0; sent < bytes;) {
        ssize_t part = send(client->fd, data + sent, bytes - sent, MSG_NOSIGNAL);
        if (part < 0) {
            return; // the front has hung up
        }
        sent += (size_t)part;
    }
}

static void check_flip(struct rig *rig, const struct wire_header *header, size_t at, uint8_t bit)
{
    static struct sealed sealed;
    struct rig_client client;
    rig_connect(rig, &client);
    seal(&client, header, &sealed);
    sealed.data[at] ^= bit;
    put(&client, sealed.data, sealed.bytes);
    assert_int_equal(rig_closed(&client), -EBADMSG);
    assert_int_equal(atomic_load(&client.session.messages), 0);
    rig_hang_up(&client);
}

static void test_any_flipped_bit_ends_the_peer(void **state)
{
    struct rig rig;
    struct rig_client other;
    struct wire_header read = rig_request(WIRE_READ, 0, 1);
    struct wire_header write = rig_request(WIRE_WRITE, 0, 10); // two records
    (void)state;
    rig_start(&rig, RIG_SOCK, 1);
    rig_connect(&rig, &other);
    for (size_t bit = 0; bit < 8 * WIRE_HEADER_SEALED_BYTES; bit++) {
        check_flip(&rig, &read, bit / 8, (uint8_t)(1u << bit % 8));
    }
    const size_t total = WIRE_HEADER_SEALED_BYTES + wire_sealed_bytes(write.length);
    for (size_t at = WIRE_HEADER_SEALED_BYTES; at < total; at += 997) {
        check_flip(&rig, &write, at, (uint8_t)(1u << at % 8));
    }
    check_flip(&rig, &write, total - 1, 1);
    rig_ping(&other);
    rig_hang_up(&other);
    rig_stop(&rig);
}

static void test_malformed_requests_end_their_peer_only(void **state)
{
    struct wire_header request;
    struct rig rig;
    struct rig_client other;
    (void)state;
    rig_start(&rig, RIG_SOCK, 1);
    rig_connect(&rig, &other);
    for (size_t i = 0; rig_malformed(i, &request); i++) {
        struct rig_client client;
        struct wire_header answer;
        rig_connect(&rig, &client);
        rig_ping(&client);
        assert_int_equal(rig_send(&client, &request, NULL), 0);
        assert_int_equal(rig_closed(&client), -EBADMSG);
        assert_true(rig_receive(&client, &answer, NULL) < 0);
        assert_int_equal(atomic_load(&client.session.messages), 1);
        rig_hang_up(&client);
        rig_ping(&other);
    }
    rig_hang_up(&other);
    rig_stop(&rig);
}

static void test_truncation_is_a_cut(void **state)
{
    static struct sealed sealed;
    struct rig rig;
    struct wire_header write = rig_request(WIRE_WRITE, 0, 10);
    const size_t total = WIRE_HEADER_SEALED_BYTES + wire_sealed_bytes(write.length);
    (void)state;
    rig_start(&rig, RIG_SOCK, 1);
    for (size_t bytes = 0; bytes < total;
         bytes += bytes < WIRE_HEADER_SEALED_BYTES + 2 ? 1 : 1013) {
        struct rig_client client;
        rig_connect(&rig, &client);
        seal(&client, &write, &sealed);
        put(&client, sealed.data, bytes);
        rig_hang_up(&client);
        assert_int_equal(rig_closed(&client), -ECONNRESET);
        assert_int_equal(atomic_load(&client.session.messages), 0);
    }
    rig_stop(&rig);
}

static void test_bytes_that_trickle_in_are_one_message(void **state)
{
    static struct sealed sealed;
    struct rig rig;
    struct rig_client client;
    struct wire_header write = rig_request(WIRE_WRITE, 0, 9);
    struct wire_header answer;
    (void)state;
    rig_start(&rig, RIG_SOCK_TCP, 1);
    rig_connect(&rig, &client);
    seal(&client, &write, &sealed);
    for (size_t at = 0, part = 1; at < sealed.bytes; at += part, part = 1 + part * 5 % 311) {
        part = part < sealed.bytes - at ? part : sealed.bytes - at;
        put(&client, sealed.data + at, part);
    }
    assert_int_equal(rig_receive(&client, &answer, NULL), 0);
    assert_int_equal(answer.status, WIRE_OK);
    rig_hang_up(&client);
    rig_stop(&rig);
}

static void test_replayed_dropped_and_swapped_records(void **state)
{
    static struct sealed first;
    static struct sealed second;
    struct wire_header ping = rig_request(WIRE_PING, 0, 0);
    struct rig rig;
    (void)state;
    rig_start(&rig, RIG_SOCK, 1);
    for (int attack = 0; attack < 3; attack++) {
        struct rig_client client;
        rig_connect(&rig, &client);
        seal(&client, &ping, &first);
        seal(&client, &ping, &second);
        const struct sealed *sent[3][2] = {{&first, &first}, {&second, &second}, {&second, &first}};
        put(&client, sent[attack][0]->data, sent[attack][0]->bytes);
        put(&client, sent[attack][1]->data, sent[attack][1]->bytes);
        assert_int_equal(rig_closed(&client), -EBADMSG);
        assert_int_equal(atomic_load(&client.session.messages), attack == 0);
        rig_hang_up(&client);
    }
    rig_stop(&rig);
}

static void test_reflected_answers_do_not_open(void **state)
{
    struct wire_header ping = rig_request(WIRE_PING, 0, 0);
    struct rig rig;
    struct rig_client client;
    uint8_t answer[WIRE_HEADER_SEALED_BYTES];
    (void)state;
    rig_start(&rig, RIG_SOCK, 1);
    rig_connect(&rig, &client);
    assert_int_equal(rig_send(&client, &ping, NULL), 0);
    assert_int_equal(recv(client.fd, answer, sizeof(answer), MSG_WAITALL), sizeof(answer));
    put(&client, answer, sizeof(answer));
    assert_int_equal(rig_closed(&client), -EBADMSG);
    rig_hang_up(&client);
    rig_stop(&rig);
}

// A client that has sent all of a 1 MiB WRITE but its last `short_by` bytes.
static void stall(struct rig *rig, struct rig_client *client, struct sealed *sealed,
                  size_t short_by)
{
    struct wire_header write = rig_request(WIRE_WRITE, 0, LIMIT_RUN_PAGES);
    rig_connect(rig, client);
    seal(client, &write, sealed);
    put(client, sealed->data, sealed->bytes - short_by);
}

static bool any_closed(struct rig_client *clients, int count)
{
    bool closed = false;
    for (int i = 0; i < count; i++) {
        closed |= rig_is_closed(&clients[i]);
    }
    return closed;
}

static void test_the_pool_recovers_when_its_holders_leave(void **state)
{
    static struct sealed sealed;
    struct rig rig;
    struct rig_client holders[LANE_POOL_BUFFERS];
    struct rig_client writer;
    struct rig_client reader;
    struct wire_header write = rig_request(WIRE_WRITE, 7, 100);
    struct wire_header answer;
    (void)state;
    rig_start(&rig, RIG_SOCK, 2);
    for (int i = 0; i < LANE_POOL_BUFFERS; i++) { // each was read: its bytes exceed the socket
        stall(&rig, &holders[i], &sealed, 1);
    }
    rig_connect(&rig, &writer);
    rig_connect(&rig, &reader);
    seal(&writer, &write, &sealed);
    put(&writer, sealed.data, WIRE_HEADER_SEALED_BYTES + 1000);
    struct sock_front *front = (struct sock_front *)rig.front;
    while (!lane_pool_contended(front->pool) && !any_closed(holders, LANE_POOL_BUFFERS)) {
        usleep(1000); // the writer comes to stand in line, or gets the buffer of one that was cut
    }
    for (uint32_t i = 0; i < 20; i++) { // those who need no buffer go on
        rig_ping(&reader);
        rig_read(&reader, i, LIMIT_RUN_PAGES);
    }
    rig_hang_up(&holders[3]);
    put(&writer, sealed.data + WIRE_HEADER_SEALED_BYTES + 1000,
        sealed.bytes - WIRE_HEADER_SEALED_BYTES - 1000);
    assert_int_equal(rig_receive(&writer, &answer, NULL), 0);
    assert_int_equal(answer.status, WIRE_OK);
    for (int i = 0; i < LANE_POOL_BUFFERS; i++) {
        rig_hang_up(&holders[i]);
    }
    rig_write(&writer, 3, LIMIT_RUN_PAGES);
    rig_write(&reader, 3, LIMIT_RUN_PAGES);
    rig_hang_up(&writer);
    rig_hang_up(&reader);
    rig_stop(&rig);
}

static void test_who_stalls_while_others_wait_is_cut(void **state)
{
    enum { HOLDERS = LANE_POOL_BUFFERS + 1 }; // so that one stands in line in any case
    static struct sealed sealed;
    struct rig rig;
    struct rig_client holders[HOLDERS];
    struct rig_client writer;
    int cut = 0;
    (void)state;
    rig_start(&rig, RIG_SOCK_TCP, 2);
    for (int i = 0; i < HOLDERS; i++) {
        stall(&rig, &holders[i], &sealed, RECORD_SEALED_MAX * 30);
    }
    rig_connect(&rig, &writer);
    rig_write(&writer, 3, LIMIT_RUN_PAGES);
    for (int i = 0; i < HOLDERS; i++) {
        if (rig_is_closed(&holders[i])) {
            assert_int_equal(rig_closed(&holders[i]), -ETIMEDOUT);
            cut++;
        }
        rig_hang_up(&holders[i]);
    }
    assert_in_range(cut, 1, HOLDERS);
    rig_hang_up(&writer);
    rig_stop(&rig);
}

static void test_waiters_leave_the_line_in_any_order(void **state)
{
    enum { CLIENTS = 3 * LANE_POOL_BUFFERS };
    static struct sealed sealed;
    struct rig rig;
    struct rig_client clients[CLIENTS];
    struct rig_client writer;
    (void)state;
    rig_start(&rig, RIG_SOCK, 2);
    for (int i = 0; i < CLIENTS; i++) {
        struct wire_header write = rig_request(WIRE_WRITE, 0, LIMIT_RUN_PAGES);
        rig_connect(&rig, &clients[i]);
        if (i == 0) { // once, before any of them holds a buffer: they have the same key
            seal(&clients[i], &write, &sealed);
        }
        put(&clients[i], sealed.data, 50000);
    }
    for (int i = 0; i < CLIENTS; i++) {
        rig_shut(&clients[i * 7 % CLIENTS], -ENOKEY);
    }
    for (int i = 0; i < CLIENTS; i++) {
        assert_int_equal(rig_closed(&clients[i]), -ENOKEY);
        rig_hang_up(&clients[i]);
    }
    rig_connect(&rig, &writer);
    rig_write(&writer, 3, LIMIT_RUN_PAGES);
    rig_hang_up(&writer);
    rig_stop(&rig);
}

static void test_an_idle_peer_is_small(void **state)
{
    enum { PEERS = 100, MOST_BYTES = 48 << 10 };
    struct rig_client clients[PEERS];
    struct rig rig;
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); // their allocators do not count
#endif
    rig_start(&rig, RIG_SOCK, 1);
    size_t before = mallinfo2().uordblks;
    for (int i = 0; i < PEERS; i++) {
        rig_connect(&rig, &clients[i]);
        rig_write(&clients[i], 0, 20);
        rig_read(&clients[i], 0, LIMIT_RUN_PAGES);
    }
    assert_in_range(mallinfo2().uordblks - before, PEERS, PEERS * MOST_BYTES);
    for (int i = 0; i < PEERS; i++) {
        rig_hang_up(&clients[i]);
    }
    rig_stop(&rig);
}

// ---- what waits for what ----

static void (*served)(void *user, struct lane_peer *peer, const struct wire_header *request,
                      const uint8_t *payload);
static void *_Atomic order[64];
static _Atomic int order_count;

static void note_order(void *user, struct lane_peer *peer, const struct wire_header *request,
                       const uint8_t *payload)
{
    atomic_store(&order[atomic_fetch_add(&order_count, 1) % 64], user);
    served(user, peer, request, payload);
}

// Several peers with much under way came first; the one that wants a page is served before them all.
static void test_a_page_does_not_queue_behind_bulk(void **state)
{
    enum { BULK = 3, AHEAD = 3 };
    struct rig rig;
    struct rig_client bulk[BULK], gate, page;
    (void)state;
    rig_start(&rig, RIG_SOCK, 1);
    served = rig.service.message;
    rig.service.message = note_order; // nobody is there yet
    for (int i = 0; i < BULK; i++) {
        rig_connect(&rig, &bulk[i]);
        rig_read(&bulk[i], 0, LIMIT_RUN_PAGES);
    }
    rig_connect(&rig, &gate);
    rig_connect(&rig, &page);
    rig_read(&page, 0, 1);
    const int before = atomic_load(&order_count);
    assert_int_equal(before, BULK + 1);
    struct wire_header ping = rig_request(WIRE_PING, 0, 0);
    ping.segment = RIG_GATE;
    assert_int_equal(rig_send(&gate, &ping, NULL), 0);
    rig_wait_at_gate(&rig, 1);
    struct wire_header run = rig_request(WIRE_READ, 7, LIMIT_RUN_PAGES);
    struct wire_header one = rig_request(WIRE_READ, 7, 1);
    for (int k = 0; k < AHEAD * BULK; k++) {
        assert_int_equal(rig_send(&bulk[k % BULK], &run, NULL), 0);
    }
    assert_int_equal(rig_send(&page, &one, NULL), 0);
    rig_open_gate(&rig);
    rig_expect_read(&page, 7, 1);
    for (int k = 0; k < AHEAD * BULK; k++) {
        rig_expect_read(&bulk[k % BULK], 7, LIMIT_RUN_PAGES);
    }
    assert_int_equal(atomic_load(&order_count), before + 2 + AHEAD * BULK);
    assert_ptr_equal(atomic_load(&order[before]), &gate.session);
    assert_ptr_equal(atomic_load(&order[before + 1]), &page.session);
    for (int k = 0; k < AHEAD * BULK; k++) { // and among themselves they take turns
        assert_ptr_equal(atomic_load(&order[before + 2 + k]), &bulk[k % BULK].session);
    }
    for (int i = 0; i < BULK; i++) {
        rig_hang_up(&bulk[i]);
    }
    rig_hang_up(&gate);
    rig_hang_up(&page);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_flipped_bit_ends_the_peer),
        cmocka_unit_test(test_malformed_requests_end_their_peer_only),
        cmocka_unit_test(test_truncation_is_a_cut),
        cmocka_unit_test(test_bytes_that_trickle_in_are_one_message),
        cmocka_unit_test(test_replayed_dropped_and_swapped_records),
        cmocka_unit_test(test_reflected_answers_do_not_open),
        cmocka_unit_test(test_the_pool_recovers_when_its_holders_leave),
        cmocka_unit_test(test_who_stalls_while_others_wait_is_cut),
        cmocka_unit_test(test_waiters_leave_the_line_in_any_order),
        cmocka_unit_test(test_an_idle_peer_is_small),
        cmocka_unit_test(test_a_page_does_not_queue_behind_bulk),
    };
    return cmocka_run_group_tests_name("sock front, raw bytes", tests, NULL, NULL);
}
