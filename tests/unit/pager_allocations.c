// SPDX-License-Identifier: Apache-2.0
//
// Nothing is allocated after the start: faults, swap-ins with clean and dirty victims, cleans, kills, failures, the laundry, on
// every thread of the process (-Wl,--wrap).
#include "tests/unit/pager_rig.h"

#include <errno.h>
#include <stdlib.h>

static _Atomic bool counting;
static _Atomic unsigned allocations;
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);

static void count(void)
{
    if (atomic_load(&counting)) {
        (void)atomic_fetch_add(&allocations, 1);
    }
}

void *__wrap_malloc(size_t bytes)
{
    count();
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t n, size_t bytes)
{
    count();
    return __real_calloc(n, bytes);
}

void *__wrap_realloc(void *old, size_t bytes)
{
    count();
    return __real_realloc(old, bytes);
}

static void counted_work(void)
{
    int error = 0;
    for (uint64_t i = 0; i < 200; i++) {
        *(volatile uint8_t *)rig_at(i) = 1; // with victims, then dirty ones
    }
    error |= rig_clean(0, 256);
    for (uint64_t i = 0; i < 256; i++) {
        (void)*(volatile uint8_t *)rig_at(i);
    }
    error |= rig_swap_in(0, 20, DSM_KILL);
    error |= rig_swap_in(30, 20, DSM_PIN | DSM_WRITE);
    error |= pager_unpin(&rig.segments[0], 30, 20);
    error |= pager_age(&rig.segments[0], 0, 50);
    error |= rig_swap_in(100, 30, 0);
    rig_settle(); // what comes ahead is in
    uint64_t absent = 0;
    while (rig_state(absent) != PAGE_BACKING) {
        absent++;
    }
    rig.fail_read = absent;
    error |= rig_swap_in(absent, 1, 0) + EIO;
    atomic_store(&counting, false);
    assert_int_equal(error, 0);
}

static void nothing_is_allocated(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        rig_start(&(struct rig_options){.cache_pages = 64,
                                        .laundry = i >= 2,
                                        .second_chance = i >= 2,
                                        .read_ahead_bytes = i >= 2 ? 64 << 10 : 0,
                                        .fill = i % 2 ? TRAP_FILL_PWRITE : TRAP_FILL_ALIAS});
        atomic_store(&counting, true);
        counted_work();
        assert_int_equal(atomic_load(&allocations), 0);
        rig_stop();
    }
}

// The counter counts.
static void an_allocation_is_seen(void **state)
{
    (void)state;
    atomic_store(&counting, true);
    void *volatile block = malloc(1);
    atomic_store(&counting, false);
    assert_true(atomic_load(&allocations) > 0);
    free(block);
    atomic_store(&allocations, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_allocation_is_seen),
        cmocka_unit_test_teardown(nothing_is_allocated, rig_cmocka_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
