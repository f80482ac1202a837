// SPDX-License-Identifier: Apache-2.0
//
// A fault, from the handler's side and from the worker's. The handler settles at once what needs no I/O: a page that is in but
// closed, the first store into a clean page, the first touch of a page without contents while memory is free; a page that is
// absent it fetches itself where a lane is free (direct.c). Anything else it puts into the queue, once for a page however many
// threads want it, and sleeps on the page's own word with the thread's own signal mask; it holds nothing meanwhile, so a
// signal handler may leave from here by siglongjmp.
//
// A worker takes the request, asks the policy for neighbours, and runs the swap-in.
#include <errno.h>
#include <limits.h>
#include <sys/syscall.h>

#include "dsm/dsm.h"
#include "libdsm/pager/pager.h"
#include "libdsm/pager/pager_errors.h"
#include "libdsm/stat/probes.h"

enum { SAME_FAULT_MOST = 16 }; // the same touch again and again with nothing to change: not ours

enum settled { SETTLED, WAIT, ASK, BAD, DENIED, FOREIGN };

struct pager *_Atomic pager_of_process;

static __thread __attribute__((tls_model("initial-exec"))) struct {
    uintptr_t address;
    uint32_t word;
    uint32_t times;
    bool write;
} last_fault;

static int64_t deadline_from(const struct pager *pager, int64_t now)
{
    return pager->options.fault_timeout_ms == 0 ? SYNC_FOR_EVER
                                                : sync_later(now, pager->options.fault_timeout_ms);
}

int64_t pager_deadline(const struct pager *pager)
{
    return deadline_from(pager, sync_now());
}

// The place of a segment may be given to another one between any two of these looks, and then its bounds are of two: all
// that was seen is of one segment where its base is still the same afterwards.
struct segment *pager_find(struct pager *pager, uintptr_t address)
{
    for (int i = 0; i < PAGER_SEGMENTS;) {
        uintptr_t base = atomic_load(&pager->views[i].base);
        uintptr_t end = atomic_load(&pager->views[i].end);
        struct segment *segment = atomic_load(&pager->views[i].segment);
        if (address < base || address >= end) {
            i++;
        } else if (atomic_load(&pager->views[i].base) == base) {
            return segment;
        }
    }
    return NULL;
}

int pager_wait_page(struct segment *segment, uint64_t page, int64_t deadline, const uint64_t *mask,
                    bool wake_worker)
{
    struct pager *pager = segment->pager;
    struct page_entry *entry = page_at(&segment->table, page);
    page_set(&segment->table, entry, PAGE_WAITERS, 0);
    uint32_t word = page_word(entry);
    lock_release(&pager->lock);
    if (wake_worker) {
        sync_wake(&pager->queue_word, 1);
    }
    if (mask == NULL) { // else of a fault: count_fault()
        int64_t begun = sync_now();
        STAT_ADD(pager->stat, waits, 1);
        int woken = sync_wait(&entry->word, word, deadline);
        probe_wait(segment->number, page, 0, (u64)(sync_now() - begun));
        return woken;
    }
    sync_mask ours = sync_block_signals();
    sync_restore_signals(*mask);
    int result = sync_wait(&entry->word, word, deadline);
    sync_restore_signals(ours);
    return result;
}

// ---- the handler's side ----

struct course { // of one fault
    int64_t begun, deadline;
    uint8_t attempts; // of the page when it first slept
    bool waited;
    bool frozen;        // it slept for a thaw
    bool joined;        // it sleeps for what another one asked for
    bool tried;         // to fetch for itself
    struct call *ahead; // of a page that is SETTLED: to queue once the lock is free
    struct fault_request request;
    struct fault_trace trace;
};

static void count_already_in(struct counters *stat, struct fault_trace *trace)
{
    STAT_ADD(stat, swap_in_calls, 1);
    STAT_ADD(stat, swap_in_pages, 1);
    STAT_ADD(stat, swap_in_already_in, 1);
    if (trace->on) {
        trace->parts.swap_in[SWAP_COUNT_calls]++;
        trace->parts.swap_in[SWAP_COUNT_pages]++;
        trace->parts.swap_in[SWAP_COUNT_already_in]++;
    }
}

// A touch that the state says should have worked: another thread was faster, or the reason is not ours.
static enum settled spurious(struct segment *segment, uint64_t page, const struct trap_fault *fault)
{
    uint32_t word = page_word(page_at(&segment->table, page));
    if (last_fault.address == fault->address && last_fault.write == fault->write &&
        last_fault.word == word) {
        last_fault.times++;
    } else {
        last_fault.address = fault->address;
        last_fault.write = fault->write;
        last_fault.word = word;
        last_fault.times = 0;
    }
    if (last_fault.times > 0) {
        protection_renew(segment, page);
    }
    return last_fault.times > SAME_FAULT_MOST ? FOREIGN : SETTLED;
}

static enum settled open_page(struct segment *segment, uint64_t page, bool write)
{
    int error = write ? protection_set(segment, page, 1, TRAP_READ_WRITE)
                      : protection_open(segment, page, 1);
    return error == 0 ? SETTLED : ASK; // in a while
}

bool fault_may_store(const struct segment *segment, uint64_t page)
{
    return segment->writable && !page_has(page_at(&segment->table, page), PAGE_READ_ONLY);
}

// The page is in memory; under the lock.
static enum settled settle_resident(struct segment *segment, uint64_t page, enum page_state state,
                                    const struct trap_fault *fault, struct course *course)
{
    struct counters *stat = segment->pager->stat;
    struct page_entry *entry = page_at(&segment->table, page);
    enum trap_access now = protection_of(entry);
    page_set(&segment->table, entry, 0, PAGE_WANTED);
    if (fault->write && !fault_may_store(segment, page)) {
        return DENIED;
    }
    if (now == TRAP_NONE) {
        replacement_touched(&segment->pager->replacement, entry->frame,
                            page_has(entry, PAGE_AHEAD));
    }
    if (fault->write && now < TRAP_TRACKED) {
        if (state == PAGE_WRITING) {
            return WAIT;
        }
        if (open_page(segment, page, true) != SETTLED) {
            return ASK;
        }
        if (now == TRAP_READ) {
            STAT_ADD(stat, faults_upgrade, 1);
            course->trace.outcome |= FAULT_UPGRADE;
            return SETTLED;
        }
    } else if (now != TRAP_NONE) {
        return spurious(segment, page, fault);
    } else if (open_page(segment, page, false) != SETTLED) {
        return ASK;
    }
    if (page_has(entry, PAGE_AHEAD)) { // not before the page is open: who waits for it may give up
        course->ahead = prefetch_touched(segment, page);
    }
    STAT_ADD(stat, faults_soft, 1);
    course->trace.outcome |= FAULT_SOFT;
    count_already_in(stat, &course->trace);
    return SETTLED;
}

static enum settled ask(struct segment *segment, uint64_t page, bool write, struct course *course)
{
    struct pager *pager = segment->pager;
    struct page_entry *entry = page_at(&segment->table, page);
    if (page_has(entry, PAGE_REQUESTED)) {
        return WAIT;
    }
    if (pager->queue_count == PAGER_QUEUE) {
        return ASK;
    }
    uint32_t at = (pager->queue_head + pager->queue_count++) % PAGER_QUEUE;
    pager->queue[at] = (struct fault_request){
        .segment = segment->index,
        .thread = (uint32_t)sync_call(SYS_gettid, 0, 0, 0, 0, 0, 0),
        .page = page,
        .write = write,
        .planned = course->request.planned,
        .plan = course->request.plan,
    };
    course->request.planned = false; // once
    fault_trace_ask(&course->trace, pager, &pager->queue[at]);
    page_set(&segment->table, entry, PAGE_REQUESTED, 0);
    (void)atomic_fetch_add(&pager->queue_word, 1); // woken when the lock is free
    return WAIT;
}

static enum settled settle(struct segment *segment, uint64_t page, const struct trap_fault *fault,
                           bool hopeless, struct course *course)
{
    enum page_state state = page_state(&segment->table, page_at(&segment->table, page));
    switch (state) {
    case PAGE_RESIDENT:
    case PAGE_WRITING:
        return settle_resident(segment, page, state, fault, course);
    case PAGE_UNDEFINED:
    case PAGE_BACKING:
        if (fault->write && !fault_may_store(segment, page)) {
            return DENIED;
        }
        if (backing_fate_of(&segment->placement, page) != BACKING_WELL) {
            return BAD;
        }
        return hopeless ? WAIT : ask(segment, page, fault->write, course);
    case PAGE_NONE:
        return DENIED;
    case PAGE_LOST:
        return BAD;
    default:
        return WAIT;
    }
}

static bool can_fetch(struct segment *segment, uint64_t page, const struct trap_fault *fault)
{
    return segment->pager->direct != NULL &&
           page_state(&segment->table, page_at(&segment->table, page)) == PAGE_BACKING &&
           !page_has(page_at(&segment->table, page), PAGE_REQUESTED) &&
           backing_fate_of(&segment->placement, page) == BACKING_WELL &&
           (!fault->write || fault_may_store(segment, page));
}

static void sleep_on(struct pager *pager, _Atomic uint32_t *word, const uint64_t *mask,
                     int64_t deadline)
{ // under the lock when called, not under it when it returns
    uint32_t seen = atomic_load(word);
    lock_release(&pager->lock);
    sync_mask ours = sync_block_signals();
    sync_restore_signals(*mask);
    (void)sync_wait(word, seen, deadline);
    sync_restore_signals(ours);
}

static void sleep_on_queue(struct segment *segment, uint64_t page, const uint64_t *mask)
{
    struct pager *pager = segment->pager;
    int64_t begun = sync_now();
    STAT_ADD(pager->stat, waits, 1);
    sleep_on(pager, &pager->space_word, mask, sync_after_ms(10));
    probe_wait(segment->number, page, 2, (u64)(sync_now() - begun));
}

static enum trap_verdict failed(struct segment *segment, struct fault_trace *trace)
{
    STAT_ADD(segment->pager->stat, faults_failed, 1);
    trace->outcome |= FAULT_FAILED;
    return TRAP_FAILED;
}

static bool hopeless(const struct course *course, const struct page_entry *entry)
{
    bool tried = course->waited && entry->attempts != course->attempts;
    return (tried && pager_error_final(entry->error)) || sync_now() >= course->deadline;
}

static void count_fault(struct segment *segment, const struct trap_fault *fault, bool asked,
                        struct fault_trace *trace)
{
    struct counters *stat = segment->pager->stat;
    if (asked && fault->write) {
        STAT_ADD(stat, faults_write, 1);
        trace->outcome |= FAULT_WRITE;
    } else if (asked) {
        STAT_ADD(stat, faults_read, 1);
        trace->outcome |= FAULT_READ;
    } else {
        STAT_ADD(stat, faults_waited, 1);
        STAT_ADD(stat, waits, 1);
        trace->outcome |= FAULT_WAITED;
        count_already_in(stat, trace);
    }
}

// Under the lock when called, and when it returns false: then a worker is to be asked, or waited for.
static bool fetch(struct segment *segment, uint64_t page, const struct trap_fault *fault,
                  struct course *course)
{
    struct pager *pager = segment->pager;
    uint8_t attempts = page_at(&segment->table, page)->attempts;
    course->tried = true;
    enum direct_end end = direct_fetch(segment, page, fault->write, &course->request,
                                       &course->trace, course->deadline);
    if (end != DIRECT_NOT) {
        count_fault(segment, fault, true, &course->trace);
    }
    if (end == DIRECT_IN) {
        course->waited = true;
        return true;
    }
    if (end != DIRECT_NOT) {
        course->waited = true;
        course->joined = false;
        course->attempts = attempts;
        course->request.planned = false;
    }
    lock_acquire(&pager->lock);
    return false;
}

// One round; true when the verdict is in.
static bool fault_round(struct segment *segment, uint64_t page, const struct trap_fault *fault,
                        struct course *course, enum trap_verdict *verdict)
{
    struct pager *pager = segment->pager;
    struct page_entry *entry = page_at(&segment->table, page);
    lock_acquire(&pager->lock);
    fault_trace_slept(&course->trace, pager);
    if (segment->frozen) {
        fault_trace_sleep(&course->trace);
        course->frozen = true;
        sleep_on(pager, &pager->thaw_word, fault->mask, SYNC_FOR_EVER);
        return false;
    }
    if (!course->waited && fill_possible(segment, page, fault->write)) {
        if (fill_at_once(segment, page, fault->write, &course->trace)) {
            count_fault(segment, fault, true, &course->trace);
            *verdict = TRAP_RESOLVED;
            return true;
        }
        lock_acquire(&pager->lock);
    }
    if (!course->waited && !course->tried && can_fetch(segment, page, fault) &&
        fetch(segment, page, fault, course)) {
        *verdict = TRAP_RESOLVED;
        return true;
    }
    bool requested = page_has(entry, PAGE_REQUESTED);
    // Who is about to give up asks for nothing that nobody would wait for.
    course->ahead = NULL;
    enum settled settled = settle(segment, page, fault, hopeless(course, entry), course);
    bool asked = !requested && page_has(entry, PAGE_REQUESTED);
    if (settled == BAD || ((settled == WAIT || settled == ASK) && hopeless(course, entry))) {
        lock_release(&pager->lock);
        if (asked) { // others may come to wait for it
            sync_wake(&pager->queue_word, 1);
        }
        *verdict = failed(segment, &course->trace);
        return true;
    }
    if (settled == SETTLED || settled >= DENIED) {
        lock_release(&pager->lock);
        if (course->ahead != NULL) {
            call_queue(pager, course->ahead);
        }
        *verdict = settled == SETTLED  ? TRAP_RESOLVED
                   : settled == DENIED ? TRAP_DENIED
                                       : TRAP_FOREIGN;
        return true;
    }
    if (settled == ASK) {
        fault_trace_sleep(&course->trace);
        sleep_on_queue(segment, page, fault->mask);
        return false;
    }
    if (!course->waited) {
        course->waited = true;
        course->joined = !asked;
        course->attempts = entry->attempts;
        count_fault(segment, fault, asked, &course->trace);
    }
    fault_trace_sleep(&course->trace);
    (void)pager_wait_page(segment, page, course->deadline, fault->mask, asked);
    return false;
}

enum trap_verdict pager_fault(const struct trap_fault *fault)
{
    struct pager *pager = atomic_load_explicit(&pager_of_process, memory_order_acquire);
    struct segment *segment = pager != NULL ? pager_find(pager, fault->address) : NULL;
    if (segment == NULL) {
        return TRAP_FOREIGN;
    }
    uint64_t page = (fault->address - (uintptr_t)segment->view.base) >> segment->page_shift;
    struct course course; // set field by field: most of the trace is not needed
    course.begun = sync_now();
    course.deadline = deadline_from(pager, course.begun);
    course.waited = course.joined = course.frozen = course.tried = false;
    course.request.planned = false;
    fault_trace_begin(&course.trace, course.begun);
    enum trap_verdict verdict;
    while (!fault_round(segment, page, fault, &course, &verdict)) {
        if (course.frozen) { // the segment may have left meanwhile
            segment = pager_find(pager, fault->address);
            if (segment == NULL) {
                return TRAP_FOREIGN;
            }
            course.deadline = pager_deadline(pager);
            course.frozen = false;
        }
    }
    if (course.waited && pager->options.fault_latency != NULL) {
        latency_add(pager->options.fault_latency, sync_now() - course.begun);
    }
    if (course.joined && probe_wait_on()) {
        probe_wait(segment->number, page, 0, (u64)(sync_now() - course.begun));
    }
    if (verdict <= TRAP_FAILED || course.trace.outcome != 0) {
        fault_trace_end(&course.trace, segment, page);
    }
    return verdict;
}
