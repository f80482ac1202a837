// SPDX-License-Identifier: Apache-2.0
//
// The room for long messages of gRPC lanes, and who is ended while others wait for it. No test
// waits for time to pass: the watchdog's question is asked with a later time than it is. So that
// the watchdog's own asking ends nobody meanwhile, however slow the machine is, those that fill the
// room have a message each that is whole, and which this file takes out of gRPC's hands instead of
// the front's only worker: it stands at the gate then.
#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cmocka.h>
#include <grpc/grpc.h>
#include <grpc/support/time.h>

#include "fronts_raw.h"
#include "rpc/deadline.h"
#include "rpc/lane_grpc_front.h"

enum {
    HOLDERS = LIMIT_UNFINISHED_BYTES / RECORD_MESSAGE_MAX,
    PEERS = HOLDERS + 1, // the last one waits
};
static const int64_t hour = INT64_C(3600) * DEADLINE_NS_PER_S;

struct crowd {
    struct rig rig;
    struct rig_client gate;
    struct rig_client clients[PEERS];
    struct grpc_peer *arrived[PEERS]; // a message of each is here, and no worker has it
    int arrived_count;
};

static struct grpc_front *front_of(struct crowd *crowd)
{
    return (struct grpc_front *)crowd->rig.front;
}

// A message's beginning: its length, and so many bytes of it.
static void put_begun(struct raw_text *text, uint32_t length, size_t bytes)
{
    static uint8_t data[16 << 10];
    uint32_t big = htonl(length);
    memcpy(data + 1, &big, sizeof(big)); // the prefix; before it a zero
    raw_put_frame(text, RAW_DATA, 0, 1, data, 1 + sizeof(big) + bytes);
}

static void take(struct crowd *crowd)
{
    gpr_timespec soon =
        gpr_time_add(gpr_now(GPR_CLOCK_REALTIME), gpr_time_from_seconds(RIG_WAIT_S, GPR_TIMESPAN));
    grpc_event event = grpc_completion_queue_next(front_of(crowd)->queue, soon, NULL);
    assert_int_equal(event.type, GRPC_OP_COMPLETE);
    struct grpc_tag *tag = event.tag;
    if (atomic_load(&tag->kind) == GRPC_TAG_SENT) { // of a ping before
        grpc_peer_sent(tag->owner, event.success != 0);
    } else {
        assert_int_equal(atomic_load(&tag->kind), GRPC_TAG_RECEIVED);
        crowd->arrived[crowd->arrived_count++] = tag->owner;
    }
}

static void crowd_start(struct crowd *crowd)
{
    static struct raw_text text;
    memset(crowd, 0, sizeof(*crowd));
    rig_start(&crowd->rig, RIG_GRPC_TCP, 1);
    raw_begin(&crowd->rig, &crowd->gate, &text);
    for (int i = 0; i < PEERS; i++) {
        raw_begin(&crowd->rig, &crowd->clients[i], &text);
    }
}

// Each says a ping, which is whole at once, and begins a long message behind it.
static void crowd_fill(struct crowd *crowd)
{
    static struct raw_text text;
    struct wire_header gate = rig_request(WIRE_PING, 0, 0);
    gate.segment = RIG_GATE;
    text.bytes = 0;
    raw_put_request(&crowd->gate, &text, 1, &gate);
    assert_int_equal(raw_out(&crowd->gate, &text), 0);
    rig_wait_at_gate(&crowd->rig, 1);
    for (int i = 0; i < PEERS; i++) {
        text.bytes = 0;
        raw_put_ping(&crowd->clients[i], &text, 1);
        put_begun(&text, RECORD_MESSAGE_MAX, 100); // and no more of it comes
        assert_int_equal(raw_out(&crowd->clients[i], &text), 0);
    }
    while (crowd->arrived_count < PEERS) {
        take(crowd);
    }
    rig_open_gate(&crowd->rig);
    raw_expect_pong(&crowd->gate, 1);
    assert_true(lane_http2_check(0)); // somebody waits
}

// As the worker would, that the message comes to at last.
static void crowd_go_on(struct crowd *crowd, int i)
{
    struct grpc_worker worker = {.front = front_of(crowd)};
    worker.payload = malloc(LANE_PAYLOAD_BUFFER_BYTES);
    assert_non_null(worker.payload);
    grpc_peer_received(crowd->arrived[i], &worker, true);
    crowd->arrived[i] = NULL;
    free(worker.payload);
}

// Why the first of them that is closed was.
static int crowd_ended(struct crowd *crowd)
{
    static const struct timespec pause = {.tv_nsec = DEADLINE_NS_PER_MS};
    for (int64_t end = deadline_now() + RIG_WAIT_S * INT64_C(1000000000); deadline_now() < end;) {
        for (int i = 0; i < PEERS; i++) {
            if (rig_is_closed(&crowd->clients[i])) {
                return rig_closed(&crowd->clients[i]);
            }
        }
        nanosleep(&pause, NULL);
    }
    return 0;
}

static void crowd_end(struct crowd *crowd)
{
    for (int i = 0; i < PEERS; i++) {
        if (crowd->arrived[i] != NULL) {
            crowd_go_on(crowd, i);
        }
    }
    for (int i = 0; i < PEERS; i++) {
        rig_hang_up(&crowd->clients[i]);
    }
    rig_hang_up(&crowd->gate);
    rig_stop(&crowd->rig);
}

static void test_who_waits_for_a_worker_is_not_ended(void **state)
{
    static struct crowd crowd;
    (void)state;
    crowd_start(&crowd);
    crowd_fill(&crowd);
    assert_true(lane_http2_check(deadline_now() + hour)); // nobody was ended: one still waits
    for (int i = 0; i < PEERS; i++) {
        crowd_go_on(&crowd, i);
    }
    assert_false(lane_http2_check(deadline_now() + hour)); // one was
    assert_int_equal(crowd_ended(&crowd), -ETIMEDOUT);
    crowd_end(&crowd);
}

static void test_a_short_message_counts_as_progress(void **state)
{
    static struct crowd crowd;
    (void)state;
    crowd_start(&crowd);
    crowd_fill(&crowd);
    int64_t before = deadline_now();
    crowd_go_on(&crowd, 0);
    assert_true(lane_http2_check(before + (int64_t)LIMIT_HOLD_MS * DEADLINE_NS_PER_MS));
    assert_false(lane_http2_check(deadline_now() + hour)); // and now it was
    assert_int_equal(crowd_ended(&crowd), -ETIMEDOUT);
    crowd_end(&crowd);
}

enum { TAKEN_BYTES = LIMIT_RUN_BYTES };

static void put_window(struct raw_text *text, uint32_t bytes)
{
    uint8_t setting[6] = {0,
                          4,
                          (uint8_t)(bytes >> 24),
                          (uint8_t)(bytes >> 16),
                          (uint8_t)(bytes >> 8),
                          (uint8_t)bytes};
    raw_put_frame(text, RAW_SETTINGS, 0, 0, setting, sizeof(setting));
}

// The front says that it has read all that came before.
static void await_read(struct rig_client *client, struct raw_text *text)
{
    static struct raw_text body;
    raw_put_frame(text, RAW_PING, 0, 0, "12345678", 8);
    assert_int_equal(raw_out(client, text), 0);
    assert_true(raw_await(client, RAW_PING, 0, &body));
    text->bytes = 0;
}

static void takes_a_long_answer(struct rig_client *client, struct raw_text *text)
{
    static struct raw_text body;
    static const uint32_t more = UINT32_C(0x40000000);
    uint32_t big = htonl(more);
    struct wire_header request = rig_request(WIRE_READ, 0, LIMIT_RUN_PAGES);
    put_window(text, 2 * TAKEN_BYTES);
    raw_put_frame(text, RAW_WINDOW_UPDATE, 0, 0, &big, sizeof(big));
    raw_put_request(client, text, 1, &request);
    assert_int_equal(raw_out(client, text), 0);
    text->bytes = 0;
    for (size_t taken = 0; taken < TAKEN_BYTES + WIRE_HEADER_SEALED_BYTES; taken += body.bytes) {
        assert_true(raw_await(client, RAW_DATA, 1, &body));
    }
}

static bool is_throttled(struct rig_client *client)
{
    struct grpc_peer *peer = (struct grpc_peer *)client->session.peer;
    (void)pthread_mutex_lock(&peer->lock);
    bool throttled = peer->throttled;
    (void)pthread_mutex_unlock(&peer->lock);
    return throttled;
}

static struct lane_peer others = {.unread.limited = true}; // who take none of their answers

// A client whose answers wait for it to let them in, with a long message whole behind them.
static void reader_stops(struct rig_client *client, struct raw_text *text)
{
    static const struct timespec pause = {.tv_nsec = DEADLINE_NS_PER_MS};
    // With these, an answer is one too many.
    lane_unread_count(&others, LIMIT_UNREAD_BYTES / 2, 0);
    put_window(text, 0);
    raw_put_ping(client, text, 1);
    assert_int_equal(raw_out(client, text), 0);
    while (!is_throttled(client)) {
        (void)nanosleep(&pause, NULL);
    }
    text->bytes = 0;
    put_begun(text, 20000, 10000);
    static uint8_t rest[10000];
    raw_put_frame(text, RAW_DATA, 0, 1, rest, sizeof(rest));
    await_read(client, text);
}

static bool is_alive(struct rig_client *client)
{
    struct rig *rig = client->session.rig;
    (void)pthread_mutex_lock(&rig->lock);
    bool alive = client->session.peer != NULL && lane_peer_reason(client->session.peer) == 0;
    (void)pthread_mutex_unlock(&rig->lock);
    return alive;
}

// A full room, and among its holders a client that takes no answers.
struct stopped {
    struct crowd crowd;
    struct rig_client reader;
};

// takes: it has taken a long answer before.
static void stopped_start(struct stopped *stopped, bool takes)
{
    static struct raw_text text;
    crowd_start(&stopped->crowd);
    raw_begin(&stopped->crowd.rig, &stopped->reader, &text);
    if (takes) {
        takes_a_long_answer(&stopped->reader, &text);
    }
    reader_stops(&stopped->reader, &text);
    crowd_fill(&stopped->crowd);
}

static void stopped_end(struct stopped *stopped)
{
    rig_hang_up(&stopped->reader);
    lane_unread_count(&others, 0, LIMIT_UNREAD_BYTES / 2);
    crowd_end(&stopped->crowd);
}

static void test_who_takes_no_answers_is_ended(void **state)
{
    static struct stopped stopped;
    (void)state;
    stopped_start(&stopped, false);
    assert_true(lane_http2_check(deadline_now() + hour));
    assert_false(is_alive(&stopped.reader));
    assert_int_equal(rig_closed(&stopped.reader), -ETIMEDOUT);
    stopped_end(&stopped);
}

static void test_who_takes_its_answers_has_more_time(void **state)
{
    static struct stopped stopped;
    (void)state;
    stopped_start(&stopped, true);
    assert_true(lane_http2_check(deadline_now() + hour));
    assert_true(is_alive(&stopped.reader));
    assert_true(lane_http2_check(deadline_now() + hour));
    assert_false(is_alive(&stopped.reader)); // it has taken nothing since
    stopped_end(&stopped);
}

// Waits until the front has read all that came.
static void await_taken(struct rig_client *client)
{
    static const struct timespec pause = {.tv_nsec = DEADLINE_NS_PER_MS};
    pthread_mutex_lock(&client->session.rig->lock);
    int fd = ((struct grpc_peer *)client->session.peer)->fd;
    pthread_mutex_unlock(&client->session.rig->lock);
    int unread = 1;
    while (unread > 0) {
        assert_int_equal(ioctl(fd, SIOCINQ, &unread), 0);
        (void)nanosleep(&pause, NULL);
    }
}

static void test_who_is_gone_leaves_the_line(void **state)
{
    static const struct linger none = {.l_onoff = 1, .l_linger = 0};
    static struct crowd crowd;
    static struct raw_text text;
    struct rig_client late;
    (void)state;
    crowd_start(&crowd);
    raw_begin(&crowd.rig, &late, &text);
    crowd_fill(&crowd);
    put_begun(&text, RECORD_MESSAGE_MAX, 100);
    assert_int_equal(raw_out(&late, &text), 0);
    await_taken(&late);
    assert_int_equal(setsockopt(late.fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none)), 0);
    rig_hang_up(&late);
    assert_int_equal(rig_closed(&late), -ECONNRESET);
    crowd_end(&crowd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_waits_for_a_worker_is_not_ended),
        cmocka_unit_test(test_a_short_message_counts_as_progress),
        cmocka_unit_test(test_who_is_gone_leaves_the_line),
        cmocka_unit_test(test_who_takes_no_answers_is_ended),
        cmocka_unit_test(test_who_takes_its_answers_has_more_time),
    };
    return cmocka_run_group_tests_name("gRPC front, room for messages", tests, NULL, NULL);
}
