// SPDX-License-Identifier: Apache-2.0
//
// The one place where the rooms meet: what the pager's files share. Everything that pager_fault() and pager_serve() reach is
// handler-safe: no malloc, no stdio, no pthread, no gRPC (but over a gRPC lane, which only our own threads use).
//
// One lock, pager->lock. Whoever holds it has asynchronous signals blocked, does no I/O, does not wait, and does not
// touch managed memory. Fields marked (L) are under it. Waits are on a page's word, or on one of the futexes below, with
// nothing checked out but what is on its way, and never for a page with a lane in hand.
#ifndef LIBDSM_PAGER_PAGER_H
#define LIBDSM_PAGER_PAGER_H

#include <pthread.h>
#include <stdbool.h>

#include "dsm/dsm.h"
#include "libdsm/backing/backing.h"
#include "libdsm/page/page_table.h"
#include "libdsm/pager/fault_record.h"
#include "libdsm/policy/first_touch.h"
#include "libdsm/policy/read_ahead.h"
#include "libdsm/policy/replacement.h"
#include "libdsm/sync/futex.h"
#include "libdsm/sync/lock.h"
#include "libdsm/trap/trap.h"
#include "rpc/latency.h"

enum {
    PAGER_SEGMENTS = LIMIT_SESSION_SEGMENTS,
    PAGER_QUEUE = 1024, // faults that wait for a worker
    PAGER_CALLS = 64,   // calls of the program under way
    PAGER_BATCH = LIMIT_RUN_PAGES,
    PAGER_FAILED_VICTIMS = 64,
    PAGER_WANTED_MS =
        1000, // how long a delivered page waits for its thread before it may be a victim
    PAGER_MOST_WORKERS = 32,
    PAGER_CALL_WORKERS = 2,
    PAGER_DIRECT_MS = 20, // how long a thread stays in its handler for an answer
};

static inline uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

struct segment {
    struct pager *pager;
    uint32_t index;
    uint32_t number; // in this process, never again: what probes call it
    uint32_t page_bytes;
    uint32_t page_shift;
    bool writable;
    struct backing_segment backing; // at the first store
    struct placement placement;     // of its pages in stores
    struct page_table table;        // (L)
    struct trap_view view;
    struct read_ahead ahead;    // (L)
    struct first_touch fresh;   // (L)
    uint64_t pinned_pages;      // (L)
    uint64_t none_pages;        // (L) in state NONE
    bool arrived;               // it came here in a capsule
    bool frozen;                // (L) no page is opened: who touches one waits for the thaw
    _Atomic uint32_t giving_up; // a call gives pages up or allocates them: one at a time
    uint32_t users;             // (L) our own threads at work on it, and calls queued
    int laundry_error;          // (L) of the first page that the laundry could not write
    uint64_t laundry_page;      // (L)
    bool write_failed;          // (L) the last write of its pages
    char name[LIMIT_SEGMENT_NAME_BYTES];
};

struct fault_request {
    uint32_t record, ticket; // of who asks (fault_record.h); record 0: none
    uint32_t segment;
    uint32_t thread; // that asks
    bool write;
    uint64_t page;
    bool planned; // by the thread itself
    struct read_ahead_plan plan;
};

enum call_kind {
    CALL_SWAP_IN,
    CALL_CLEAN,
    CALL_CLEAN_ALL,
    CALL_DATA_STATE,
    CALL_FLUSH,
    CALL_PREFETCH
};
// Of the program, carried out by a worker, so that its thread may take signals meanwhile.
struct call {
    _Atomic uint32_t state; // free, taken, queued, running, done (workers.c): a futex
    _Atomic uint32_t owner; // thread that waits for it; 0: none
    enum call_kind kind;
    struct segment *segment;
    uint64_t page, count, next_page;
    struct read_ahead_plan plan; // CALL_PREFETCH; of count 0: the program's own hint
    unsigned flags;
    int error;
    uint64_t failed_page;
    uint32_t failed_segment;
    uint64_t passed_over;
};

struct pager_options {
    uint64_t cache_bytes;
    int64_t fault_timeout_ms; // 0: for ever
    uint32_t swap_buffer_pages;
    uint32_t clean_gap_pages;
    uint64_t read_ahead_bytes;
    uint32_t fault_workers;
    uint32_t map_limit;
    enum trap_fill fill;
    const struct trap_ops *trap; // NULL: trap_mprotect_ops
    bool laundry;
    bool direct;                   // the lanes of faults have patience: a thread fetches for itself
    bool exact;                    // no second chance, no limit to pins
    struct latency *fault_latency; // of faults that waited; or NULL
};

struct direct; // direct.c: a fault whose thread fetches for itself, by the number of its lane

struct pager {
    struct lock lock;
    _Atomic uint32_t numbers; // of segments, given so far
    struct pager_options options;
    struct counters *stat;
    struct counters unseen; // what a prefetch does is not the program's doing
    struct backing *backing;
    struct replacement replacement; // (L)
    uint64_t resident_bytes;        // (L) frames in use or promised
    uint64_t attached_bytes;        // (L) of all segments
    uint32_t largest_page;          // (L) bytes, of the segments since there was none
    uint64_t pinned_bytes;          // (L)
    uint64_t open_pages;            // (L) that the program may touch without a trap
    uint64_t edges;                 // (L) places where protection changes, if they cost mappings
    // Free bytes between which the laundry works; changed under the lock.
    _Atomic uint64_t low_water, high_water;
    struct {
        _Atomic uintptr_t base, end;
        struct segment *_Atomic segment;
    } views[PAGER_SEGMENTS];                 // looked up by the handler
    struct fault_request queue[PAGER_QUEUE]; // (L)
    uint32_t queue_head, queue_count;        // (L)
    _Atomic uint32_t queue_word;             // changes when a fault is queued
    _Atomic uint32_t space_word;             // changes when the queue has room again
    _Atomic uint32_t frames_word;            // changes when a frame may have become free
    _Atomic uint32_t laundry_word;
    _Atomic uint32_t laundry_idle;
    _Atomic uint32_t call_word;
    _Atomic uint32_t prefetch_word;
    _Atomic uint32_t thaw_word; // changes when a frozen segment is thawed, or gone
    _Atomic uint32_t call_free_word;
    _Atomic uint32_t stopping;
    struct call calls[PAGER_CALLS];
    struct fault_record records[FAULT_RECORDS]; // (L)
    uint32_t record_hand;                       // (L)
    struct direct *direct;                      // for each lane of faults; NULL: none
    uint32_t direct_count;
    pthread_t threads[2 * PAGER_MOST_WORKERS + PAGER_CALL_WORKERS + 2];
    uint32_t thread_count;
};

// The most pages of one run.
static inline uint32_t pager_run_pages(const struct segment *segment)
{
    uint32_t most = LIMIT_RUN_BYTES / segment->page_bytes;
    uint32_t buffer = segment->pager->options.swap_buffer_pages;
    return buffer < most ? buffer : most;
}

// ---- protection.c (all under the lock) ----
enum trap_access protection_of(const struct page_entry *entry);
// Sets what the program may do with these pages, and their flags. 0, or -ENOMEM: they stay closed or as they were. TRACKED: none of
// them is so now.
int protection_set(struct segment *segment, uint64_t page, uint64_t count, enum trap_access access);
// The page is open, and a touch of it was trapped all the same: the kernel may have shut it by itself.
void protection_renew(struct segment *segment, uint64_t page);
// Opens those that are closed to loads, and to stores where the trap would notice them.
int protection_open(struct segment *segment, uint64_t page, uint64_t count);
// What the trap knows of stores into these pages: their marks are as of now.
void protection_look(struct segment *segment, uint64_t page, uint64_t count);
// Takes write access from those that have it, and looks. And gives it back where the trap would notice a store.
void protection_no_writes(struct segment *segment, uint64_t page, uint64_t count);
void protection_writes_again(struct segment *segment, uint64_t page, uint64_t count);
// Of a page that is to lose its contents, and that somebody else has pinned. False: it may be stored into, or was just now, and that
// must not be forgotten.
bool protection_shut_pinned(struct segment *segment, uint64_t page);
// From now on a store is noticed. False: it would not be.
bool protection_watch(struct segment *segment, uint64_t page);

// ---- frames.c ----
struct victim {
    struct segment *segment;
    uint64_t page;
};
struct claims { // of one swap-in: victims taken from their pages, not yet punched
    struct victim victims[PAGER_BATCH];
    uint32_t count;
    uint64_t credit;                            // bytes that they gave and that no page has yet
    uint64_t kept;                              // free bytes that are for others: rather a victim's
    struct victim failed[PAGER_FAILED_VICTIMS]; // dirty ones that could not be written
    uint32_t failed_count;
    int failed_error; // of the last of them
    bool others;      // some frames were passed over that may be victims soon
};
enum claim { CLAIM_DONE, CLAIM_DIRTY, CLAIM_NONE };
// Under the lock: memory for one page of `bytes`: free, or of clean victims, which are recorded; or a dirty victim, nothing done
// yet. CLAIM_NONE: none now (*all_failed: since every victim's write failed).
enum claim frames_claim(struct pager *pager, struct claims *claims, uint64_t bytes,
                        struct victim *dirty, bool *all_failed);
bool frames_take_victim(struct pager *pager, struct claims *claims,
                        struct victim victim); // (L) RESIDENT or WRITING
void frames_note_failed(struct claims *claims, struct victim victim,
                        int error); // not to be chosen again in this swap-in
void frames_discard(struct pager *pager,
                    struct claims *claims); // not under the lock: punches the victims
void frames_settle(struct pager *pager, struct claims *claims); // discards, and gives credit back
void frames_release(struct pager *pager, uint64_t bytes);       // (L)
bool frames_evictable(const struct pager *pager, const struct segment *segment,
                      uint64_t page);                            // (L)
bool frames_needs_write(struct segment *segment, uint64_t page); // (L) before it goes; looks
uint64_t frames_free(const struct pager *pager);                 // (L) bytes
// (L) A segment has come (sign 1), or goes (-1): how much is to be kept free depends on how large all are.
void frames_count_attached(struct pager *pager, const struct segment *segment, int sign);
// (L) The mark's bytes are free. promised: they will be, too.
bool frames_enough(const struct pager *pager, uint64_t promised, uint64_t mark);
// (L) So many bytes are free, and so many more that are to be kept.
bool frames_spare(const struct pager *pager, uint64_t bytes, uint64_t kept);
struct segment *frames_owner(const struct pager *pager, uint32_t frame);
// (L) What replacement finds in a frame that may be taken: an open page is closed, with its neighbours.
enum replacement_view frames_view(struct pager *pager, uint32_t frame);

// ---- a run of writes: of a clean, of the laundry, or of a swap-in's victim (clean.c) ----
struct clean_run { // pages side by side that are written, or are to be
    struct segment *segment;
    struct backing_lane *lane;
    uint64_t base;
    uint32_t count;
    uint32_t dirty_count;                       // to the last dirty one
    uint32_t pieces;                            // of the placement
    uint32_t part_count;                        // physical runs, under way
    struct backing_run parts[LIMIT_RUN_PIECES]; // these
    uint8_t was_dirty[WIRE_MAP_BYTES];
    int64_t deadline;
    int error;
    uint64_t failed_page;
};

// ---- swap_in.c ----
struct swap {
    struct pager *pager;
    struct segment *segment;
    uint64_t first, page, end;
    unsigned flags; // DSM_KILL, DSM_PIN, DSM_WRITE
    uint64_t next_page;
    uint64_t demand; // page that a thread waits for, or DSM_NO_PAGE
    bool demand_write;
    bool fault;
    bool prefetch;               // into free frames only; counted by itself
    struct read_ahead_plan plan; // beside the demanded page, or for nobody yet; count 0: nothing
    bool
        no_wait; // in a handler: give up with -EAGAIN before anything that has to be waited for but the lane's answers
    enum backing_class class;
    int64_t deadline;
    // The last request has left, its answer is not in; or NULL.
    void (*last_sent)(struct swap *swap);
    // the room's own
    struct backing_lane *lane; // or the caller's, before
    uint64_t base;
    uint64_t frame_awaited; // the page that last waited for a frame, + 1: it counts once
    uint32_t count;
    uint32_t pieces; // of the run in hand: physical runs
    bool keep_lane;  // it is the caller's
    bool skipping;
    bool last;                                 // the run in hand is the last
    struct backing_run runs[LIMIT_RUN_PIECES]; // physical ones, under way
    uint32_t run_count, run_next;
    bool unfinished; // the lane's patience ended before the answer was in
    // no_wait: a dirty victim, in WRITING, whose write leaves just before the run; the touched page has its memory from it.
    struct victim victim;
    struct clean_run victim_run;
    enum { VICTIM_NONE, VICTIM_TO_SEND, VICTIM_SENT } victim_state;
    struct claims claims;
    struct counters *stat;  // Cedar's, or nobody's
    _Atomic uint32_t *wake; // the demanded page's word, once the lock is free
    bool demand_settled;    // it is in, or its failure was told: a request for it is another's
    int error;
    uint64_t failed_page;
    struct segment *failed_segment;
    uint32_t counted[DSM_SWAP_IN_COUNTERS]; // what no fault_end has told (enum swap_count)
    bool all_failed;                        // why there is no frame: no victim could be written
    int64_t frame_since;                    // when the wait for a frame began that was counted
    // For a fault: the request, when its worker took it, and what became of it.
    const struct fault_request *request;
    int64_t picked;
    uint64_t waited_ns; // by the worker, for a page, a frame, a lane, or a victim's write
    struct fault_run run;
    struct backing_lane *timed; // the lane that fetches the demanded page
};
#define SWAP_ADD(swap, name, n)                                                                    \
    (STAT_ADD((swap)->stat, swap_in_##name, n),                                                    \
     (void)((swap)->counted[SWAP_COUNT_##name] += (uint32_t)(n)))
// -EINPROGRESS (no_wait): the request has left, and the lane's patience ended, whatever else failed.
// Everything is as it was then; swap and lane are another thread's, which goes on with swap_in_rest.
int pager_swap_in(struct swap *swap);
int pager_swap_in_rest(struct swap *swap);

// ---- clean.c ----
enum { CLEAN_RUNS = 16 }; // the one in hand and those under way
struct clean {
    struct pager *pager;
    struct segment *segment;
    uint64_t page, end;
    uint64_t passed_over;
    uint64_t written; // pages
    bool all;         // of the segment, at its close: pages that are none are no error
    // the room's own
    struct backing_lane *lane;
    struct clean_run runs
        [CLEAN_RUNS]; // a ring: those under way from the first on, and behind them the one in hand
    uint32_t first, under_way;
    uint64_t bytes_under_way;
    bool skipping;
    uint64_t looked; // what the trap knows is noted of the pages before this one
    int error;
    uint64_t failed_page;
};
int pager_clean(struct clean *clean);
// The laundry's form: begin checks out the dirty pages with which [page, end) begins and sends them (false: there is none);
// end waits for the answer. lane is the caller's to set. Ends in the order of begins.
bool clean_begin(struct clean_run *run, struct segment *segment, uint64_t page, uint64_t end);
int clean_end(struct clean_run *run);
// Writes one dirty victim, in WRITING. Not under the lock. lane and deadline are the caller's to set, and it checks the page
// in. receive: -EINPROGRESS where the lane's patience ended, nothing done; then once more.
void clean_victim_send(struct clean_run *run, struct victim victim);
int clean_victim_receive(struct clean_run *run);

// ---- data_state.c ----
struct data_change {
    struct segment *segment;
    uint64_t page, end;
    enum dsm_data data;
    int64_t deadline;
    // the room's own
    uint64_t stop; // of the run in hand
    int error;
    uint64_t failed_page;
};
int pager_set_data(struct data_change *change);
// The part of the interval from its first page without backing to its last. False: all have it.
bool pager_find_none(struct segment *segment, uint64_t page, uint64_t end, uint64_t *first,
                     uint64_t *last);
// At the opening: the server says that these pages have no backing.
void pager_note_none(struct segment *segment, uint64_t page, uint64_t count);
enum dsm_data pager_data(const struct segment *segment, const struct page_entry *entry); // (L)

// ---- freeze.c ----
struct freeze { // what a segment had in memory when it was frozen
    uint64_t dirty_pages, clean_pages;
    uint64_t failed_page; // of an error
};
// From here to the thaw every touch waits; dirty pages stay, clean ones leave memory. -EBUSY: a page is pinned; -EALREADY; -ENOMEM: a page
// could not be closed. After an error it is as before.
int pager_freeze(struct segment *segment, struct freeze *freeze);
void pager_thaw(struct segment *segment);
void pager_thaw_wake(
    struct pager *pager); // whoever waits for a thaw looks again, also for its segment
// On a worker: writes all dirty pages. passed_over: pages written.
void pager_flush(struct pager *pager, struct call *call);
// Gives every clean page's frame back, of this segment. Bytes that are left in memory.
uint64_t pager_release_clean(struct segment *segment);

// ---- fault.c ----
enum trap_verdict pager_fault(const struct trap_fault *fault);
bool fault_may_store(const struct segment *segment, uint64_t page); // (L) as its access rights go
// Sleeps until the page's word changes; under the lock when called, not under it when it returns. mask: to restore while
// asleep, or NULL. wake_worker: it was asked for just now; who serves faults is woken once the lock is free.
int pager_wait_page(struct segment *segment, uint64_t page, int64_t deadline, const uint64_t *mask,
                    bool wake_worker);
int64_t pager_deadline(const struct pager *pager); // from now, by fault_timeout

// ---- fill.c ----
// Pages that get memory together. The kernel zeroes them under the pager's lock, when they are opened.
enum { PAGER_FILL_BYTES = 256 << 10 };
// (L) The page has no contents, and there is memory for it: zeros will do, without a worker.
bool fill_possible(const struct segment *segment, uint64_t page, bool write);
// Under the lock when called, not under it when it returns. False: it is to be tried otherwise.
bool fill_at_once(struct segment *segment, uint64_t page, bool write, struct fault_trace *trace);

// ---- serve.c ----
void pager_serve(struct pager *pager, const struct fault_request *request);
// The swap-in of a fault's run.
void pager_fault_swap(struct swap *swap, struct segment *segment,
                      const struct fault_request *request, const struct read_ahead_plan *plan,
                      uint32_t run, int64_t deadline);
// (L) A fault's run: how many pages from this one on come with it.
uint32_t pager_run_length(struct segment *segment, uint64_t page,
                          const struct read_ahead_plan *plan);

// ---- direct.c ----
enum direct_end {
    DIRECT_NOT,    // it did not come, and is not checked out: ask a worker
    DIRECT_IN,     // the page is in
    DIRECT_LEFT,   // a worker goes on with it
    DIRECT_FAILED, // as a worker's failure is told: in the page's entry
};
// Under the lock when called; not when it returns. The page is on backing, and its fate is well.
enum direct_end direct_fetch(struct segment *segment, uint64_t page, bool write,
                             struct fault_request *request, struct fault_trace *trace,
                             int64_t deadline);
int direct_start(struct pager *pager); // memory, before any thread
void direct_stop(struct pager *pager); // wakes who goes on with what threads left
void direct_free(struct pager *pager); // when no thread is left
// The thread that goes on with what is left in lane number i of those of faults: its argument, or NULL.
struct direct *direct_of(struct pager *pager, uint32_t i);
void *direct_go_on(void *direct);

// ---- prefetch.c ----
// (L) What is to come with this page, for which a thread waits.
struct read_ahead_plan prefetch_plan(struct segment *segment, uint32_t thread, uint64_t page);
uint32_t
prefetch_most(const struct segment *segment); // pages that may come at once, the touched one too
// (L) The first touch of a page that came ahead: opens what may be opened with it. The call that fetches the next
// window, to be queued once the lock is free, or NULL.
struct call *prefetch_touched(struct segment *segment, uint64_t page);
void prefetch_used(struct segment *segment, uint32_t pages); // (L)
void prefetch_seen(struct segment *segment,
                   struct page_entry *entry); // (L) of use, whoever says so
void prefetch_forgone(struct segment *segment,
                      struct page_entry *entry); // (L) it goes; if it came ahead, for nothing
void prefetch_start(
    struct swap *swap); // the last request of a swap-in has left: now its plan, or next_page
void prefetch_run(struct pager *pager, struct call *call);

// ---- workers.c, laundry.c ----
struct call *call_try(struct pager *pager, uint32_t owner); // a free record, or NULL
void call_queue(struct pager *pager, struct call *call);
void call_free(struct pager *pager, struct call *call);
struct call *call_next_ahead(struct pager *pager); // the next prefetch that is queued, or NULL
int pager_start(struct pager *pager, const struct pager_options *options, struct counters *stat,
                struct backing *backing);
void pager_stop(struct pager *pager); // no thread may be in a fault
// Not waited for: end gives the result, and must follow. NULL: too many calls are under way.
struct call *pager_call_begin(struct pager *pager, const struct call *call);
int pager_call_end(struct pager *pager, struct call *begun, struct call *result);
int pager_call(struct pager *pager,
               struct call *call); // runs it on a worker; copies the result back
void *laundry_run(void *pager);
void laundry_wake(struct pager *pager);
// Frames were taken ahead of any need, and the next window needs as many.
void laundry_make_good(struct pager *pager);

// ---- segments.c ----
int pager_attach(struct pager *pager, struct segment *segment, void *base);
// Waits for calls under way, also those that were left, and for pages in transit; frames are dropped.
void pager_detach(struct segment *segment);
int pager_unpin(struct segment *segment, uint64_t page, uint64_t count);
int pager_age(struct segment *segment, uint64_t page, uint64_t count);
// Checks all pages, then changes all. -EFAULT, -EBUSY, -ENOMEM: *failed says which page.
int pager_protect(struct segment *segment, uint64_t page, uint64_t count, bool read_only,
                  uint64_t *failed);
struct segment *pager_find(struct pager *pager, uintptr_t address);
// (L) Keeps a segment from being detached while a thread of ours is at work on it. NULL: gone.
struct segment *pager_use(struct pager *pager, uint32_t index);
void pager_leave(struct segment *segment);      // (L)
bool pager_goes(const struct segment *segment); // it is being detached
extern struct pager *_Atomic pager_of_process;  // the handler's; set while a session is open

#endif
