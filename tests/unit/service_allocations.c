// SPDX-License-Identifier: Apache-2.0
//
// The n-th allocation fails, n = 1, 2, ... : a server from the opening of its
// store to its end, with a session that makes a segment, writes, reads and
// deletes. Whatever fails is refused in order, each message has its answer,
// what was acknowledged is there when the store is opened again, and that is
// sound. Under the leak checker nothing is left behind either.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <rpc/dsm.pb-c.h>

#include "tests/unit/service_rig.h"
#include "tests/unit/store_rig.h"

enum { CAPACITY = 4 << 20, PAGE = 4096, PAGES = 8, MOST = 200 };

static unsigned long allocations,
    failing; // the n-th from now on fails; 0: none

// NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the
// linker's names
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *at, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *at, size_t bytes);

static bool fails(void)
{
    return failing != 0 && ++allocations == failing;
}

void *__wrap_malloc(size_t bytes)
{
    return fails() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    return fails() ? NULL : __real_calloc(count, bytes);
}

void *__wrap_realloc(void *at, size_t bytes)
{
    return fails() ? NULL : __real_realloc(at, bytes);
}
// NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)

static struct lane_peer peer;

static enum wire_status control(const Dsm__Control *message)
{
    static uint8_t packed[512];
    size_t bytes = dsm__control__pack(message, packed);
    assert_true(bytes <= sizeof packed);
    const struct wire_header request = {.op = WIRE_CONTROL, .length = (uint32_t)bytes};
    return rig_front_ask(&peer, &request, packed);
}

static enum wire_status create_segment(void)
{
    static uint8_t operation[WIRE_ID_BYTES] = {1};
    Dsm__Create create = DSM__CREATE__INIT;
    Dsm__Control message = DSM__CONTROL__INIT;
    create.operation = (ProtobufCBinaryData){sizeof operation, operation};
    create.name = (char *)(uintptr_t) "made";
    create.bytes = PAGES * PAGE;
    create.page_bytes = PAGE;
    message.body_case = DSM__CONTROL__BODY_CREATE;
    message.create = &create;
    return control(&message);
}

static struct outcome { // what was acknowledged
    bool made, written;
} outcome;

static void use_session(void)
{
    static uint8_t page[PAGE] = {7};
    outcome.made = create_segment() == WIRE_OK;
    const struct wire_header write = {.op = WIRE_WRITE,
                                      .length = PAGE,
                                      .segment = 1,
                                      .epoch = 1,
                                      .count = 1,
                                      .version = 1,
                                      .map = {1}};
    const struct wire_header read = {.op = WIRE_READ, .segment = 1, .epoch = 1, .count = 1};
    outcome.written = rig_front_ask(&peer, &write, page) == WIRE_OK;
    assert_true(outcome.made || !outcome.written);
    assert_true(rig_front_ask(&peer, &read, NULL) == WIRE_OK || !outcome.made);
}

static void serve(struct store *store)
{
    struct rig_front front;
    struct key_grant grant = {.public_key = {1},
                              .principal = "one",
                              .quota_bytes = UINT64_MAX,
                              .rights = KEY_RIGHT_CREATE | KEY_RIGHT_READ | KEY_RIGHT_WRITE,
                              .connections = 4};
    const struct service_options options = {
        .store = store, .lease_ms = LIMIT_LEASE_MS, .server_name = "test", .wake = rig_front_woken};
    const struct wire_attach attach = {.instance = {1}, .generation = 1, .holder = "test"};
    struct key_grants *grants = NULL;
    struct service *service = NULL;
    struct service_lane *lane = NULL;
    struct wire_attached attached = {0};
    rig_front_init(&front);
    front.coming = &peer;
    if (key_grants_create(&grant, &grants) != 0) {
        assert_null(grants);
        return;
    }
    if (service_create(&options, &grants, &service) != 0) {
        key_grants_destroy(&grants);
        return;
    }
    if (service_attach(service, grant.public_key, &attach, 1, &lane, &attached) == WIRE_OK) {
        assert_int_equal(service_lane_start(&lane, &front.front, -1, NULL, NULL), 0);
        use_session();
        service_calls.closed(peer.user, -ESHUTDOWN);
    } else {
        assert_string_not_equal(attached.text, "");
    }
    service_destroy(&service);
}

static void check_store(struct rig *rig)
{
    failing = 0;
    rig_open(rig);
    struct store_segment *made = rig_find(rig, "made");
    assert_true(made != NULL || !outcome.made);
    if (outcome.written) {
        assert_int_equal(store_segment_highest(made), 1);
    }
    rig_check(rig);
    rig_end(rig);
}

static void test_every_allocation(void **state)
{
    (void)state;
    unsigned long n = 0;
    do {
        struct rig rig;
        struct store *store = NULL;
        struct failure failure = {""};
        n++;
        assert_true(n < MOST);
        rig_make(&rig, rig_medium_usable(RIG_TMPFS) ? RIG_TMPFS : RIG_DISK, CAPACITY);
        outcome = (struct outcome){0};
        allocations = 0;
        failing = n;
        if (store_open(&rig.options, &store, &failure) == 0) {
            serve(store);
            assert_int_equal(store_close(&store), 0);
        } else {
            assert_null(store);
            assert_string_not_equal(failure.text, "");
        }
        check_store(&rig);
    } while (allocations >= n);
    assert_true(n > 10);
    assert_true(outcome.made && outcome.written); // of the last round, in which none failed
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
