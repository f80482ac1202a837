// SPDX-License-Identifier: Apache-2.0
//
// The parts of a fault's time are intervals between points that are passed one after the other, on two threads with one clock:
//
//   the thread   begin ..pager.. posted                                  woken ..pager.. end
//   the worker                     ..handover.. picked ........ settled ..wake..
//
// Between picked and settled the lane says how long it was in its cipher and in the kernel's sockets, the server how
// long the request was with it and how much of that its cipher took; what is left is the pager's. So the parts
// are apart from one another, and their sum is the whole.
//
// A worker that makes room while the answer is on its way spends time of its own and of the wire's at once; it is counted as the
// pager's, since without it nothing would be gained: the lane's wait is that much shorter.
//
// Records are claimed by a thread's first fault that is traced, and kept. A thread that is gone leaves its own to whoever finds none free.
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>

#include "libdsm/pager/fault_record.h"
#include "libdsm/pager/pager.h"
#include "libdsm/stat/probes.h"

static uint64_t time_between(int64_t from, int64_t to)
{
    return to > from ? (uint64_t)(to - from) : 0;
}

static void add_parts(struct dsm_fault_parts *to, const struct dsm_fault_parts *from)
{
    to->pager_ns += from->pager_ns;
    to->handover_ns += from->handover_ns;
    to->wait_ns += from->wait_ns;
    to->cipher_ns += from->cipher_ns;
    to->wire_ns += from->wire_ns;
    to->server_ns += from->server_ns;
    to->wake_ns += from->wake_ns;
    for (int i = 0; i < DSM_SWAP_IN_COUNTERS; i++) {
        to->swap_in[i] += from->swap_in[i];
    }
}

static uint64_t sum_of(const struct dsm_fault_parts *parts)
{
    return parts->pager_ns + parts->handover_ns + parts->wait_ns + parts->cipher_ns +
           parts->wire_ns + parts->server_ns + parts->wake_ns;
}

// ---- the faulting thread ----

void fault_trace_begin(struct fault_trace *trace, int64_t now)
{
    trace->on = probe_fault_end_on();
    trace->outcome = 0;
    if (trace->on) {
        trace->record = 0;
        trace->slept = 0;
        trace->pending_ns = 0;
        trace->run = (struct fault_run){0};
        trace->parts = (struct dsm_fault_parts){.begin_ns = (uint64_t)now};
    }
}

static bool is_gone(uint32_t thread)
{
    long process = sync_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
    return sync_call(SYS_tgkill, process, (long)thread, 0, 0, 0, 0) == -ESRCH;
}

// Among many threads a few are asked at a time whether they are gone: this is under the lock.
static struct fault_record *claim(struct pager *pager, uint32_t thread)
{
    enum { LOOKS = 4 };
    struct fault_record *unused = NULL;
    for (uint32_t i = 0; i < FAULT_RECORDS; i++) {
        struct fault_record *record = &pager->records[i];
        if (record->owner == thread) {
            return record;
        }
        if (record->owner == 0) { // those after it were never used
            unused = record;
            break;
        }
    }
    for (uint32_t i = 0; unused == NULL && i < LOOKS; i++) {
        struct fault_record *record = &pager->records[pager->record_hand++ % FAULT_RECORDS];
        unused = is_gone(record->owner) ? record : NULL;
    }
    if (unused != NULL) {
        unused->owner = thread;
    }
    return unused;
}

void fault_trace_ask(struct fault_trace *trace, struct pager *pager, struct fault_request *request)
{
    struct fault_record *record = trace->on ? claim(pager, request->thread) : NULL;
    if (record == NULL) {
        return;
    }
    // A fault in a handler that interrupted another fault's sleep takes the record over.
    record->ticket++;
    record->asked = true;
    record->done = false;
    record->posted = sync_now();
    trace->record = (uint32_t)(record - pager->records) + 1;
    trace->ticket = record->ticket;
    request->record = trace->record;
    request->ticket = record->ticket;
}

void fault_trace_count(struct fault_trace *trace, const uint32_t counted[DSM_SWAP_IN_COUNTERS])
{
    for (int i = 0; trace->on && i < DSM_SWAP_IN_COUNTERS; i++) {
        trace->parts.swap_in[i] += counted[i];
    }
}

void fault_trace_sleep(struct fault_trace *trace)
{
    trace->slept = trace->on ? sync_now() : 0;
}

void fault_trace_slept(struct fault_trace *trace, struct pager *pager)
{
    if (!trace->on || trace->slept == 0) {
        return;
    }
    int64_t now = sync_now();
    uint64_t slept = time_between(trace->slept, now);
    trace->slept = 0;
    struct fault_record *record = trace->record != 0 ? &pager->records[trace->record - 1] : NULL;
    if (record == NULL || record->ticket != trace->ticket || !record->done) {
        trace->pending_ns += slept; // still asked, perhaps: once more
        return;
    }
    record->asked = false;
    trace->record = 0;
    trace->run = record->run;
    trace->pending_ns = 0; // the record tells of it
    add_parts(&trace->parts, &record->parts);
    trace->parts.wake_ns += time_between(record->settled, now);
}

void fault_trace_did(struct fault_trace *trace, struct pager *pager)
{
    if (!trace->on || trace->record == 0) {
        return;
    }
    struct fault_record *record = &pager->records[trace->record - 1];
    if (record->ticket == trace->ticket && record->done) {
        record->asked = false;
        trace->record = 0;
        trace->run = record->run;
        add_parts(&trace->parts, &record->parts);
    }
}

void fault_trace_end(struct fault_trace *trace, const struct segment *segment, uint64_t page)
{
    if (!trace->on) {
        return;
    }
    struct dsm_fault_parts *parts = &trace->parts;
    parts->wait_ns += trace->pending_ns; // for what somebody else had asked for
    uint64_t total = time_between((int64_t)parts->begin_ns, sync_now());
    uint64_t others = sum_of(parts);
    parts->pager_ns += total > others ? total - others : 0; // what this thread did itself
    probe_fault_end(segment->number, page, trace->run.pages, trace->outcome, total, parts,
                    trace->run.bytes, trace->run.store);
}

// ---- the worker ----

// What the lane and the server measured since the request was begun.
static void take_times(struct dsm_fault_parts *parts, const struct lane_times *t)
{
    uint64_t with_server = t->server_ns < t->io_ns ? t->server_ns : t->io_ns;
    uint64_t its_cipher = t->server_cipher_ns < with_server ? t->server_cipher_ns : with_server;
    parts->cipher_ns = t->cipher_ns + its_cipher;
    parts->wire_ns = t->io_ns - with_server;
    parts->server_ns = with_server - its_cipher;
}

void fault_record_settle(struct swap *s)
{
    if (s->request == NULL || s->request->record == 0) {
        return;
    }
    struct fault_record *record = &s->pager->records[s->request->record - 1];
    if (record->ticket != s->request->ticket || !record->asked || record->done) {
        return;
    }
    record->done = true;
    record->settled = sync_now();
    record->parts = (struct dsm_fault_parts){0};
    record->run = s->run;
    if (s->timed != NULL) {
        take_times(&record->parts, &s->timed->times);
        record->parts.wait_ns = s->timed->down_ns;
        record->run.bytes = s->timed->times.data_bytes;
    }
    record->parts.wait_ns += s->waited_ns;
    record->parts.handover_ns = time_between(record->posted, s->picked);
    uint64_t worked = time_between(s->picked, record->settled);
    uint64_t others = sum_of(&record->parts) - record->parts.handover_ns;
    record->parts.pager_ns = worked > others ? worked - others : 0;
    memcpy(record->parts.swap_in, s->counted, sizeof s->counted);
    memset(s->counted, 0, sizeof s->counted);
}

void fault_record_rest(struct swap *s, uint32_t kind)
{
    static const uint32_t none[DSM_SWAP_IN_COUNTERS];
    if (probe_swap_in_end_on() && memcmp(s->counted, none, sizeof none) != 0) {
        probe_swap_in_end(s->segment->number, s->first, (uint32_t)(s->end - s->first), kind,
                          s->error, s->counted);
    }
}
