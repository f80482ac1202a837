// SPDX-License-Identifier: Apache-2.0
//
// Reads and writes of runs. A request names (segment, epoch, page, version), so sending it again is harmless: a write with a
// version that the server has is left alone there. So whatever breaks a connection leads to the same place: say down,
// wait until the keeper has the lane up again, send what is not done yet.
//
// Errors are told apart as Cedar does: "hardware" is no answer, a cut that lasts, or a store whose medium failed;
// "software" is a server that answered and refused. A fenced or lost segment is remembered in its fate, and asks
// the server no more.
#include <errno.h>
#include <string.h>

#include "dsm/dsm.h"
#include "libdsm/backing/backing.h"
#include "libdsm/backing/landing.h"
#include "libdsm/stat/probes.h"
#include "libdsm/sync/futex.h"

enum { NOT_OPEN_WAIT_MS = 100 };

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t rpc_deadline(int64_t deadline)
{
    return earlier(sync_after_ms(LIMIT_RPC_MS), deadline);
}

static bool passed(int64_t deadline)
{
    return deadline != SYNC_FOR_EVER && sync_now() >= deadline;
}

// In a thread's handler: what cannot be had at once is left to another thread.
static bool direct(const struct backing_lane *lane)
{
    return lane->patience != 0;
}

static void use_connection(struct backing_lane *lane) // it may be another one by now
{
    lane->lane->times = lane->timed ? &lane->times : NULL;
    lane->lane->patience = direct(lane) ? lane->patience : LANE_NO_DEADLINE;
}

static int await_up(struct backing_lane *lane, const struct backing_segment *segment,
                    int64_t deadline)
{
    for (;;) {
        int fate = backing_fate_errno(atomic_load(&segment->fate));
        if (fate != 0) {
            return fate;
        }
        if (atomic_load(&lane->backing->stopping) != 0) {
            return -ECANCELED;
        }
        uint32_t up = atomic_load_explicit(&lane->up, memory_order_acquire);
        if (up != 0) {
            lane->connection = up;
            return 0;
        }
        if (direct(lane)) {
            return -EINPROGRESS;
        }
        // The keeper wakes sleepers on `up`; the slice looks at the fate now and then.
        (void)sync_wait(&lane->up, 0, earlier(sync_after_ms(NOT_OPEN_WAIT_MS), deadline));
        if (passed(deadline)) {
            return -ETIMEDOUT;
        }
    }
}

// Waits until the lane is up. 0, -ETIMEDOUT, -ECANCELED (the session stops), or the segment's fate.
static int wait_up(struct backing_lane *lane, const struct backing_segment *segment,
                   int64_t deadline)
{
    int64_t begun = lane->timed ? sync_now() : 0;
    int error = await_up(lane, segment, deadline);
    if (lane->timed) {
        lane->down_ns += (uint64_t)(sync_now() - begun);
    }
    return error;
}

static void count_wire(struct backing_lane *lane, struct lane_counts before)
{
    STAT_ADD(lane->backing->stat, wire_sent, lane->lane->counts.sent_bytes - before.sent_bytes);
    STAT_ADD(lane->backing->stat, wire_received,
             lane->lane->counts.received_bytes - before.received_bytes);
}

static struct wire_header request_of(struct backing_run *run, uint16_t op)
{
    run->epoch = atomic_load(&run->segment->epoch);
    return (struct wire_header){
        .op = op,
        .request = run->request,
        .segment = run->segment->id,
        .epoch = run->epoch,
        .page = run->page + run->done,
        .count = run->count - run->done,
        .version = run->version,
        .hint = op == WIRE_READ ? run->hint : 0,
    };
}

static bool all_zero(const uint8_t *at, size_t bytes)
{
    const uint64_t *word = (const uint64_t *)(const void *)at;
    if (word[0] != 0 || word[bytes / 8 - 1] != 0) {
        return false;
    }
    return memcmp(at, at + 8, bytes - 8) == 0;
}

// The map of pages that are not zero, and their data as few pieces.
static int gather(const struct backing_run *run, struct wire_header *header, struct iovec *pieces)
{
    size_t page_bytes = run->segment->page_bytes;
    int n = 0;
    for (uint32_t i = 0; i < header->count; i++) {
        const uint8_t *page = run->contents + (run->done + i) * page_bytes;
        if (all_zero(page, page_bytes)) {
            continue;
        }
        wire_map_set(header->map, i);
        header->length += (uint32_t)page_bytes;
        if (n > 0 && (const uint8_t *)pieces[n - 1].iov_base + pieces[n - 1].iov_len == page) {
            pieces[n - 1].iov_len += page_bytes;
        } else {
            pieces[n++] = (struct iovec){(void *)(uintptr_t)page, page_bytes};
        }
    }
    return n;
}

static int send_run(struct backing_lane *lane, struct backing_run *run, uint16_t op,
                    int64_t deadline)
{
    run->request = ++lane->next_request;
    run->resumes = atomic_load(&run->segment->resumes);
    struct wire_header header = request_of(run, op);
    struct iovec pieces[LIMIT_RUN_PAGES];
    int count = op == WIRE_WRITE ? gather(run, &header, pieces) : 0;
    struct lane_counts before = lane->lane->counts;
    use_connection(lane);
    int error = lane->lane->ops->send(lane->lane, &header, pieces, count, rpc_deadline(deadline));
    count_wire(lane, before);
    if (error != 0) {
        return error;
    }
    run->sent_on = lane->connection;
    if (op == WIRE_WRITE) {
        STAT_ADD(lane->backing->stat, write_requests, 1);
        STAT_ADD(lane->backing->stat, bytes_written, header.length);
    } else if (op == WIRE_READ) {
        STAT_ADD(lane->backing->stat, read_requests, 1);
    }
    return 0;
}

static void start(struct backing_lane *lane, struct backing_run *run, uint16_t op, int64_t deadline)
{
    run->sent_on = 0;
    run->asked = run->count;
    run->done = 0;
    run->begun = sync_now();
    uint32_t up = atomic_load_explicit(&lane->up, memory_order_acquire);
    if (up == 0 || atomic_load(&run->segment->fate) != BACKING_WELL) {
        return; // receive waits for it, or says so: no answer may be left that nobody takes
    }
    lane->connection = up;
    if (send_run(lane, run, op, deadline) != 0) {
        run->sent_on = 0;
        backing_lane_down(lane);
    }
}

void backing_read_send(struct backing_lane *lane, struct backing_run *run, int64_t deadline)
{
    start(lane, run, WIRE_READ, deadline);
}

void backing_write_send(struct backing_lane *lane, struct backing_run *run, int64_t deadline)
{
    start(lane, run, WIRE_WRITE, deadline);
}

uint32_t backing_break(const struct placement *placement, const struct backing_run *whole,
                       struct backing_run *runs)
{
    struct placement_piece pieces[LIMIT_RUN_PIECES];
    uint32_t n = placement_break(placement, whole->page, whole->count, pieces, LIMIT_RUN_PIECES);
    for (uint32_t i = 0; i < n; i++) {
        struct backing_segment *segment = placement->parts[pieces[i].store];
        runs[i] = (struct backing_run){
            .segment = segment,
            .page = pieces[i].page,
            .count = pieces[i].count,
            .hint = i + 1 == n ? whole->hint : WIRE_NO_HINT,
            .store = pieces[i].store,
        };
        if (whole->contents != NULL) {
            runs[i].contents =
                whole->contents + (pieces[i].page - whole->page) * segment->page_bytes;
            runs[i].version = atomic_fetch_add(&segment->next_version, 1);
        }
    }
    return n;
}

static int meet_fate(struct backing_segment *segment, enum backing_fate fate)
{
    uint32_t well = BACKING_WELL;
    (void)atomic_compare_exchange_strong(&segment->fate, &well, fate);
    return backing_fate_errno(atomic_load(&segment->fate));
}

// What an answer's status means for the run: 0, an error that ends it, or -EAGAIN: send again.
static int judge(struct backing_lane *lane, struct backing_run *run,
                 const struct wire_header *answer, uint32_t resumed)
{
    switch (answer->status) {
    case WIRE_OK:
        return 0;
    case WIRE_NOT_OPEN: // the server was restarted; the keeper is about to open the segment again
    case WIRE_DRAINING: // it is about to be
        if (!direct(lane)) {
            (void)sync_wait(&lane->backing->resumed, resumed, sync_after_ms(NOT_OPEN_WAIT_MS));
        }
        return -EAGAIN;
    case WIRE_FENCED:
        if (run->epoch < atomic_load(&run->segment->epoch)) {
            return -EAGAIN; // it was sent while the segment was on its way, and that was taken back
        }
        return meet_fate(run->segment, BACKING_FENCED);
    case WIRE_NO_SEGMENT:
        return meet_fate(run->segment, BACKING_LOST);
    case WIRE_NO_SPACE:
        return -ENOSPC;
    case WIRE_OVER_QUOTA:
        return -EDQUOT;
    case WIRE_STORE_ERROR:
        return -EIO;
    default:
        return -EREMOTEIO;
    }
}

// ---- receiving ----

static bool is_cut(int error)
{
    return error == -ECONNRESET || error == -ESHUTDOWN || error == -EBADMSG || error == -ENOTCONN ||
           error == -EPIPE || error == -ETIMEDOUT;
}

// The answer to this run, or the lane is of no more use: a run that was sent again stands behind the others.
static int receive_header(struct backing_lane *lane, const struct backing_run *run,
                          struct wire_header *answer, int64_t deadline)
{
    int error = lane->lane->ops->receive(lane->lane, answer, deadline);
    return error == 0 && answer->request != run->request ? -EBADMSG : error;
}

// The answer's header, and what follows from its status.
static int open_answer(const struct land *land)
{
    struct backing_lane *lane = land->lane;
    struct backing_run *run = land->run;
    uint32_t resumed = atomic_load(&lane->backing->resumed);
    struct wire_header answer;
    int error = receive_header(lane, run, &answer, land->deadline);
    if (error != 0) {
        return error;
    }
    error = judge(lane, run, &answer, resumed);
    if (error == 0) {
        return landing_begin(land, &answer);
    }
    if (error == -EIO && answer.done > 0 && answer.done < run->count - run->done) {
        run->count = run->done + answer.done; // what could be read; then this error again
        error = -EAGAIN;
    }
    return error;
}

static int land_answer(struct backing_lane *lane, struct backing_run *run,
                       const struct backing_sink *sink, void *context, int64_t deadline)
{
    struct lane_counts before = lane->lane->counts;
    use_connection(lane);
    const struct land land = {lane, run, sink, context, rpc_deadline(deadline)};
    int error = lane->landing.open ? 0 : open_answer(&land);
    if (error == 0) {
        error = landing_go_on(&land);
    }
    count_wire(lane, before);
    return error;
}

// 0: once more; else the call's result.
static int send_again(struct backing_lane *lane, struct backing_run *run, int error,
                      int64_t deadline)
{
    if (is_cut(error)) {
        backing_lane_down(lane);
    }
    run->sent_on = 0;
    STAT_ADD(lane->backing->stat, retries, 1);
    probe_retry(run->store, run->segment->number, run->page + run->done, error);
    if (direct(lane)) {
        return -EINPROGRESS;
    }
    return passed(deadline) ? -ETIMEDOUT : 0;
}

int backing_read_receive(struct backing_lane *lane, struct backing_run *run,
                         const struct backing_sink *sink, void *context, int64_t deadline)
{
    for (;;) {
        int error = wait_up(lane, run->segment, deadline);
        if (error != 0) {
            return error;
        }
        if (run->sent_on != lane->connection) {
            error = send_run(lane, run, WIRE_READ, deadline);
        }
        if (error == 0) {
            error = land_answer(lane, run, sink, context, deadline);
        }
        if (error == -ENOMEM) {
            backing_lane_down(lane); // the rest of the answer is not worth reading
        }
        if (error == 0 && run->count < run->asked) {
            run->count = run->asked; // the pages before the bad one are in
            return -EIO;
        }
        if (error != -EAGAIN && !is_cut(error)) {
            return error;
        }
        error = send_again(lane, run, error, deadline);
        if (error != 0) {
            return error;
        }
    }
}

static void acknowledge(struct backing_segment *segment, uint64_t version)
{
    uint64_t before = atomic_load(&segment->acknowledged);
    while (before < version &&
           !atomic_compare_exchange_weak(&segment->acknowledged, &before, version)) {
    }
}

// Who acknowledged it may be gone, and the keeper may have told the server of now a highest write without this
// one: then only the server of now can say that it has it. First remembered, then looked: the keeper does it the
// other way round, so one of the two sees the other.
static bool acknowledged_by_a_former_server(const struct backing_run *run)
{
    return run->resumes != atomic_load(&run->segment->resumes);
}

static int take_verdict(struct backing_lane *lane, struct backing_run *run, int64_t deadline)
{
    uint32_t resumed = atomic_load(&lane->backing->resumed);
    struct lane_counts before = lane->lane->counts;
    struct wire_header answer;
    use_connection(lane);
    int error = receive_header(lane, run, &answer, rpc_deadline(deadline));
    count_wire(lane, before);
    if (error != 0) {
        return error;
    }
    error = judge(lane, run, &answer, resumed);
    uint32_t done = error == -EAGAIN ? 0 : error == 0 ? run->count - run->done : answer.done;
    if (run->done + done > 0) {
        // Also before the page that failed: a store without them is an older one. An allocation that
        // found nothing to do leaves no version.
        bool none = answer.op == (WIRE_ALLOCATE | WIRE_ANSWER) && answer.version < run->version;
        acknowledge(run->segment, none ? answer.version : run->version);
    }
    if (done > 0 && acknowledged_by_a_former_server(run)) {
        return -EAGAIN;
    }
    run->done += done;
    return error;
}

static int change_receive(struct backing_lane *lane, struct backing_run *run, uint16_t op,
                          int64_t deadline)
{
    for (;;) {
        int error = wait_up(lane, run->segment, deadline);
        if (error != 0) {
            return error;
        }
        if (run->sent_on != lane->connection) {
            error = send_run(lane, run, op, deadline);
        }
        if (error == 0) {
            error = take_verdict(lane, run, deadline);
        }
        if (error != -EAGAIN && !is_cut(error)) {
            return error;
        }
        error = send_again(lane, run, error, deadline);
        if (error != 0) {
            return error;
        }
    }
}

int backing_write_receive(struct backing_lane *lane, struct backing_run *run, int64_t deadline)
{
    return change_receive(lane, run, WIRE_WRITE, deadline);
}

int backing_reserve(struct backing_lane *lane, struct backing_run *run, uint16_t op,
                    int64_t deadline)
{
    start(lane, run, op, deadline);
    return change_receive(lane, run, op, deadline);
}

ssize_t backing_exchange(struct backing_lane *lane, struct backing_exchange *exchange,
                         int64_t deadline)
{
    struct wire_header header = {
        .op = exchange->op, .length = exchange->request_bytes, .request = ++lane->next_request};
    struct iovec piece = {(void *)(uintptr_t)exchange->request, exchange->request_bytes};
    const struct lane_ops *ops = lane->lane->ops;
    struct wire_header answer;
    use_connection(lane);
    int error =
        ops->send(lane->lane, &header, &piece, exchange->request_bytes > 0 ? 1 : 0, deadline);
    if (error == 0) {
        error = ops->receive(lane->lane, &answer, deadline);
    }
    if (error != 0) {
        return error;
    }
    exchange->status = answer.status;
    uint32_t got = 0;
    const void *data;
    ssize_t n;
    while ((n = ops->receive_data(lane->lane, NULL, &data, deadline)) > 0) {
        if (got + (uint32_t)n > exchange->capacity) {
            return -EBADMSG;
        }
        memcpy((uint8_t *)exchange->answer + got, data, (size_t)n);
        got += (uint32_t)n;
    }
    return n < 0 ? n : (ssize_t)got;
}
