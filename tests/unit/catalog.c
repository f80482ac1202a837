// SPDX-License-Identifier: Apache-2.0
//
// Segments: create and delete, twice and refused; quotas, addresses, limits, lists; rights,
// sessions and keys; what page operations are checked for.
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <unistd.h>

#include "tests/unit/catalog_rig.h"

static void test_create_again(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    struct catalog_session *two = session_of(world, 2);
    assert_int_equal(create(world, one, "a/b", 1), WIRE_OK);
    struct store_segment_record first = world->view.record;
    assert_int_equal(create(world, one, "a/b", 1), WIRE_OK); // the answer was lost
    assert_int_equal(world->view.record.id, first.id);
    assert_int_equal(world->view.record.epoch, 1);
    assert_int_equal(create(world, one, "a/b", 2), WIRE_EXISTS);
    assert_int_equal(create(world, two, "a/b", 3), WIRE_EXISTS);
    put(world, one);
    put(world, two);
    world_restart(world);
    one = session_of(world, 1);
    assert_int_equal(create(world, one, "a/b", 1), WIRE_OK); // and again after a restart
    assert_int_equal(world->view.record.id, first.id);
    assert_int_equal(world->view.record.base, first.base);
    assert_int_equal(touch(world, one, first.id, 1, WIRE_DISCARD), WIRE_OK);
    put(world, one);
}

static enum wire_status create_odd(struct world *world, struct catalog_session *session,
                                   const char *name, uint64_t bytes, uint32_t page_bytes,
                                   uint32_t type, uint32_t flags)
{
    static const uint8_t operation[WIRE_ID_BYTES] = {77};
    return catalog_segment_create(world->catalog, session, operation, name, bytes, page_bytes, type,
                                  flags, &world->view, &world->failure);
}

static void test_create_checks(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    const char *const bad_names[] = {"",   "/",      "a/", "/a",  "a//b",
                                     "..", "a/../b", ".",  "a b", "\xff"};
    for (size_t i = 0; i < sizeof bad_names / sizeof *bad_names; i++) {
        assert_int_equal(create(world, one, bad_names[i], 1), WIRE_INVALID);
        assert_int_equal(open_as(world, one, bad_names[i], true), WIRE_INVALID);
        assert_int_equal(remove_as(world, one, bad_names[i], 1), WIRE_INVALID);
    }
    assert_int_equal(create_odd(world, one, "a", 0, PAGE, 0, 0), WIRE_INVALID);
    assert_int_equal(create_odd(world, one, "a", LIMIT_SEGMENT_BYTES + 1, PAGE, 0, 1),
                     WIRE_INVALID);
    assert_int_equal(create_odd(world, one, "a", UINT64_MAX, PAGE, 0, 1), WIRE_INVALID);
    assert_int_equal(create_odd(world, one, "a", PAGE, 0, 0, 0), WIRE_INVALID);
    assert_int_equal(create_odd(world, one, "a", PAGE, 2048, 0, 0), WIRE_INVALID);
    assert_int_equal(create_odd(world, one, "a", PAGE, 4097, 0, 0), WIRE_INVALID);
    assert_int_equal(create_odd(world, one, "a", PAGE, 2 * MIB, 0, 0), WIRE_INVALID);
    assert_int_equal(create_odd(world, one, "a", PAGE, PAGE, 1, 0), WIRE_INVALID);
    assert_int_equal(create_odd(world, one, "a", PAGE, PAGE, 0, 4), WIRE_INVALID);
    assert_int_equal(create_odd(world, one, "a", PAGE + 1, PAGE, 0, 0), WIRE_OK);
    assert_int_equal(world->view.record.bytes, 2 * PAGE); // whole pages
    assert_int_equal(create_sized(world, one, "big", 2, 1ULL << 40, 0), WIRE_NO_SPACE);
    assert_int_equal(open_as(world, one, "big", true), WIRE_NO_SEGMENT);
    put(world, one);
}

static void test_rights(void **state)
{
    struct world *world = *state;
    struct key_grant reader = grant_of(3, "alice");
    struct key_grant prefixed = grant_of(4, "alice");
    reader.rights = KEY_RIGHT_READ;
    (void)strcpy(prefixed.prefix, "job/");
    struct catalog_session *one = session_of(world, 1);
    struct catalog_session *three = session_with(world, 3, &reader);
    struct catalog_session *four = session_with(world, 4, &prefixed);
    assert_int_equal(create(world, three, "a", 1), WIRE_NOT_ALLOWED);
    assert_int_equal(create(world, four, "a", 1), WIRE_NOT_ALLOWED);
    assert_int_equal(create(world, four, "job/1", 1), WIRE_OK);
    assert_int_equal(create(world, one, "a", 2), WIRE_OK);
    uint64_t id = world->view.record.id;
    assert_int_equal(catalog_segment_close(world->catalog, one, id), WIRE_OK);
    assert_int_equal(open_as(world, three, "a", true), WIRE_NOT_ALLOWED);
    assert_int_equal(remove_as(world, three, "a", 3), WIRE_NOT_ALLOWED);
    assert_int_equal(open_as(world, four, "a", false), WIRE_NO_SEGMENT); // beyond its prefix
    assert_int_equal(open_as(world, three, "a", false), WIRE_OK);
    assert_int_equal(touch(world, three, id, 1, WIRE_READ), WIRE_OK);
    assert_int_equal(touch(world, three, id, 1, WIRE_DISCARD), WIRE_NOT_ALLOWED);
    put(world, one);
    put(world, three);
    put(world, four);
}

static void test_quota(void **state)
{
    struct world *world = *state;
    struct key_grant grant = grant_of(1, "alice");
    struct key_grant other_key = grant_of(2, "alice");
    struct catalog_sums sums;
    grant.quota_bytes = other_key.quota_bytes = 20 * PAGE;
    struct catalog_session *one = session_with(world, 1, &grant);
    struct catalog_session *two = session_with(world, 2, &other_key);
    assert_int_equal(create_sized(world, one, "a", 1, 16 * PAGE, 0), WIRE_OK);
    uint64_t id = world->view.record.id;
    assert_int_equal(create_sized(world, two, "b", 2, 5 * PAGE, 0), WIRE_OVER_QUOTA);
    assert_int_equal(create_sized(world, two, "b", 3, 4 * PAGE, 0), WIRE_OK);
    catalog_sums(world->catalog, one, &sums);
    assert_int_equal(sums.charged_bytes, 20 * PAGE);
    assert_int_equal(sums.quota_bytes, 20 * PAGE);
    assert_int_equal(sums.segments, 2);
    assert_int_equal(sums.sessions, 2);
    assert_int_equal(catalog_segment_close(world->catalog, one, id), WIRE_OK);
    assert_int_equal(remove_as(world, one, "a", 4), WIRE_OK);
    assert_int_equal(create_sized(world, one, "c", 5, 16 * PAGE, 0), WIRE_OK);
    assert_int_equal(create_sized(world, one, "d", 6, 1000 * PAGE, STORE_SEGMENT_NORESERVE),
                     WIRE_OK); // thin: charged as it is written
    put(world, one);
    put(world, two);
    world_restart(world); // what is charged is found again
    one = session_with(world, 1, &grant);
    catalog_sums(world->catalog, one, &sums);
    assert_int_equal(sums.charged_bytes, 20 * PAGE);
    put(world, one);
}

static void test_thin_quota(void **state)
{
    struct world *world = *state;
    struct key_grant grant = grant_of(1, "alice");
    grant.quota_bytes = 3 * PAGE;
    struct catalog_session *one = session_with(world, 1, &grant);
    assert_int_equal(create_sized(world, one, "t", 1, 100 * PAGE, STORE_SEGMENT_NORESERVE),
                     WIRE_OK);
    struct wire_header write = {.op = WIRE_WRITE,
                                .segment = world->view.record.id,
                                .epoch = 1,
                                .count = 1,
                                .version = 1,
                                .length = PAGE};
    uint8_t page[PAGE];
    uint32_t done;
    struct catalog_hold hold;
    memset(page, 0x5a, sizeof page);
    wire_map_set(write.map, 0);
    for (write.page = 0; write.page < 2; write.page++) {
        assert_int_equal(catalog_enter(world->catalog, one, &write, &hold), WIRE_OK);
        assert_true(hold.thin);
        assert_int_equal(catalog_growth_charge(&hold, PAGE), WIRE_OK);
        assert_int_equal(
            store_write(world->rig.store, hold.segment, write.page, 1, 1, write.map, page, &done),
            0);
        catalog_growth_settle(&hold, PAGE);
        catalog_exit(world->catalog, &hold);
    }
    assert_int_equal(catalog_enter(world->catalog, one, &write, &hold), WIRE_OK);
    assert_int_equal(catalog_growth_charge(&hold, PAGE), WIRE_OVER_QUOTA);
    assert_int_equal(catalog_growth_charge(&hold, 0), WIRE_OK); // a page that is stored already
    catalog_growth_settle(&hold, 0);
    assert_int_equal(store_discard(world->rig.store, hold.segment, 0, 1, 2), 0);
    catalog_growth_settle(&hold, 0);
    assert_int_equal(catalog_growth_charge(&hold, PAGE), WIRE_OK); // room again
    catalog_growth_settle(&hold, PAGE);
    catalog_exit(world->catalog, &hold);
    put(world, one);
}

static void test_addresses(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    uint64_t end = LIMIT_BASE_LOW;
    for (uint8_t i = 0; i < 40; i++) {
        char name[8];
        (void)snprintf(name, sizeof name, "s%u", i);
        uint64_t bytes = ((uint64_t)i * 777 + 1) * PAGE;
        assert_int_equal(create_sized(world, one, name, (uint8_t)(i + 1), bytes, 1), WIRE_OK);
        const struct store_segment_record *record = &world->view.record;
        assert_true(record->base >= end && record->base % (2 * MIB) == 0);
        assert_true(record->base + record->bytes < LIMIT_BASE_HIGH);
        end = record->base + record->bytes + 2 * MIB; // the guard
        if (i == 20) {
            assert_int_equal(catalog_segment_close(world->catalog, one, record->id), WIRE_OK);
            assert_int_equal(remove_as(world, one, name, 200), WIRE_OK); // not dealt out again
        }
    }
    put(world, one);
}

static struct catalog_session *session_of_principal(struct world *world, uint8_t number,
                                                    const char *name)
{
    const struct key_grant grant = grant_of(number, name);
    return session_with(world, number, &grant);
}

// Large thin segments, of as many principals as it takes, use the range up; then gaps are used
// again.
static void test_addresses_run_out(void **state)
{
    struct world *world = *state;
    const uint64_t range = LIMIT_BASE_HIGH - LIMIT_BASE_LOW;
    const uint8_t parts = (uint8_t)(range / LIMIT_THIN_BYTES);
    const uint64_t part = LIMIT_THIN_BYTES - 2 * MIB;
    uint64_t base = 0;
    for (uint8_t i = 0; i < parts; i++) {
        char name[8];
        (void)snprintf(name, sizeof name, "s%u", i);
        struct catalog_session *session = session_of_principal(world, (uint8_t)(i + 1), name);
        assert_int_equal(create_odd(world, session, name, part, MIB, 0, 1), WIRE_OK);
        base = i == 2 ? world->view.record.base : base;
        put(world, session);
    }
    struct catalog_session *more = session_of_principal(world, 100, "more");
    assert_int_equal(create_odd(world, more, "more", part, MIB, 0, 1), WIRE_NO_SPACE);
    struct catalog_session *two = session_of_principal(world, 101, "s2");
    assert_int_equal(open_as(world, two, "s2", true), WIRE_BUSY);
    world->now += LEASE + 1;
    catalog_expire(world->catalog, world->now);
    assert_int_equal(remove_as(world, two, "s2", 9), WIRE_OK); // a lapsed holder keeps nobody off
    assert_int_equal(create_odd(world, more, "more", part, MIB, 0, 1), WIRE_OK);
    assert_int_equal(world->view.record.base, base);
    put(world, two);
    put(world, more);
}

static void test_delete(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    struct catalog_session *two = session_of(world, 2);
    assert_int_equal(create(world, one, "a", 1), WIRE_OK);
    uint64_t id = world->view.record.id;
    assert_int_equal(remove_as(world, two, "a", 2), WIRE_BUSY);
    assert_non_null(strstr(world->failure.text, "process-1"));
    assert_int_equal(remove_as(world, one, "a", 2), WIRE_BUSY); // close it first
    assert_int_equal(catalog_segment_close(world->catalog, one, id), WIRE_OK);
    assert_int_equal(open_as(world, two, "a", false), WIRE_OK);
    assert_int_equal(remove_as(world, one, "a", 2), WIRE_BUSY);
    assert_non_null(strstr(world->failure.text, "process-2"));
    assert_int_equal(catalog_segment_close(world->catalog, two, id), WIRE_OK);
    assert_int_equal(remove_as(world, one, "a", 2), WIRE_OK);
    assert_int_equal(remove_as(world, one, "a", 2), WIRE_OK); // the answer was lost
    assert_int_equal(remove_as(world, one, "a", 3), WIRE_NO_SEGMENT);
    assert_int_equal(create(world, two, "a", 4), WIRE_OK);
    assert_true(world->view.record.id > id);
    assert_int_equal(remove_as(world, one, "a", 2), WIRE_OK); // that delete again, not this segment
    assert_int_equal(touch(world, two, world->view.record.id, 1, WIRE_DISCARD), WIRE_OK);
    put(world, one);
    put(world, two);
}

static void test_limits(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    uint8_t operation[WIRE_ID_BYTES] = {0};
    char name[16];
    for (unsigned i = 0; i < LIMIT_SEGMENTS_PER_PRINCIPAL; i++) {
        (void)snprintf(name, sizeof name, "s%04u", i);
        memcpy(operation, &i, sizeof i);
        if (i == LIMIT_SESSION_SEGMENTS) {
            assert_int_equal(create(world, one, "x", 1), WIRE_TOO_MANY);
            assert_int_equal(catalog_segment_close(world->catalog, one, world->view.record.id),
                             WIRE_OK);
            assert_int_equal(create(world, one, "x", 1), WIRE_OK);
            assert_int_equal(open_as(world, one, "s0255", true), WIRE_TOO_MANY);
            assert_int_equal(catalog_segment_close(world->catalog, one, world->view.record.id),
                             WIRE_OK);
            assert_int_equal(remove_as(world, one, "x", 2), WIRE_OK);
        }
        assert_int_equal(catalog_segment_create(world->catalog, one, operation, name, PAGE, PAGE, 0,
                                                0, &world->view, &world->failure),
                         WIRE_OK);
        if (i >= LIMIT_SESSION_SEGMENTS - 1) {
            assert_int_equal(catalog_segment_close(world->catalog, one, world->view.record.id),
                             WIRE_OK);
        }
        if (i == LIMIT_SESSION_SEGMENTS - 1) {
            assert_int_equal(open_as(world, one, name, true), WIRE_OK);
        }
    }
    assert_int_equal(create(world, one, "x", 1), WIRE_TOO_MANY);
    put(world, one);
}

static void test_page_checks(void **state)
{
    struct world *world = *state;
    struct catalog_session *one = session_of(world, 1);
    struct catalog_hold hold;
    assert_int_equal(create(world, one, "a", 1), WIRE_OK);
    uint64_t id = world->view.record.id;
    const struct {
        struct wire_header request;
        enum wire_status status;
    } cases[] = {
        {{.op = WIRE_READ, .segment = id, .epoch = 1, .page = 15, .count = 1}, WIRE_OK},
        {{.op = WIRE_READ, .segment = id, .epoch = 1, .page = 0, .count = 16}, WIRE_OK},
        {{.op = WIRE_READ, .segment = id, .epoch = 1, .page = 0, .count = 17}, WIRE_BOUNDS},
        {{.op = WIRE_READ, .segment = id, .epoch = 1, .page = 15, .count = 2}, WIRE_BOUNDS},
        {{.op = WIRE_READ, .segment = id, .epoch = 1, .page = 16, .count = 1}, WIRE_BOUNDS},
        {{.op = WIRE_READ, .segment = id, .epoch = 1, .page = 0, .count = 0}, WIRE_BOUNDS},
        {{.op = WIRE_READ, .segment = id, .epoch = 1, .page = UINT64_MAX, .count = 2}, WIRE_BOUNDS},
        {{.op = WIRE_READ, .segment = id, .epoch = 0, .page = 0, .count = 1}, WIRE_FENCED},
        {{.op = WIRE_READ, .segment = id, .epoch = 2, .page = 0, .count = 1}, WIRE_INVALID},
        {{.op = WIRE_READ, .segment = id, .epoch = UINT64_MAX, .page = 0, .count = 1},
         WIRE_INVALID},
        {{.op = WIRE_READ, .segment = id + 1, .epoch = 1, .page = 0, .count = 1}, WIRE_NOT_OPEN},
        {{.op = WIRE_READ, .segment = 0, .epoch = 1, .page = 0, .count = 1}, WIRE_NOT_OPEN},
        {{.op = WIRE_WRITE, .segment = id, .epoch = 1, .count = 1, .version = 0}, WIRE_INVALID},
        {{.op = WIRE_WRITE, .segment = id, .epoch = 1, .count = 1, .version = 1}, WIRE_OK},
        {{.op = WIRE_WRITE,
          .segment = id,
          .epoch = 1,
          .count = 1,
          .version = 1,
          .length = PAGE,
          .map = {1}},
         WIRE_OK},
        {{.op = WIRE_WRITE,
          .segment = id,
          .epoch = 1,
          .count = 1,
          .version = 1,
          .length = 2 * PAGE,
          .map = {1}},
         WIRE_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum wire_status status = catalog_enter(world->catalog, one, &cases[i].request, &hold);
        if (status != cases[i].status) {
            fail_msg("case %zu: %d instead of %d", i, (int)status, (int)cases[i].status);
        }
        if (status == WIRE_OK) {
            catalog_exit(world->catalog, &hold);
        }
    }
    put(world, one);
}

struct names {
    char text[256];
    unsigned most;
};

static bool note_name(void *context, const struct catalog_segment_view *view)
{
    struct names *names = context;
    if (names->most-- == 0) {
        return false;
    }
    (void)strcat(strcat(names->text, view->record.name), " ");
    return true;
}

static void assert_list(struct world *world, struct catalog_session *session, const char *prefix,
                        const char *after, unsigned most, const char *expected)
{
    struct names names = {.most = most};
    catalog_list(world->catalog, session, prefix, after, note_name, &names);
    assert_string_equal(names.text, expected);
}

static void test_list(void **state)
{
    struct world *world = *state;
    const struct key_grant stranger = grant_of(9, "bob");
    struct catalog_session *one = session_of(world, 1);
    struct catalog_session *bob = session_with(world, 9, &stranger);
    const char *const made[] = {"m", "a/2", "z", "a/1", "ab"};
    for (uint8_t i = 0; i < 5; i++) {
        assert_int_equal(create(world, one, made[i], (uint8_t)(i + 1)), WIRE_OK);
    }
    assert_int_equal(create(world, bob, "b", 9), WIRE_OK);
    assert_list(world, one, "", "", 9, "a/1 a/2 ab m z ");
    assert_list(world, one, "a", "", 9, "a/1 a/2 ab ");
    assert_list(world, one, "a/", "a/1", 9, "a/2 ");
    assert_list(world, one, "", "ab", 1, "m ");
    assert_list(world, one, "", "zz", 9, "");
    assert_list(world, bob, "", "", 9, "b ");
    put(world, one);
    put(world, bob);
}

static void test_session_of_another_key(void **state)
{
    struct world *world = *state;
    const struct key_grant other_key = grant_of(5, "alice");
    uint8_t instance[WIRE_ID_BYTES];
    struct catalog_session *one = session_of(world, 1);
    struct catalog_session *stolen = NULL;
    memset(instance, 1, sizeof instance);
    assert_int_equal(
        catalog_session_get(world->catalog, instance, &other_key, "x", world->now, &stolen),
        -EACCES);
    assert_null(stolen);
    put(world, one);
}

static struct key_grants *grants_of(const char *text)
{
    char path[] = "/tmp/dsm-grants-XXXXXX";
    struct failure failure = {""};
    struct key_grants *grants = NULL;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
    int error = key_grants_load(path, &grants, &failure);
    (void)unlink(path);
    if (error != 0) {
        fail_msg("%s", failure.text);
    }
    return grants;
}

static void test_removed_key(void **state)
{
    struct world *world = *state;
    char text[128], key[KEYFILE_TEXT_BYTES];
    const struct key_grant kept = grant_of(2, "alice");
    struct catalog_session *one = session_of(world, 1);
    struct catalog_session *two = session_of(world, 2);
    assert_int_equal(create(world, one, "a", 1), WIRE_OK);
    uint64_t id = world->view.record.id;
    keyfile_encode(kept.public_key, key);
    (void)snprintf(text, sizeof text, "%s alice quota=1M rights=read,write\n", key);
    struct key_grants *grants = grants_of(text);
    catalog_regrant(world->catalog, grants);
    key_grants_destroy(&grants);
    assert_int_equal(touch(world, one, id, 1, WIRE_READ), WIRE_NOT_ALLOWED);
    assert_int_equal(create(world, one, "b", 2), WIRE_NOT_ALLOWED);
    assert_int_equal(create(world, two, "b", 3), WIRE_NOT_ALLOWED); // its rights follow, too
    put(world, one);                                                // the session ends with it
    assert_int_equal(open_as(world, two, "a", true), WIRE_OK);      // the segment stays
    assert_int_equal(world->view.record.epoch, 2);
    put(world, two);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_create_again),
        CASE(test_create_checks),
        CASE(test_rights),
        CASE(test_quota),
        CASE(test_thin_quota),
        CASE(test_addresses),
        CASE(test_addresses_run_out),
        CASE(test_delete),
        CASE(test_limits),
        CASE(test_page_checks),
        CASE(test_list),
        CASE(test_session_of_another_key),
        CASE(test_removed_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
