// SPDX-License-Identifier: Apache-2.0
//
// What is known of a fault when it ends, for the probe fault_end: what it added to the counters, and where its time went. Nothing of this is
// done while nobody is attached.
//
// The thread that faults measures what it does itself. What a worker did for it, the worker leaves in a record of that
// thread, in the pager's memory: the thread may be gone by then (a time-out, siglongjmp), so the request carries a ticket, and who
// comes with an old one finds nobody.
#ifndef LIBDSM_PAGER_FAULT_RECORD_H
#define LIBDSM_PAGER_FAULT_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "libdsm/stat/fault_parts.h"

struct fault_request;
struct pager;
struct segment;
struct swap;

enum { FAULT_RECORDS = 256 };

enum fault_outcome { // bits of fault_end's outcome: which of the faults_* counters it raised
    FAULT_READ = 1,
    FAULT_WRITE = 2,
    FAULT_SOFT = 4,
    FAULT_UPGRADE = 8,
    FAULT_WAITED = 16,
    FAULT_FAILED = 32,
};

// The swap_in_* counters, in their order.
enum swap_count {
    SWAP_COUNT_calls,
    SWAP_COUNT_virtual_runs,
    SWAP_COUNT_physical_runs,
    SWAP_COUNT_pages,
    SWAP_COUNT_already_in,
    SWAP_COUNT_no_read,
    SWAP_COUNT_reads,
    SWAP_COUNT_dirty_victims,
    SWAP_COUNT_failed_to_clean_victims,
};

struct fault_run { // that was fetched for it
    uint32_t pages, store;
    uint64_t bytes;
};

struct fault_record { // (L)
    uint32_t owner;   // thread; 0: nobody's
    uint32_t ticket;  // of its present request
    bool asked, done; // a request is under way; its worker has left what follows
    int64_t posted, settled;
    struct fault_run run;
    struct dsm_fault_parts parts;
};

struct fault_trace { // of one fault, on its thread's stack
    bool on;
    uint32_t outcome;
    uint32_t record, ticket; // record + 1; 0: none
    int64_t slept;           // 0: it does not
    uint64_t pending_ns;     // slept for the present request
    struct fault_run run;
    struct dsm_fault_parts parts;
};

// ---- the faulting thread ----

void fault_trace_begin(struct fault_trace *trace, int64_t now);
// (L) The thread asks, with this request. Where there is no record for it, its parts are not known: all is waiting.
void fault_trace_ask(struct fault_trace *trace, struct pager *pager, struct fault_request *request);
void fault_trace_count(struct fault_trace *trace, const uint32_t counted[DSM_SWAP_IN_COUNTERS]);
// Before each sleep; and at the beginning of the round after it (L).
void fault_trace_sleep(struct fault_trace *trace);
void fault_trace_slept(struct fault_trace *trace, struct pager *pager);
// (L) The thread itself did what it asked for.
void fault_trace_did(struct fault_trace *trace, struct pager *pager);
// Fires the probe. Not under the lock.
void fault_trace_end(struct fault_trace *trace, const struct segment *segment, uint64_t page);

// ---- the worker ----

// (L) The page that the request asked for is in, or was given up: leaves what is known. What the swap-in counts from now on is the
// worker's to tell.
void fault_record_settle(struct swap *swap);
// Tells what the swap-in counted that no fault_end has told. kind: of swap_in_end. Not under the lock.
void fault_record_rest(struct swap *swap, uint32_t kind);

#endif
