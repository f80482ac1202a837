// SPDX-License-Identifier: Apache-2.0
//
// Cedar's state vectors and swap buffer: nothing waits while it holds what another may wait for, so no crowd of threads, no
// handler, no stop of the server and no scheduling makes the pager stand still. Each role would hang, not fail, where that
// does not hold: the watchdog ends it then and says what every thread waits for.
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/e2e/hold_rig.h"
#include "tests/model/watch.h"

enum { HANG_SECONDS = 80, THREADS_MOST = 64, SMALLEST_CACHE = 96 * PAGE };

static dsm *session;
static dsm_segment *segment;

static void begin(uint64_t cache_bytes, uint64_t pages)
{
    watch_start(HANG_SECONDS);
    session = hold_open(cache_bytes);
    segment = hold_create(session, "vectors", pages, PAGE);
    hold_fill_all(segment, 1);
    OK(dsm_clean(segment, hold_all(segment), NULL));
}

static void end(void)
{
    hold_check_all(segment, 1);
    hold_fill_all(segment, 2);
    hold_check_all(segment, 2);
    hold_close(session);
}

// Each thread is given its number.
static void run_threads(void *(*run)(void *), uint64_t count)
{
    static uint64_t numbers[THREADS_MOST];
    pthread_t threads[THREADS_MOST];
    for (uint64_t i = 0; i < count; i++) {
        numbers[i] = i;
        CHECK(pthread_create(&threads[i], NULL, run, &numbers[i]) == 0);
    }
    for (uint64_t i = 0; i < count; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
}

static void pause_server(void)
{
    hold_say("pause");
    hold_await("paused");
}

static void continue_server(void)
{
    hold_say("continue");
    hold_await("continued");
}

// ---- two calls over pages of each other's, and too few frames for both ----

enum { OVERLAP_CACHE = 12 * PAGE, OVERLAP_PAGES = 48, OVERLAP_ROUNDS = 400 };

static void *swap_in_over(void *argument)
{
    uint64_t number = *(uint64_t *)argument;
    for (int i = 0; i < OVERLAP_ROUNDS; i++) {
        OK(dsm_swap_in(segment, (dsm_interval){number * 5, 10}, 0, DSM_NO_PAGE));
        CHECK(hold_holds(segment, number * 5 + (uint64_t)i % 10, 1));
    }
    return NULL;
}

static void run_overlap(void)
{
    begin(OVERLAP_CACHE, OVERLAP_PAGES);
    OK(dsm_swap_in(segment, hold_all(segment), 0, DSM_NO_PAGE)); // it needs its own frames again
    run_threads(swap_in_over, 2);
    end();
}

// ---- a crowd ----

enum { CROWD = 64, CROWD_PAGES = 512, CROWD_ROUNDS = 20 };

static _Atomic unsigned crowd_done, crowd_ended;
static _Atomic int crowd_met_the_stop;
static uint64_t first_words[CROWD_PAGES];

static void look(uint64_t page)
{
    struct hold_touch touch = hold_load(hold_at(segment, page));
    CHECK(touch.value == first_words[page], "page %lu: %#lx", (unsigned long)page,
          (unsigned long)touch.value);
}

// However long the server's stop takes to come, all of them are still at it then.
static void *jostle(void *argument)
{
    uint64_t random = *(uint64_t *)argument * 7919 + 17;
    for (int left = CROWD_ROUNDS; left > 0; left -= atomic_load(&crowd_met_the_stop)) {
        uint64_t page = (hold_random(&random) >> 8) % CROWD_PAGES;
        uint64_t count = (hold_random(&random) >> 8) % 16 + 1;
        dsm_interval interval = {page, count < CROWD_PAGES - page ? count : CROWD_PAGES - page};
        switch ((hold_random(&random) >> 8) % 6) {
        case 0:
            OK(dsm_swap_in(segment, interval, 0, page));
            break;
        case 1:
            OK(dsm_clean(segment, interval, NULL));
            break;
        case 2:
            // What is there: others look at it meanwhile.
            (void)hold_store(hold_at(segment, page), first_words[page]);
            break;
        default:
            look(page);
        }
        (void)atomic_fetch_add(&crowd_done, 1);
    }
    (void)atomic_fetch_add(&crowd_ended, 1);
    return NULL;
}

static void *stop_in_the_middle(void *unused)
{
    (void)unused;
    while (atomic_load(&crowd_done) < CROWD * CROWD_ROUNDS) {
        hold_pause_ms(1);
    }
    pause_server();
    atomic_store(&crowd_met_the_stop, 1);
    hold_pause_ms(700); // until each of them waits
    unsigned ended = atomic_load(&crowd_ended);
    continue_server();
    CHECK(ended == 0, "%u did not wait for the server that was stopped", ended);
    return NULL;
}

static void run_crowd(void)
{
    begin(SMALLEST_CACHE, CROWD_PAGES);
    for (uint64_t page = 0; page < CROWD_PAGES; page++) {
        first_words[page] = hold_load(hold_at(segment, page)).value;
    }
    pthread_t stopper;
    CHECK(pthread_create(&stopper, NULL, stop_in_the_middle, NULL) == 0);
    run_threads(jostle, CROWD);
    CHECK(pthread_join(stopper, NULL) == 0);
    end();
}

// ---- a thread of real-time priority, with the library's threads on its only processor ----

enum {
    FIFO_CACHE = SMALLEST_CACHE,
    FIFO_PAGES = 400,
    FIFO_ROUNDS = 3,
    NAPS = 2000,
    FIFO_SECONDS = 20
};

static _Atomic int fifo_over;

static void skip(const char *why)
{
    printf("SKIPPED: %s\n", why);
    (void)fflush(stdout);
    exit(77);
}

// Woken while another holds the lock, it must sleep for it: who spins keeps the holder from running.
static void nap_and_ask(void)
{
    struct timespec nap = {.tv_nsec = 20000};
    for (uint64_t i = 0; i < NAPS; i++) {
        (void)nanosleep(&nap, NULL);
        (void)hold_state(segment, i % FIFO_PAGES);
    }
}

static void *touch_with_priority(void *argument)
{
    struct sched_param priority = {.sched_priority = 10 + (int)*(uint64_t *)argument};
    if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &priority) != 0) {
        skip("no permission to use SCHED_FIFO");
    }
    for (uint64_t i = 0; i < (uint64_t)FIFO_ROUNDS * FIFO_PAGES; i++) {
        uint64_t page = i * 37 % FIFO_PAGES;
        CHECK(hold_holds(segment, page, 1));
        if (i % 3 == 0) {
            hold_fill(segment, page, 1);
        }
        if (i % 50 == 0) {
            OK(dsm_swap_in(segment, (dsm_interval){page % (FIFO_PAGES - 10), 10}, 0, DSM_NO_PAGE));
            OK(dsm_clean(segment, (dsm_interval){page % (FIFO_PAGES - 10), 10}, NULL));
        }
    }
    nap_and_ask();
    return NULL;
}

// Holds the pager's lock as much of the time as can be, at the priority of everybody.
static void *ask_and_ask(void *unused)
{
    (void)unused;
    while (atomic_load(&fifo_over) == 0) {
        OK(dsm_age(segment, (dsm_interval){0, FIFO_PAGES}));
    }
    return NULL;
}

static void run_fifo(void)
{
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET((unsigned)sched_getcpu(), &cpus);
    if (geteuid() != 0 || sched_setaffinity(0, sizeof cpus, &cpus) != 0) {
        skip("needs root, for SCHED_FIFO and one processor");
    }
    begin(FIFO_CACHE, FIFO_PAGES); // the library's threads inherit the processor
    int64_t begun = hold_now_ms();
    pthread_t asker;
    CHECK(pthread_create(&asker, NULL, ask_and_ask, NULL) == 0);
    run_threads(touch_with_priority, 2);
    atomic_store(&fifo_over, 1);
    CHECK(pthread_join(asker, NULL) == 0);
    int64_t took = hold_now_ms() - begun;
    printf("%d touches of real-time threads took %d ms\n", 2 * FIFO_ROUNDS * FIFO_PAGES, (int)took);
    CHECK(took < FIFO_SECONDS * 1000, "it took %d ms", (int)took);
    end();
}

// ---- handlers that touch, and handlers that leave ----

enum {
    LEAP_CACHE = 512 * PAGE,
    LEAP_PAGES = 4096,
    LEAPS = 10000,        // out of touches that end by themselves: it takes several for a leap
    PAUSED_LEAPS = 50000, // out of touches that wait
    NESTED = 50000
};

static __thread sigjmp_buf back;
static _Atomic int inside;
static _Atomic unsigned leaps;
static pthread_t leaper;

static void leap(int number)
{
    (void)number;
    int expected = 1;
    if (pthread_equal(pthread_self(), leaper) &&
        atomic_compare_exchange_strong(&inside, &expected, 0)) {
        if (atomic_fetch_add(&leaps, 1) % 1000 == 0) {
            watch_start(HANG_SECONDS); // on a busy machine all of them may take longer
        }
        siglongjmp(back, 1);
    }
}

static void *chase(void *argument)
{
    unsigned most = *(unsigned *)argument;
    uint64_t random = 11;
    while (atomic_load(&leaps) < most) {
        unsigned before = atomic_load(&leaps);
        while (atomic_load(&inside) == 0 && atomic_load(&leaps) < most) {
            (void)sched_yield();
        }
        for (uint64_t i = (hold_random(&random) >> 8) % 2000; i > 0; i--) {
            __asm__ volatile(""); // sometimes before the fault, mostly in its wait
        }
        if (atomic_load(&inside) != 0) {
            (void)pthread_kill(leaper, SIGUSR1); // which may come between two touches
            for (int i = 0; i < 100 && atomic_load(&leaps) == before; i++) {
                (void)sched_yield();
            }
        }
    }
    return NULL;
}

// The calling thread does `what` again and again, and is taken out of it so many times.
static void leap_out_of(void (*what)(uint64_t i), unsigned most)
{
    static unsigned limit;
    pthread_t chaser;
    limit = most;
    leaper = pthread_self();
    atomic_store(&leaps, 0);
    CHECK(signal(SIGUSR1, leap) != SIG_ERR);
    CHECK(pthread_create(&chaser, NULL, chase, &limit) == 0);
    for (volatile uint64_t i = 0; atomic_load(&leaps) < most; i++) {
        if (sigsetjmp(back, 1) == 0) {
            atomic_store(&inside, 1);
            what(i);
            atomic_store(&inside, 0);
        }
    }
    CHECK(pthread_join(chaser, NULL) == 0);
}

static void touch(uint64_t i)
{
    (void)*(const volatile uint64_t *)hold_at(segment, i * 61 % LEAP_PAGES);
}

static void run_leap(void)
{
    begin(LEAP_CACHE, LEAP_PAGES);
    leap_out_of(touch, LEAPS); // answers come meanwhile, at any moment
    pause_server();
    leap_out_of(touch, PAUSED_LEAPS);
    continue_server();
    printf("left %d touches\n", LEAPS + PAUSED_LEAPS);
    end();
}

// The second call must be carried out, whatever became of one that was left before it.
static void call(uint64_t i)
{
    uint64_t page = i * 61 % (LEAP_PAGES - 8);
    OK(dsm_swap_in(segment, (dsm_interval){page, 8}, 0, DSM_NO_PAGE));
    hold_fill(segment, page, 1);
    OK(dsm_clean(segment, (dsm_interval){page, 1}, NULL));
    CHECK(!hold_state(segment, page).needs_cleaning, "the clean was not carried out");
}

// There are fewer records of calls than this.
static void run_leap_call(void)
{
    begin(LEAP_CACHE, LEAP_PAGES);
    leap_out_of(call, 2000);
    OK(dsm_clean(segment, hold_all(segment), NULL));
    end();
}

static void *leap_and_end(void *argument)
{
    leap_out_of(call, 1);
    return argument;
}

static void run_leap_end(void) // threads that leave a call and end
{
    begin(LEAP_CACHE, LEAP_PAGES);
    for (int i = 0; i < 200; i++) {
        run_threads(leap_and_end, 1);
    }
    end();
}

static char *closed;
static volatile uint64_t handler_page;
static volatile uint64_t handled;

static void touch_another_and_leave(int number)
{
    (void)number;
    (void)*(const volatile uint64_t *)hold_at(segment, handler_page);
    handled++;
    siglongjmp(back, 1);
}

// The program's own handler of SIGSEGV runs on top of the library's: it touches an absent page, and leaves.
static void run_handler(void)
{
    CHECK(signal(SIGSEGV, touch_another_and_leave) != SIG_ERR);
    begin(LEAP_CACHE, LEAP_PAGES);
    closed = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(closed != MAP_FAILED);
    for (volatile uint64_t i = 0; i < NESTED; i++) {
        handler_page = i * 61 % LEAP_PAGES;
        if (sigsetjmp(back, 1) == 0) {
            *(volatile char *)closed = 1;
            CHECK(false, "the store came back");
        }
    }
    CHECK(handled == NESTED);
    end();
}

// ---- stores during cleaning ----

enum {
    CLEAN_PAGES = 64,
    CLEAN_CACHE = 128 * PAGE,
    CLEAN_OTHER = 192,
    CLEANERS = 2,
    CLEANS = 10000,
    CLEAN_STORERS = 2
};

static _Atomic unsigned cleans;
static uint64_t stored[CLEAN_PAGES];

static _Atomic uint64_t *clean_word(uint64_t page)
{
    return hold_at(segment, page);
}

static void *clean_and_store(void *argument)
{
    uint64_t number = *(uint64_t *)argument;
    uint64_t random = number + 3;
    if (number >= CLEANERS) { // each storer has pages of its own
        while (atomic_load(&cleans) < CLEANS) {
            uint64_t page = (hold_random(&random) >> 8) % (CLEAN_PAGES / CLEAN_STORERS);
            page = page * CLEAN_STORERS + (number - CLEANERS);
            CHECK(atomic_load(clean_word(page)) == stored[page], "page %lu", (unsigned long)page);
            atomic_store(clean_word(page), ++stored[page]);
        }
        return NULL;
    }
    while (atomic_load(&cleans) < CLEANS) {
        uint64_t page = (hold_random(&random) >> 8) % CLEAN_PAGES;
        OK(dsm_clean(segment, (dsm_interval){page, 1}, NULL));
        if (atomic_fetch_add(&cleans, 1) % 8 == 0) {
            OK(dsm_age(segment, (dsm_interval){0, CLEAN_PAGES})); // they go and come back
        }
    }
    return NULL;
}

static void run_clean(void)
{
    begin(CLEAN_CACHE, CLEAN_PAGES);
    dsm_segment *other = hold_create(session, "other", CLEAN_OTHER, PAGE);
    for (uint64_t page = 0; page < CLEAN_PAGES; page++) {
        stored[page] = *clean_word(page);
    }
    dsm_statistics before = hold_stats(session);
    run_threads(clean_and_store, CLEANERS + CLEAN_STORERS);
    dsm_statistics after = hold_stats(session);
    hold_evict(segment, other);
    for (uint64_t page = 0; page < CLEAN_PAGES; page++) {
        CHECK(*clean_word(page) == stored[page], "page %lu lost a store", (unsigned long)page);
    }
    uint64_t writes = after.clean_writes - before.clean_writes;
    printf("%lu cleans, %lu of them wrote\n",
           (unsigned long)(after.clean_calls - before.clean_calls), (unsigned long)writes);
    CHECK(writes > CLEANS / 10, "hardly any clean wrote");
    hold_close(session);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"overlap", run_overlap},   {"crowd", run_crowd},     {"fifo", run_fifo},
        {"leap", run_leap},         {"handler", run_handler}, {"leap-call", run_leap_call},
        {"leap-end", run_leap_end}, {"clean", run_clean},
    };
    return hold_main(argc, argv, roles, sizeof roles / sizeof roles[0]);
}
