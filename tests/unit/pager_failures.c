// SPDX-License-Identifier: Apache-2.0
//
// The pager when things fail: a read or a write at every place where a run can be flushed, memory, mappings, the server. After
// each nothing is checked out, nothing is pinned, and every page can be touched and has its bytes.
#include "tests/unit/pager_rig.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FRAMES_FROM = 100 };

static sigjmp_buf out;
static const uint8_t *volatile signal_address;
static volatile sig_atomic_t signal_number;

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)context;
    signal_address = info->si_addr;
    signal_number = number;
    siglongjmp(out, 1);
}

static void catch (int number)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    assert_int_equal(sigaction(number, &action, NULL), 0);
}

// 0, or the signal that the touch ended in.
static int touch(uint64_t page)
{
    signal_number = 0;
    if (sigsetjmp(out, 1) == 0) {
        (void)*(volatile uint8_t *)(rig_at(page) + 8);
        return 0;
    }
    assert_ptr_equal(signal_address, rig_at(page) + 8);
    return signal_number;
}

static uint64_t stamp_of(const char *states, uint64_t i, uint64_t page)
{
    return states[i] == 'U' ? 0 : states[i] == 'D' ? page + 1001 : page + 1;
}

static void expect_all(const char *pages, const char *frames)
{
    for (uint64_t i = 0; i < strlen(pages); i++) {
        rig_expect_page(i, stamp_of(pages, i, i));
    }
    for (uint64_t i = 0; i < strlen(frames); i++) {
        rig_expect_page(FRAMES_FROM + i, stamp_of(frames, i, FRAMES_FROM + i));
    }
}

// D1: the page in hand has been checked out when the run before it fails, and perhaps its victim.
static void a_read_fails_at_every_flush(void **state)
{
    (void)state;
    static const struct {
        const char *what, *pages, *frames;
        uint32_t buffer;
    } cases[] = {
        {"no read, dirty victim", "OU", "CD", 8},
        {"buffer full", "OO", "CC", 1},
        {"read, dirty victim", "OO", "CD", 8},
        {"skipping", "OCO", "CC", 8},
        {"skipping, dirty victim", "OCO", "CD", 8},
        {"fault in mid-interval", "OF", "C", 8},
        {"end", "OO", "CC", 8},
        {"end, the last page", "OC", "C", 8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t pages = strlen(cases[i].pages);
        bool faults = strchr(cases[i].pages, 'F') != NULL;
        char states[8];
        (void)strcpy(states, cases[i].pages);
        rig_start(&(struct rig_options){
            .cache_pages =
                (uint32_t)(strlen(cases[i].frames) + (strchr(states, 'C') != NULL) + faults),
            .buffer_pages = cases[i].buffer});
        if (faults) {
            states[1] = 'C';
        }
        rig_pages(states);
        rig_frames(cases[i].frames);
        if (faults) { // one pin too many
            rig_entry(1)->pins = UINT16_MAX;
            rig.faulted = 1;
        }
        rig.fail_read = 0;
        int error = rig_swap_in(0, pages, DSM_PIN);
        if (error != -EIO || rig.call.failed_page != 0) {
            fail_msg("%s: error %d, page %d", cases[i].what, error, (int)rig.call.failed_page);
        }
        if (faults) {
            rig_entry(1)->pins = 0;
        }
        for (uint64_t p = 0; p < pages; p++) {
            assert_int_equal(rig_entry(p)->pins, 0);
        }
        rig_check();
        expect_all(states, cases[i].frames);
        rig_stop();
    }
}

static void a_write_fails_at_every_flush(void **state)
{
    (void)state;
    static const struct {
        const char *pages;
        uint32_t buffer;
    } cases[] = {{"DD", 1}, {"DOD", 8}, {"DD", 8}, {"DC", 8}, {"DCOD", 8}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rig_start(&(struct rig_options){.buffer_pages = cases[i].buffer});
        rig_pages(cases[i].pages);
        rig.fail_write = 0;
        assert_int_equal(rig_clean(0, strlen(cases[i].pages)), -EIO);
        assert_int_equal(rig.call.failed_page, 0);
        assert_true(rig_has(0, PAGE_DIRTY));
        rig_check_failed();
        assert_int_equal(rig_clean(0, strlen(cases[i].pages)), 0);
        rig_expect_stored(0, 1001);
        expect_all(cases[i].pages, "");
        for (uint64_t p = 0; p < strlen(cases[i].pages); p++) {
            rig_store(p, 5000 + p); // the write access comes back
        }
        rig_check_failed();
        (void)rig_cmocka_stop(state);
    }
}

// D4: no victim can be written: an error that names one of them, not a loop; and nothing was lost.
static void every_victim_fails(void **state)
{
    (void)state;
    static const enum wire_status refusals[] = {WIRE_STORE_ERROR, WIRE_NO_SPACE};
    static const int errors[] = {-EIO, -ENOSPC};
    for (int i = 0; i < 2; i++) {
        rig_start(&(struct rig_options){.cache_pages = 5});
        rig_pages("OOO");
        rig_frames("DDDDD");
        rig.refuse_writes = refusals[i];
        assert_int_equal(rig_swap_in(0, 3, 0), errors[i]);
        assert_in_range(rig.call.failed_page, 100, 104);
        rig_expect((struct rig_counts){{1, 0, 0, 5, 0, 0, 5, 0, 5}, {0}});
        rig_check();
        rig.refuse_writes = WIRE_OK;
        expect_all("OOO", "DDDDD");
        rig_stop();
    }
}

// A batch of victims that is full is no sign that there are none: a victim that failed before does not make it one.
static void a_full_batch_is_not_a_failure(void **state)
{
    (void)state;
    enum { FRAMES = 400 };
    rig_start(&(struct rig_options){.pages = 2048, .cache_pages = FRAMES});
    assert_int_equal(rig_swap_in(1000, FRAMES, 0), 0);
    rig_store(1000, 7);
    rig_age(1000, FRAMES);
    rig_reset();
    rig.fail_write = 1000;
    assert_int_equal(rig_swap_in(0, FRAMES - 1, 0), 0);
    rig_expect((struct rig_counts){{1, 2, 2, FRAMES, 0, 0, FRAMES, 0, 1}, {0}});
    rig_expect_io("W1000+1 R0+256>256 R256+143");
    rig_expect_page(1000, 7);
    rig_stop();
}

static void a_failed_touch_is_sigbus_and_works_later(void **state)
{
    (void)state;
    catch (SIGBUS);
    rig_start(&(struct rig_options){.timeout_ms = 5000});
    for (int i = 0; i < 20; i++) {
        rig_reset();
        rig.fail_read = 3;
        assert_int_equal(touch(3), SIGBUS);
        rig_check();
        rig_expect_io("R3+1");         // who gave up asked no second time
        assert_int_equal(touch(3), 0); // at once: no request was left behind that nobody serves
        rig_expect_page(3, 4);
        rig_age(3, 1);
        assert_int_equal(rig_swap_in(10 + (uint64_t)(i % 2) * 64, 64, 0), 0);
        assert_int_equal(rig_state(3), PAGE_BACKING);
    }
    assert_int_equal(STAT_GET(&rig.stat, faults_failed), 20);
    rig_stop();
}

// A worker that is slow to finish after its page failed: linked by --wrap, it waits here with nothing of the page in hand.
void __real_backing_give(struct backing_lane *lane);
void __wrap_backing_give(struct backing_lane *lane);
static _Atomic int slow_gives;

void __wrap_backing_give(struct backing_lane *lane)
{
    int left = atomic_load(&slow_gives);
    __real_backing_give(lane);
    if (left > 0 && atomic_compare_exchange_strong(&slow_gives, &left, left - 1)) {
        (void)usleep(100000);
    }
}

static void *release_later(void *unused)
{
    (void)unused;
    (void)usleep(300000);
    rig_release(&rig.hold);
    return NULL;
}

// The next touch of the page asks again while that worker still finishes: its failure is not that one's, nor its request.
static void a_failure_is_told_to_its_own_waiters(void **state)
{
    (void)state;
    catch (SIGBUS);
    rig_start(&(struct rig_options){.timeout_ms = 5000});
    for (int i = 0; i < 3; i++) {
        rig_reset();
        rig.fail_read = 3;
        atomic_store(&slow_gives, 1);
        assert_int_equal(touch(3), SIGBUS);
        atomic_store(&rig.hold, 1); // until the slow worker has finished
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, release_later, NULL), 0);
        assert_int_equal(touch(3), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        rig_expect_io("R3+1 R3+1");
        rig_age(3, 1);
        assert_int_equal(rig_swap_in(10 + (uint64_t)(i % 2) * 64, 64, 0), 0);
    }
    assert_int_equal(STAT_GET(&rig.stat, faults_failed), 3);
    rig_stop();
}

// Thread sanitizer runs a program's handlers with every signal blocked, and late.
static void skip_under_tsan(void)
{
#if defined(__SANITIZE_THREAD__)
    skip();
#endif
}

// A handler of SIGBUS may touch managed memory itself.
static void on_signal_touch(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)info;
    (void)context;
    rig_expect_page(20, 21);
    siglongjmp(out, 1);
}

static void a_handler_touches_another_absent_page(void **state)
{
    (void)state;
    skip_under_tsan();
    struct sigaction action = {.sa_sigaction = on_signal_touch, .sa_flags = SA_SIGINFO};
    assert_int_equal(sigaction(SIGBUS, &action, NULL), 0);
    rig_start(&(struct rig_options){0});
    rig.fail_read = 3;
    if (sigsetjmp(out, 1) == 0) {
        (void)*(volatile uint8_t *)rig_at(3);
        fail_msg("no signal");
    }
    rig_expect_page(3, 4);
    rig_expect_page(20, 21);
    rig_stop();
}

static pthread_t main_thread;
static _Atomic uint32_t round_now;

static void leave(int number)
{
    (void)number;
    siglongjmp(out, 1);
}

static void *interrupt_waits(void *argument)
{
    unsigned *rounds = argument;
    for (unsigned i = 1; i <= *rounds; i++) {
        rig_await(&round_now, i);
        rig_await(&rig.held, 1);
        (void)pthread_kill(main_thread, SIGUSR1);
    }
    return NULL;
}

// A signal handler leaves from a touch that waits, 10,000 times: the pages arrive all the same, and nothing is lost.
static void a_signal_handler_leaves_a_waiting_touch(void **state)
{
    (void)state;
    skip_under_tsan();
#if defined(__SANITIZE_ADDRESS__)
    unsigned rounds = 1000;
#else
    unsigned rounds = 10000;
#endif
    if (getenv("DSM_DIRECT") != NULL) {
        rounds = 100; // the thread itself waits for PAGER_DIRECT_MS first
    }
    rig_start(&(struct rig_options){.pages = rounds + 500, .cache_pages = rounds + 100});
    struct sigaction action = {.sa_handler = leave};
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    main_thread = pthread_self();
    pthread_t interrupter;
    assert_int_equal(pthread_create(&interrupter, NULL, interrupt_waits, &rounds), 0);
    for (volatile unsigned i = 0; i < rounds; i++) {
        atomic_store(&rig.hold, 1);
        atomic_store(&round_now, i + 1);
        if (sigsetjmp(out, 1) == 0) {
            (void)*(volatile uint8_t *)rig_at(i);
            fail_msg("page %u came without its contents", i);
        }
        rig_release(&rig.hold);
        while (atomic_load(&rig.held) > 0) {
            (void)sched_yield();
        }
    }
    (void)pthread_join(interrupter, NULL);
    rig_check();
    for (uint64_t i = 0; i < rounds + 500; i++) {
        rig_expect_page(i, i + 1);
    }
    rig_stop();
    (void)signal(SIGUSR1, SIG_DFL);
}

// The server is silent for longer than the time-out: SIGBUS at the address; later the same address works.
static void a_touch_times_out(void **state)
{
    (void)state;
    catch (SIGBUS);
    rig_start(&(struct rig_options){.timeout_ms = 50});
    atomic_store(&rig.hold, 1);
    assert_int_equal(touch(3), SIGBUS);
    rig_release(&rig.hold);
    while (touch(3) != 0) { // lane_loop knows no deadline: the answer comes now
    }
    rig_expect_page(3, 4);
    rig_stop();
}

// The same thread, address and kind again and again is no sign of a foreign fault while the page comes and goes.
static void the_same_touch_a_hundred_times(void **state)
{
    (void)state;
    rig_start(&(struct rig_options){.cache_pages = 4});
    for (int i = 0; i < 100; i++) {
        rig_expect_page(0, 1);
        assert_int_equal(rig_swap_in(8, 4, 0), 0);
        assert_int_equal(rig_swap_in(16, 4, 0), 0);
        assert_int_equal(rig_state(0), PAGE_BACKING);
    }
    rig_stop();
}

// ... but a page that the program has closed itself is not ours.
static void a_foreign_fault_is_passed_on(void **state)
{
    (void)state;
    catch (SIGSEGV); // before ours
    rig_start(&(struct rig_options){0});
    rig_expect_page(0, 1);
    assert_int_equal(mprotect(rig_at(0), RIG_PAGE, PROT_NONE), 0);
    assert_int_equal(touch(0), SIGSEGV);
    assert_int_equal(mprotect(rig_at(0), RIG_PAGE, PROT_READ), 0);
    assert_int_equal(touch(0), 0);
    rig_stop();
    (void)signal(SIGSEGV, SIG_DFL);
}

// A page that was given its memory in the handler is a victim like any other: its thread has run.
static void a_page_filled_at_once_is_a_victim(void **state)
{
    (void)state;
    rig_start(&(struct rig_options){.fresh = true, .cache_pages = 8});
    for (uint64_t i = 0; i < 64; i++) {
        rig_store(i, i + 1);
        assert_false(rig_has(i, PAGE_WANTED));
    }
    for (uint64_t i = 0; i < 64; i++) {
        rig_expect_page(i, i + 1);
    }
    rig_stop();
}

static void memory_is_short_for_a_while(void **state)
{
    (void)state;
    for (int fill = 0; fill < 2; fill++) {
        rig_start(&(struct rig_options){.fill = fill == 0 ? TRAP_FILL_ALIAS : TRAP_FILL_PWRITE});
        atomic_store(&rig.places_fail, 3);
        rig_expect_page(5, 6);
        atomic_store(&rig.places_fail, fill == 0 ? 1 : 0);
        assert_int_equal(rig_swap_in(10, 4, 0), fill == 0 ? -ENOMEM : 0);
        rig_check();
        assert_int_equal(rig_swap_in(10, 4, 0), 0);
        rig_stop();
    }
}

// No mapping is left to take write access away: what was stored meanwhile must not be taken for written.
static void write_access_cannot_be_taken(void **state)
{
    (void)state;
    rig_start(&(struct rig_options){.cache_pages = 8});
    rig_pages("DD");
    atomic_store(&rig.protects_fail, 1000);
    assert_int_equal(rig_clean(0, 2), 0);
    atomic_store(&rig.protects_fail, 0);
    rig_store(0, 51); // no trap
    rig_store(1, 52);
    assert_int_equal(rig_clean(0, 2), 0);
    rig_expect_stored(0, 51);
    rig_expect_stored(1, 52);
    rig_frames("CCCCCC");
    atomic_store(&rig.protects_fail, 1000);
    rig_age(0, 2);
    (void)rig_swap_in(10, 2, 0);
    atomic_store(&rig.protects_fail, 0);
    rig_expect_page(0, 51);
    rig_expect_page(1, 52);
    rig_check_failed();
    (void)rig_cmocka_stop(state);
}

// A victim that cannot be closed is none, dirty or clean.
static void victims_cannot_be_closed(void **state)
{
    (void)state;
    rig_start(&(struct rig_options){.cache_pages = 4, .timeout_ms = 200});
    rig_frames("DDCC");
    atomic_store(&rig.protects_fail, 1 << 20);
    assert_int_not_equal(rig_swap_in(0, 1, 0), 0);
    rig.pager.options.fault_timeout_ms = LIMIT_FAULT_TIMEOUT_MS; // the others are to succeed
    atomic_store(&rig.protects_fail, 0);
    rig_store(FRAMES_FROM, 71);
    rig_store(FRAMES_FROM + 1, 72);
    assert_int_equal(rig_swap_in(0, 4, 0), 0);
    rig_expect_page(FRAMES_FROM, 71);
    rig_expect_page(FRAMES_FROM + 1, 72);
    rig_expect_page(FRAMES_FROM + 2, FRAMES_FROM + 3);
    rig_check_failed();
    (void)rig_cmocka_stop(state);
}

// A page cannot be opened: the touch tries again, it does not end in a signal.
static void a_page_cannot_be_opened_for_a_while(void **state)
{
    (void)state;
    catch (SIGBUS);
    rig_start(&(struct rig_options){.timeout_ms = 5000});
    atomic_store(&rig.protects_fail, 20);
    assert_int_equal(touch(3), 0);
    rig_expect_page(3, 4);
    atomic_store(&rig.protects_fail, 5);
    rig_store(3, 9);
    assert_true(rig_has(3, PAGE_DIRTY));
    rig_stop();
}

#define TEST(name) cmocka_unit_test_teardown(name, rig_cmocka_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_read_fails_at_every_flush),
        TEST(a_write_fails_at_every_flush),
        TEST(every_victim_fails),
        TEST(a_full_batch_is_not_a_failure),
        TEST(a_failed_touch_is_sigbus_and_works_later),
        TEST(a_failure_is_told_to_its_own_waiters),
        TEST(a_handler_touches_another_absent_page),
        TEST(a_signal_handler_leaves_a_waiting_touch),
        TEST(a_touch_times_out),
        TEST(the_same_touch_a_hundred_times),
        TEST(a_foreign_fault_is_passed_on),
        TEST(a_page_filled_at_once_is_a_victim),
        TEST(memory_is_short_for_a_while),
        TEST(write_access_cannot_be_taken),
        TEST(victims_cannot_be_closed),
        TEST(a_page_cannot_be_opened_for_a_while),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
