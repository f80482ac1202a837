// SPDX-License-Identifier: Apache-2.0
//
// The pager's threads: some serve faults, two carry out the program's calls, one fetches what nobody waits for, one is the
// laundry. Their number is fixed at the start. All signals are blocked in them, so the lock's rule holds by itself.
//
// A call is carried out by a worker and not by its own thread, for two reasons: the thread can take signals while it waits,
// with nothing held, and it cannot be stopped in the middle with pages checked out. The call's record is therefore
// the pager's, not on the caller's stack. A thread has one at most: when its signal handler left a call by siglongjmp, its next
// call takes the record over, once nobody works on it; the record of a thread that ended is anybody's.
//
// From the queue to its end a call keeps its segment from being detached, for nobody may be waiting for it any more.
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "dsm/dsm.h"
#include "libdsm/pager/pager.h"

enum { CALL_FREE, CALL_TAKEN, CALL_QUEUED, CALL_QUEUED_AHEAD, CALL_RUNNING, CALL_DONE };
enum { MAPS_FOR_THE_PROGRAM = 8192, MAP_COUNT_DEFAULT = 65530 };

// ---- faults ----

static bool next_fault(struct pager *pager, struct fault_request *request)
{
    lock_acquire(&pager->lock);
    bool any = pager->queue_count > 0;
    if (any) {
        *request = pager->queue[pager->queue_head];
        pager->queue_head = (pager->queue_head + 1) % PAGER_QUEUE;
        if (pager->queue_count-- == PAGER_QUEUE) {
            (void)atomic_fetch_add(&pager->space_word, 1);
            sync_wake(&pager->space_word, INT_MAX);
        }
    }
    lock_release(&pager->lock);
    return any;
}

static void *serve_faults(void *argument)
{
    struct pager *pager = argument;
    uint32_t seen;
    while (sync_goes_on(&pager->stopping, &pager->queue_word, &seen)) {
        struct fault_request request;
        if (next_fault(pager, &request)) {
            pager_serve(pager, &request);
        } else {
            (void)sync_wait(&pager->queue_word, seen, SYNC_FOR_EVER);
        }
    }
    return NULL;
}

// ---- calls ----

struct call *call_try(struct pager *pager, uint32_t owner)
{
    for (int i = 0; i < PAGER_CALLS; i++) {
        uint32_t free_state = CALL_FREE;
        if (atomic_compare_exchange_strong(&pager->calls[i].state, &free_state, CALL_TAKEN)) {
            atomic_store(&pager->calls[i].owner, owner);
            return &pager->calls[i];
        }
    }
    return NULL;
}

void call_queue(struct pager *pager, struct call *call)
{
    bool ahead = call->kind == CALL_PREFETCH;
    _Atomic uint32_t *word = ahead ? &pager->prefetch_word : &pager->call_word;
    atomic_store(&call->state, ahead ? CALL_QUEUED_AHEAD : CALL_QUEUED);
    (void)atomic_fetch_add(word, 1);
    sync_wake(word, 1);
}

void call_free(struct pager *pager, struct call *call)
{
    uint32_t owner = atomic_load(&call->owner);
    atomic_store(&call->state, CALL_FREE);
    // Unless it is another's by now. A leap before this one leaves a free record with an owner: harmless.
    (void)atomic_compare_exchange_strong(&call->owner, &owner, 0);
    (void)atomic_fetch_add(&pager->call_free_word, 1);
    sync_wake(&pager->call_free_word, 1);
}

static void run_swap_in(struct pager *pager, struct call *call)
{
    struct swap swap = {
        .pager = pager,
        .segment = call->segment,
        .page = call->page,
        .end = call->page + call->count,
        .flags = call->flags,
        .next_page = call->next_page,
        .demand = DSM_NO_PAGE,
        .last_sent = prefetch_start,
        .class = BACKING_CALL,
        .deadline = pager_deadline(pager),
    };
    call->error = pager_swap_in(&swap);
    fault_record_rest(&swap, 0);
    call->failed_page = swap.failed_page;
    if (call->error != 0) {
        call->failed_segment = swap.failed_segment->index;
    }
}

static void run_clean(struct pager *pager, struct call *call)
{
    struct clean clean = {
        .pager = pager,
        .segment = call->segment,
        .page = call->page,
        .end = call->page + call->count,
        .all = call->kind == CALL_CLEAN_ALL,
    };
    call->error = pager_clean(&clean);
    call->failed_page = clean.failed_page;
    call->failed_segment = call->segment->index;
    call->passed_over = clean.passed_over;
}

static void run_data_state(struct pager *pager, struct call *call)
{
    struct data_change change = {
        .segment = call->segment,
        .page = call->page,
        .end = call->page + call->count,
        .data = (enum dsm_data)call->flags,
        .deadline = pager_deadline(pager),
    };
    call->error = pager_set_data(&change);
    call->failed_page = change.failed_page;
    call->failed_segment = call->segment->index;
}

static struct call *next_call(struct pager *pager, uint32_t state)
{
    for (int i = 0; i < PAGER_CALLS; i++) {
        uint32_t queued = state;
        if (atomic_compare_exchange_strong(&pager->calls[i].state, &queued, CALL_RUNNING)) {
            return &pager->calls[i];
        }
    }
    return NULL;
}

struct call *call_next_ahead(struct pager *pager)
{
    return atomic_load(&pager->stopping) == 0 ? next_call(pager, CALL_QUEUED_AHEAD) : NULL;
}

// Signals are blocked.
static void leave_segment(struct pager *pager, struct segment *segment)
{
    lock_acquire(&pager->lock);
    pager_leave(segment);
    lock_release(&pager->lock);
}

static void run_call(struct pager *pager, struct call *call)
{
    if (call->kind == CALL_SWAP_IN) {
        run_swap_in(pager, call);
    } else if (call->kind == CALL_DATA_STATE) {
        run_data_state(pager, call);
    } else if (call->kind == CALL_FLUSH) {
        pager_flush(pager, call);
    } else {
        run_clean(pager, call);
    }
    leave_segment(pager, call->segment);
    atomic_store(&call->state, CALL_DONE);
    sync_wake(&call->state, INT_MAX);
}

static void serve(struct pager *pager, _Atomic uint32_t *word, uint32_t state,
                  void (*run)(struct pager *pager, struct call *call))
{
    uint32_t seen;
    while (sync_goes_on(&pager->stopping, word, &seen)) {
        struct call *call = next_call(pager, state);
        if (call != NULL) {
            run(pager, call);
        } else {
            (void)sync_wait(word, seen, SYNC_FOR_EVER);
        }
    }
}

static void *serve_calls(void *argument)
{
    struct pager *pager = argument;
    serve(pager, &pager->call_word, CALL_QUEUED, run_call);
    return NULL;
}

static void *serve_prefetches(void *argument) // nobody waits for them
{
    struct pager *pager = argument;
    serve(pager, &pager->prefetch_word, CALL_QUEUED_AHEAD, prefetch_run);
    return NULL;
}

// False: it is in another state by now.
static bool take_over(struct pager *pager, struct call *call, uint32_t state)
{
    sync_mask mask = sync_block_signals(); // no leap before its segment is left
    bool taken = atomic_compare_exchange_strong(&call->state, &state, CALL_TAKEN);
    if (taken && state == CALL_QUEUED) {
        leave_segment(pager, call->segment);
    }
    sync_restore_signals(mask);
    return taken;
}

// The record of a call that this thread left, or NULL. Not begun, it is not carried out any more.
static struct call *left_call(struct pager *pager, uint32_t self)
{
    for (int i = 0; i < PAGER_CALLS; i++) {
        struct call *call = &pager->calls[i];
        uint32_t state;
        while (atomic_load(&call->owner) == self &&
               (state = atomic_load(&call->state)) != CALL_FREE) {
            if (state == CALL_RUNNING) {
                (void)sync_wait(&call->state, state, SYNC_FOR_EVER);
            } else if (take_over(pager, call, state)) {
                return call;
            }
        }
    }
    return NULL;
}

// Of a thread that left its call and ended.
static struct call *orphaned_call(struct pager *pager, uint32_t self)
{
    long process = sync_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
    for (int i = 0; i < PAGER_CALLS; i++) {
        struct call *call = &pager->calls[i];
        uint32_t owner = atomic_load(&call->owner);
        uint32_t done = CALL_DONE;
        if (owner != 0 && sync_call(SYS_tgkill, process, (long)owner, 0, 0, 0, 0) == -ESRCH &&
            atomic_compare_exchange_strong(&call->state, &done, CALL_TAKEN)) {
            atomic_store(&call->owner, self);
            return call;
        }
    }
    return NULL;
}

// Signals are blocked when it returns: no leap before the record is this thread's and, with its segment in use, queued.
static struct call *take_call(struct pager *pager, sync_mask *mask)
{
    enum { LOOK_AGAIN_MS = 100 };
    uint32_t self = (uint32_t)sync_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
    struct call *call = left_call(pager, self);
    for (;;) {
        uint32_t seen = atomic_load(&pager->call_free_word);
        *mask = sync_block_signals();
        call = call != NULL ? call : call_try(pager, self);
        call = call != NULL ? call : orphaned_call(pager, self);
        if (call != NULL) {
            return call;
        }
        sync_restore_signals(*mask);
        (void)sync_wait(&pager->call_free_word, seen, sync_after_ms(LOOK_AGAIN_MS));
    }
}

// Signals are blocked.
static void begin(struct pager *pager, struct call *ours, const struct call *call)
{
    ours->kind = call->kind;
    ours->segment = call->segment;
    ours->page = call->page;
    ours->count = call->count;
    ours->next_page = call->next_page;
    ours->flags = call->flags;
    ours->passed_over = 0;
    lock_acquire(&pager->lock);
    call->segment->users++;
    lock_release(&pager->lock);
    call_queue(pager, ours);
}

// Of nobody: its thread may have others under way, and none of them is one that it left.
struct call *pager_call_begin(struct pager *pager, const struct call *call)
{
    sync_mask mask = sync_block_signals();
    struct call *ours = call_try(pager, 0);
    if (ours != NULL) {
        begin(pager, ours, call);
    }
    sync_restore_signals(mask);
    return ours;
}

int pager_call_end(struct pager *pager, struct call *ours, struct call *call)
{
    uint32_t state;
    while ((state = atomic_load(&ours->state)) != CALL_DONE) {
        (void)sync_wait(&ours->state, state, SYNC_FOR_EVER);
    }
    call->error = ours->error;
    call->failed_page = ours->failed_page;
    call->failed_segment = ours->failed_segment;
    call->passed_over = ours->passed_over;
    call_free(pager, ours);
    return call->error;
}

int pager_call(struct pager *pager, struct call *call)
{
    sync_mask mask;
    struct call *ours = take_call(pager, &mask);
    begin(pager, ours, call);
    sync_restore_signals(mask);
    return pager_call_end(pager, ours, call);
}

// ---- start and stop ----

static uint32_t map_limit(uint32_t wanted)
{
    long limit = MAP_COUNT_DEFAULT;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
    if (file != NULL) {
        char line[32] = "";
        char *end = line;
        if (fgets(line, sizeof line, file) != NULL) {
            limit = strtol(line, &end, 10);
        }
        (void)fclose(file);
        limit =
            end == line || limit < 2L * MAPS_FOR_THE_PROGRAM ? 2L * MAPS_FOR_THE_PROGRAM : limit;
    }
    limit -= MAPS_FOR_THE_PROGRAM;
    limit = limit > UINT32_MAX ? UINT32_MAX : limit;
    return wanted != 0 && wanted < limit ? wanted : (uint32_t)limit;
}

static int start_thread(struct pager *pager, void *(*run)(void *), void *argument)
{
    int error = -pthread_create(&pager->threads[pager->thread_count], NULL, run, argument);
    pager->thread_count += error == 0;
    return error;
}

// A lane that a worker holds is one over which no thread can fetch its page itself, and two hand-overs cost more than the
// fetching. Where as many workers as lanes were at it, many threads once handed over were handed over for good. So workers
// get half of the lanes; who stands in line for one still gets its turn.
static uint32_t fault_workers(const struct pager *pager)
{
    uint32_t most = pager->options.fault_workers;
    return pager->direct_count > 0 ? (most + 1) / 2 : most;
}

static int start_threads(struct pager *pager)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)sigdelset(&all, SIGSEGV);
    (void)sigdelset(&all, SIGBUS);
    (void)sigdelset(&all, SIGILL);
    (void)sigdelset(&all, SIGFPE);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    for (uint32_t i = 0; i < fault_workers(pager) && error == 0; i++) {
        error = start_thread(pager, serve_faults, pager);
    }
    for (int i = 0; i < PAGER_CALL_WORKERS && error == 0; i++) {
        error = start_thread(pager, serve_calls, pager);
    }
    if (error == 0) {
        error = start_thread(pager, serve_prefetches, pager);
    }
    if (error == 0 && pager->options.laundry) {
        error = start_thread(pager, laundry_run, pager);
    }
    for (uint32_t i = 0; i < pager->direct_count && error == 0; i++) {
        struct direct *direct = direct_of(pager, i);
        error = direct != NULL ? start_thread(pager, direct_go_on, direct) : 0;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

int pager_start(struct pager *pager, const struct pager_options *options, struct counters *stat,
                struct backing *backing)
{
    pager->options = *options;
    pager->options.map_limit = map_limit(options->map_limit);
    if (pager->options.fault_workers > PAGER_MOST_WORKERS) {
        pager->options.fault_workers = PAGER_MOST_WORKERS;
    }
    pager->stat = stat;
    pager->backing = backing;
    uint64_t frames = options->cache_bytes / LIMIT_PAGE_MIN_BYTES;
    void *table = mmap(NULL, frames * sizeof(struct frame), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (table == MAP_FAILED || frames >= FRAME_NONE) {
        return -ENOMEM;
    }
    replacement_start(&pager->replacement, table, (uint32_t)frames);
    int error = options->direct ? direct_start(pager) : 0;
    error = error != 0 ? error : start_threads(pager);
    if (error != 0) {
        pager_stop(pager);
        return error;
    }
    atomic_store(&pager_of_process, pager);
    return 0;
}

void pager_stop(struct pager *pager)
{
    atomic_store(&pager_of_process, NULL);
    atomic_store(&pager->stopping, 1);
    _Atomic uint32_t *words[] = {&pager->queue_word, &pager->call_word, &pager->prefetch_word,
                                 &pager->laundry_word, &pager->frames_word};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        (void)atomic_fetch_add(words[i], 1);
        sync_wake(words[i], INT_MAX);
    }
    direct_stop(pager);
    for (uint32_t i = 0; i < pager->thread_count; i++) {
        (void)pthread_join(pager->threads[i], NULL);
    }
    direct_free(pager);
    (void)munmap(pager->replacement.frames, pager->replacement.room * sizeof(struct frame));
}
