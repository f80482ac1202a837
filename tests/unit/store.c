// SPDX-License-Identifier: Apache-2.0
//
// The store's contract, line by line, on each medium that the machine has. Sizes are small and nothing depends on time:
// where a writer must be seen waiting, the test looks at the store's own count of waits.
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/store/bitmap.h"
#include "server/store/failpoint.h"
#include "tests/unit/store_rig.h"

enum { PAGE = 4096, MIB = 1 << 20 };
static enum rig_medium medium;

static int setup(void **state)
{
    struct rig *rig = malloc(sizeof *rig);
    rig_make(rig, medium, 4 * MIB);
    rig_open(rig);
    *state = rig;
    return 0;
}

static void check_whole(struct rig *rig)
{
    struct failure failure = {""};
    if (store_check(rig->store, &failure) != 0) {
        fail_msg("store_check: %s", failure.text);
    }
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    check_whole(rig);
    rig_end(rig);
    free(rig);
    return 0;
}

static struct store_facts facts_of(struct rig *rig)
{
    struct store_facts facts;
    store_facts(rig->store, &facts);
    return facts;
}

static void test_new_store(void **state)
{
    struct rig *rig = *state;
    struct store_facts facts = facts_of(rig);
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
    assert_int_equal(facts_of(rig).stored_bytes, MIB);
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
    assert_int_equal(facts_of(rig).stored_bytes, (1024 - 999) * PAGE);
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

static int create_error(struct rig *rig, const char *name, uint64_t bytes, uint32_t page_bytes)
{
    struct store_segment_record record = rig_record(name, bytes, page_bytes, false);
    struct store_segment *segment = NULL;
    return store_segment_create(rig->store, &record, &segment);
}

static void test_reservation(void **state)
{
    struct rig *rig = *state;
    struct store_segment *segment = rig_segment(rig, "a", 3 * MIB, PAGE, false);
    assert_int_equal(facts_of(rig).reserved_bytes, 3 * MIB);
    assert_int_equal(create_error(rig, "b", MIB + 1, PAGE), -ENOSPC);
    assert_int_equal(create_error(rig, "b", MIB - PAGE + 1, PAGE), 0);
    assert_int_equal(facts_of(rig).reserved_bytes, 4 * MIB); // whole pages are promised
    assert_int_equal(create_error(rig, "c", PAGE, PAGE), -ENOSPC);
    assert_int_equal(store_segment_remove(rig->store, segment), 0);
    assert_int_equal(create_error(rig, "c", 3 * MIB, PAGE), 0);
    assert_int_equal(create_error(rig, "d", 0, PAGE), -EINVAL);
    assert_int_equal(create_error(rig, "d", MIB, 5000), -EINVAL);
    assert_int_equal(create_error(rig, "d", MIB, 2048), -EINVAL);
    assert_int_equal(create_error(rig, "d", MIB, 2 * MIB), -EINVAL);
}

static void test_thin_runs_out(void **state)
{
    struct rig *rig = *state;
    struct store_segment *reserved = rig_segment(rig, "reserved", 2 * MIB, PAGE, false);
    struct store_segment *thin = rig_segment(rig, "thin", 64 * MIB, PAGE, true);
    static uint8_t data[LIMIT_RUN_BYTES];
    uint8_t map[WIRE_MAP_BYTES];
    uint32_t done = 0;
    memset(map, 0xff, sizeof map);
    for (uint32_t i = 0; i < 256; i++) {
        rig_fill(data + (size_t)i * PAGE, PAGE, store_segment_record(thin)->id, 256 + i, 1);
    }
    assert_int_equal(rig_write(rig, thin, 0, 256, 1), 0);
    // 1 MiB is left, less two blocks of index: 254 pages.
    assert_int_equal(store_write(rig->store, thin, 256, 256, 1, map, data, &done), -ENOSPC);
    assert_int_equal(done, 254);
    assert_int_equal(rig_read(rig, thin, 256 + 253), 1);
    assert_int_equal(rig_read(rig, thin, 256 + 254), 0);
    assert_int_equal(facts_of(rig).reserved_bytes, 4 * MIB);
    // What has its slot may be written again, and reserved space is there.
    assert_int_equal(rig_write(rig, thin, 0, 256, 2), 0);
    assert_int_equal(rig_write(rig, reserved, 0, 256, 1), 0);
    assert_int_equal(rig_write(rig, reserved, 256, 256, 1), 0);
    // Zeros and discards give room back.
    assert_int_equal(store_discard(rig->store, thin, 0, 2, 3), 0);
    assert_int_equal(store_write(rig->store, thin, 256, 256, 1, map, data, &done), 0);
    assert_int_equal(rig_read(rig, thin, 511), 1);
    assert_int_equal(store_segment_remove(rig->store, thin), 0);
    assert_int_equal(facts_of(rig).reserved_bytes, 2 * MIB);
}

static void test_index_of_thin_counts(void **state)
{
    struct rig *rig = *state;
    struct store_segment *thin = rig_segment(rig, "thin", 1ULL << 40, PAGE, true);
    // Each MiB of zeros takes 4 KiB of index: room for 1024 MiB, and not for more.
    assert_int_equal(store_discard(rig->store, thin, 0, 1024 * 256, 1), 0);
    assert_int_equal(facts_of(rig).reserved_bytes, 4 * MIB);
    assert_int_equal(store_discard(rig->store, thin, 1024 * 256, 1, 1), -ENOSPC);
    assert_int_equal(facts_of(rig).stored_bytes, 0);
    rig_reopen(rig);
    assert_int_equal(facts_of(rig).reserved_bytes, 4 * MIB);
}

static void test_large_sparse_segment(void **state)
{
    struct rig *rig = *state;
    struct store_segment *thin = rig_segment(rig, "thin", 1ULL << 40, PAGE, true);
    const uint64_t last = (1ULL << 40) / PAGE - 1;
    char path[256];
    struct stat file;
    assert_int_equal(rig_write(rig, thin, last, 1, 3), 0);
    rig_path(rig, "segments/0000000000000001", path);
    assert_int_equal(stat(path, &file), 0);
    assert_true(file.st_blocks * 512 <= 64 << 10);
    rig_reopen(rig);
    thin = rig_find(rig, "thin");
    assert_int_equal(rig_read(rig, thin, last), 3);
    assert_int_equal(rig_read(rig, thin, last / 2), 0);
    assert_int_equal(stat(path, &file), 0);
    assert_true(file.st_blocks * 512 <= 64 << 10);
}

struct writer {
    struct rig *rig;
    struct store_segment *segment;
    uint64_t rounds;
    _Atomic bool finished;
};

static void *write_rounds(void *context)
{
    struct writer *writer = context;
    for (uint64_t version = 2; version < 2 + writer->rounds; version++) {
        assert_int_equal(rig_write(writer->rig, writer->segment, 0, 256, version), 0);
    }
    atomic_store(&writer->finished, true);
    return NULL;
}

// Until the writer waits for room; one that ends without waiting is the store's error.
static void await_waiting(struct writer *writer)
{
    while (facts_of(writer->rig).headroom_waits == 0) {
        assert_false(atomic_load(&writer->finished));
        (void)usleep(1000);
    }
}

// A reader that holds a slot: it is not used again meanwhile, and writers wait when the headroom is gone.
static void test_reader_holds_and_writers_wait(void **state)
{
    struct rig *rig = *state;
    struct store_segment *segment = rig_segment(rig, "a", 4 * MIB, PAGE, false);
    const uint64_t id = store_segment_record(segment)->id;
    struct writer writer = {.rig = rig, .segment = segment, .rounds = 100};
    struct iovec pieces[LIMIT_RUN_PAGES];
    uint8_t map[WIRE_MAP_BYTES];
    uint32_t done = 0;
    pthread_t thread;
    for (uint64_t page = 0; page < 1024; page += 256) {
        assert_int_equal(rig_write(rig, segment, page, 256, 1), 0);
    }
    store_read_begin(rig->store);
    assert_int_equal(store_read(rig->store, segment, 0, 256, map, pieces, &done), 0);
    assert_int_equal(pthread_create(&thread, NULL, write_rounds, &writer), 0);
    await_waiting(&writer);
    assert_true(facts_of(rig).headroom_free_bytes < MIB);
    assert_true(store_segment_highest(segment) < 2 + writer.rounds - 1);
    for (uint32_t i = 0; i < 256; i++) {
        assert_int_equal(rig_verify(pieces[i].iov_base, PAGE, id, i), 1);
    }
    store_read_end(rig->store);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(store_segment_highest(segment), 2 + writer.rounds - 1);
    assert_int_equal(rig_read(rig, segment, 0), 2 + writer.rounds - 1);
    assert_int_equal(facts_of(rig).headroom_free_bytes, LIMIT_HEADROOM_BYTES);
}

static void test_slot_is_used_again_after_the_reader(void **state)
{
    struct rig *rig = *state;
    struct store_segment *segment = rig_segment(rig, "a", PAGE, PAGE, false);
    char path[256];
    struct stat file;
    // Without readers a page is written back and forth between few slots: the file does not grow.
    for (uint64_t version = 1; version <= 500; version++) {
        assert_int_equal(rig_write(rig, segment, 0, 1, version), 0);
    }
    rig_path(rig, "slots-4096", path);
    assert_int_equal(stat(path, &file), 0);
    assert_true(file.st_size <= 4 * PAGE);
}

static void test_page_sizes_share_the_capacity(void **state)
{
    struct rig *rig = *state;
    struct store_segment *small = rig_segment(rig, "small", 2 * MIB, PAGE, false);
    struct store_segment *large = rig_segment(rig, "large", 2 * MIB, MIB, false);
    assert_int_equal(create_error(rig, "more", 16 << 10, 16 << 10), -ENOSPC);
    assert_int_equal(rig_write(rig, small, 0, 256, 1), 0);
    assert_int_equal(rig_write(rig, large, 0, 1, 1), 0);
    assert_int_equal(rig_write(rig, large, 1, 1, 2), 0);
    assert_int_equal(rig_read(rig, large, 0), 1);
    assert_int_equal(rig_read(rig, large, 1), 2);
    assert_int_equal(facts_of(rig).stored_bytes, 3 * MIB);
    rig_reopen(rig);
    assert_int_equal(rig_read(rig, rig_find(rig, "large"), 1), 2);
    assert_int_equal(rig_read(rig, rig_find(rig, "small"), 255), 1);
    assert_int_equal(facts_of(rig).stored_bytes, 3 * MIB);
}

static uint64_t slot_blocks(struct rig *rig)
{
    uint64_t bytes = 0;
    for (unsigned page_bytes = PAGE; page_bytes <= MIB; page_bytes *= 2) {
        char name[32];
        char path[256];
        struct stat file;
        (void)snprintf(name, sizeof name, "slots-%u", page_bytes);
        rig_path(rig, name, path);
        bytes += stat(path, &file) == 0 ? (uint64_t)file.st_blocks * 512 : 0;
    }
    return bytes;
}

// Free slots of one page size give their blocks to another when all would be more than capacity and headroom.
static void test_free_slots_are_punched(void **state)
{
    struct rig *rig = *state;
    struct store_segment *small = rig_segment(rig, "small", 4 * MIB, PAGE, false);
    struct writer writer = {.rig = rig, .segment = small, .rounds = 66};
    pthread_t thread;
    for (uint64_t page = 0; page < 1024; page += 256) {
        assert_int_equal(rig_write(rig, small, page, 256, 1), 0);
    }
    store_read_begin(rig->store);
    assert_int_equal(pthread_create(&thread, NULL, write_rounds, &writer), 0);
    await_waiting(&writer);
    store_read_end(rig->store);
    assert_int_equal(pthread_join(thread, NULL), 0);
    const uint64_t most = 4 * MIB + LIMIT_HEADROOM_BYTES;
    assert_true(slot_blocks(rig) > most - 2 * MIB);
    assert_int_equal(store_discard(rig->store, small, 1, 1023, 100), 0);
    assert_int_equal(store_segment_remove(rig->store, small), 0);
    struct store_segment *large = rig_segment(rig, "large", 4 * MIB, MIB, false);
    for (uint64_t page = 0; page < 4; page++) {
        assert_int_equal(rig_write(rig, large, page, 1, 1), 0);
    }
    assert_true(slot_blocks(rig) <= most + (64 << 10)); // a file system's own blocks
    assert_int_equal(rig_read(rig, large, 3), 1);
}

static void test_ids_are_never_given_again(void **state)
{
    struct rig *rig = *state;
    struct store_segment *first = rig_segment(rig, "a", MIB, PAGE, false);
    struct store_segment_record record = rig_record("b", MIB, PAGE, false);
    assert_int_equal(store_segment_record(first)->id, 1);
    assert_int_equal(facts_of(rig).base_end, record.base + MIB);
    assert_int_equal(store_segment_remove(rig->store, first), 0);
    assert_int_equal(facts_of(rig).base_end, record.base + MIB);
    rig_reopen(rig);
    assert_null(store_segment_next(rig->store, NULL));
    record.id = 1;
    assert_int_equal(store_segment_create(rig->store, &record, &first), -EEXIST);
    record.id = 7;
    assert_int_equal(store_segment_create(rig->store, &record, &first), 0);
    assert_int_equal(store_segment_record(rig_segment(rig, "c", MIB, PAGE, false))->id, 8);
    assert_int_equal(facts_of(rig).base_end, record.base + MIB);
}

static void test_removed_pages_do_not_come_back(void **state)
{
    struct rig *rig = *state;
    struct store_segment *segment = rig_segment(rig, "a", MIB, PAGE, false);
    assert_int_equal(rig_write(rig, segment, 0, 256, 1), 0);
    assert_int_equal(store_segment_remove(rig->store, segment), 0);
    assert_int_equal(facts_of(rig).stored_bytes, 0);
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
    struct store_facts before = facts_of(rig);
    assert_int_equal(rig_write(rig, segment, 0, 100, 3), 0);
    assert_int_equal(store_discard(rig->store, segment, 50, 10, 4), 0);
    rig_reopen(rig);
    struct store_facts after = facts_of(rig);
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
        check_whole(rig);
        assert_int_equal(rig_write(rig, keep, i, 2, 10 + i), 0);
        assert_int_equal(rig_read(rig, keep, i), 10 + i);
    }
    const char *creates[] = {"create.id:error:1", "create.file:error:1", "create.record:error:1"};
    for (unsigned i = 0; i < 3; i++) {
        (void)setenv("DSM_FAILPOINT", creates[i], 1);
        rig_reopen(rig);
        (void)unsetenv("DSM_FAILPOINT");
        assert_int_equal(create_error(rig, "new", MIB, PAGE), -EIO);
        assert_null(rig_find(rig, "new"));
        check_whole(rig);
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

static void test_bitmap_against_a_plain_one(void **state)
{
    (void)state;
    enum { BITS = 64 * 64 * 3 + 17 };
    static bool plain[BITS];
    struct bitmap map;
    uint64_t seed = 7;
    assert_int_equal(bitmap_create(&map, BITS), 0);
    for (uint32_t bit = 0; bit < BITS; bit++) {
        assert_int_equal(bitmap_lowest_clear(&map), bit);
        bitmap_set(&map, bit);
        plain[bit] = true;
    }
    assert_int_equal(bitmap_lowest_clear(&map), BITMAP_NONE);
    for (unsigned i = 0; i < 20000; i++) {
        uint32_t bit = (uint32_t)(rig_random(&seed) % BITS);
        plain[bit] = !plain[bit];
        plain[bit] ? bitmap_set(&map, bit) : bitmap_clear(&map, bit);
        if (i % 97 == 0) {
            uint32_t lowest = 0;
            while (lowest < BITS && plain[lowest]) {
                lowest++;
            }
            assert_int_equal(bitmap_lowest_clear(&map), lowest == BITS ? BITMAP_NONE : lowest);
        }
    }
    for (uint32_t bit = 0; bit < BITS; bit++) {
        assert_int_equal(bitmap_get(&map, bit), plain[bit]);
    }
    bitmap_destroy(&map);
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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
        STORE_TEST(test_reservation),
        STORE_TEST(test_thin_runs_out),
        STORE_TEST(test_index_of_thin_counts),
        STORE_TEST(test_large_sparse_segment),
        STORE_TEST(test_reader_holds_and_writers_wait),
        STORE_TEST(test_slot_is_used_again_after_the_reader),
        STORE_TEST(test_page_sizes_share_the_capacity),
        STORE_TEST(test_free_slots_are_punched),
        STORE_TEST(test_ids_are_never_given_again),
        STORE_TEST(test_removed_pages_do_not_come_back),
        STORE_TEST(test_record_is_updated),
        STORE_TEST(test_reopen_keeps_everything),
        STORE_TEST(test_places_of_threads),
        STORE_TEST(test_a_step_that_fails),
    };
    const struct CMUnitTest leaves[] = {
        cmocka_unit_test(test_failpoint_syntax),
        cmocka_unit_test(test_bitmap_against_a_plain_one),
    };
    int failed = cmocka_run_group_tests_name("leaves", leaves, NULL, NULL);
    int media = 0;
    for (medium = RIG_TMPFS; medium < RIG_MEDIA; medium++) {
        if (rig_medium_usable(medium)) {
            media++;
            failed += cmocka_run_group_tests_name(rig_medium_names[medium], tests, NULL, NULL);
        }
    }
    return failed != 0 ? 1 : media == 0 ? 77 : 0;
}
