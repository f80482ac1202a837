// SPDX-License-Identifier: Apache-2.0
//
// Why the store's tests run three times, on tmpfs, on a disk, and on a disk with durability =
// power: the three take different ways through the store (mapping or buffer, working copy in the
// file or in memory, synced or not) and promise the same. A medium that the machine lacks, or that
// has no room, is left out and said so; when none is left the program exits with 77.
//
// A page verifies itself: every word follows from segment, page and version, so a page that is
// torn, somebody else's or out of a slot used twice is found by looking at it alone.
#include "tests/unit/store_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <unistd.h>

const char *const rig_medium_names[RIG_MEDIA] = {"tmpfs", "disk", "power"};

enum rig_medium rig_medium;

static const char *medium_parent(enum rig_medium medium)
{
    const char *candidates[] = {getenv("TMPDIR"), "/dev/shm", "/tmp", "/var/tmp"};
    for (unsigned i = 0; i < sizeof candidates / sizeof candidates[0]; i++) {
        struct statfs facts;
        if (candidates[i] == NULL || statfs(candidates[i], &facts) != 0) {
            continue;
        }
        bool tmpfs = facts.f_type == TMPFS_MAGIC;
        uint64_t free_bytes = (uint64_t)facts.f_bavail * (uint64_t)facts.f_bsize;
        if (tmpfs == (medium == RIG_TMPFS) && free_bytes >= 512ULL << 20 &&
            access(candidates[i], W_OK) == 0) {
            return candidates[i];
        }
    }
    return NULL;
}

bool rig_medium_usable(enum rig_medium medium)
{
    bool usable = medium_parent(medium) != NULL;
    if (!usable) {
        (void)fprintf(stderr, "left out: no writable %s with 512 MiB free\n",
                      rig_medium_names[medium]);
    }
    return usable;
}

int rig_run_on_media(const struct CMUnitTest *tests, size_t count)
{
    int failed = 0;
    int media = 0;
    for (rig_medium = RIG_TMPFS; rig_medium < RIG_MEDIA; rig_medium++) {
        if (rig_medium_usable(rig_medium)) {
            media++;
            failed +=
                _cmocka_run_group_tests(rig_medium_names[rig_medium], tests, count, NULL, NULL);
        }
    }
    return failed != 0 ? 1 : media == 0 ? 77 : 0;
}

void rig_make(struct rig *rig, enum rig_medium medium, uint64_t capacity_bytes)
{
    *rig = (struct rig){.medium = medium};
    (void)snprintf(rig->directory, sizeof rig->directory, "%s/dsm-store-XXXXXX",
                   medium_parent(medium));
    assert_non_null(mkdtemp(rig->directory));
    rig->options = (struct store_options){
        .directory = rig->directory,
        .capacity_bytes = capacity_bytes,
        .durability = medium == RIG_POWER ? STORE_DURABILITY_POWER : STORE_DURABILITY_PROCESS,
        .threads = 8,
        .create = true,
    };
}

void rig_open(struct rig *rig)
{
    struct failure failure = {""};
    int error = store_open(&rig->options, &rig->store, &failure);
    if (error != 0) {
        fail_msg("store_open: %s (%s)", strerror(-error), failure.text);
    }
    assert_int_equal(store_thread_register(rig->store), 0);
}

void rig_reopen(struct rig *rig)
{
    assert_int_equal(store_close(&rig->store), 0);
    rig_open(rig);
}

int rig_try(struct rig *rig, struct failure *failure)
{
    struct store *store = NULL;
    int error = store_open(&rig->options, &store, failure);
    if (error == 0) {
        assert_int_equal(store_close(&store), 0);
    } else {
        assert_string_not_equal(failure->text, "");
    }
    return error;
}

static void directory_remove(const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *entry = NULL;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        char inner[512];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        (void)snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        if (unlink(inner) != 0) {
            directory_remove(inner);
        }
    }
    if (directory != NULL) {
        (void)closedir(directory);
    }
    (void)rmdir(path);
}

void rig_end(struct rig *rig)
{
    if (rig->store != NULL) {
        assert_int_equal(store_close(&rig->store), 0);
    }
    directory_remove(rig->directory);
}

int rig_setup(void **state)
{
    struct rig *rig = malloc(sizeof *rig);
    rig_make(rig, rig_medium, 4 << 20);
    rig_open(rig);
    *state = rig;
    return 0;
}

void rig_check(struct rig *rig)
{
    struct failure failure = {""};
    if (store_check(rig->store, &failure) != 0) {
        fail_msg("store_check: %s", failure.text);
    }
}

int rig_teardown(void **state)
{
    struct rig *rig = *state;
    rig_check(rig);
    rig_end(rig);
    free(rig);
    return 0;
}

struct store_facts rig_facts(struct rig *rig)
{
    struct store_facts facts;
    store_facts(rig->store, &facts);
    return facts;
}

int rig_create_error(struct rig *rig, const char *name, uint64_t bytes, uint32_t page_bytes)
{
    struct store_segment_record record = rig_record(name, bytes, page_bytes, false);
    struct store_segment *segment = NULL;
    return store_segment_create(rig->store, &record, &segment);
}

void rig_path(const struct rig *rig, const char *name, char path[256])
{
    (void)snprintf(path, 256, "%s/%s", rig->directory, name);
}

void rig_poke(const struct rig *rig, const char *name, long offset, const void *bytes, size_t size)
{
    char path[256];
    rig_path(rig, name, path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, size, offset), (ssize_t)size);
    (void)close(fd);
}

struct store_segment_record rig_record(const char *name, uint64_t bytes, uint32_t page_bytes,
                                       bool thin)
{
    struct store_segment_record record = {.bytes = bytes,
                                          .page_bytes = page_bytes,
                                          .flags = thin ? STORE_SEGMENT_NORESERVE : 0,
                                          .replicas = 1,
                                          .base = 0x200000000000ULL,
                                          .epoch = 1,
                                          .principal = "tester"};
    (void)snprintf(record.name, sizeof record.name, "%s", name);
    return record;
}

struct store_segment *rig_segment(struct rig *rig, const char *name, uint64_t bytes,
                                  uint32_t page_bytes, bool thin)
{
    struct store_segment_record record = rig_record(name, bytes, page_bytes, thin);
    struct store_segment *segment = NULL;
    assert_int_equal(store_segment_create(rig->store, &record, &segment), 0);
    return segment;
}

struct store_segment *rig_find(struct rig *rig, const char *name)
{
    struct store_segment *segment = NULL;
    while ((segment = store_segment_next(rig->store, segment)) != NULL &&
           strcmp(store_segment_record(segment)->name, name) != 0) {
    }
    return segment;
}

uint64_t rig_random(uint64_t *state)
{
    uint64_t x = (*state += 0x9E3779B97F4A7C15ULL);
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    return x ^ (x >> 31);
}

static uint64_t page_word(uint64_t segment, uint64_t number, uint64_t version, uint32_t i)
{
    switch (i) {
    case 0:
        return segment;
    case 1:
        return number;
    case 2:
        return version;
    default:
        return (segment * 31 + number * 17 + version) * 0x9E3779B97F4A7C15ULL + i;
    }
}

void rig_fill(uint8_t *page, uint32_t page_bytes, uint64_t segment, uint64_t number,
              uint64_t version)
{
    for (uint32_t i = 0; i < page_bytes / 8; i++) {
        uint64_t word = page_word(segment, number, version, i);
        memcpy(page + (size_t)i * 8, &word, 8);
    }
}

uint64_t rig_verify(const uint8_t *page, uint32_t page_bytes, uint64_t segment, uint64_t number)
{
    uint64_t version = 0;
    memcpy(&version, page + 16, 8);
    for (uint32_t i = 0; i < page_bytes / 8; i++) {
        uint64_t word = 0;
        memcpy(&word, page + (size_t)i * 8, 8);
        if (word != page_word(segment, number, version, i)) {
            return UINT64_MAX;
        }
    }
    return version;
}

int rig_write(struct rig *rig, struct store_segment *segment, uint64_t page, uint32_t count,
              uint64_t version)
{
    static _Thread_local uint8_t data[LIMIT_RUN_BYTES];
    const struct store_segment_record *record = store_segment_record(segment);
    uint8_t map[WIRE_MAP_BYTES] = {0};
    uint32_t done = UINT32_MAX;
    for (uint32_t i = 0; i < count; i++) {
        wire_map_set(map, i);
        rig_fill(data + (size_t)i * record->page_bytes, record->page_bytes, record->id, page + i,
                 version);
    }
    int error = store_write(rig->store, segment, page, count, version, map, data, &done);
    assert_true(error != 0 || done == count);
    return error;
}

uint64_t rig_read(struct rig *rig, struct store_segment *segment, uint64_t page)
{
    const struct store_segment_record *record = store_segment_record(segment);
    uint8_t map[WIRE_MAP_BYTES];
    struct iovec piece;
    uint32_t done = 0;
    uint64_t version = 0;
    store_read_begin(rig->store);
    assert_int_equal(store_read(rig->store, segment, page, 1, map, &piece, &done), 0);
    assert_int_equal(done, 1);
    if (wire_map_get(map, 0)) {
        assert_int_equal(piece.iov_len, record->page_bytes);
        version = rig_verify(piece.iov_base, record->page_bytes, record->id, page);
    }
    store_read_end(rig->store);
    return version;
}
