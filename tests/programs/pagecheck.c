// SPDX-License-Identifier: Apache-2.0
//
// pagecheck: many threads read and write self-verifying pages (checked_page.h) at random, with a cache of one eighth
// of the segment, and know at every moment what each page must hold. The one question it asks: is a load ever
// wrong? Zeros in the place of stored bytes, an older version, another page's bytes or a torn page end it with
// status 1 and the particulars.
//
// What is expected of a page (version, writer) stands in local memory under a read-write lock per page: many
// threads may touch a page at once, as readers, so that faults on one page meet; one writes it. Some operations go
// to a page that changes slowly and that all threads share, and some walk over neighbours, for read-ahead.
// A third of the stores do not look at the page first: the first touch is then a store. Between operations, intervals
// are cleaned at random. In the middle (--reopen) and at the end the segment is closed and opened again and all
// pages are verified.
//
// dsm_clean() takes none of these locks, on purpose: it runs against readers and writers. All state that threads
// share is behind a page's lock, atomic, or unchanged while they run.
#include <argp.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/programs/checked_page.h"
#include "tests/programs/report.h"

enum { THREADS_MAX = 1024, CACHE_PART = 8, WALK_MAX = 64, MEETING_TURNS = 64 };

struct expected {
    pthread_rwlock_t lock;
    uint64_t version, writer;
};

struct pagecheck {
    struct report report;
    uint64_t pages, page_bytes, seed, operations, clean_every;
    double seconds;
    unsigned threads, write_percent, walk_percent;
    bool reopen;

    dsm *session;
    dsm_segment *segment;
    char name[128];
    uint64_t identity; // what pages say in "segment"
    volatile uint8_t *base;
    struct expected *expected;

    double deadline; // of this half, 0: none
    uint64_t quota;  // operations of each thread in this half, UINT64_MAX: none
    double begun;
    _Atomic uint64_t turns; // moves the page where threads meet
    _Atomic uint64_t reads, writes, cleans;
    _Atomic uint64_t checked; // looks at a whole page, which was what it must be
    atomic_bool stop, wrong, failed;
};

struct worker {
    struct pagecheck *check;
    uint64_t random;
    uint64_t number;
    pthread_t thread;
};

static uint64_t next_random(uint64_t *state) // xorshift64*
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

static uint64_t below(uint64_t *state, uint64_t limit)
{
    return (next_random(state) >> 11) % limit;
}

static volatile uint64_t *page_words(struct pagecheck *check, uint64_t page)
{
    return (volatile uint64_t *)(uintptr_t)(check->base + page * check->page_bytes);
}

// The page's lock is held.
static bool verify_locked(struct pagecheck *check, uint64_t page, const char *when)
{
    const struct expected *expected = &check->expected[page];
    struct checked_identity identity = {check->identity, page, expected->version, expected->writer};
    struct checked_mismatch mismatch;
    if (checked_page_verify(page_words(check, page), check->page_bytes, &identity, &mismatch) ==
        0) {
        atomic_fetch_add_explicit(&check->checked, 1, memory_order_relaxed);
        return true;
    }
    fprintf(stderr,
            "\npagecheck: MISMATCH %s: segment %s, page %llu, version %llu, writer %llu: "
            "%s at byte %zu: expected %#llx, found %#llx (again: %#llx)\n",
            when, check->name, (unsigned long long)page, (unsigned long long)identity.version,
            (unsigned long long)identity.writer, mismatch.field, mismatch.offset,
            (unsigned long long)mismatch.expected, (unsigned long long)mismatch.found,
            (unsigned long long)page_words(check, page)[mismatch.offset / sizeof(uint64_t)]);
    atomic_store(&check->wrong, true);
    atomic_store(&check->stop, true);
    return false;
}

static void read_page(struct pagecheck *check, uint64_t page)
{
    pthread_rwlock_rdlock(&check->expected[page].lock);
    verify_locked(check, page, "on a read");
    pthread_rwlock_unlock(&check->expected[page].lock);
    atomic_fetch_add_explicit(&check->reads, 1, memory_order_relaxed);
}

static void write_page(struct worker *worker, uint64_t page)
{
    struct pagecheck *check = worker->check;
    struct expected *expected = &check->expected[page];
    pthread_rwlock_wrlock(&expected->lock);
    if (below(&worker->random, 3) == 0 || verify_locked(check, page, "before a write")) {
        expected->version++;
        expected->writer = worker->number;
        struct checked_identity identity = {check->identity, page, expected->version,
                                            expected->writer};
        checked_page_write(page_words(check, page), check->page_bytes, &identity);
    }
    pthread_rwlock_unlock(&expected->lock);
    atomic_fetch_add_explicit(&check->writes, 1, memory_order_relaxed);
}

static void clean_somewhere(struct worker *worker)
{
    struct pagecheck *check = worker->check;
    dsm_interval interval;
    interval.page = below(&worker->random, check->pages);
    interval.count = 1 + below(&worker->random, check->pages - interval.page);
    int result = dsm_clean(check->segment, interval, NULL);
    if (result != 0) {
        report_failure("pagecheck", "Cleaning", result);
        atomic_store(&check->failed, true);
        atomic_store(&check->stop, true);
    }
    atomic_fetch_add_explicit(&check->cleans, 1, memory_order_relaxed);
}

static void operate(struct worker *worker)
{
    struct pagecheck *check = worker->check;
    uint64_t *random = &worker->random;
    uint64_t page = below(random, check->pages);
    if (below(random, 16) == 0) { // where the others are now, too
        uint64_t turn = atomic_fetch_add_explicit(&check->turns, 1, memory_order_relaxed);
        uint64_t state = check->seed + turn / MEETING_TURNS + 1;
        page = below(&state, check->pages);
    }
    if (below(random, 100) < check->walk_percent) {
        uint64_t end = page + 1 + below(random, WALK_MAX);
        for (; page < end && page < check->pages && !atomic_load(&check->stop); page++) {
            read_page(check, page);
        }
    } else if (below(random, 100) < check->write_percent) {
        write_page(worker, page);
    } else {
        read_page(check, page);
    }
}

static void show_progress(struct pagecheck *check, uint64_t done)
{
    if (check->quota != UINT64_MAX) {
        report_progress("pagecheck: operations", done, check->quota);
    } else {
        double total = check->deadline - check->begun;
        double spent = report_now() - check->begun;
        spent = spent > total ? total : spent;
        report_progress("pagecheck: time", (uint64_t)(spent * 1e3), (uint64_t)(total * 1e3));
    }
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct pagecheck *check = worker->check;
    dsm_thread_init();
    for (uint64_t i = 0; i < check->quota && !atomic_load(&check->stop); i++) {
        operate(worker);
        if (check->clean_every != 0 && (i + worker->number) % check->clean_every == 0) {
            clean_somewhere(worker);
        }
        if (i % 64 == 0 && worker->number == 1) {
            show_progress(check, i);
        }
        if (check->deadline != 0 && report_now() >= check->deadline) {
            break;
        }
    }
    return NULL;
}

static int work_half(struct pagecheck *check, struct worker *workers)
{
    double share = check->reopen ? 0.5 : 1;
    unsigned started = 0;
    int error = 0;
    check->begun = report_now();
    check->deadline = check->operations != 0 ? 0 : check->begun + check->seconds * share;
    check->quota = check->operations == 0
                       ? UINT64_MAX
                       : (uint64_t)((double)check->operations * share) / check->threads + 1;
    while (started < check->threads && error == 0) {
        error = pthread_create(&workers[started].thread, NULL, work, &workers[started]);
        started += error == 0;
    }
    if (error != 0) {
        fprintf(stderr, "pagecheck: a thread could not be made: %s\n", strerror(error));
        atomic_store(&check->stop, true);
    }
    for (unsigned i = 0; i < started; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    report_progress("", 1, 0);
    return error != 0 || atomic_load(&check->failed) ? -EIO : 0;
}

static int reopen_and_verify(struct pagecheck *check, const char *when)
{
    int result = dsm_segment_close(check->segment);
    if (result != 0) {
        if (result == -DSM_ELOST || result == -DSM_EFENCED) {
            check->segment = NULL; // closed all the same
        }
        return report_failure("pagecheck", "Closing the segment", result);
    }
    check->segment = NULL;
    result = dsm_segment_open(check->session, check->name, 0, &check->segment);
    if (result != 0) {
        return report_failure("pagecheck", "Opening the segment again", result);
    }
    check->base = dsm_segment_base(check->segment);
    report_watch("pages", check->segment);
    for (uint64_t page = 0; page < check->pages; page++) {
        report_progress("pagecheck: verifying", page, check->pages);
        verify_locked(check, page, when); // no other thread is there
    }
    report_progress("", 1, 0);
    return 0;
}

static int check_all(struct pagecheck *check)
{
    int result = -ENOMEM;
    struct worker *workers = calloc(check->threads, sizeof(*workers));
    if (workers == NULL) {
        fprintf(stderr, "pagecheck: there is not enough memory\n");
        return result;
    }
    for (unsigned i = 0; i < check->threads; i++) {
        workers[i] = (struct worker){.check = check, .number = i + 1};
        workers[i].random = (check->seed + i + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
    }
    result = work_half(check, workers);
    if (result == 0 && check->reopen && !atomic_load(&check->wrong)) {
        result = reopen_and_verify(check, "after opening in the middle");
        if (result == 0 && !atomic_load(&check->wrong)) {
            result = work_half(check, workers);
        }
    }
    if (result == 0 && !atomic_load(&check->wrong)) {
        result = reopen_and_verify(check, "after opening at the end");
    }
    free(workers);
    return result;
}

static int make_expected(struct pagecheck *check)
{
    check->expected = calloc(check->pages, sizeof(*check->expected));
    if (check->expected == NULL) {
        fprintf(stderr, "pagecheck: there is not enough memory\n");
        return -ENOMEM;
    }
    for (uint64_t page = 0; page < check->pages; page++) {
        pthread_rwlock_init(&check->expected[page].lock, NULL);
    }
    return 0;
}

static int open_segment(struct pagecheck *check)
{
    report_segment_name("pagecheck", "pages", check->name, sizeof(check->name));
    check->identity = (uint64_t)time(NULL) << 32 | (uint64_t)getpid();
    int result = dsm_segment_create(check->session, check->name, check->pages * check->page_bytes,
                                    (uint32_t)check->page_bytes, DSM_EXCLUSIVE, &check->segment);
    if (result != 0) {
        return report_failure("pagecheck", "No segment", result);
    }
    check->base = dsm_segment_base(check->segment);
    check->report.segment_bytes = dsm_segment_size(check->segment);
    report_watch("pages", check->segment);
    return 0;
}

static int finish(struct pagecheck *check, double start)
{
    check->report.seconds = report_now() - start;
    int result = report_statistics(&check->report, check->session);
    fprintf(
        report_text(&check->report),
        "%llu pages of %llu bytes, %u threads, seed %llu: %llu reads, %llu writes, %llu cleans, "
        "%llu page reads checked\n",
        (unsigned long long)check->pages, (unsigned long long)check->page_bytes, check->threads,
        (unsigned long long)check->seed, (unsigned long long)atomic_load(&check->reads),
        (unsigned long long)atomic_load(&check->writes),
        (unsigned long long)atomic_load(&check->cleans),
        (unsigned long long)atomic_load(&check->checked));
    return result;
}

static int run(struct pagecheck *check)
{
    double start = report_now();
    report_catch_sigbus();
    if (make_expected(check) != 0 ||
        report_open("pagecheck", check->report.cache_bytes, &check->session) != 0) {
        free(check->expected);
        return EXIT_FAILURE_SETUP;
    }
    int result = open_segment(check);
    if (result == 0) {
        result = check_all(check);
        if (result == 0) {
            result = finish(check, start);
        }
        int removed = report_remove("pagecheck", check->session, check->segment, check->name);
        result = result != 0 ? result : removed;
    }
    int closed = dsm_close(check->session);
    if (closed != 0) {
        report_failure("pagecheck", "Closing the session", closed);
        result = result != 0 ? result : closed;
    }
    free(check->expected);
    if (atomic_load(&check->wrong)) {
        return EXIT_MISMATCH;
    }
    if (result != 0) {
        return EXIT_FAILURE_SETUP;
    }
    report_print(&check->report);
    return EXIT_VERIFIED;
}

enum {
    OPTION_JSON = 256,
    OPTION_OPS,
    OPTION_SEED,
    OPTION_CLEAN,
    OPTION_REOPEN,
    OPTION_PAGE_SIZE,
    OPTION_WALK
};
static const struct argp_option options[] = {
    {"pages", 'p', "N", 0, "Pages (default 16384)", 0},
    {"page-size", OPTION_PAGE_SIZE, "SIZE", 0, "Bytes of a page (default 4K)", 0},
    {"threads", 'T', "N", 0, "Threads (default 16)", 0},
    {"seconds", 's', "N", 0, "Time to run (default 10)", 0},
    {"ops", OPTION_OPS, "N", 0, "Operations of all threads, instead of a time", 0},
    {"write-percent", 'w', "N", 0, "Writes among the others (default 40)", 0},
    {"walk-percent", OPTION_WALK, "N", 0,
     "Operations that read up to 64 neighbours (default 6); the rest is of one page", 0},
    {"clean-every", OPTION_CLEAN, "N", 0,
     "Each thread cleans after N operations (default 997; 0: never)", 0},
    {"reopen", OPTION_REOPEN, NULL, 0, "Close, open and verify all in the middle, too", 0},
    {"seed", OPTION_SEED, "N", 0, "Seed of the random numbers (default: the time)", 0},
    {"json", OPTION_JSON, NULL, 0, "The closing table as JSON", 0},
    {0}};

static uint64_t parse_number(struct argp_state *state, const char *text, uint64_t least,
                             uint64_t most)
{
    uint64_t value = 0;
    if (report_parse_size(text, &value) != 0 || value < least || value > most) {
        argp_error(state, "'%s' is not a number from %llu to %llu", text, (unsigned long long)least,
                   (unsigned long long)most);
    }
    return value;
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct pagecheck *check = state->input;
    switch (key) {
    case 'p':
        check->pages = parse_number(state, argument, 1, UINT64_C(1) << 32);
        break;
    case OPTION_PAGE_SIZE:
        check->page_bytes = parse_number(state, argument, 4096, 1 << 20);
        break;
    case 'T':
        check->threads = (unsigned)parse_number(state, argument, 1, THREADS_MAX);
        break;
    case 's':
        check->seconds = (double)parse_number(state, argument, 1, 1 << 30);
        break;
    case OPTION_OPS:
        check->operations = parse_number(state, argument, 1, UINT64_C(1) << 50);
        break;
    case 'w':
        check->write_percent = (unsigned)parse_number(state, argument, 0, 100);
        break;
    case OPTION_WALK:
        check->walk_percent = (unsigned)parse_number(state, argument, 0, 100);
        break;
    case OPTION_CLEAN:
        check->clean_every = parse_number(state, argument, 0, UINT64_MAX);
        break;
    case OPTION_REOPEN:
        check->reopen = true;
        break;
    case OPTION_SEED:
        check->seed = parse_number(state, argument, 0, UINT64_MAX);
        break;
    case OPTION_JSON:
        check->report.json = true;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct argp parser = {
        .options = options,
        .parser = parse_option,
        .doc =
            "Self-verifying pages under many threads, with a cache of 1/8.\v"
            "Status: 0 verified, 1 a wrong byte, 2 an error, 3 SIGBUS. Server and keys come from "
            "DSM_SERVER, DSM_SERVER_KEY, DSM_KEY_FILE, ..."};
    static struct pagecheck check;
    check.report.program = "pagecheck";
    check.pages = 16384;
    check.page_bytes = 4096;
    check.threads = 16;
    check.seconds = 10;
    check.write_percent = 40;
    check.walk_percent = 6;
    check.clean_every = 997;
    check.seed = (uint64_t)time(NULL);
    argp_parse(&parser, argc, argv, 0, NULL, &check);
    uint64_t least = report_least_cache((uint32_t)check.page_bytes, check.threads + 1);
    uint64_t part = check.pages * check.page_bytes / CACHE_PART;
    check.report.cache_bytes = part < least ? least : part;
    return run(&check);
}
