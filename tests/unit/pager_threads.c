// SPDX-License-Identifier: Apache-2.0
//
// The pager under many hands: overlapping swap-ins with the smallest buffer, stores during cleans, kills under stores, and pages
// that verify themselves while everything is evicted, cut and laundered.
#include "tests/unit/pager_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { SLOWER = 8 };
#else
enum { SLOWER = 1 };
#endif

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

// On the calling thread, as a worker would: more of them at a time than the pager has workers.
static int swap_in_here(uint64_t page, uint64_t count, unsigned flags)
{
    struct swap swap = {
        .pager = &rig.pager,
        .segment = &rig.segments[0],
        .page = page,
        .end = page + count,
        .flags = flags,
        .next_page = WIRE_NO_HINT,
        .demand = DSM_NO_PAGE,
        .class = BACKING_CALL,
        .deadline = pager_deadline(&rig.pager),
    };
    sync_mask mask = sync_block_signals();
    int error = pager_swap_in(&swap);
    sync_restore_signals(mask);
    return error;
}

struct worker {
    pthread_t thread;
    uint64_t seed, page, count;
    int rounds;
    unsigned errors;
};

static void run(struct worker *workers, int count, void *(*body)(void *))
{
    for (int i = 0; i < count; i++) {
        assert_int_equal(pthread_create(&workers[i].thread, NULL, body, &workers[i]), 0);
    }
    unsigned errors = 0;
    for (int i = 0; i < count; i++) {
        (void)pthread_join(workers[i].thread, NULL);
        errors += workers[i].errors;
    }
    assert_int_equal(errors, 0);
}

static void evict(uint64_t page, uint64_t count)
{
    rig_age(page, count);
    assert_int_equal(rig_swap_in(200, rig.options.cache_pages, 0), 0);
    assert_true(rig_state(page) == PAGE_BACKING || rig_state(page) == PAGE_UNDEFINED);
}

static void *same_interval(void *argument)
{
    struct worker *w = argument;
    for (int i = 0; i < w->rounds; i++) {
        w->errors += swap_in_here(w->page, w->count, 0) != 0;
        w->errors += swap_in_here(100 + w->page, w->count, 0) != 0; // drives them out again
    }
    return NULL;
}

// D3: the holder of a buffer never waits for a page.
static void two_overlapping_intervals(void **state)
{
    (void)state;
    for (uint32_t buffer = 1; buffer <= 256; buffer *= 16) {
        rig_start(&(struct rig_options){.cache_pages = 16, .buffer_pages = buffer});
        struct worker workers[] = {{.page = 0, .count = 10, .rounds = 300 / SLOWER},
                                   {.page = 5, .count = 10, .rounds = 300 / SLOWER}};
        run(workers, 2, same_interval);
        rig_stop();
    }
}

static void *random_intervals(void *argument)
{
    struct worker *w = argument;
    for (int i = 0; i < w->rounds; i++) {
        uint64_t page = next_random(&w->seed) % 100;
        uint64_t count = next_random(&w->seed) % 20;
        unsigned kind = next_random(&w->seed) % 4;
        unsigned flags = kind == 0 ? DSM_PIN : kind == 1 ? DSM_WRITE : 0;
        w->errors += swap_in_here(page, count, flags) != 0;
        if (kind == 0) {
            w->errors += pager_unpin(&rig.segments[0], page, count) != 0;
        }
    }
    return NULL;
}

static void sixty_four_threads_and_the_smallest_buffer(void **state)
{
    (void)state;
    rig_start(&(struct rig_options){.cache_pages = 64 * 20 / 10 + 8, .buffer_pages = 1});
    struct worker workers[64];
    for (uint64_t i = 0; i < 64; i++) {
        workers[i] = (struct worker){.seed = i + 1, .rounds = 40 / SLOWER};
    }
    run(workers, 64, random_intervals);
    for (uint64_t i = 0; i < 120; i++) {
        rig_expect_page(i, i + 1);
    }
    rig_stop();
}

static void a_run_of_ten_buffers(void **state)
{
    (void)state;
    rig_start(&(struct rig_options){.pages = 4096, .cache_pages = 2600});
    assert_int_equal(rig_swap_in(0, 2560, 0), 0);
    rig_expect((struct rig_counts){{1, 10, 10, 2560, 0, 0, 2560, 0, 0}, {0}});
    assert_int_equal(rig_swap_in(1300, 2560, 0), 0); // now with victims
    for (uint64_t i = 1300; i < 1300 + 2560; i += 17) {
        rig_expect_page(i, i + 1);
    }
    rig_stop();
}

// ---- stores against cleans, kills and evictions ----

static struct {
    _Atomic uint32_t stop;
    _Atomic uint64_t stored[8]; // the last value stored into each page
} writer;

static void *keep_storing(void *argument)
{
    (void)argument;
    for (uint64_t n = 1; atomic_load(&writer.stop) == 0; n++) {
        for (uint64_t page = 0; page < 8; page++) {
            *(volatile uint64_t *)(void *)(rig_at(page) + 16) = n;
            atomic_store(&writer.stored[page], n);
        }
    }
    return NULL;
}

// When it returns, each page has been stored into.
static pthread_t start_writer(void)
{
    pthread_t thread;
    memset(&writer, 0, sizeof writer);
    assert_int_equal(pthread_create(&thread, NULL, keep_storing, NULL), 0);
    while (atomic_load(&writer.stored[7]) == 0) {
        (void)usleep(10);
    }
    return thread;
}

static void stop_writer(pthread_t thread)
{
    atomic_store(&writer.stop, 1);
    (void)pthread_join(thread, NULL);
}

static uint64_t word_of(uint64_t page)
{
    return *(volatile uint64_t *)(void *)(rig_at(page) + 16);
}

// 20: a store during a clean waits or makes the page dirty again; it is never lost.
static void stores_during_cleans(void **state)
{
    (void)state;
    for (int fill = 0; fill < 2; fill++) {
        rig_start(&(struct rig_options){.cache_pages = 16, .fill = (enum trap_fill)fill});
        pthread_t thread = start_writer();
        for (int i = 0; i < 4000 / SLOWER; i++) {
            rig.write_us = i % 4 == 0 ? 50 : 0;
            assert_int_equal(rig_clean(0, 8), 0);
        }
        stop_writer(thread);
        evict(0, 8);
        for (uint64_t page = 0; page < 8; page++) {
            assert_int_equal(word_of(page), atomic_load(&writer.stored[page]));
        }
        rig_stop();
    }
}

static void *clean_first(void *argument)
{
    struct worker *w = argument;
    w->errors += rig_clean(0, 1) != 0;
    return NULL;
}

static void *store_first(void *argument)
{
    (void)argument;
    rig_store(0, 88);
    return NULL;
}

// The page that is on its way to the server does not change: the store waits for the answer.
static void a_store_waits_for_the_clean(void **state)
{
    (void)state;
    rig_start(&(struct rig_options){0});
    rig_store(0, 77);
    atomic_store(&rig.hold, 1);
    struct worker cleaner = {0};
    pthread_t storer;
    assert_int_equal(pthread_create(&cleaner.thread, NULL, clean_first, &cleaner), 0);
    rig_await(&rig.held, 1);
    rig_expect_page(0, 77); // loads go on
    assert_int_equal(pthread_create(&storer, NULL, store_first, NULL), 0);
    for (int i = 0; i < 100000 && !rig_has(0, PAGE_WAITERS); i++) {
        (void)usleep(100);
    }
    assert_true(rig_has(0, PAGE_WAITERS));
    rig_expect_page(0, 77);
    rig_release(&rig.hold);
    (void)pthread_join(cleaner.thread, NULL);
    (void)pthread_join(storer, NULL);
    assert_int_equal(cleaner.errors, 0);
    assert_int_equal(STAT_GET(&rig.stat, waits),
                     1); // the storer's; whoever asks for a page counts none
    assert_int_equal(STAT_GET(&rig.stat, faults_waited), 1);
    rig_expect_stored(0, 77);
    rig_expect_page(0, 88);
    assert_true(rig_has(0, PAGE_DIRTY));
    rig_stop();
}

static void *clean_four(void *argument)
{
    struct worker *w = argument;
    w->errors += rig_clean(0, 4) != 0;
    return NULL;
}

static void *load_eighth(void *argument)
{
    (void)argument;
    rig_expect_page(8, 9);
    return NULL;
}

// Every frame's page is on its way to the server. However often the sleep is looked up from, it is one.
static void a_sleep_for_a_frame_is_counted_once(void **state)
{
    (void)state;
    rig_start(&(struct rig_options){.cache_pages = 4});
    for (uint64_t page = 0; page < 4; page++) {
        rig_store(page, page);
    }
    atomic_store(&rig.hold, 1);
    struct worker cleaner = {0};
    pthread_t loader;
    assert_int_equal(pthread_create(&cleaner.thread, NULL, clean_four, &cleaner), 0);
    rig_await(&rig.held, 1);
    assert_int_equal(STAT_GET(&rig.stat, waits), 0);
    assert_int_equal(pthread_create(&loader, NULL, load_eighth, NULL), 0);
    for (int i = 0; i < 100000 && STAT_GET(&rig.stat, waits) == 0; i++) {
        (void)usleep(100);
    }
    (void)usleep(50000); // it looks every 10 ms
    rig_release(&rig.hold);
    (void)pthread_join(cleaner.thread, NULL);
    (void)pthread_join(loader, NULL);
    assert_int_equal(cleaner.errors, 0);
    assert_int_equal(STAT_GET(&rig.stat, waits), 1);
    rig_stop();
}

static void *fetch_third_for_stores(void *argument)
{
    struct worker *w = argument;
    w->errors += rig_swap_in(3, 1, DSM_WRITE) != 0;
    return NULL;
}

// The two calls overlap, and both succeed: the page was fetched to be changed, then it became read-only.
static void read_only_meanwhile(void **state)
{
    (void)state;
    struct segment *segment = &rig.segments[0];
    uint64_t failed;
    rig_start(&(struct rig_options){0});
    atomic_store(&rig.hold, 1);
    struct worker fetcher = {0};
    assert_int_equal(pthread_create(&fetcher.thread, NULL, fetch_third_for_stores, &fetcher), 0);
    rig_await(&rig.held, 1);
    assert_int_equal(pager_protect(segment, 3, 1, true, &failed), 0);
    rig_release(&rig.hold);
    (void)pthread_join(fetcher.thread, NULL);
    assert_int_equal(fetcher.errors, 0);
    assert_int_equal(protection_of(rig_entry(3)), TRAP_READ);
    assert_true(rig_has(3, PAGE_READ_ONLY | PAGE_DIRTY | PAGE_CHANGED));
    assert_int_equal(pager_protect(segment, 3, 1, false, &failed), 0);
    assert_int_equal(rig_clean(3, 1), 0);
    rig_stop();
}

// What is seen after a kill stays: a store that came before it is gone for good, one that came after it is kept.
static void stores_during_kills(void **state)
{
    (void)state;
    rig_start(&(struct rig_options){.cache_pages = 16});
    for (int i = 0; i < 200 / SLOWER; i++) {
        pthread_t thread = start_writer();
        for (int k = 0; k < 5; k++) {
            assert_int_equal(rig_swap_in(0, 8, DSM_KILL), 0);
        }
        stop_writer(thread);
        uint64_t seen[8];
        for (uint64_t page = 0; page < 8; page++) {
            seen[page] = word_of(page);
        }
        evict(0, 8);
        for (uint64_t page = 0; page < 8; page++) {
            assert_int_equal(word_of(page), seen[page]);
        }
    }
    rig_stop();
}

// A fault for a store may find that its page came in meanwhile: what it opens it must mark.
static void a_late_worker_marks_what_it_opens(void **state)
{
    (void)state;
    rig_start(&(struct rig_options){.cache_pages = 16});
    assert_int_equal(rig_swap_in(3, 1, 0), 0);
    struct swap swap = {
        .pager = &rig.pager,
        .segment = &rig.segments[0],
        .page = 3,
        .end = 4,
        .next_page = WIRE_NO_HINT,
        .demand = 3,
        .demand_write = true,
        .fault = true,
        .class = BACKING_FAULT,
        .deadline = pager_deadline(&rig.pager),
    };
    assert_int_equal(pager_swap_in(&swap), 0);
    rig_store(3, 99);
    evict(3, 1);
    rig_expect_page(3, 99);
    rig_stop();
}

// ---- pages that verify themselves ----

enum { CHECKED = 512, CHECKERS = 16 };

static struct {
    pthread_mutex_t lock;
    uint64_t version;
} checked[CHECKED];

static bool verify(uint64_t page)
{
    const volatile uint64_t *word = (const volatile uint64_t *)(void *)rig_at(page);
    uint64_t version = checked[page].version;
    uint64_t stamp = version == 0 ? rig_first_stamp(page) : page << 32 | version;
    uint64_t base = stamp * 0x9e3779b97f4a7c15u;
    for (uint64_t i = 0; i < rig.options.page_bytes / 8; i++) {
        if (word[i] != (stamp == 0 ? 0 : base + 8 * i)) {
            return false;
        }
    }
    return true;
}

static void *check_pages(void *argument)
{
    struct worker *w = argument;
    for (int i = 0; i < w->rounds; i++) {
        uint64_t r = next_random(&w->seed);
        uint64_t page = r >> 8 & 1 ? (uint64_t)i % CHECKED : (r >> 16) % CHECKED;
        (void)pthread_mutex_lock(&checked[page].lock);
        w->errors += !verify(page);
        if ((r & 3) == 0) {
            rig_store(page, page << 32 | ++checked[page].version);
        }
        (void)pthread_mutex_unlock(&checked[page].lock);
        if ((r & 0xfff) == 0) {
            (void)pthread_mutex_lock(&rig.mutex);
            rig.cut = true;
            (void)pthread_mutex_unlock(&rig.mutex);
        }
    }
    return NULL;
}

static void check_with(const struct rig_options *options, int rounds)
{
    rig_start(options);
    struct worker workers[CHECKERS];
    for (uint64_t i = 0; i < CHECKED; i++) {
        (void)pthread_mutex_init(&checked[i].lock, NULL);
        checked[i].version = 0;
    }
    for (uint64_t i = 0; i < CHECKERS; i++) {
        workers[i] = (struct worker){.seed = i * 77 + 1, .rounds = rounds / SLOWER};
    }
    run(workers, CHECKERS, check_pages);
    for (uint64_t i = 0; i < CHECKED; i++) {
        assert_true(verify(i));
    }
    rig_stop();
}

static void self_verifying_pages(void **state)
{
    (void)state;
    struct rig_options o = {.pages = CHECKED, .cache_pages = 64};
    check_with(&o, 1000);
    o = (struct rig_options){.pages = CHECKED,
                             .cache_pages = 64,
                             .second_chance = true,
                             .laundry = true,
                             .read_ahead_bytes = 64 << 10,
                             .fill = TRAP_FILL_PWRITE,
                             .gap_pages = 4};
    check_with(&o, 2000);
    o.fresh = true;
    o.fill = TRAP_FILL_ALIAS;
    o.fault_workers = 1;
    check_with(&o, 2000);
    o.page_bytes = 16384;
    o.map_limit = 16;
    check_with(&o, 500);
}

static uint32_t threads_with_workers(uint32_t fault_workers)
{
    rig_start(&(struct rig_options){.fault_workers = fault_workers});
    uint32_t threads = rig.pager.thread_count;
    rig_stop();
    return threads;
}

// Where threads fetch their pages themselves, workers take half of the lanes, and whatever goes on alone has a thread for each.
static void workers_leave_half_of_the_lanes(void **state)
{
    (void)state;
    bool direct = getenv("DSM_DIRECT") != NULL;
    assert_int_equal(threads_with_workers(4) - threads_with_workers(2), direct ? 1 + 2 : 2);
    assert_int_equal(threads_with_workers(2) - threads_with_workers(1), direct ? 0 + 1 : 1);
}

#define TEST(name) cmocka_unit_test_teardown(name, rig_cmocka_stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(two_overlapping_intervals),
        TEST(sixty_four_threads_and_the_smallest_buffer),
        TEST(a_run_of_ten_buffers),
        TEST(stores_during_cleans),
        TEST(a_store_waits_for_the_clean),
        TEST(a_sleep_for_a_frame_is_counted_once),
        TEST(stores_during_kills),
        TEST(a_late_worker_marks_what_it_opens),
        TEST(read_only_meanwhile),
        TEST(self_verifying_pages),
        TEST(workers_leave_half_of_the_lanes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
