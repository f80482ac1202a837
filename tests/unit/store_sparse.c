// SPDX-License-Identifier: Apache-2.0
//
// What nobody wrote takes no room. A segment's index is a sparse file; on tmpfs it is mapped, and a
// load from a hole of such a mapping takes a page of memory that no quota and no capacity counts:
// a client that only reads could fill the file system, and the next store into the index would be
// a SIGBUS of the whole server. So reads, and writes that are too old to be applied, must leave the
// index as it is.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <sys/stat.h>

#include "tests/unit/store_rig.h"

enum { PAGE = 4096, MIB = 1 << 20, STEP_PAGES = 256, STEPS = 4096 };

static uint64_t index_bytes(const struct rig *rig, const struct store_segment *segment)
{
    char name[64];
    char path[256];
    struct stat facts;
    (void)snprintf(name, sizeof name, "segments/%016llx",
                   (unsigned long long)store_segment_record(segment)->id);
    rig_path(rig, name, path);
    assert_int_equal(stat(path, &facts), 0);
    return (uint64_t)facts.st_blocks * 512;
}

static void test_reads_take_no_index(void **state)
{
    struct rig *rig = *state;
    struct store_segment *thin = rig_segment(rig, "thin", (uint64_t)STEPS * MIB, PAGE, true);
    assert_int_equal(rig_write(rig, thin, 5, 1, 7), 0);
    uint64_t before = index_bytes(rig, thin);
    for (uint64_t step = 1; step < STEPS; step++) {
        assert_int_equal(rig_read(rig, thin, step * STEP_PAGES), 0);
    }
    assert_int_equal(rig_read(rig, thin, 5), 7);
    assert_int_equal(index_bytes(rig, thin), before);
    assert_int_equal(rig_facts(rig).reserved_bytes, PAGE + PAGE); // a page, a block of index
}

// Zeros and discards do keep a version, in a block of index that is promised.
static void test_zeros_are_counted(void **state)
{
    struct rig *rig = *state;
    struct store_segment *thin = rig_segment(rig, "thin", 64 * MIB, PAGE, true);
    for (uint64_t step = 0; step < 8; step++) {
        assert_int_equal(store_discard(rig->store, thin, step * STEP_PAGES, 1, 3), 0);
    }
    assert_int_equal(rig_facts(rig).reserved_bytes, 8 * PAGE);
    rig_reopen(rig);
    thin = rig_find(rig, "thin");
    assert_non_null(thin);
    assert_int_equal(store_segment_highest(thin), 3);
    assert_int_equal(rig_facts(rig).reserved_bytes, 8 * PAGE);
    assert_int_equal(rig_write(rig, thin, 0, 1, 2), 0); // older: left alone
    assert_int_equal(rig_read(rig, thin, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reads_take_no_index, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(test_zeros_are_counted, rig_setup, rig_teardown),
    };
    return rig_run_on_media(tests, sizeof tests / sizeof tests[0]);
}
