// SPDX-License-Identifier: Apache-2.0
//
// gups: RandomAccess of the HPC Challenge benchmark on remote memory. A table of 64-bit words, table[i] = i, gets
// random updates table[r % words] ^= r; nearly each of them touches another page, and makes it dirty: the worst case for
// a cache. Then the same updates are made again, which undoes them, and every word must be its index again.
//
// The specification lets 1 % of the words be wrong, for races between updates; here updates are atomic (relaxed: only
// the word itself counts), so with any number of threads not a single word may differ. Each thread jumps to
// its own stretch of the one sequence; the replay uses the same stretches.
#include <argp.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tests/programs/gups_random.h"
#include "tests/programs/workload.h"

enum { THREADS_MAX = 256, PROGRESS_STEP = 1024, MISMATCHES_SHOWN = 10 };

struct gups {
    struct workload workload;
    uint64_t table_bytes, updates;
    unsigned threads;
    _Atomic uint64_t *table;
    uint64_t words;
    _Atomic uint64_t done; // updates, for progress
};

struct stretch {
    struct gups *gups;
    uint64_t from, to;
    bool first; // shows progress
    const char *label;
};

static void *update(void *argument)
{
    struct stretch *stretch = argument;
    struct gups *gups = stretch->gups;
    uint64_t value = gups_start(stretch->from);
    dsm_thread_init();
    for (uint64_t i = stretch->from; i < stretch->to; i++) {
        value = gups_next(value);
        atomic_fetch_xor_explicit(&gups->table[value & (gups->words - 1)], value,
                                  memory_order_relaxed);
        if (i % PROGRESS_STEP == 0) {
            atomic_fetch_add_explicit(&gups->done, PROGRESS_STEP, memory_order_relaxed);
            if (stretch->first) {
                report_progress(stretch->label, atomic_load(&gups->done) % (gups->updates + 1),
                                gups->updates);
            }
        }
    }
    return NULL;
}

static int update_all(struct gups *gups, const char *label)
{
    pthread_t threads[THREADS_MAX];
    struct stretch stretches[THREADS_MAX];
    unsigned started = 0;
    int error = 0;
    atomic_store(&gups->done, 0);
    for (unsigned i = 0; i < gups->threads && error == 0; i++) {
        uint64_t part = gups->updates / gups->threads;
        stretches[i] = (struct stretch){
            gups, part * i, i + 1 == gups->threads ? gups->updates : part * (i + 1), i == 0, label};
        error = pthread_create(&threads[i], NULL, update, &stretches[i]);
        started += error == 0;
    }
    for (unsigned i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    if (error != 0) {
        fprintf(stderr, "gups: a thread could not be made: %s\n", strerror(error));
    }
    return -error;
}

static void initialise(struct gups *gups)
{
    for (uint64_t i = 0; i < gups->words; i++) {
        if (i % (1 << 16) == 0) {
            report_progress("gups: filling", i, gups->words);
        }
        atomic_store_explicit(&gups->table[i], i, memory_order_relaxed);
    }
}

static uint64_t count_wrong(struct gups *gups)
{
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < gups->words; i++) {
        if (i % (1 << 16) == 0) {
            report_progress("gups: verifying", i, gups->words);
        }
        uint64_t found = atomic_load_explicit(&gups->table[i], memory_order_relaxed);
        if (found != i && wrong++ < MISMATCHES_SHOWN) {
            fprintf(stderr, "gups: word %llu is %#llx after the replay\n", (unsigned long long)i,
                    (unsigned long long)found);
        }
    }
    return wrong;
}

static int work(struct gups *gups)
{
    struct report *report = &gups->workload.report;
    gups->table = workload_array(&gups->workload, "table", gups->table_bytes);
    if (gups->table == NULL) {
        return EXIT_FAILURE_SETUP;
    }
    gups->words = gups->table_bytes / sizeof(uint64_t);
    initialise(gups);
    workload_begin(&gups->workload);
    int result = update_all(gups, "gups: updating");
    (void)workload_end(&gups->workload);
    if (result == 0) {
        result = update_all(gups, "gups: replaying");
    }
    if (result != 0) {
        return EXIT_FAILURE_SETUP;
    }
    uint64_t wrong = count_wrong(gups);
    report_progress("", 1, 0);
    double rate = (double)gups->updates / report->work_seconds;
    fprintf(report_text(report),
            "%llu updates by %u thread%s: %.0f a second (%.9f GUPS); %llu wrong words\n",
            (unsigned long long)gups->updates, gups->threads, gups->threads == 1 ? "" : "s", rate,
            rate / 1e9, (unsigned long long)wrong);
    return wrong == 0 ? EXIT_VERIFIED : EXIT_MISMATCH;
}

enum { OPTION_JSON = 256, OPTION_PLAIN };
static const struct argp_option options[] = {
    {"table", 't', "SIZE", 0, "Table, a power of two (default 256M)", 0},
    {"cache", 'c', "SIZE", 0, "Local memory for pages (default 64M)", 0},
    {"updates", 'n', "N", 0, "Updates (default 400000)", 0},
    {"threads", 'T', "N", 0, "Threads (default 1)", 0},
    {"plain", OPTION_PLAIN, NULL, 0, "In plain memory, to compare", 0},
    {"json", OPTION_JSON, NULL, 0, "The closing table as JSON", 0},
    {0}};

static uint64_t parse_size(struct argp_state *state, const char *text)
{
    uint64_t bytes = 0;
    if (report_parse_size(text, &bytes) != 0 || bytes == 0) {
        argp_error(state, "'%s' is not a size such as 256M", text);
    }
    return bytes;
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct gups *gups = state->input;
    uint64_t threads;
    switch (key) {
    case 't':
        gups->table_bytes = parse_size(state, argument);
        break;
    case 'c':
        gups->workload.report.cache_bytes = parse_size(state, argument);
        break;
    case 'n':
        gups->updates = parse_size(state, argument);
        break;
    case 'T':
        threads = parse_size(state, argument);
        if (threads > THREADS_MAX) {
            argp_error(state, "--threads must be at most %d", THREADS_MAX);
        }
        gups->threads = (unsigned)threads;
        break;
    case OPTION_PLAIN:
        gups->workload.report.plain = true;
        break;
    case OPTION_JSON:
        gups->workload.report.json = true;
        break;
    case ARGP_KEY_END:
        if ((gups->table_bytes & (gups->table_bytes - 1)) != 0 || gups->table_bytes < 4096) {
            argp_error(state, "--table must be a power of two of at least 4K");
        }
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
        .doc = "RandomAccess (HPC Challenge) on remote memory, verified by replay.\v"
               "Server and keys come from DSM_SERVER, DSM_SERVER_KEY, DSM_KEY_FILE, ..."};
    struct gups gups = {.workload.report = {.program = "gups", .cache_bytes = UINT64_C(64) << 20},
                        .table_bytes = UINT64_C(256) << 20,
                        .updates = 400000,
                        .threads = 1};
    argp_parse(&parser, argc, argv, 0, NULL, &gups);
    int code = workload_open(&gups.workload, gups.threads);
    if (code == EXIT_VERIFIED) {
        code = work(&gups);
    }
    return workload_close(&gups.workload, code, false);
}
