// SPDX-License-Identifier: Apache-2.0
//
// The room for long messages of gRPC lanes, and who is ended while others wait for it. No test
// waits for time to pass: the watchdog's question is asked with a later time than it is. So that
// the watchdog's own asking ends nobody meanwhile, however slow the machine is, those that fill the
// room have a message each that is whole, and which this file takes out of gRPC's hands instead of
// the front's only worker: it stands at the gate then.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

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

// A message of the longest kind, of which no more comes.
static void put_begun(struct raw_text *text)
{
    static const uint8_t prefix[] = {0, RECORD_MESSAGE_MAX >> 24, RECORD_MESSAGE_MAX >> 16 & 255,
                                     RECORD_MESSAGE_MAX >> 8 & 255, RECORD_MESSAGE_MAX & 255};
    uint8_t data[100] = {0};
    memcpy(data, prefix, sizeof(prefix));
    raw_put_frame(text, RAW_DATA, 0, 1, data, sizeof(data));
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
        put_begun(&text);
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
    assert_true(lane_http2_check(before + INT64_C(2000) * DEADLINE_NS_PER_MS));
    assert_false(lane_http2_check(deadline_now() + hour)); // and now it was
    assert_int_equal(crowd_ended(&crowd), -ETIMEDOUT);
    crowd_end(&crowd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_waits_for_a_worker_is_not_ended),
        cmocka_unit_test(test_a_short_message_counts_as_progress),
    };
    return cmocka_run_group_tests_name("gRPC front, room for messages", tests, NULL, NULL);
}
