// SPDX-License-Identifier: Apache-2.0
//
// Between the pager and the lanes: the linker leads the calls of backing.h through here. It writes down each run as it is sent, and
// makes planned ones fail as a store's medium does: pages before the failing one are really read or written, the answer then
// says "hardware". Everything else goes to the real dsmd.
//
// Several runs may be under way, on one lane or on several: records are by run, under a lock of their own. Nothing here is reached from a fault's handler: scenarios do not touch pages.
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "libdsm/backing/backing.h"
#include "tests/scenarios/scenario.h"

enum { PLANS = 64 };

void __real_backing_read_send(struct backing_lane *lane, struct backing_run *run, int64_t deadline);
int __real_backing_read_receive(struct backing_lane *lane, struct backing_run *run,
                                const struct backing_sink *sink, void *context, int64_t deadline);
void __real_backing_write_send(struct backing_lane *lane, struct backing_run *run,
                               int64_t deadline);
int __real_backing_write_receive(struct backing_lane *lane, struct backing_run *run,
                                 int64_t deadline);
int __real_backing_reserve(struct backing_lane *lane, struct backing_run *run, uint16_t op,
                           int64_t deadline);
int __wrap_backing_reserve(struct backing_lane *lane, struct backing_run *run, uint16_t op,
                           int64_t deadline);
void __wrap_backing_read_send(struct backing_lane *lane, struct backing_run *run, int64_t deadline);
int __wrap_backing_read_receive(struct backing_lane *lane, struct backing_run *run,
                                const struct backing_sink *sink, void *context, int64_t deadline);
void __wrap_backing_write_send(struct backing_lane *lane, struct backing_run *run,
                               int64_t deadline);
int __wrap_backing_write_receive(struct backing_lane *lane, struct backing_run *run,
                                 int64_t deadline);

static struct {
    pthread_mutex_t lock;
    bool recording;
    bool placed; // in several stores
    char seen[SCENARIO_IO];
    size_t used;
    struct {
        bool write;
        uint64_t page;
    } plans[PLANS];
    unsigned planned;
    struct { // the whole run, of which a part is under way
        const struct backing_run *run;
        uint32_t count;
        bool cut, sent;
    } under_way[LIMIT_LANES_PER_SESSION];
} wire = {.lock = PTHREAD_MUTEX_INITIALIZER};

void scenario_wire_fail(bool write, uint64_t page)
{
    if (wire.planned < PLANS) {
        wire.plans[wire.planned].write = write;
        wire.plans[wire.planned++].page = page;
    }
}

void scenario_wire_start(const struct scenario *s)
{
    wire.recording = true;
    wire.placed = s->row_count > 0;
    wire.used = 0;
    wire.seen[0] = '\0';
    wire.planned = 0;
    for (uint32_t i = 0; i < s->page_count; i++) {
        if (s->pages[i].fails) {
            scenario_wire_fail(false, i);
        }
    }
    for (uint32_t i = 0; i < s->frame_count; i++) {
        if (s->frames[i].fails) {
            scenario_wire_fail(true, s->frames[i].page);
        }
    }
}

const char *scenario_wire_seen(void)
{
    static char answer[SCENARIO_IO];
    pthread_mutex_lock(&wire.lock);
    memcpy(answer, wire.seen, sizeof answer);
    wire.used = 0;
    wire.seen[0] = '\0';
    pthread_mutex_unlock(&wire.lock);
    return answer;
}

// The first page of the run whose failure is planned, which it is no more; the run's count: none.
static uint32_t planned_failure(bool write, const struct backing_run *run)
{
    uint32_t first = run->count;
    unsigned which = 0;
    for (unsigned i = 0; i < wire.planned; i++) {
        uint64_t at = wire.plans[i].page - run->page;
        if (wire.plans[i].write == write && wire.plans[i].page >= run->page && at < first) {
            first = (uint32_t)at;
            which = i;
        }
    }
    if (first < run->count) {
        wire.plans[which] = wire.plans[--wire.planned];
    }
    return first;
}

static void write_down_locked(char what, const struct backing_run *run)
{
    if (wire.recording && wire.used < sizeof wire.seen - 64) {
        wire.used += (size_t)snprintf(wire.seen + wire.used, sizeof wire.seen - wire.used,
                                      "%s%c%llu+%u", wire.used > 0 ? " " : "", what,
                                      (unsigned long long)run->page, run->count);
        if (wire.placed) {
            wire.used += (size_t)snprintf(wire.seen + wire.used, sizeof wire.seen - wire.used,
                                          "@%c", 'A' + (int)run->store);
        }
    }
}

// True: something is to be sent for real.
static bool note(bool write, struct backing_run *run)
{
    pthread_mutex_lock(&wire.lock);
    write_down_locked(write ? 'W' : 'R', run);
    uint32_t part = planned_failure(write, run);
    unsigned i = 0;
    while (wire.under_way[i].run != NULL) {
        i++;
    }
    wire.under_way[i].run = run;
    wire.under_way[i].count = run->count;
    wire.under_way[i].cut = part < run->count;
    wire.under_way[i].sent = part > 0;
    run->count = part;
    pthread_mutex_unlock(&wire.lock);
    return part > 0;
}

// Sets *sent to whether an answer will come; true: the run fails after what was sent of it.
static bool settle(const struct backing_run *run, bool *sent, uint32_t *count)
{
    pthread_mutex_lock(&wire.lock);
    unsigned i = 0;
    while (wire.under_way[i].run != run) {
        i++;
    }
    wire.under_way[i].run = NULL;
    *sent = wire.under_way[i].sent;
    *count = wire.under_way[i].count;
    bool cut = wire.under_way[i].cut;
    pthread_mutex_unlock(&wire.lock);
    return cut;
}

static int answer(struct backing_run *run, bool cut, uint32_t count, int error)
{
    if (error == 0 && cut) {
        run->done = run->count;
        error = -EIO;
    }
    run->count = count;
    return error;
}

void __wrap_backing_read_send(struct backing_lane *lane, struct backing_run *run, int64_t deadline)
{
    if (note(false, run)) {
        __real_backing_read_send(lane, run, deadline);
    }
}

int __wrap_backing_read_receive(struct backing_lane *lane, struct backing_run *run,
                                const struct backing_sink *sink, void *context, int64_t deadline)
{
    bool sent;
    uint32_t count;
    bool cut = settle(run, &sent, &count);
    int error = sent ? __real_backing_read_receive(lane, run, sink, context, deadline) : 0;
    return answer(run, cut, count, error);
}

void __wrap_backing_write_send(struct backing_lane *lane, struct backing_run *run, int64_t deadline)
{
    if (note(true, run)) {
        __real_backing_write_send(lane, run, deadline);
    }
}

int __wrap_backing_write_receive(struct backing_lane *lane, struct backing_run *run,
                                 int64_t deadline)
{
    bool sent;
    uint32_t count;
    bool cut = settle(run, &sent, &count);
    int error = sent ? __real_backing_write_receive(lane, run, deadline) : 0;
    return answer(run, cut, count, error);
}

int __wrap_backing_reserve(struct backing_lane *lane, struct backing_run *run, uint16_t op,
                           int64_t deadline)
{
    pthread_mutex_lock(&wire.lock);
    write_down_locked(op == WIRE_GIVE_UP ? 'G' : 'A', run);
    pthread_mutex_unlock(&wire.lock);
    return __real_backing_reserve(lane, run, op, deadline);
}
