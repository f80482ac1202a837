// SPDX-License-Identifier: Apache-2.0
//
// The futex lock, and what lies beneath it: one holder at a time, nobody sleeps for ever, deadlines that cannot overflow.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include "libdsm/sync/futex.h"
#include "libdsm/sync/lock.h"

enum { THREADS = 32, ROUNDS = 2000 };

static struct {
    struct lock lock;
    uint64_t first, second; // equal whenever the lock is free
    unsigned torn;
} shared;

static void *add(void *argument)
{
    unsigned long seed = (unsigned long)(uintptr_t)argument;
    for (int i = 0; i < ROUNDS; i++) {
        lock_acquire(&shared.lock);
        shared.torn += shared.first != shared.second || !lock_held(&shared.lock);
        shared.first++;
        seed = seed * 6364136223846793005ul + 1442695040888963407ul;
        if (seed >> 60 == 0) {
            (void)sched_yield(); // so that others pile up and sleep
        }
        shared.second++;
        lock_release(&shared.lock);
    }
    return NULL;
}

static void one_holder(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    assert_false(lock_held(&shared.lock));
    for (uintptr_t i = 0; i < THREADS; i++) {
        // NOLINTNEXTLINE(performance-no-int-to-ptr): a seed
        assert_int_equal(pthread_create(&threads[i], NULL, add, (void *)(i + 1)), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    assert_int_equal(shared.first, THREADS * ROUNDS);
    assert_int_equal(shared.torn, 0);
    assert_false(lock_held(&shared.lock));
}

static void waits_end(void **state)
{
    (void)state;
    _Atomic uint32_t word = 7;
    assert_int_equal(sync_wait(&word, 8, SYNC_FOR_EVER), 0); // not the value: at once
    assert_int_equal(sync_wait(&word, 7, sync_after_ms(1)), -ETIMEDOUT);
    assert_int_equal(sync_wait(&word, 7, sync_now()), -ETIMEDOUT);
}

static void deadlines_do_not_overflow(void **state)
{
    (void)state;
    assert_true(sync_after_ms(INT64_MAX) == SYNC_FOR_EVER);
    assert_true(sync_after_ms(INT64_MAX / 1000000) == SYNC_FOR_EVER);
    int64_t before = sync_now();
    int64_t day = sync_after_ms(86400000);
    assert_true(day - before >= 86400000LL * 1000000 && day - sync_now() <= 86400000LL * 1000000);
}

// The four signals that a program's own mistake raises stay as they are.
static void signals_are_blocked_but_for_four(void **state)
{
    (void)state;
    sigset_t now;
    sync_mask before = sync_block_signals();
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
    assert_true(sigismember(&now, SIGINT) && sigismember(&now, SIGPROF));
    assert_true(sigismember(&now, SIGRTMAX) && sigismember(&now, SIGALRM));
    assert_false(sigismember(&now, SIGSEGV) || sigismember(&now, SIGBUS));
    assert_false(sigismember(&now, SIGILL) || sigismember(&now, SIGFPE));
    sync_restore_signals(before);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &now), 0);
    assert_false(sigismember(&now, SIGINT));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_holder),
        cmocka_unit_test(waits_end),
        cmocka_unit_test(deadlines_do_not_overflow),
        cmocka_unit_test(signals_are_blocked_but_for_four),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
