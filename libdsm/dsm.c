// SPDX-License-Identifier: Apache-2.0
//
// Sessions: opening, closing, counters, threads, fork. One session in a process, since one handler of SIGSEGV and one cache
// serve it; the interface takes the session everywhere all the same, so that this can change.
//
// A forked child has no pager: its views are gone (MADV_DONTFORK), and every call says so.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "libdsm/backing/embedded.h"
#include "libdsm/cache_size.h"
#include "libdsm/error.h"
#include "libdsm/session_api.h"
#include "libdsm/trap/arena.h"

static struct {
    pthread_mutex_t lock;
    dsm *open;
    _Atomic bool forked;
    bool watches_fork;
} process = {.lock = PTHREAD_MUTEX_INITIALIZER};

// A session that lasts until the process ends is not lost memory: where the program has a leak checker, what hangs on
// the mapped session is shown to it.
// NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the sanitizers' names
void __lsan_register_root_region(const void *from, size_t bytes) __attribute__((weak));
void __lsan_unregister_root_region(const void *from, size_t bytes) __attribute__((weak));

static void show_to_leak_checker(const dsm *session, bool show)
{
    void (*say)(const void *, size_t) =
        show ? __lsan_register_root_region : __lsan_unregister_root_region;
    if (say != NULL) {
        say(session, sizeof *session);
    }
}
// NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)

static void in_child(void)
{
    if (process.open != NULL) {
        atomic_store(&process.forked, true);
        atomic_store(&pager_of_process, NULL);
        stat_page_leave(&process.open->page);
        embedded_forget(&process.open->session);
    }
}

int api_alive(void)
{
    if (atomic_load(&process.forked)) {
        return error_set(
            -ECHILD, NULL, DSM_NO_PAGE, NULL,
            "This process was forked from the one that opened the session: call exec, or open the "
            "session after the fork.");
    }
    return 0;
}

static int take_options(struct settings *settings, const dsm_options *options,
                        struct failure *failure)
{
    struct {
        const char *from;
        char *to;
        enum settings_index index;
    } texts[] = {
        {options->server, settings->server, SETTINGS_INDEX_server},
        {options->server_key, settings->server_key, SETTINGS_INDEX_server_key},
        {options->key_file, settings->key_file, SETTINGS_INDEX_key_file},
        {options->cluster, settings->cluster, SETTINGS_INDEX_cluster},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (texts[i].from == NULL) {
            continue;
        }
        if (strlen(texts[i].from) >= sizeof(settings_text)) {
            return failure_set(failure, -EINVAL,
                               "An option of dsm_open() is longer than %zu bytes.",
                               sizeof(settings_text) - 1);
        }
        memcpy(texts[i].to, texts[i].from, strlen(texts[i].from) + 1);
        settings_given(settings, texts[i].index);
    }
    if (options->cache_bytes != 0) {
        settings->cache_bytes = options->cache_bytes;
        settings_given(settings, SETTINGS_INDEX_cache_bytes);
    }
    return 0;
}

static int check_settings(const struct settings *s, struct failure *failure)
{
    uint64_t least = cache_size_least();
    if (s->exact == 0 && s->cache_bytes < least) {
        return failure_set(
            failure, -EINVAL,
            "The cache is %llu bytes: it must be at least %llu (%d pages and %d for each thread "
            "that may fault).",
            (unsigned long long)s->cache_bytes, (unsigned long long)least, LIMIT_CACHE_MIN_PAGES,
            LIMIT_CACHE_PAGES_PER_THREAD);
    }
    if (s->fault_workers < 1 || s->fault_workers > PAGER_MOST_WORKERS) {
        return failure_set(failure, -EINVAL, "DSM_FAULT_WORKERS must be 1 to %d.",
                           PAGER_MOST_WORKERS);
    }
    if (s->swap_buffer_pages < 1 || s->swap_buffer_pages > LIMIT_RUN_PAGES) {
        return failure_set(failure, -EINVAL, "DSM_SWAP_BUFFER must be 1 to %d pages.",
                           LIMIT_RUN_PAGES);
    }
    return 0;
}

static struct pager_options pager_options_of(const struct settings *s)
{
    return (struct pager_options){
        .cache_bytes = s->cache_bytes,
        .fault_timeout_ms = (int64_t)s->fault_timeout_ms,
        .swap_buffer_pages = (uint32_t)s->swap_buffer_pages,
        .clean_gap_pages =
            s->clean_gap_pages > LIMIT_RUN_PAGES ? LIMIT_RUN_PAGES : (uint32_t)s->clean_gap_pages,
        .read_ahead_bytes = s->read_ahead_bytes,
        .fault_workers = (uint32_t)s->fault_workers,
        .map_limit = (uint32_t)s->map_limit,
        .fill = s->fill == SETTINGS_ALIAS ? TRAP_FILL_ALIAS : TRAP_FILL_PWRITE,
        .laundry = s->laundry == SETTINGS_ON_IS_FIRST,
        .direct = s->direct == SETTINGS_ON_IS_FIRST && s->fault_lanes == SETTINGS_SOCK,
        .exact = s->exact != 0,
    };
}

// DSM_TRAP=auto takes what the kernel has; who names a trap shall have it, or be told why not.
static int get_trap(dsm *session, struct failure *failure)
{
    const settings_choice choice = session->settings.trap;
    const bool sync = choice == SETTINGS_UFFD_SYNC;
    const struct trap_ops *uffd;
    int error = choice != SETTINGS_MPROTECT ? trap_uffd_get(!sync, &uffd) : -ENOSYS;
    if (error != 0 && (choice == SETTINGS_UFFD || sync)) {
        return failure_set(failure, error,
                           "DSM_TRAP=%s: userfaultfd with SIGBUS and write protection of shared "
                           "memory is refused here (%s; Linux 6.4 or newer has it). Take "
                           "DSM_TRAP=auto or mprotect.",
                           sync ? "uffd-sync" : "uffd", strerror(-error));
    }
    session->trap = error == 0 ? uffd : &trap_mprotect_ops;
    return 0;
}

static void put_trap(dsm *session)
{
    if (session->trap != NULL && session->trap != &trap_mprotect_ops) {
        trap_uffd_put();
    }
    session->trap = NULL;
}

// What cannot be kept free is left as it is, and a counter tells: a segment that needs just that says what lies there.
static void keep_addresses(dsm *session)
{
    const uint64_t most = LIMIT_BASE_HIGH - LIMIT_BASE_LOW, wanted = session->settings.arena_bytes;
    STAT_ADD(session->counters, arena_bytes,
             arena_get(LIMIT_BASE_LOW, wanted < most ? wanted : most));
}

static int start(dsm *session, struct failure *failure)
{
    struct pager_options options = pager_options_of(&session->settings);
    options.fault_latency = session->page.fault_latency;
    options.trap = session->trap;
    int error = noise_init();
    error = error != 0
                ? error
                : session_start(&session->session, &session->settings, session->counters, failure);
    if (error != 0) {
        return error;
    }
    (void)snprintf(session->server, sizeof session->server, "%s:%s", session->session.host,
                   session->session.port);
    error = pager_start(&session->pager, &options, session->counters, &session->session.backing);
    if (error != 0) {
        session_stop(&session->session);
        return failure_set(failure, error, "The library's threads could not be started.");
    }
    error = trap_install(pager_fault, session->trap != &trap_mprotect_ops);
    if (error != 0) {
        session_cancel(&session->session);
        pager_stop(&session->pager);
        session_stop(&session->session);
        return failure_set(failure, error,
                           "The handler of SIGSEGV or SIGBUS could not be installed.");
    }
    return 0;
}

static enum stat_trap trap_shown(const struct trap_ops *trap)
{
    if (trap == &trap_mprotect_ops) {
        return STAT_TRAP_MPROTECT;
    }
    return trap->tracks ? STAT_TRAP_UFFD : STAT_TRAP_UFFD_SYNC;
}

static int show_counters(dsm *session, struct failure *failure)
{
    const struct settings *s = &session->settings;
    const struct stat_page_facts facts = {
        .cache_bytes = s->cache_bytes,
        .server = s->server,
        .trap = trap_shown(session->trap),
    };
    int error = stat_page_create(&session->page, &facts, s->stat == SETTINGS_ON_IS_FIRST);
    session->counters = session->page.counters;
    return error == 0 ? 0 : failure_set(failure, error, "No memory for the counters.");
}

static int open_session(const dsm_options *options, dsm **result, struct failure *failure)
{
    if (process.open != NULL) {
        return failure_set(failure, -EALREADY,
                           "This process has a session already: close it first. (dsm_alloc() opens "
                           "one when there is none.)");
    }
    if (options != NULL && options->size < sizeof *options) {
        return failure_set(failure, -EINVAL, "dsm_options.size must be sizeof(dsm_options).");
    }
    // Mapped, not from the heap: the handler reads it, and it must not lie in managed memory.
    dsm *session =
        mmap(NULL, sizeof *session, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (session == MAP_FAILED) {
        return failure_set(failure, -ENOMEM, "No memory for a session.");
    }
    (void)pthread_mutex_init(&session->lock, NULL);
    (void)pthread_mutex_init(&session->code_lock, NULL);
    (void)pthread_mutex_init(&session->opening, NULL);
    allocations_init(&session->allocations);
    session->page.fd = -1;
    int error = settings_read(&session->settings, failure);
    error = error != 0 ? error
                       : migrate_steps_arm(&session->steps, secure_getenv("DSM_MIGRATE_FAILPOINT"),
                                           failure);
    if (error == 0 && options != NULL) {
        error = take_options(&session->settings, options, failure);
    }
    error = error != 0 ? error : check_settings(&session->settings, failure);
    error = error != 0 ? error : get_trap(session, failure);
    error = error != 0 ? error : show_counters(session, failure);
    if (error == 0) {
        keep_addresses(session);
        error = start(session, failure);
    }
    if (error != 0) {
        arena_put();
        put_trap(session);
        stat_page_destroy(&session->page);
        (void)munmap(session, sizeof *session);
        return error;
    }
    if (!process.watches_fork) {
        process.watches_fork = pthread_atfork(NULL, NULL, in_child) == 0;
    }
    show_to_leak_checker(session, true);
    process.open = session;
    *result = session;
    return 0;
}

static int say(int error, const dsm_options *options, const struct failure *failure)
{
    if (error == 0) {
        return 0;
    }
    const char *server =
        options != NULL && options->server != NULL ? options->server : getenv("DSM_SERVER");
    return error_set(error, NULL, DSM_NO_PAGE, server, "%s",
                     failure->text[0] != 0 ? failure->text : dsm_strerror(error));
}

DSM_API int dsm_open(const dsm_options *options, dsm **session)
{
    struct failure failure = {.text = ""};
    int error = api_alive();
    if (error != 0) {
        return error;
    }
    (void)pthread_mutex_lock(&process.lock);
    error = open_session(options, session, &failure);
    (void)pthread_mutex_unlock(&process.lock);
    return say(error, options, &failure);
}

int api_session_get(dsm **session)
{
    struct failure failure = {.text = ""};
    int error = api_alive();
    if (error != 0) {
        return error;
    }
    (void)pthread_mutex_lock(&process.lock);
    if (process.open == NULL) {
        error = open_session(NULL, session, &failure);
    } else {
        *session = process.open;
    }
    (void)pthread_mutex_unlock(&process.lock);
    return say(error, NULL, &failure);
}

dsm *api_session_present(bool wait)
{
    if (atomic_load(&process.forked) ||
        (wait ? pthread_mutex_lock(&process.lock) : pthread_mutex_trylock(&process.lock)) != 0) {
        return NULL;
    }
    dsm *session = process.open;
    (void)pthread_mutex_unlock(&process.lock);
    return session;
}

DSM_API int dsm_close(dsm *session)
{
    if (session == NULL) {
        return 0;
    }
    int error = api_alive();
    if (error != 0) {
        return error;
    }
    int first = 0;
    while (session->segments != NULL) {
        error = segment_drop(session->segments);
        first = first != 0 ? first : error;
    }
    (void)pthread_mutex_lock(&process.lock);
    trap_uninstall();
    session_cancel(&session->session);
    pager_stop(&session->pager);
    session_stop(&session->session);
    put_trap(session);
    arena_put();
    process.open = NULL;
    (void)pthread_mutex_unlock(&process.lock);
    allocations_clear(&session->allocations);
    (void)pthread_mutex_destroy(&session->opening);
    (void)pthread_mutex_destroy(&session->code_lock);
    (void)pthread_mutex_destroy(&session->lock);
    stat_page_destroy(&session->page);
    show_to_leak_checker(session, false);
    (void)munmap(session, sizeof *session);
    return first;
}

DSM_API const char *dsm_trap(const dsm *session)
{
    return session->trap->name;
}

DSM_API int dsm_stats(dsm *session, dsm_statistics *statistics)
{
    int error = api_alive();
    if (error != 0) {
        return error;
    }
    if (statistics->size < sizeof *statistics) {
        return error_set(-EINVAL, NULL, DSM_NO_PAGE, NULL,
                         "dsm_statistics.size must be sizeof(dsm_statistics).");
    }
#define DSM_COUNTER(name, ...) statistics->name = STAT_GET(session->counters, name);
#include <dsm/counters.def>
#undef DSM_COUNTER
    return 0;
}

_Static_assert((int)DSM_LATENCY_BUCKETS == (int)LATENCY_BUCKETS, "the public struct's are ours");

DSM_API int dsm_fault_latency(dsm *session, dsm_latency *latency)
{
    int error = api_alive();
    if (error != 0) {
        return error;
    }
    if (latency->size < sizeof *latency) {
        return error_set(-EINVAL, NULL, DSM_NO_PAGE, NULL,
                         "dsm_latency.size must be sizeof(dsm_latency).");
    }
    const struct latency *from = session->page.fault_latency;
    latency->total_ns = atomic_load_explicit(&from->total_ns, memory_order_relaxed);
    for (size_t i = 0; i < LATENCY_BUCKETS; i++) {
        latency->buckets[i] = atomic_load_explicit(&from->buckets[i], memory_order_relaxed);
    }
    latency->count = latency_count(latency->buckets);
    return 0;
}

DSM_API uint64_t dsm_latency_percentile(const dsm_latency *latency, double percent)
{
    return latency_percentile(latency->buckets, percent);
}

// ---- threads ----

static pthread_key_t stack_key;
static pthread_once_t stack_once = PTHREAD_ONCE_INIT;

static void free_stack(void *at)
{
    stack_t none = {.ss_flags = SS_DISABLE};
    (void)sigaltstack(&none, NULL);
    (void)munmap(at, LIMIT_SIGNAL_STACK_BYTES);
}

static void make_stack_key(void)
{
    (void)pthread_key_create(&stack_key, free_stack);
}

DSM_API int dsm_thread_init(void)
{
    (void)pthread_once(&stack_once, make_stack_key);
    if (pthread_getspecific(stack_key) != NULL) {
        return 0;
    }
    void *at = mmap(NULL, LIMIT_SIGNAL_STACK_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (at == MAP_FAILED) {
        return error_set(-ENOMEM, NULL, DSM_NO_PAGE, NULL, "No memory for a signal stack.");
    }
    stack_t stack = {.ss_sp = at, .ss_size = LIMIT_SIGNAL_STACK_BYTES};
    if (sigaltstack(&stack, NULL) != 0 || pthread_setspecific(stack_key, at) != 0) {
        int error = -errno;
        (void)munmap(at, LIMIT_SIGNAL_STACK_BYTES);
        return error_set(error, NULL, DSM_NO_PAGE, NULL, "The signal stack could not be set.");
    }
    return 0;
}
