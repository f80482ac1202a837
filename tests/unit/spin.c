// SPDX-License-Identifier: Apache-2.0
//
// When a waiter looks for bytes and when it sleeps: by what came of it, by who else waits, and by what was chosen. No test measures
// time: a spin in vain is one that is told so.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rpc/deadline.h"
#include "rpc/spin.h"

static struct spin_share share;
static _Atomic uint64_t spun, slept;

static struct spin waiter(enum spin_way way, uint32_t most)
{
    spin_share_init(&share, way, &spun, &slept);
    share.most = most;
    return (struct spin){.share = &share};
}

// One wait: whether it span, if it did, with this result.
static bool waits(struct spin *spin, bool came)
{
    bool spins = spin_begin(spin);
    if (spins) {
        spin_done(spin, came);
    }
    spin_end(spin);
    assert_int_equal(atomic_load(&share.waiters), 0);
    return spins;
}

static void success_goes_on(void **state)
{
    (void)state;
    struct spin spin = waiter(SPIN_AUTO, 1);
    uint64_t before = spun;
    for (int i = 0; i < 100; i++) {
        assert_true(waits(&spin, true));
    }
    assert_int_equal(spun, before + 100);
}

// After the n-th failure in a row 2^n - 1 waits are slept through, at most 63; a success forgets them.
static void failures_are_paid_for_less_and_less(void **state)
{
    (void)state;
    struct spin spin = waiter(SPIN_AUTO, 1);
    for (unsigned n = 1; n <= 8; n++) {
        assert_true(waits(&spin, false));
        unsigned asleep = (1U << (n < 6 ? n : 6)) - 1;
        for (unsigned i = 0; i < asleep; i++) {
            assert_false(waits(&spin, true));
        }
    }
    assert_true(waits(&spin, true));
    assert_true(waits(&spin, false));
    assert_false(waits(&spin, true));
    assert_true(waits(&spin, true));
}

// With as many processors as waiters, one is left for whoever is waited for.
static void more_waiters_than_processors_sleep(void **state)
{
    (void)state;
    struct spin first = waiter(SPIN_AUTO, 2), second = first, third = first;
    assert_true(spin_begin(&first));
    assert_true(spin_begin(&second));
    assert_false(spin_begin(&third)); // and sleeps, counted
    spin_end(&second);
    assert_false(spin_begin(&second)); // three again
    spin_end(&second);
    spin_end(&third);
    assert_true(spin_begin(&second));
    spin_end(&second);
    spin_end(&first);
    assert_int_equal(atomic_load(&share.waiters), 0);
    struct spin alone = waiter(SPIN_AUTO, 0); // one processor
    assert_false(waits(&alone, true));
}

// Between two looks somebody else had the processor: nobody spins for a while.
static void who_was_kept_waiting_comes_first(void **state)
{
    (void)state;
    struct spin spin = waiter(SPIN_AUTO, 4), other = spin;
    assert_true(spin_begin(&spin));
    spin.looked -= DEADLINE_NS_PER_S; // as if the last look was that long ago
    assert_false(spin_on(&spin));
    spin_done(&spin, false);
    spin_end(&spin);
    atomic_fetch_add(&share.short_till, (int64_t)3600 * DEADLINE_NS_PER_S);
    assert_false(waits(&other, true));
    atomic_store(&share.short_till, 0);
    assert_true(waits(&other, true));
}

static void it_ends(void **state)
{
    (void)state;
    struct spin spin = waiter(SPIN_ON, 1);
    assert_true(spin_begin(&spin));
    int64_t until = spin.until;
    assert_true(until > spin.looked && until - spin.looked < DEADLINE_NS_PER_MS);
    while (spin_on(&spin)) {
        assert_true(spin.looked < until);
    }
    assert_true(spin.looked >= until);
    spin_end(&spin);
}

static void as_it_was_chosen(void **state)
{
    (void)state;
    struct spin off = waiter(SPIN_OFF, 4);
    assert_false(waits(&off, true));
    struct spin on = waiter(SPIN_ON, 0);
    for (int i = 0; i < 5; i++) {
        assert_true(waits(&on, false));
    }
    struct spin none = {.share = NULL};
    assert_false(spin_begin(&none));
    spin_sleeps(&none);
    spin_end(&none);
    uint64_t before = slept;
    spin_sleeps(&on);
    assert_int_equal(slept, before + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(success_goes_on),
        cmocka_unit_test(failures_are_paid_for_less_and_less),
        cmocka_unit_test(more_waiters_than_processors_sleep),
        cmocka_unit_test(who_was_kept_waiting_comes_first),
        cmocka_unit_test(it_ends),
        cmocka_unit_test(as_it_was_chosen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
