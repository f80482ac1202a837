// SPDX-License-Identifier: Apache-2.0
//
// Clones: slots shared until one of the two writes, whichever it is; across a reopen, of a clone of a clone, after the source is gone;
// what is promised for them; a slot named by strangers is damage; killed at every step of making one. And the files of images.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/store/failpoint.h"
#include "server/store/image.h"
#include "tests/unit/store_rig.h"

enum { PAGES = 300, PAGE = 4096, MIB = 1 << 20 }; // more than one block of the index

static struct store_segment_record clone_record(const char *name, uint64_t pages, bool thin)
{
    struct store_segment_record record = rig_record(name, pages * PAGE, PAGE, thin);
    record.base = 0x300000000000ULL;
    return record;
}

static struct store_segment *clone_of(struct rig *rig, struct store_segment *source,
                                      const char *name)
{
    const struct store_segment_record record = clone_record(name, PAGES, false);
    struct store_segment *clone = NULL;
    assert_int_equal(store_segment_clone(rig->store, source, &record, &clone), 0);
    return clone;
}

// The version in a page that `writer` wrote; 0: zeros; UINT64_MAX: it is somebody else's.
static uint64_t page_of(struct rig *rig, const char *name, uint64_t page, uint64_t writer)
{
    uint8_t map[WIRE_MAP_BYTES];
    struct iovec piece;
    uint32_t done = 0;
    uint64_t version = 0;
    store_read_begin(rig->store);
    assert_int_equal(store_read(rig->store, rig_find(rig, name), page, 1, map, &piece, &done), 0);
    if (wire_map_get(map, 0)) {
        version = rig_verify(piece.iov_base, PAGE, writer, page);
    }
    store_read_end(rig->store);
    return version;
}

static uint64_t id_of(struct rig *rig, const char *name)
{
    return store_segment_record(rig_find(rig, name))->id;
}

static void test_both_orders(void **state)
{
    struct rig *rig = *state;
    struct store_segment *source = rig_segment(rig, "source", PAGES * PAGE, PAGE, false);
    assert_int_equal(rig_write(rig, source, 0, 8, 1), 0);
    assert_int_equal(rig_write(rig, source, 290, 4, 2), 0);
    uint64_t stored = rig_facts(rig).stored_bytes;
    struct store_segment *clone = clone_of(rig, source, "clone");
    assert_int_equal(rig_facts(rig).stored_bytes, stored); // nothing was copied
    assert_int_equal(rig_facts(rig).reserved_bytes, 2 * PAGES * PAGE);
    assert_int_equal(store_segment_highest(clone), 2);
    assert_int_equal(store_segment_stored_bytes(clone), 12 * PAGE);
    uint64_t first = id_of(rig, "source");
    uint64_t second = id_of(rig, "clone");
    assert_int_equal(rig_write(rig, source, 0, 2, 10), 0); // the source first
    assert_int_equal(rig_write(rig, clone, 2, 2, 10), 0);  // the clone first
    assert_int_equal(rig_write(rig, clone, 0, 1, 11), 0);  // then the other one
    assert_int_equal(rig_write(rig, source, 2, 1, 11), 0);
    for (unsigned round = 0; round < 2; round++) {
        rig_check(rig);
        assert_int_equal(page_of(rig, "source", 0, first), 10);
        assert_int_equal(page_of(rig, "source", 2, first), 11);
        assert_int_equal(page_of(rig, "source", 3, first), 1);
        assert_int_equal(page_of(rig, "clone", 0, second), 11);
        assert_int_equal(page_of(rig, "clone", 1, first), 1); // as it was
        assert_int_equal(page_of(rig, "clone", 3, second), 10);
        assert_int_equal(page_of(rig, "clone", 291, first), 2);
        assert_int_equal(page_of(rig, "clone", 100, first), 0);
        rig_reopen(rig);
    }
    assert_int_equal(rig_facts(rig).stored_bytes,
                     stored + 4 * PAGE); // two that both wrote were freed
}

static void test_source_goes_first(void **state)
{
    struct rig *rig = *state;
    struct store_segment *source = rig_segment(rig, "source", PAGES * PAGE, PAGE, false);
    assert_int_equal(rig_write(rig, source, 0, 8, 1), 0);
    uint64_t first = id_of(rig, "source");
    struct store_segment *clone = clone_of(rig, source, "clone");
    (void)clone_of(rig, clone, "third"); // of a clone
    assert_int_equal(store_segment_remove(rig->store, source), 0);
    rig_check(rig);
    rig_reopen(rig);
    rig_check(rig);
    assert_int_equal(rig_facts(rig).stored_bytes, 8 * PAGE);
    struct store_segment *other = rig_segment(rig, "other", PAGES * PAGE, PAGE, false);
    assert_int_equal(rig_write(rig, other, 0, 16, 1), 0); // its slots are nobody's
    assert_int_equal(page_of(rig, "clone", 7, first), 1);
    assert_int_equal(page_of(rig, "third", 7, first), 1);
    uint32_t done;
    assert_int_equal(store_discard(rig->store, rig_find(rig, "clone"), 0, 8, 5), 0);
    assert_int_equal(store_give_up(rig->store, rig_find(rig, "third"), 0, 4, 5, &done), 0);
    rig_check(rig);
    assert_int_equal(rig_facts(rig).stored_bytes, (4 + 16) * PAGE);
    assert_int_equal(page_of(rig, "third", 4, first), 1);
    assert_int_equal(store_segment_remove(rig->store, rig_find(rig, "third")), 0);
    assert_int_equal(store_segment_remove(rig->store, rig_find(rig, "clone")), 0);
    rig_check(rig);
    assert_int_equal(rig_facts(rig).stored_bytes, 16 * PAGE);
    assert_int_equal(rig_facts(rig).reserved_bytes, PAGES * PAGE);
}

static void test_promises(void **state)
{
    struct rig *rig = *state; // of 4 MiB
    struct store_segment *source = rig_segment(rig, "source", PAGES * PAGE, PAGE, true);
    struct store_segment *clone = NULL;
    struct store_segment_record record = clone_record("clone", 2 * PAGES, false);
    uint32_t done;
    assert_int_equal(rig_write(rig, source, 0, 8, 1), 0);
    assert_int_equal(rig_write(rig, source, 290, 1, 1), 0);
    assert_int_equal(store_give_up(rig->store, source, 100, 10, 2, &done), 0);
    uint64_t before = rig_facts(rig).reserved_bytes;
    record.bytes = 5 * MIB;
    assert_int_equal(store_segment_clone(rig->store, source, &record, &clone), -ENOSPC);
    record.bytes = (PAGES - 1) * PAGE;
    assert_int_equal(store_segment_clone(rig->store, source, &record, &clone), -EINVAL);
    assert_int_equal(rig_facts(rig).reserved_bytes, before);
    record.bytes = 2 * PAGES * PAGE; // larger, and reserved in full
    assert_int_equal(store_segment_clone(rig->store, source, &record, &clone), 0);
    assert_int_equal(rig_facts(rig).reserved_bytes, before + (2 * PAGES - 10) * PAGE);
    assert_int_equal(store_segment_none_pages(clone), 10);
    assert_int_equal(rig_write(rig, clone, 2 * PAGES - 8, 8, 9), 0);
    record = clone_record("thin", PAGES, true);
    assert_int_equal(store_segment_clone(rig->store, source, &record, &clone), 0);
    assert_int_equal(store_segment_thin_bytes(clone), store_segment_thin_bytes(source));
    assert_int_equal(store_segment_clone_bytes(source, &record), store_segment_thin_bytes(source));
    rig_check(rig);
    rig_reopen(rig);
    rig_check(rig);
    assert_int_equal(store_segment_remove(rig->store, rig_find(rig, "thin")), 0);
    assert_int_equal(store_segment_remove(rig->store, rig_find(rig, "clone")), 0);
    rig_check(rig);
    assert_int_equal(rig_facts(rig).reserved_bytes, before);
}

static int closed_teardown(void **state)
{
    rig_end(*state);
    free(*state);
    return 0;
}

// A slot that two segments name which are no clones of each other is damage.
static void test_strangers(void **state)
{
    struct rig *rig = *state;
    struct failure failure = {""};
    struct store_segment *one = rig_segment(rig, "one", PAGES * PAGE, PAGE, false);
    struct store_segment *two = rig_segment(rig, "two", PAGES * PAGE, PAGE, false);
    uint8_t entry[16];
    char path[256];
    char name[64];
    assert_int_equal(rig_write(rig, one, 0, 1, 1), 0);
    assert_int_equal(rig_write(rig, two, 0, 1, 1), 0);
    rig_path(rig, "segments/0000000000000001", path);
    assert_int_equal(store_close(&rig->store), 0);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    assert_int_equal(fseek(file, 4096, SEEK_SET), 0);
    assert_int_equal(fread(entry, 1, sizeof entry, file), sizeof entry);
    (void)fclose(file);
    (void)snprintf(name, sizeof name, "segments/%016x", 2);
    rig_poke(rig, name, 4096, entry, sizeof entry);
    assert_int_equal(rig_try(rig, &failure), -EINVAL);
    assert_non_null(strstr(failure.text, "another page's"));
    assert_int_equal(rig_try(rig, &failure), -EINVAL);
}

static void child(struct rig *rig, const char *point)
{
    struct failure failure = {""};
    struct store_segment *clone = NULL;
    const struct store_segment_record record = clone_record("clone", PAGES, false);
    (void)setenv("DSM_FAILPOINT", point, 1);
    if (store_open(&rig->options, &rig->store, &failure) != 0 ||
        store_segment_clone(rig->store, rig_find(rig, "source"), &record, &clone) != 0) {
        _exit(1);
    }
    _exit(0);
}

static void killed_at(struct rig *rig, const char *name, uint64_t first)
{
    char point[64];
    (void)snprintf(point, sizeof point, "%s:kill:1", name);
    pid_t pid = fork();
    int status = 0;
    assert_true(pid >= 0);
    if (pid == 0) {
        child(rig, point);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    rig_open(rig);
    rig_check(rig);
    assert_int_equal(page_of(rig, "source", 3, first), 1);
    struct store_segment *clone = rig_find(rig, "clone");
    if (clone != NULL) {
        assert_string_equal(name, "create.rename");
        assert_int_equal(page_of(rig, "clone", 3, first), 1);
        assert_int_equal(store_segment_remove(rig->store, clone), 0);
    }
    assert_int_equal(rig_facts(rig).stored_bytes, 9 * PAGE);
    assert_int_equal(rig_facts(rig).reserved_bytes, PAGES * PAGE);
    assert_int_equal(store_close(&rig->store), 0);
}

static void test_killed(void **state)
{
    struct rig *rig = *state;
    static const char *const points[] = {"create.id", "create.file", "clone.copied",
                                         "create.record", "create.rename"};
    struct store_segment *source = rig_segment(rig, "source", PAGES * PAGE, PAGE, false);
    assert_int_equal(rig_write(rig, source, 0, 8, 1), 0);
    assert_int_equal(rig_write(rig, source, 290, 1, 1), 0);
    uint64_t first = id_of(rig, "source");
    assert_int_equal(store_close(&rig->store), 0);
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        killed_at(rig, points[i], first);
    }
    (void)unsetenv("DSM_FAILPOINT");
    rig_open(rig);
}

// A step that fails leaves nothing behind.
static void test_failed(void **state)
{
    struct rig *rig = *state;
    static const char *const points[] = {"create.id", "create.file", "clone.copied",
                                         "create.record"};
    struct store_segment *source = rig_segment(rig, "source", PAGES * PAGE, PAGE, true);
    assert_int_equal(rig_write(rig, source, 0, 8, 1), 0);
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        char point[64];
        (void)snprintf(point, sizeof point, "%s:error:1", points[i]);
        (void)setenv("DSM_FAILPOINT", point, 1);
        rig_reopen(rig);
        (void)unsetenv("DSM_FAILPOINT");
        const struct store_segment_record record = clone_record("clone", PAGES, i % 2 != 0);
        struct store_segment *clone = NULL;
        uint64_t before = rig_facts(rig).reserved_bytes;
        assert_int_equal(store_segment_clone(rig->store, rig_find(rig, "source"), &record, &clone),
                         -EIO);
        assert_int_equal(rig_facts(rig).reserved_bytes, before);
        rig_check(rig);
        assert_int_equal(store_segment_clone(rig->store, rig_find(rig, "source"), &record, &clone),
                         0);
        assert_int_equal(store_segment_remove(rig->store, clone), 0);
        rig_check(rig);
    }
}

static int count_image(void *context, const struct store_image *image)
{
    struct store_image *last = context;
    *last = *image;
    return 0;
}

static void test_images(void **state)
{
    struct rig *rig = *state;
    struct failure failure = {""};
    struct store_image image = {
        .id = {0xab, 0x01},
        .moves = 3,
        .state = STORE_IMAGE_PARKED,
        .expires_ms = 12345,
        .source = {7},
        .source_name = "host 1 program",
        .count = 2,
        .members = {{.segment = 5, .epoch = 9}, {.segment = 6, .code = true}}};
    struct store_image found = {.moves = 0};
    assert_int_equal(store_image_each(rig->store, count_image, &found, &failure), 0);
    assert_int_equal(found.moves, 0); // there is none
    assert_int_equal(store_image_write(rig->store, &image), 0);
    image.moves = 4;
    assert_int_equal(store_image_write(rig->store, &image), 0);
    rig_reopen(rig);
    assert_int_equal(store_image_each(rig->store, count_image, &found, &failure), 0);
    assert_memory_equal(&found, &image, sizeof image);
    const uint8_t flipped = 1;
    rig_poke(rig, "images/ab010000000000000000000000000000", 60, &flipped, 1);
    assert_int_equal(store_image_each(rig->store, count_image, &found, &failure), -EINVAL);
    assert_non_null(strstr(failure.text, "images/ab01"));
    assert_int_equal(store_image_remove(rig->store, image.id), 0);
    assert_int_equal(store_image_remove(rig->store, image.id), 0); // it is gone
    found.moves = 0;
    assert_int_equal(store_image_each(rig->store, count_image, &found, &failure), 0);
    assert_int_equal(found.moves, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_both_orders, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_source_goes_first, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_promises, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_killed, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_failed, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_images, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_strangers, rig_setup, closed_teardown),
    };
    return rig_run_on_media(tests, sizeof tests / sizeof tests[0]);
}
