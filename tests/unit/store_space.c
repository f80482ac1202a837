// SPDX-License-Identifier: Apache-2.0
//
// Space: what is promised, what is taken, and when it may be taken again. Sizes are small; nothing
// depends on time: where a writer must be seen waiting, the test looks at the store's own count of
// waits.
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
#include <unistd.h>

#include "server/store/bitmap.h"
#include "tests/unit/store_rig.h"

enum { PAGE = 4096, MIB = 1 << 20 };

static void test_reservation(void **state)
{
    struct rig *rig = *state;
    struct store_segment *segment = rig_segment(rig, "a", 3 * MIB, PAGE, false);
    assert_int_equal(rig_facts(rig).reserved_bytes, 3 * MIB);
    assert_int_equal(rig_create_error(rig, "b", MIB + 1, PAGE), -ENOSPC);
    assert_int_equal(rig_create_error(rig, "b", MIB - PAGE + 1, PAGE), 0);
    assert_int_equal(rig_facts(rig).reserved_bytes, 4 * MIB); // whole pages are promised
    assert_int_equal(rig_create_error(rig, "c", PAGE, PAGE), -ENOSPC);
    assert_int_equal(store_segment_remove(rig->store, segment), 0);
    assert_int_equal(rig_create_error(rig, "c", 3 * MIB, PAGE), 0);
    assert_int_equal(rig_create_error(rig, "d", 0, PAGE), -EINVAL);
    assert_int_equal(rig_create_error(rig, "d", MIB, 5000), -EINVAL);
    assert_int_equal(rig_create_error(rig, "d", MIB, 2048), -EINVAL);
    assert_int_equal(rig_create_error(rig, "d", MIB, 2 * MIB), -EINVAL);
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
    assert_int_equal(rig_facts(rig).reserved_bytes, 4 * MIB);
    // What has its slot may be written again, and reserved space is there.
    assert_int_equal(rig_write(rig, thin, 0, 256, 2), 0);
    assert_int_equal(rig_write(rig, reserved, 0, 256, 1), 0);
    assert_int_equal(rig_write(rig, reserved, 256, 256, 1), 0);
    // Zeros and discards give room back.
    assert_int_equal(store_discard(rig->store, thin, 0, 2, 3), 0);
    assert_int_equal(store_write(rig->store, thin, 256, 256, 1, map, data, &done), 0);
    assert_int_equal(rig_read(rig, thin, 511), 1);
    assert_int_equal(store_segment_remove(rig->store, thin), 0);
    assert_int_equal(rig_facts(rig).reserved_bytes, 2 * MIB);
}

static void test_index_of_thin_counts(void **state)
{
    struct rig *rig = *state;
    struct store_segment *thin = rig_segment(rig, "thin", 1ULL << 40, PAGE, true);
    // Each MiB of zeros takes 4 KiB of index: room for 1024 MiB, and not for more.
    assert_int_equal(store_discard(rig->store, thin, 0, 1024 * 256, 1), 0);
    assert_int_equal(rig_facts(rig).reserved_bytes, 4 * MIB);
    assert_int_equal(store_discard(rig->store, thin, 1024 * 256, 1, 1), -ENOSPC);
    assert_int_equal(rig_facts(rig).stored_bytes, 0);
    rig_reopen(rig);
    assert_int_equal(rig_facts(rig).reserved_bytes, 4 * MIB);
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
    while (rig_facts(writer->rig).headroom_waits == 0) {
        assert_false(atomic_load(&writer->finished));
        (void)usleep(1000);
    }
}

// A reader that holds a slot: it is not used again meanwhile, and writers wait when the headroom is
// gone.
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
    assert_true(rig_facts(rig).headroom_free_bytes < MIB);
    assert_true(store_segment_highest(segment) < 2 + writer.rounds - 1);
    for (uint32_t i = 0; i < 256; i++) {
        assert_int_equal(rig_verify(pieces[i].iov_base, PAGE, id, i), 1);
    }
    store_read_end(rig->store);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(store_segment_highest(segment), 2 + writer.rounds - 1);
    assert_int_equal(rig_read(rig, segment, 0), 2 + writer.rounds - 1);
    assert_int_equal(rig_facts(rig).headroom_free_bytes, LIMIT_HEADROOM_BYTES);
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
    assert_int_equal(rig_create_error(rig, "more", 16 << 10, 16 << 10), -ENOSPC);
    assert_int_equal(rig_write(rig, small, 0, 256, 1), 0);
    assert_int_equal(rig_write(rig, large, 0, 1, 1), 0);
    assert_int_equal(rig_write(rig, large, 1, 1, 2), 0);
    assert_int_equal(rig_read(rig, large, 0), 1);
    assert_int_equal(rig_read(rig, large, 1), 2);
    assert_int_equal(rig_facts(rig).stored_bytes, 3 * MIB);
    rig_reopen(rig);
    assert_int_equal(rig_read(rig, rig_find(rig, "large"), 1), 2);
    assert_int_equal(rig_read(rig, rig_find(rig, "small"), 255), 1);
    assert_int_equal(rig_facts(rig).stored_bytes, 3 * MIB);
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

// Free slots of one page size give their blocks to another when all would be more than capacity and
// headroom.
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

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_reservation),
        STORE_TEST(test_thin_runs_out),
        STORE_TEST(test_index_of_thin_counts),
        STORE_TEST(test_large_sparse_segment),
        STORE_TEST(test_reader_holds_and_writers_wait),
        STORE_TEST(test_slot_is_used_again_after_the_reader),
        STORE_TEST(test_page_sizes_share_the_capacity),
        STORE_TEST(test_free_slots_are_punched),
    };
    const struct CMUnitTest leaves[] = {
        cmocka_unit_test(test_bitmap_against_a_plain_one),
    };
    int failed = cmocka_run_group_tests_name("leaves", leaves, NULL, NULL);
    int result = rig_run_on_media(tests, sizeof tests / sizeof tests[0]);
    return failed != 0 ? 1 : result;
}
