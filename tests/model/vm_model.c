// SPDX-License-Identifier: Apache-2.0
//
// vm_model [--seed N] [--operations N] [--threads N] [--exact | --states]
//
// Random operations on a small segment with a smaller cache, through the public interface and against whatever server the
// environment names, each answer held against a model. The seed also chooses the settings (swap buffer, read-ahead,
// laundry, gap limit, second chance or none, how frames are filled), so that a few seeds go through all of them. A failure prints the
// command that runs it again. With one thread that is the same run; with several, as far as threads allow.
//
// At the end the segment is closed, and a second client that opens it for reading must find on the server what the first one
// left: another process, handed what it should find in a memfd; where the server is an embedded one, this process.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/model/model.h"
#include "tests/model/watch.h"

enum { WORDS = MODEL_SLOTS + MODEL_COUNTERS, HANG_SECONDS = 100 };

extern char **environ;

struct model_options model_options = {.seed = 1, .operations = 100000, .threads = 4};
dsm *model_session;
dsm_segment *model_segment;
static char settings_text[256];

static char segment_name[64];

struct contents {
    uint32_t page_bytes;
    char name[sizeof segment_name];
    uint32_t pages;
    bool none[MODEL_PAGES_MOST];    // they have no backing
    bool defined[MODEL_PAGES_MOST]; // of the others the server may have older contents
    uint64_t words[MODEL_PAGES_MOST][WORDS];
};

// ---- checks ----

void model_fail(const char *file, int line, const char *format, ...)
{
    static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
    (void)pthread_mutex_lock(&once); // nobody gives it back
    va_list arguments;
    printf("FAILED %s:%d: ", file, line);
    va_start(arguments, format);
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start() was just called
    vprintf(format, arguments);
    va_end(arguments);
    printf("\nsettings: %s\nagain: vm_model --seed %lu --operations %lu --threads %u%s%s\n",
           settings_text, model_options.seed, model_options.operations, model_options.threads,
           model_options.exact ? " --exact" : "", model_options.states ? " --states" : "");
    (void)fflush(stdout);
    _exit(1);
}

void model_result(const char *file, int line, const char *what, int result, int expected)
{
    if (result != expected) {
        model_fail(file, line, "%s: %d (%s) instead of %d: %s", what, result, dsm_strerror(result),
                   expected, dsm_error()->text);
    }
}

uint64_t model_random(uint64_t *state) // xorshift64*
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

uint64_t model_below(uint64_t *state, uint64_t end)
{
    return (model_random(state) >> 20) % end;
}

// ---- settings ----

static void set(const char *name, const char *value)
{
    size_t used = strlen(settings_text);
    (void)snprintf(settings_text + used, sizeof settings_text - used, "%s=%s ", name, value);
    MODEL_CHECK(setenv(name, value, 1) == 0, "setenv: %s", strerror(errno));
}

static void choose_settings(void)
{
    static const char *const buffers[] = {"1", "4", "256"};
    static const char *const gaps[] = {"4", "0", "256"};
    static const char *const aheads[] = {"1M", "0", "16K"};
    static const char *const workers[] = {"4", "4", "1"};
    static const char *const maps[] = {"0", "0", "24"}; // 24: pages are closed all the time
    static const uint32_t page_bytes[] = {4096, 4096, 4096, 4096, 65536};
    uint64_t random = model_options.seed * UINT64_C(0xd1342543de82ef95) + 1;
    bool second_chance = !model_options.exact && model_below(&random, 2) == 0;
    set("DSM_SWAP_BUFFER", buffers[model_below(&random, 3)]);
    set("DSM_CLEAN_GAP", gaps[model_below(&random, 3)]);
    set("DSM_READ_AHEAD", model_options.exact ? "0" : aheads[model_below(&random, 3)]);
    set("DSM_LAUNDRY", model_options.exact || model_below(&random, 2) == 0 ? "off" : "on");
    set("DSM_FILL", model_below(&random, 2) == 0 ? "pwrite" : "alias");
    set("DSM_EXACT", second_chance ? "off" : "on");
    set("DSM_FAULT_WORKERS", workers[model_below(&random, 3)]);
    set("DSM_MAP_LIMIT", model_options.exact ? "0" : maps[model_below(&random, 3)]);
    model_options.page_bytes = page_bytes[model_below(&random, 5)];
    model_options.cache_pages = second_chance ? 96 : 40; // 96: the smallest without DSM_EXACT
    model_options.pages = model_options.cache_pages * 5 / 2;
}

static uint64_t number(const char *text)
{
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    MODEL_CHECK(errno == 0 && *end == '\0' && end != text, "not a number: %s", text);
    return value;
}

static void take_arguments(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        uint64_t value = 0;
        if (strcmp(argv[i], "--exact") == 0) {
            model_options.exact = true;
            model_options.threads = 1;
            continue;
        }
        if (strcmp(argv[i], "--states") == 0) {
            model_options.states = true;
            continue;
        }
        if (i + 1 < argc) {
            value = number(argv[i + 1]);
        }
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            model_options.seed = value;
        } else if (strcmp(argv[i], "--operations") == 0 && i + 1 < argc) {
            model_options.operations = value;
        } else if (strcmp(argv[i], "--threads") == 0 && value >= 1 && value <= 8) {
            model_options.threads = (uint32_t)value;
        } else {
            fprintf(stderr, "Usage: vm_model [--seed N] [--operations N] [--threads 1...8] "
                            "[--exact | --states]\n");
            exit(2);
        }
        i++;
    }
}

// ---- the identities of the counters, after a run without errors of I/O ----

static bool cleans_add_up(const dsm_statistics *s)
{
    return s->clean_pages ==
           s->clean_writes + s->clean_check_out_cleans - s->clean_unneeded_check_out_cleans;
}

// The laundry may be at work: a write counts when it begins, its page when the answer is in.
static dsm_statistics settled_statistics(void)
{
    enum { ROUNDS = 2000 };
    dsm_statistics s = {.size = sizeof s};
    MODEL_OK(dsm_stats(model_session, &s));
    for (int i = 0; i < ROUNDS && !cleans_add_up(&s); i++) {
        (void)usleep(1000);
        MODEL_OK(dsm_stats(model_session, &s));
    }
    return s;
}

static void check_identities(void)
{
    const dsm_statistics s = settled_statistics();
    uint64_t met = s.swap_in_already_in + s.swap_in_no_read + s.swap_in_reads;
    uint64_t failed = atomic_load(&model_failed_calls);
    // A page that is given up while a touch asks for it.
    uint64_t met_by_touches = model_options.exact ? 0 : atomic_load(&model_given_up);
    MODEL_CHECK(s.swap_in_pages >= met + failed && s.swap_in_pages - met - failed <= met_by_touches,
                "swap-ins: %lu pages, %lu already in, %lu without a read, %lu reads, %lu failed",
                s.swap_in_pages, s.swap_in_already_in, s.swap_in_no_read, s.swap_in_reads, failed);
    MODEL_CHECK(s.swap_in_failed_to_clean_victims == 0, "a victim's write failed");
    MODEL_CHECK(
        cleans_add_up(&s), "clean: %lu pages, %lu writes, %lu taken along, %lu of them given back",
        s.clean_pages, s.clean_writes, s.clean_check_out_cleans, s.clean_unneeded_check_out_cleans);
    MODEL_CHECK(s.clean_cant_writes == s.clean_skipped_pinned + s.clean_skipped_clean +
                                           s.clean_skipped_absent + s.clean_skipped_no_backing,
                "clean: %lu pages passed over, for what reasons?", s.clean_cant_writes);
    MODEL_CHECK(s.read_ahead_pages >= s.read_ahead_used + s.read_ahead_wasted,
                "%lu pages came ahead, %lu used, %lu wasted", s.read_ahead_pages, s.read_ahead_used,
                s.read_ahead_wasted);
    MODEL_CHECK(s.swap_in_physical_runs >= s.swap_in_virtual_runs &&
                    s.clean_physical_runs >= s.clean_virtual_runs,
                "fewer physical runs than virtual ones");
    uint64_t most = (uint64_t)model_options.cache_pages * model_options.page_bytes;
    MODEL_CHECK(s.resident_peak_bytes <= most, "%lu bytes in memory, more than the cache of %lu",
                s.resident_peak_bytes, most);
    MODEL_CHECK(s.faults_failed == 0, "%lu faults failed", s.faults_failed);
    printf(
        "faults %lu, soft %lu, refused %lu; read %lu bytes, wrote %lu, victims %lu (dirty %lu)\n",
        s.faults_read + s.faults_write + s.faults_waited, s.faults_soft,
        atomic_load(&model_refused), s.bytes_read, s.bytes_written, s.victims, s.victims_dirty);
}

// ---- the second client ----

// Read-only no more, and with their zeros on the server, where they count as contents; without pins.
static void prepare_pages(void)
{
    for (uint64_t page = 0; page < model_options.pages; page++) {
        dsm_page_info info;
        MODEL_OK(dsm_page_state(model_segment, page, &info));
        for (; info.pin_count > 0; info.pin_count--) {
            MODEL_OK(dsm_unpin(model_segment, (dsm_interval){page, 1}));
        }
        if (info.data != DSM_DATA_NONE) {
            MODEL_OK(dsm_make_read_write(model_segment, (dsm_interval){page, 1}));
        }
        if (info.data != DSM_DATA_NONE && atomic_load(&model_pages[page].unsent)) {
            MODEL_OK(dsm_swap_in(model_segment, (dsm_interval){page, 1}, DSM_WRITE, DSM_NO_PAGE));
        }
    }
}

static struct contents *note_contents(int *descriptor)
{
    *descriptor = memfd_create("contents", 0); // the other process inherits it
    MODEL_CHECK(*descriptor >= 0 && ftruncate(*descriptor, sizeof(struct contents)) == 0,
                "memfd: %s", strerror(errno));
    struct contents *contents =
        mmap(NULL, sizeof *contents, PROT_READ | PROT_WRITE, MAP_SHARED, *descriptor, 0);
    MODEL_CHECK(contents != MAP_FAILED, "mmap: %s", strerror(errno));
    memcpy(contents->name, segment_name, sizeof segment_name);
    contents->page_bytes = model_options.page_bytes;
    contents->pages = model_options.pages;
    for (uint64_t page = 0; page < model_options.pages; page++) {
        dsm_page_info info;
        MODEL_OK(dsm_page_state(model_segment, page, &info));
        contents->none[page] = info.data == DSM_DATA_NONE;
        contents->defined[page] = info.data != DSM_DATA_UNDEFINED;
        for (uint32_t i = 0; i < WORDS && !contents->none[page]; i++) {
            contents->words[page][i] = model_load(page, i);
        }
    }
    return contents;
}

static void compare(const struct contents *contents)
{
    MODEL_OK(dsm_segment_open(model_session, contents->name, DSM_READ_ONLY, &model_segment));
    for (uint64_t page = 0; page < contents->pages; page++) {
        dsm_page_info info;
        MODEL_OK(dsm_page_state(model_segment, page, &info));
        MODEL_CHECK((info.data == DSM_DATA_NONE) == contents->none[page],
                    "at the next opening page %lu is data %d", page, info.data);
        for (uint32_t i = 0; i < WORDS && !contents->none[page]; i++) {
            uint64_t found = model_load(page, i);
            MODEL_CHECK(found == contents->words[page][i] || !contents->defined[page],
                        "on the server page %lu word %u is %#lx instead of %#lx", page, i, found,
                        contents->words[page][i]);
        }
    }
    MODEL_OK(dsm_segment_close(model_segment));
}

static int check_contents(const char *descriptor)
{
    const struct contents *contents =
        mmap(NULL, sizeof *contents, PROT_READ, MAP_SHARED, (int)number(descriptor), 0);
    MODEL_CHECK(contents != MAP_FAILED, "mmap: %s", strerror(errno));
    model_options.page_bytes = contents->page_bytes;
    MODEL_OK(dsm_open(NULL, &model_session));
    compare(contents);
    MODEL_OK(dsm_close(model_session));
    return 0;
}

static void ask_another_process(int descriptor)
{
    char text[16];
    pid_t child;
    int status = 0;
    (void)snprintf(text, sizeof text, "%d", descriptor);
    char *arguments[] = {program_invocation_name, "--compare", text, NULL};
    MODEL_CHECK(posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environ) == 0,
                "posix_spawn");
    MODEL_CHECK(waitpid(child, &status, 0) == child && status == 0,
                "the second client did not find what the first one left");
}

static void run(void)
{
    const char *server = getenv("DSM_SERVER");
    bool embedded = server == NULL || strcmp(server, "embedded") == 0;
    dsm_options options = {.size = sizeof options,
                           .cache_bytes =
                               (uint64_t)model_options.cache_pages * model_options.page_bytes};
    int descriptor;
    (void)snprintf(segment_name, sizeof segment_name, "model-%d", getpid());
    MODEL_OK(dsm_open(&options, &model_session));
    MODEL_OK(dsm_segment_create(model_session, segment_name,
                                (uint64_t)model_options.pages * model_options.page_bytes,
                                model_options.page_bytes, 0, &model_segment));
    model_reset();
    if (model_options.exact) {
        model_run_exact();
    } else {
        model_run_overlapping();
    }
    prepare_pages();
    const struct contents *contents = note_contents(&descriptor);
    check_identities();
    MODEL_OK(dsm_segment_close(model_segment));
    if (embedded) {
        compare(contents);
    } else {
        ask_another_process(descriptor);
    }
    MODEL_OK(dsm_segment_delete(model_session, segment_name));
    MODEL_OK(dsm_close(model_session));
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--compare") == 0) {
        return check_contents(argv[2]);
    }
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    model_catch();
    take_arguments(argc, argv);
    choose_settings();
    watch_start(HANG_SECONDS + (unsigned)(model_options.operations / 5000));
    printf("seed %lu, %lu operations, %u threads%s, pages of %u bytes: %s\n", model_options.seed,
           model_options.operations, model_options.threads, model_options.exact ? ", exact" : "",
           model_options.page_bytes, settings_text);
    run();
    printf("seed %lu: as the model says\n", model_options.seed);
    return 0;
}
