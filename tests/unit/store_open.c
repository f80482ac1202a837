// SPDX-License-Identifier: Apache-2.0
//
// What the store refuses to open, and with which sentence: no store, another's directory, in use, a
// format of the future, damage, a host that went down, no room. Damage is made by writing into the
// files, so the tests know the layout: header copies at 0 and 4096, record copies at 0 and 1024,
// entries from 4096.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/store/header.h"
#include "tests/unit/store_rig.h"

enum { PAGE = 4096, MIB = 1 << 20 };
static const char *const first_segment = "segments/0000000000000001";

static int setup(void **state)
{
    struct rig *rig = malloc(sizeof *rig);
    rig_make(rig, rig_medium, 4 * MIB);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    rig_end(*state);
    free(*state);
    return 0;
}

// A store with pages 0 to 9 of segment "a" at version 3, closed.
static void make_closed(struct rig *rig)
{
    rig_open(rig);
    struct store_segment *segment = rig_segment(rig, "a", MIB, PAGE, false);
    assert_int_equal(rig_write(rig, segment, 0, 10, 3), 0);
    assert_int_equal(store_close(&rig->store), 0);
}

static void assert_refused(struct rig *rig, int error, const char *word)
{
    struct failure failure = {""};
    assert_int_equal(rig_try(rig, &failure), error);
    if (strstr(failure.text, word) == NULL) {
        fail_msg("'%s' is not in: %s", word, failure.text);
    }
}

static void test_options(void **state)
{
    struct rig *rig = *state;
    rig->options.threads = 0;
    assert_refused(rig, -EINVAL, "threads");
    rig->options.threads = 1;
    rig->options.capacity_bytes = 1 << 19;
    assert_refused(rig, -EINVAL, "capacity");
    rig->options.capacity_bytes = 16ULL << 40;
    assert_refused(rig, -EINVAL, "TiB");
    rig->options.directory = "";
    assert_refused(rig, -EINVAL, "directory");
}

static void test_no_store(void **state)
{
    struct rig *rig = *state;
    char path[256];
    rig->options.create = false;
    assert_refused(rig, -EINVAL, "no store");
    rig_path(rig, "header", path);
    assert_int_equal(access(path, F_OK), -1);
    rig_path(rig, "nowhere", path);
    rig->options.directory = path;
    assert_refused(rig, -EINVAL, "no store");
}

static void test_absent_directory_is_made(void **state)
{
    struct rig *rig = *state;
    struct stat facts;
    assert_int_equal(rmdir(rig->directory), 0);
    rig_open(rig);
    assert_int_equal(stat(rig->directory, &facts), 0);
    assert_int_equal(facts.st_mode & 0777, 0700);
}

static void test_directory_of_others_is_left_alone(void **state)
{
    struct rig *rig = *state;
    char path[256];
    rig_path(rig, "letter", path);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_refused(rig, -EINVAL, "not empty");
    rig_path(rig, "header", path);
    assert_int_equal(access(path, F_OK), -1);
}

static void test_second_open_is_busy(void **state)
{
    struct rig *rig = *state;
    rig_open(rig);
    assert_refused(rig, -EBUSY, "in use");
    pid_t child = fork();
    if (child == 0) {
        struct store *store = NULL;
        struct failure failure;
        _exit(store_open(&rig->options, &store, &failure) == -EBUSY ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    rig_reopen(rig);
}

static void test_crash_is_told_from_a_clean_stop(void **state)
{
    struct rig *rig = *state;
    struct store_facts facts;
    pid_t child = fork();
    if (child == 0) {
        struct failure failure;
        struct store_segment *segment = NULL;
        struct store_segment_record record = rig_record("a", MIB, PAGE, false);
        bool done = store_open(&rig->options, &rig->store, &failure) == 0 &&
                    store_segment_create(rig->store, &record, &segment) == 0 &&
                    rig_write(rig, segment, 0, 3, 8) == 0;
        _exit(done ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    rig_open(rig);
    store_facts(rig->store, &facts);
    assert_false(facts.clean);
    assert_int_equal(facts.incarnation, 2);
    assert_int_equal(rig_read(rig, rig_find(rig, "a"), 2), 8);
    rig_reopen(rig);
    store_facts(rig->store, &facts);
    assert_true(facts.clean);
}

static void test_header_of_the_future(void **state)
{
    struct rig *rig = *state;
    const uint8_t format[4] = {2, 0, 0, 0};
    make_closed(rig);
    rig_poke(rig, "header", 8, format, 4);
    rig_poke(rig, "header", 4096 + 8, format, 4);
    assert_refused(rig, -EPROTO, "format");
}

static void test_damaged_header(void **state)
{
    struct rig *rig = *state;
    struct store_facts facts;
    make_closed(rig);
    rig_open(rig);
    store_facts(rig->store, &facts);
    assert_int_equal(store_close(&rig->store), 0);
    // Either copy may be torn: the store opens with the other. The header is written at open, so
    // look at each anew.
    for (long copy = 0; copy < 2; copy++) {
        rig_poke(rig, "header", copy * 4096 + 40, "torn", 4);
        rig_open(rig);
        struct store_facts after;
        store_facts(rig->store, &after);
        assert_memory_equal(after.store_id, facts.store_id, sizeof after.store_id);
        assert_int_equal(rig_read(rig, rig_find(rig, "a"), 9), 3);
        assert_int_equal(store_close(&rig->store), 0);
    }
    rig_poke(rig, "header", 40, "torn", 4);
    rig_poke(rig, "header", 4096 + 40, "torn", 4);
    assert_refused(rig, -EINVAL, "header");
    rig->options.create = false;
    assert_refused(rig, -EINVAL, "header");
}

static void test_lost_header_is_no_new_store(void **state)
{
    struct rig *rig = *state;
    char path[256];
    make_closed(rig);
    rig_path(rig, "header", path);
    assert_int_equal(truncate(path, 0), 0);
    assert_refused(rig, -EINVAL, "no store");
    assert_int_equal(unlink(path), 0);
    assert_refused(rig, -EINVAL, "not empty");
    rig_path(rig, first_segment, path);
    assert_int_equal(access(path, F_OK), 0);
}

static void test_damaged_record(void **state)
{
    struct rig *rig = *state;
    const uint8_t format[4] = {3, 0, 0, 0};
    make_closed(rig);
    rig_open(rig);
    struct store_segment *segment = rig_find(rig, "a");
    struct store_segment_record record = *store_segment_record(segment);
    record.epoch = 2; // the second copy
    assert_int_equal(store_segment_update(rig->store, segment, &record), 0);
    assert_int_equal(store_close(&rig->store), 0);
    rig_poke(rig, first_segment, 100, "torn", 4); // the newer copy: the older one counts
    rig_open(rig);
    assert_int_equal(store_segment_record(rig_find(rig, "a"))->epoch, 1);
    assert_int_equal(rig_read(rig, rig_find(rig, "a"), 9), 3);
    assert_int_equal(store_close(&rig->store), 0);
    rig_poke(rig, first_segment, 1024 + 100, "torn", 4);
    assert_refused(rig, -EINVAL, first_segment);
    rig_poke(rig, first_segment, 8, format, 4);
    assert_refused(rig, -EPROTO, first_segment);
}

static void test_index_of_the_wrong_size(void **state)
{
    struct rig *rig = *state;
    char path[256];
    make_closed(rig);
    rig_path(rig, first_segment, path);
    assert_int_equal(truncate(path, 4096 + 255 * 16), 0);
    assert_refused(rig, -EINVAL, first_segment);
    assert_int_equal(truncate(path, 100), 0);
    assert_refused(rig, -EINVAL, first_segment);
}

static void test_renamed_index(void **state)
{
    struct rig *rig = *state;
    char path[256];
    char other[256];
    make_closed(rig);
    rig_path(rig, first_segment, path);
    rig_path(rig, "segments/0000000000000002", other);
    assert_int_equal(rename(path, other), 0);
    assert_refused(rig, -EINVAL, "segments/0000000000000002");
    rig_path(rig, "segments/stranger", path);
    assert_int_equal(rename(other, path), 0);
    assert_refused(rig, -EINVAL, "segments/stranger");
}

static void poke_entry(struct rig *rig, unsigned page, uint64_t word)
{
    rig_poke(rig, first_segment, 4096 + (long)page * 16 + 8, &word, 8);
}

static void test_damaged_entries(void **state)
{
    struct rig *rig = *state;
    make_closed(rig);
    poke_entry(rig, 200, 10ULL << 8 | 1); // ten slots were written: 0 to 9
    assert_refused(rig, -EINVAL, "page 200");
    assert_refused(rig, -EINVAL, first_segment);
    poke_entry(rig, 200, 9ULL << 8 | 1);
    assert_refused(rig, -EINVAL, "page 200");
    poke_entry(rig, 200, 2);
    assert_refused(rig, -EINVAL, "page 200");
    poke_entry(rig, 200, UINT64_MAX << 8 | 1);
    assert_refused(rig, -EINVAL, "page 200");
    poke_entry(rig, 200, 0);
    rig_open(rig);
    assert_int_equal(rig_read(rig, rig_find(rig, "a"), 9), 3);
}

static void test_lost_data_file(void **state)
{
    struct rig *rig = *state;
    char path[256];
    make_closed(rig);
    rig_path(rig, "slots-4096", path);
    assert_int_equal(unlink(path), 0);
    assert_refused(rig, -EINVAL, "slots-4096");
}

static void test_leftovers_are_removed(void **state)
{
    struct rig *rig = *state;
    char path[256];
    make_closed(rig);
    rig_path(rig, "segments/new-0000000000000002", path);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    rig_open(rig);
    assert_int_equal(access(path, F_OK), -1);
    assert_null(store_segment_next(rig->store, rig_find(rig, "a")));
}

// As the header would be after a boot, stopped well or not, last used with this durability.
static void pretend_boot(struct rig *rig, bool clean, enum store_durability durability)
{
    struct store_header header;
    char path[256];
    rig_path(rig, "header", path);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(header_read(fd, &header, NULL), 0);
    header.boot_id[0] = header.boot_id[0] == 'x' ? 'y' : 'x';
    header.clean = clean;
    header.durability = durability;
    assert_int_equal(header_write(fd, &header, false), 0);
    (void)close(fd);
}

static void test_host_went_down(void **state)
{
    struct rig *rig = *state;
    make_closed(rig);
    pretend_boot(rig, false, STORE_DURABILITY_PROCESS);
    assert_refused(rig, -ESTALE, "went down");
    assert_refused(rig, -ESTALE, "went down"); // looking does not make it good
    rig->options.durability = STORE_DURABILITY_POWER;
    assert_refused(rig, -ESTALE, "went down"); // nor does asking for more now
    pretend_boot(rig, false, STORE_DURABILITY_POWER);
    rig_open(rig);
    assert_int_equal(rig_read(rig, rig_find(rig, "a"), 9), 3);
    assert_int_equal(store_close(&rig->store), 0);
    pretend_boot(rig, true, STORE_DURABILITY_PROCESS);
    rig_open(rig);
    assert_int_equal(rig_read(rig, rig_find(rig, "a"), 9), 3);
}

static void test_capacity_only_grows(void **state)
{
    struct rig *rig = *state;
    struct store_facts facts;
    make_closed(rig);
    rig->options.capacity_bytes = 3 * MIB;
    assert_refused(rig, -EINVAL, "only grow");
    rig->options.capacity_bytes = 0; // as it was
    rig_open(rig);
    store_facts(rig->store, &facts);
    assert_int_equal(facts.capacity_bytes, 4 * MIB);
    assert_int_equal(store_close(&rig->store), 0);
    rig->options.capacity_bytes = 6 * MIB;
    rig_open(rig);
    struct store_segment *more = rig_segment(rig, "more", 5 * MIB, PAGE, false);
    assert_int_equal(rig_write(rig, more, 1200, 80, 1), 0);
    assert_int_equal(rig_read(rig, rig_find(rig, "a"), 9), 3);
    assert_int_equal(store_close(&rig->store), 0);
    rig->options.capacity_bytes = 0;
    rig_open(rig);
    assert_int_equal(rig_read(rig, rig_find(rig, "more"), 1279), 1);
}

static void test_no_room(void **state)
{
    struct rig *rig = *state;
    struct failure failure = {""};
    rig->options.capacity_bytes = 15ULL << 40;
    int error = rig_try(rig, &failure);
    assert_true(error == -ENOSPC || error == -ENOMEM);
    assert_non_null(strstr(failure.text, "MiB"));
    rig->options.capacity_bytes = 4 * MIB; // nothing was left behind that is in the way
    rig_open(rig);
}

static void test_bad_failpoint(void **state)
{
    struct rig *rig = *state;
    (void)setenv("DSM_FAILPOINT", "nowhere:kill:1", 1);
    assert_refused(rig, -EINVAL, "nowhere:kill:1");
    (void)unsetenv("DSM_FAILPOINT");
}

#define OPEN_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        OPEN_TEST(test_options),
        OPEN_TEST(test_no_store),
        OPEN_TEST(test_absent_directory_is_made),
        OPEN_TEST(test_directory_of_others_is_left_alone),
        OPEN_TEST(test_second_open_is_busy),
        OPEN_TEST(test_crash_is_told_from_a_clean_stop),
        OPEN_TEST(test_header_of_the_future),
        OPEN_TEST(test_damaged_header),
        OPEN_TEST(test_lost_header_is_no_new_store),
        OPEN_TEST(test_damaged_record),
        OPEN_TEST(test_index_of_the_wrong_size),
        OPEN_TEST(test_renamed_index),
        OPEN_TEST(test_damaged_entries),
        OPEN_TEST(test_lost_data_file),
        OPEN_TEST(test_leftovers_are_removed),
        OPEN_TEST(test_host_went_down),
        OPEN_TEST(test_capacity_only_grows),
        OPEN_TEST(test_no_room),
        OPEN_TEST(test_bad_failpoint),
    };
    return rig_run_on_media(tests, sizeof tests / sizeof tests[0]);
}
