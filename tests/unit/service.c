// SPDX-License-Identifier: Apache-2.0
//
// The service without a network: the test is the front. It makes lanes, hands messages in, sees
// what is answered, and decides when a connection's closed() comes, so that the rules about older
// and newer connections of a lane are tested step by step instead of by timing.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <rpc/dsm.pb-c.h>
#include <unistd.h>

#include "server/clock.h"
#include "tests/unit/catalog_rig.h"
#include "tests/unit/service_rig.h"

struct desk {
    struct rig rig;
    struct service *service;
    struct rig_front front;
    unsigned wakes;
};

static struct desk *desk;

static void desk_wake(void *context)
{
    ((struct desk *)context)->wakes++;
}

// Keys 1 and 2 are alice's, key 2 with one connection only; key 3 is bob's with a quota of two
// pages.
static struct key_grants *authorized(const char *without)
{
    static const char *const lines[] = {"alice", "alice connections=1", "bob quota=12K"};
    char path[] = "/tmp/dsm-grants-XXXXXX";
    struct failure failure = {""};
    struct key_grants *grants = NULL;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    for (uint8_t i = 0; i < 3; i++) {
        char key[KEYFILE_TEXT_BYTES];
        const struct key_grant grant = grant_of((uint8_t)(i + 1), "");
        keyfile_encode(grant.public_key, key);
        if (without == NULL || strcmp(without, lines[i]) != 0) {
            assert_true(dprintf(fd, "%s %s\n", key, lines[i]) > 0);
        }
    }
    (void)close(fd);
    int error = key_grants_load(path, &grants, &failure);
    (void)unlink(path);
    if (error != 0) {
        fail_msg("%s", failure.text);
    }
    return grants;
}

static int setup(void **state)
{
    desk = calloc(1, sizeof *desk);
    assert_non_null(desk);
    rig_make(&desk->rig, rig_medium_usable(RIG_TMPFS) ? RIG_TMPFS : RIG_DISK, 64 * MIB);
    rig_open(&desk->rig);
    rig_front_init(&desk->front);
    const struct service_options options = {.store = desk->rig.store,
                                            .lease_ms = LEASE,
                                            .server_name = "test",
                                            .wake = desk_wake,
                                            .wake_context = desk};
    struct key_grants *grants = authorized(NULL);
    assert_int_equal(service_create(&options, &grants, &desk->service), 0);
    assert_null(grants);
    *state = desk;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    service_destroy(&desk->service);
    rig_end(&desk->rig);
    free(desk);
    desk = NULL;
    return 0;
}

static enum wire_status attach(uint8_t key, uint8_t instance, uint32_t number, uint64_t generation,
                               struct service_lane **lane)
{
    const struct key_grant grant = grant_of(key, "");
    struct wire_attach hello = {.generation = generation, .lane = number, .holder = "tester"};
    struct wire_attached attached = {0};
    memset(hello.instance, instance, sizeof hello.instance);
    *lane = NULL;
    enum wire_status status =
        service_attach(desk->service, grant.public_key, &hello, clock_now_ms(), lane, &attached);
    assert_true((status == WIRE_OK) == (*lane != NULL));
    assert_true((status == WIRE_OK) == (attached.text[0] == '\0'));
    return status;
}

static struct lane_peer *start(struct service_lane **lane)
{
    desk->front.coming = calloc(1, sizeof *desk->front.coming);
    assert_non_null(desk->front.coming);
    assert_int_equal(service_lane_state(*lane), SERVICE_LANE_READY);
    assert_int_equal(service_lane_start(lane, &desk->front.front, -1, NULL, NULL), 0);
    assert_null(*lane);
    return desk->front.coming;
}

static struct lane_peer *connected(uint8_t key, uint8_t instance)
{
    struct service_lane *lane;
    assert_int_equal(attach(key, instance, 0, 1, &lane), WIRE_OK);
    return start(&lane);
}

static void end(struct lane_peer *peer)
{
    service_calls.closed(peer->user, -ESHUTDOWN);
    free(peer);
}

static void test_attach_refusals(void **state)
{
    (void)state;
    struct service_lane *lane, *other;
    assert_int_equal(attach(9, 1, 0, 1, &lane), WIRE_UNAUTHORIZED);
    assert_int_equal(attach(1, 1, LIMIT_LANES_PER_SESSION, 1, &lane), WIRE_INVALID);
    assert_int_equal(attach(1, 1, 0, 0, &lane), WIRE_INVALID);
    assert_int_equal(attach(2, 1, 0, 1, &lane), WIRE_OK);
    assert_int_equal(attach(2, 2, 0, 1, &other), WIRE_TOO_MANY); // one connection of that key
    assert_int_equal(attach(2, 1, 0, 1, &other), WIRE_STALE_GENERATION);
    assert_int_equal(attach(1, 1, 1, 1, &other), WIRE_NOT_ALLOWED); // another key's session
    service_lane_abandon(&lane);
    assert_int_equal(attach(2, 2, 0, 1, &lane), WIRE_OK); // it is free again
    service_lane_abandon(&lane);
    struct service_facts facts;
    service_facts(desk->service, &facts);
    assert_false(facts.draining);
    service_drain(desk->service);
    assert_int_equal(attach(1, 1, 0, 1, &lane), WIRE_DRAINING);
    service_facts(desk->service, &facts);
    assert_true(facts.draining);
}

static void test_newer_waits_for_older(void **state)
{
    (void)state;
    struct service_lane *newer, *newest, *late;
    struct service_lane *lane;
    assert_int_equal(attach(2, 1, 3, 5, &lane), WIRE_OK);
    struct lane_peer *old = start(&lane);
    assert_int_equal(attach(2, 1, 3, 5, &late), WIRE_STALE_GENERATION);
    assert_int_equal(old->shut, 0);
    assert_int_equal(attach(2, 1, 3, 6, &newer), WIRE_OK); // beyond the key's limit: it replaces
    assert_int_not_equal(old->shut, 0);
    assert_int_equal(service_lane_state(newer), SERVICE_LANE_WAITING);
    assert_int_equal(attach(2, 1, 3, 7, &newest), WIRE_OK);
    assert_int_equal(service_lane_state(newer), SERVICE_LANE_REFUSED);
    assert_int_equal(service_lane_state(newest), SERVICE_LANE_WAITING);
    service_lane_abandon(&newer);
    assert_int_equal(service_lane_state(newest), SERVICE_LANE_WAITING); // the first is still there
    unsigned wakes = desk->wakes;
    end(old);
    assert_true(desk->wakes > wakes);
    struct lane_peer *peer = start(&newest);
    assert_int_equal(peer->shut, 0);
    assert_int_equal(attach(2, 1, 3, 6, &late), WIRE_STALE_GENERATION);
    end(peer);
}

static void test_closed_within_add(void **state)
{
    (void)state;
    struct service_lane *lane;
    desk->front.closes = true;
    assert_int_equal(attach(2, 1, 0, 1, &lane), WIRE_OK);
    free(start(&lane));
    desk->front.closes = false;
    desk->front.error = -ENOMEM;
    assert_int_equal(attach(2, 1, 0, 2, &lane), WIRE_OK); // nothing is left of the first
    assert_int_equal(service_lane_start(&lane, &desk->front.front, -1, NULL, NULL), -ENOMEM);
    assert_null(lane);
    desk->front.error = 0;
    end(connected(2, 1));
}

static void test_removed_key(void **state)
{
    (void)state;
    struct service_lane *pending, *none;
    struct lane_peer *alice = connected(1, 1);
    struct lane_peer *bob = connected(3, 3);
    assert_int_equal(attach(1, 1, 1, 1, &pending), WIRE_OK);
    struct key_grants *grants = authorized("alice");
    service_regrant(desk->service, &grants);
    assert_int_equal(alice->shut, -EACCES);
    assert_int_equal(bob->shut, 0);
    assert_int_equal(service_lane_state(pending), SERVICE_LANE_REFUSED);
    assert_int_equal(attach(1, 9, 0, 1, &none), WIRE_UNAUTHORIZED);
    service_lane_abandon(&pending);
    end(alice);
    end(bob);
}

static enum wire_status ask(struct lane_peer *peer, struct wire_header request, const void *payload)
{
    static uint64_t requests;
    request.request = ++requests;
    return rig_front_ask(peer, &request, payload);
}

static size_t pack_create(const char *name, uint32_t flags, uint8_t *to)
{
    uint8_t id[WIRE_ID_BYTES] = {1};
    Dsm__Control message = DSM__CONTROL__INIT;
    Dsm__Create body = DSM__CREATE__INIT;
    body.operation = (ProtobufCBinaryData){.len = sizeof id, .data = id};
    body.name = (char *)(uintptr_t)name;
    body.bytes = flags != 0 ? 4 * MIB : 16 * PAGE;
    body.page_bytes = PAGE;
    body.flags = flags;
    message.create = &body;
    message.body_case = DSM__CONTROL__BODY_CREATE;
    return dsm__control__pack(&message, to);
}

static uint64_t make_segment(struct lane_peer *peer, uint32_t flags)
{
    uint8_t packed[512];
    uint32_t length = (uint32_t)pack_create("data", flags, packed);
    assert_int_equal(ask(peer, (struct wire_header){.op = WIRE_CONTROL, .length = length}, packed),
                     WIRE_OK);
    Dsm__ControlAnswer *answer =
        dsm__control_answer__unpack(NULL, peer->answer.length, peer->payload);
    assert_non_null(answer);
    assert_int_equal(answer->body_case, DSM__CONTROL_ANSWER__BODY_SEGMENT);
    assert_int_equal(answer->segment->n_placement, 1);
    assert_string_equal(answer->segment->placement[0]->server, "test");
    assert_int_equal(answer->segment->placement[0]->pages, flags != 0 ? 1024 : 16);
    uint64_t id = answer->segment->id;
    dsm__control_answer__free_unpacked(answer, NULL);
    return id;
}

static void test_pages(void **state)
{
    (void)state;
    static uint8_t data[2 * PAGE];
    struct lane_peer *peer = connected(1, 1);
    uint64_t id = make_segment(peer, 0);
    struct wire_header write = {.op = WIRE_WRITE,
                                .segment = id,
                                .epoch = 1,
                                .page = 4,
                                .count = 3,
                                .version = 9,
                                .length = 2 * PAGE,
                                .map = {5}}; // pages 4 and 6; 5 is zeros
    memset(data, 0xaa, PAGE);
    memset(data + PAGE, 0xbb, PAGE);
    assert_int_equal(ask(peer, write, data), WIRE_OK);
    assert_int_equal(peer->answer.done, 3);
    assert_int_equal(peer->answer.version, 9);
    const struct wire_header read = {
        .op = WIRE_READ, .segment = id, .epoch = 1, .page = 3, .count = 5, .hint = WIRE_NO_HINT};
    assert_int_equal(ask(peer, read, NULL), WIRE_OK);
    assert_int_equal(peer->answer.map[0], 0x0a); // of 3..7: 4 and 6
    assert_int_equal(peer->answer.length, 2 * PAGE);
    assert_memory_equal(peer->payload, data, sizeof data);
    const struct wire_header discard = {
        .op = WIRE_DISCARD, .segment = id, .epoch = 1, .page = 6, .count = 1, .version = 10};
    assert_int_equal(ask(peer, discard, NULL), WIRE_OK);
    assert_int_equal(peer->answer.version, 10);
    assert_int_equal(ask(peer, read, NULL), WIRE_OK);
    assert_int_equal(peer->answer.map[0], 0x02);
    write.epoch = 0;
    assert_int_equal(ask(peer, write, data), WIRE_FENCED);
    assert_int_equal(ask(peer, (struct wire_header){.op = WIRE_PING}, NULL), WIRE_OK);
    end(peer);
}

// Pages without backing: neither read nor written, and what they gave back has to be had again.
static void test_pages_without_backing(void **state)
{
    (void)state;
    static uint8_t data[PAGE];
    struct lane_peer *peer = connected(1, 1);
    uint64_t id = make_segment(peer, 0);
    const struct wire_header give_up = {
        .op = WIRE_GIVE_UP, .segment = id, .epoch = 1, .page = 2, .count = 4, .version = 1};
    const struct wire_header read = {
        .op = WIRE_READ, .segment = id, .epoch = 1, .page = 1, .count = 2, .hint = WIRE_NO_HINT};
    const struct wire_header write = {.op = WIRE_WRITE,
                                      .segment = id,
                                      .epoch = 1,
                                      .page = 2,
                                      .count = 1,
                                      .version = 2,
                                      .length = PAGE,
                                      .map = {1}};
    struct wire_header allocate = give_up;
    allocate.op = WIRE_ALLOCATE;
    memset(data, 0xee, sizeof data);
    assert_int_equal(ask(peer, give_up, NULL), WIRE_OK);
    assert_int_equal(peer->answer.done, 4);
    assert_int_equal(ask(peer, read, NULL), WIRE_BOUNDS);
    assert_int_equal(peer->answer.done, 1);
    assert_int_equal(ask(peer, write, data), WIRE_BOUNDS);
    assert_int_equal(peer->answer.done, 0);
    allocate.version = 3;
    allocate.epoch = 0;
    assert_int_equal(ask(peer, allocate, NULL), WIRE_FENCED);
    allocate.epoch = 1;
    assert_int_equal(ask(peer, allocate, NULL), WIRE_OK);
    assert_int_equal(peer->answer.done, 4);
    assert_int_equal(ask(peer, read, NULL), WIRE_OK);
    end(peer);
}

// At the quota a stored page may still be written again, and only growth is refused.
static void test_thin_quota(void **state)
{
    (void)state;
    static uint8_t data[PAGE];
    struct lane_peer *peer = connected(3, 3);
    struct wire_header write = {.op = WIRE_WRITE,
                                .segment = make_segment(peer, STORE_SEGMENT_NORESERVE),
                                .epoch = 1,
                                .count = 1,
                                .length = PAGE,
                                .map = {1}};
    memset(data, 0xcc, sizeof data);
    for (write.page = 0; write.page < 2; write.page++) {
        write.version++;
        assert_int_equal(ask(peer, write, data), WIRE_OK);
    }
    write.version++;
    assert_int_equal(ask(peer, write, data), WIRE_OVER_QUOTA);
    assert_int_equal(peer->answer.done, 0);
    write.page = 1;
    assert_int_equal(ask(peer, write, data), WIRE_OK);
    end(peer);
}

// Zeros take no page, but their versions take index, and that is charged.
static void test_thin_index_quota(void **state)
{
    (void)state;
    struct lane_peer *peer = connected(3, 3);
    uint64_t id = make_segment(peer, STORE_SEGMENT_NORESERVE);
    struct wire_header zeros = {
        .op = WIRE_WRITE, .segment = id, .epoch = 1, .count = 1, .version = 1};
    struct wire_header discard = {
        .op = WIRE_DISCARD, .segment = id, .epoch = 1, .count = 1, .version = 2};
    for (unsigned i = 0; i < 4; i++) {
        zeros.page = discard.page = (uint64_t)i * 256;
        enum wire_status status = i < 3 ? WIRE_OK : WIRE_OVER_QUOTA;
        assert_int_equal(ask(peer, i % 2 == 0 ? zeros : discard, NULL), status);
    }
    zeros.page = 1; // in a block that is paid for
    assert_int_equal(ask(peer, zeros, NULL), WIRE_OK);
    end(peer);
}

// Every cut of a message, and every bit of it flipped, is answered once and breaks nothing.
static void test_broken_control(void **state)
{
    (void)state;
    uint8_t whole[512], broken[512];
    struct lane_peer *peer = connected(1, 1);
    size_t bytes = pack_create("data", 0, whole);
    for (size_t cut = 0; cut < bytes; cut++) {
        struct wire_header request = {.op = WIRE_CONTROL, .length = (uint32_t)cut};
        memcpy(broken, whole, cut);
        assert_int_equal(ask(peer, request, broken), WIRE_INVALID);
    }
    for (size_t bit = 0; bit < 8 * bytes; bit++) {
        struct wire_header request = {.op = WIRE_CONTROL, .length = (uint32_t)bytes};
        memcpy(broken, whole, bytes);
        broken[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        (void)ask(peer, request, broken);
    }
    struct wire_header request = {.op = WIRE_CONTROL, .length = (uint32_t)bytes};
    uint8_t *name = memmem(whole, bytes, "data", 4);
    assert_non_null(name);
    name[2] = '\0'; // "da" to C, four bytes on the wire
    assert_int_equal(ask(peer, request, whole), WIRE_INVALID);
    end(peer);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_attach_refusals),
        CASE(test_newer_waits_for_older),
        CASE(test_closed_within_add),
        CASE(test_removed_key),
        CASE(test_pages),
        CASE(test_pages_without_backing),
        CASE(test_thin_quota),
        CASE(test_thin_index_quota),
        CASE(test_broken_control),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
