// SPDX-License-Identifier: Apache-2.0
//
// The store's contract, line by line, on each medium that the machine has. Sizes are small and
// nothing depends on time: where a writer must be seen waiting, the test looks at the store's own
// count of waits.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "server/store/failpoint.h"
#include "tests/unit/store_rig.h"

enum { PAGE = 4096, MIB = 1 << 20 };

static void test_new_store(void **state)
{
    struct rig *rig = *state;
    struct store_facts facts = rig_facts(rig);
    uint8_t zeros[WIRE_ID_BYTES] = {0};
    assert_memory_not_equal(facts.store_id, zeros, sizeof zeros);
    assert_int_equal(facts.incarnation, 1);
    assert_int_equal(facts.capacity_bytes, 4 * MIB);
    assert_int_equal(facts.reserved_bytes, 0);
    assert_int_equal(facts.stored_bytes, 0);
    assert_int_equal(facts.headroom_free_bytes, LIMIT_HEADROOM_BYTES);
    assert_null(store_segment_next(rig->store, NULL));
}

static void test_write_then_read(void **state)
{
    struct rig *rig = *state;
    struct store_segment *segment = rig_segment(rig, "a", MIB, PAGE, false);
    assert_int_equal(store_segment_highest(segment), 0);
    assert_int_equal(rig_read(rig, segment, 7), 0);
    assert_int_equal(rig_write(rig, segment, 0, 256, 5), 0);
    for (uint64_t page = 0; page < 256; page++) {
        assert_int_equal(rig_read(rig, segment, page), 5);
    }
    assert_int_equal(rig_write(rig, segment, 100, 3, 6), 0);
    assert_int_equal(rig_read(rig, segment, 99), 5);
    assert_int_equal(rig_read(rig, segment, 100), 6);
    assert_int_equal(rig_read(rig, segment, 103), 5);
    assert_int_equal(store_segment_highest(segment), 6);
    assert_int_equal(store_segment_stored_bytes(segment), MIB);
    assert_int_equal(rig_facts(rig).stored_bytes, MIB);
}

static void test_read_of_a_run(void **state)
{
    struct rig *rig = *state;
    struct store_segment *segment = rig_segment(rig, "a", MIB, PAGE, false);
    struct iovec pieces[LIMIT_RUN_PAGES];
    uint8_t map[WIRE_MAP_BYTES];
    uint32_t done = 0;
    assert_int_equal(rig_write(rig, segment, 10, 2, 1), 0);
    assert_int_equal(rig_write(rig, segment, 15, 1, 2), 0);
    store_read_begin(rig->store);
    assert_int_equal(store_read(rig->store, segment, 9, 8, map, pieces, &done), 0);
    assert_int_equal(done, 8);
    assert_int_equal(wire_map_count(map, 8), 3);
    assert_int_equal(map[0], 1u << 1 | 1u << 2 | 1u << 6);
    uint64_t id = store_segment_record(segment)->id;
    assert_int_equal(rig_verify(pieces[0].iov_base, PAGE, id, 10), 1);
    assert_int_equal(rig_verify(pieces[1].iov_base, PAGE, id, 11), 1);
    assert_int_equal(rig_verify(pieces[2].iov_base, PAGE, id, 15), 2);
    store_read_end(rig->store);
}

static void test_zeros_take_no_slot(void **state)
{
    struct rig *rig = *state;
    struct store_segment *segment = rig_segment(rig, "a", MIB, PAGE, false);
    static uint8_t zeros[3 * PAGE];
    uint8_t map[WIRE_MAP_BYTES] = {0};
    uint32_t done = 0;
    assert_int_equal(rig_write(rig, segment, 0, 4, 1), 0);
    // Pages 0 and 1 by a clear bit, 2 as data.
    wire_map_set(map, 2);
    assert_int_equal(store_write(rig->store, segment, 0, 3, 2, map, zeros, &done), 0);
    assert_int_equal(done, 3);
    for (uint64_t page = 0; page < 3; page++) {
        assert_int_equal(rig_read(rig, segment, page), 0);
    }
    assert_int_equal(rig_read(rig, segment, 3), 1);
    assert_int_equal(store_segment_stored_bytes(segment), PAGE);
    // They keep their version: an older write does not bring the page back.
    assert_int_equal(rig_write(rig, segment, 0, 3, 1), 0);
    assert_int_equal(rig_read(rig, segment, 2), 0);
    // A page with one byte set, at either end, is not zeros.
    for (unsigned at = 0; at < PAGE; at += PAGE - 1) {
        zeros[at] = 1;
        uint8_t first[WIRE_MAP_BYTES] = {1};
        assert_int_equal(store_write(rig->store, segment, 9, 1, 3 + at, first, zeros, &done), 0);
        assert_int_equal(rig_read(rig, segment, 9), UINT64_MAX);
        zeros[at] = 0;
    }
}

static void test_retry_and_older_versions(void **state)
{
    struct rig *rig = *state;
    struct store_segment *segment = rig_segment(rig, "a", MIB, PAGE, false);
    uint8_t map[WIRE_MAP_BYTES] = {1};
    uint8_t data[PAGE];
    uint32_t done = 0;
    assert_int_equal(rig_write(rig, segment, 1, 1, 9), 0);
    assert_int_equal(rig_write(rig, segment, 1, 1, 9), 0);
    assert_int_equal(rig_write(rig, segment, 1, 1, 8), 0);
    assert_int_equal(rig_read(rig, segment, 1), 9);
    memset(data, 1, sizeof data); // the same version, other bytes: the first one stays
    assert_int_equal(store_write(rig->store, segment, 1, 1, 9, map, data, &done), 0);
    assert_int_equal(done, 1);
    assert_int_equal(rig_read(rig, segment, 1), 9);
    // In a run only the newer pages are taken.
    assert_int_equal(rig_write(rig, segment, 0, 3, 7), 0);
    assert_int_equal(rig_read(rig, segment, 0), 7);
    assert_int_equal(rig_read(rig, segment, 1), 9);
    assert_int_equal(rig_read(rig, segment, 2), 7);
    assert_int_equal(store_segment_highest(segment), 9);
}

static void test_discard(void **state)
{
    struct rig *rig = *state;
    struct store_segment *segment = rig_segment(rig, "a", 4 * MIB, PAGE, false);
    for (uint64_t page = 0; page < 1024; page += 256) {
        assert_int_equal(rig_write(rig, segment, page, 256, 1), 0);
    }
    assert_int_equal(rig_write(rig, segment, 500, 1, 5), 0);
    assert_int_equal(store_discard(rig->store, segment, 10, 1000, 4), 0);
    assert_int_equal(rig_read(rig, segment, 9), 1);
    assert_int_equal(rig_read(rig, segment, 10), 0);
    assert_int_equal(rig_read(rig, segment, 500), 5); // newer than the discard
    assert_int_equal(rig_read(rig, segment, 1009), 0);
    assert_int_equal(rig_read(rig, segment, 1010), 1);
    assert_int_equal(store_segment_stored_bytes(segment), (1024 - 999) * PAGE);
    assert_int_equal(rig_facts(rig).stored_bytes, (1024 - 999) * PAGE);
    assert_int_equal(rig_write(rig, segment, 10, 1, 3), 0);
    assert_int_equal(rig_read(rig, segment, 10), 0);
    assert_int_equal(rig_write(rig, segment, 10, 1, 6), 0);
    assert_int_equal(rig_read(rig, segment, 10), 6);
}

static void test_bounds(void **state)
{
    struct rig *rig = *state;
    struct store_segment *segment = rig_segment(rig, "a", MIB, PAGE, false);
    static uint8_t data[LIMIT_RUN_BYTES];
    uint8_t map[WIRE_MAP_BYTES] = {0};
    struct iovec pieces[LIMIT_RUN_PAGES];
    uint32_t done = 0;
    const struct {
        uint64_t page;
        uint32_t count;
    } bad[] = {{256, 1}, {255, 2}, {0, 257}, {0, 0}, {UINT64_MAX, 1}, {UINT64_MAX, 2}, {1, 256}};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(
            store_write(rig->store, segment, bad[i].page, bad[i].count, 1, map, data, &done),
            -EINVAL);
        assert_int_equal(store_discard(rig->store, segment, bad[i].page, bad[i].count, 1), -EINVAL);
        store_read_begin(rig->store);
        assert_int_equal(
            store_read(rig->store, segment, bad[i].page, bad[i].count, map, pieces, &done),
            -EINVAL);
        store_read_end(rig->store);
    }
    assert_int_equal(store_write(rig->store, segment, 0, 1, 0, map, data, &done), -EINVAL);
    assert_int_equal(store_segment_highest(segment), 0);
}

static void test_ids_are_never_given_again(void **state)
{
    struct rig *rig = *state;
    struct store_segment *first = rig_segment(rig, "a", MIB, PAGE, false);
    struct store_segment_record record = rig_record("b", MIB, PAGE, false);
    assert_int_equal(store_segment_record(first)->id, 1);
    assert_int_equal(rig_facts(rig).base_end, record.base + MIB);
    assert_int_equal(store_segment_remove(rig->store, first), 0);
    assert_int_equal(rig_facts(rig).base_end, record.base + MIB);
    rig_reopen(rig);
    assert_null(store_segment_next(rig->store, NULL));
    record.id = 1;
    assert_int_equal(store_segment_create(rig->store, &record, &first), -EEXIST);
    record.id = 7;
    assert_int_equal(store_segment_create(rig->store, &record, &first), 0);
    assert_int_equal(store_segment_record(rig_segment(rig, "c", MIB, PAGE, false))->id, 8);
    assert_int_equal(rig_facts(rig).base_end, record.base + MIB);
}

static void test_removed_pages_do_not_come_back(void **state)
{
    struct rig *rig = *state;
    struct store_segment *segment = rig_segment(rig, "a", MIB, PAGE, false);
    assert_int_equal(rig_write(rig, segment, 0, 256, 1), 0);
    assert_int_equal(store_segment_remove(rig->store, segment), 0);
    assert_int_equal(rig_facts(rig).stored_bytes, 0);
    segment = rig_segment(rig, "a", MIB, PAGE, false);
    for (uint64_t page = 0; page < 256; page++) {
        assert_int_equal(rig_read(rig, segment, page), 0);
    }
}

static void test_record_is_updated(void **state)
{
    struct rig *rig = *state;
    struct store_segment *segment = rig_segment(rig, "a/b", MIB, PAGE, false);
    struct store_segment_record record = *store_segment_record(segment);
    for (uint64_t epoch = 2; epoch < 5; epoch++) {
        record.epoch = epoch;
        record.had_readers = (uint32_t)epoch;
        memset(record.writer, (int)epoch, sizeof record.writer);
        (void)snprintf(record.writer_name, sizeof record.writer_name, "host %d", (int)epoch);
        record.bytes = 1; // not of the changing part: stays
        assert_int_equal(store_segment_update(rig->store, segment, &record), 0);
        record.bytes = MIB;
        assert_memory_equal(store_segment_record(segment), &record, sizeof record);
        rig_reopen(rig);
        segment = rig_find(rig, "a/b");
        assert_memory_equal(store_segment_record(segment), &record, sizeof record);
    }
}

static void test_reopen_keeps_everything(void **state)
{
    struct rig *rig = *state;
    struct store_segment *segment = rig_segment(rig, "a", MIB, PAGE, false);
    struct store_facts before = rig_facts(rig);
    assert_int_equal(rig_write(rig, segment, 0, 100, 3), 0);
    assert_int_equal(store_discard(rig->store, segment, 50, 10, 4), 0);
    rig_reopen(rig);
    struct store_facts after = rig_facts(rig);
    segment = rig_find(rig, "a");
    assert_memory_equal(after.store_id, before.store_id, sizeof after.store_id);
    assert_int_equal(after.incarnation, before.incarnation + 1);
    assert_true(after.clean);
    assert_int_equal(after.reserved_bytes, MIB);
    assert_int_equal(after.stored_bytes, 90 * PAGE);
    assert_int_equal(store_segment_highest(segment), 4);
    for (uint64_t page = 0; page < 256; page++) {
        assert_int_equal(rig_read(rig, segment, page),
                         page >= 100 || (page >= 50 && page < 60) ? 0 : 3);
    }
    assert_int_equal(rig_write(rig, segment, 50, 1, 3), 0); // the discard's version was kept
    assert_int_equal(rig_read(rig, segment, 50), 0);
}

static void *register_and_leave(void *context)
{
    return (void *)(intptr_t)store_thread_register(context);
}

static void test_places_of_threads(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(store_thread_register(rig->store), 0); // again is no harm
    for (int i = 0; i < 3 * rig->options.threads; i++) {
        pthread_t thread;
        void *error = NULL;
        assert_int_equal(pthread_create(&thread, NULL, register_and_leave, rig->store), 0);
        assert_int_equal(pthread_join(thread, &error), 0);
        assert_ptr_equal(error, NULL); // a thread that ended left its place
    }
    rig->options.threads = 1;
    rig_reopen(rig);
    pthread_t thread;
    void *error = NULL;
    assert_int_equal(pthread_create(&thread, NULL, register_and_leave, rig->store), 0);
    assert_int_equal(pthread_join(thread, &error), 0);
    assert_int_equal((intptr_t)error, -ENOMEM);
}

// Each point that can fail: the operation says so, nothing is half done, and the next one works.
static void test_a_step_that_fails(void **state)
{
    struct rig *rig = *state;
    (void)rig_segment(rig, "keep", MIB, PAGE, true);
    const enum failpoint_id points[] = {FAILPOINT_WRITE_BEGIN, FAILPOINT_WRITE_ROOM,
                                        FAILPOINT_WRITE_SLOT, FAILPOINT_WRITE_DATA,
                                        FAILPOINT_WRITE_SYNC};
    for (unsigned i = 0; i < sizeof points / sizeof points[0]; i++) {
        char text[64];
        (void)snprintf(text, sizeof text, "%s:error:1", failpoint_name(points[i]));
        (void)setenv("DSM_FAILPOINT", text, 1);
        rig_reopen(rig);
        (void)unsetenv("DSM_FAILPOINT");
        struct store_segment *keep = rig_find(rig, "keep");
        uint64_t stored = store_segment_stored_bytes(keep);
        assert_int_equal(rig_write(rig, keep, i, 2, 10 + i), -EIO);
        assert_int_equal(store_segment_stored_bytes(keep), stored);
        rig_check(rig);
        assert_int_equal(rig_write(rig, keep, i, 2, 10 + i), 0);
        assert_int_equal(rig_read(rig, keep, i), 10 + i);
    }
    const char *creates[] = {"create.id:error:1", "create.file:error:1", "create.record:error:1"};
    for (unsigned i = 0; i < 3; i++) {
        (void)setenv("DSM_FAILPOINT", creates[i], 1);
        rig_reopen(rig);
        (void)unsetenv("DSM_FAILPOINT");
        assert_int_equal(rig_create_error(rig, "new", MIB, PAGE), -EIO);
        assert_null(rig_find(rig, "new"));
        rig_check(rig);
    }
}

static void test_failpoint_syntax(void **state)
{
    (void)state;
    struct failpoint point;
    struct failure failure = {""};
    const char *bad[] = {"write.data",          "write.data:kill",    "write.data:kill:0",
                         "write.data:kill:x",   "nowhere:kill:1",     "write.data:explode:1",
                         "write.entry:error:1", "write.data:delay:1", "write.data:delay-99999:1",
                         "write.data:kill:1:2"};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(failpoint_arm(&point, bad[i], &failure), -EINVAL);
        assert_int_equal(point.armed, FAILPOINT_NONE);
        assert_non_null(strstr(failure.text, bad[i]));
    }
    assert_int_equal(failpoint_arm(&point, NULL, &failure), 0);
    assert_int_equal(failpoint_at(&point, FAILPOINT_WRITE_DATA), 0);
    assert_int_equal(failpoint_arm(&point, "write.data:error:2", &failure), 0);
    assert_int_equal(failpoint_at(&point, FAILPOINT_WRITE_DATA), 0);
    assert_int_equal(failpoint_at(&point, FAILPOINT_WRITE_SLOT), 0);
    assert_int_equal(failpoint_at(&point, FAILPOINT_WRITE_DATA), -EIO);
    assert_int_equal(failpoint_at(&point, FAILPOINT_WRITE_DATA), 0);
    assert_int_equal(failpoint_arm(&point, "write.entry:delay-1:1", &failure), 0);
    assert_int_equal(failpoint_at(&point, FAILPOINT_WRITE_ENTRY), 0);
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_new_store),
        STORE_TEST(test_write_then_read),
        STORE_TEST(test_read_of_a_run),
        STORE_TEST(test_zeros_take_no_slot),
        STORE_TEST(test_retry_and_older_versions),
        STORE_TEST(test_discard),
        STORE_TEST(test_bounds),
        STORE_TEST(test_ids_are_never_given_again),
        STORE_TEST(test_removed_pages_do_not_come_back),
        STORE_TEST(test_record_is_updated),
        STORE_TEST(test_reopen_keeps_everything),
        STORE_TEST(test_places_of_threads),
        STORE_TEST(test_a_step_that_fails),
    };
    const struct CMUnitTest leaves[] = {
        cmocka_unit_test(test_failpoint_syntax),
    };
    int failed = cmocka_run_group_tests_name("leaves", leaves, NULL, NULL);
    int result = rig_run_on_media(tests, sizeof tests / sizeof tests[0]);
    return failed != 0 ? 1 : result;
}
