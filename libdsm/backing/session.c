// SPDX-License-Identifier: Apache-2.0
//
// The keeper: one thread that connects lanes again and keeps the lease. It touches a lane only while that is down (then its
// owner does not), or after it took it like anybody else (for a heartbeat).
//
// When the control lane is connected again, the server may be a new process that knows nothing of this session: every
// segment is opened again, by id and with the epoch held, before the lane is said to be up. There the fates are met: a
// store of another id, a segment that is gone, or a highest applied write below what was acknowledged means that
// pages are lost; a higher epoch means that another process has the segment.
//
// Data lanes may be up before that: the server answers "not open" for a moment, and requests are sent again.
#include "libdsm/backing/session.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "dsm/dsm.h"
#include "libdsm/backing/connect.h"
#include "libdsm/backing/control.h"
#include "libdsm/stat/probes.h"
#include "libdsm/sync/futex.h"

enum { BULK_LANES = 3, CALL_LANES = 2, MOST_FAULT_LANES = 32 };

static void add_lanes(struct backing *backing, enum backing_class class, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t n = backing->lane_count++;
        backing->lanes[n] = (struct backing_lane){.backing = backing, .class = class, .number = n};
    }
}

static void meet(struct session *session, struct backing_segment *segment, enum backing_fate fate)
{
    uint32_t well = BACKING_WELL;
    if (atomic_compare_exchange_strong(&segment->fate, &well, fate) && session->fate_met != NULL) {
        session->fate_met(session->context, segment);
    }
}

// ---- opening segments again ----

static int resume_one(struct session *session, struct backing_lane *lane,
                      const struct session_segment *listed)
{
    struct backing_segment *segment = listed->segment;
    struct control_segment info;
    // Before it is open: a write that is acknowledged late, by the server of before, is told in the request or
    // sent again (runs.c).
    (void)atomic_fetch_add(&segment->resumes, 1);
    // Once the server has it open, a write on a data lane may be acknowledged before this answer, which does not
    // know of it, is here. (A server that compares by itself refuses; older ones do not.)
    uint64_t acknowledged = atomic_load(&segment->acknowledged);
    int error = control_resume(lane, segment, listed->write, &info, sync_after_ms(LIMIT_RPC_MS));
    switch (error) {
    case 0:
        if (info.id != segment->id || info.highest < acknowledged) {
            meet(session, segment, BACKING_LOST);
            return control_let_go(lane, segment->id, sync_after_ms(LIMIT_RPC_MS));
        }
        atomic_store(&segment->epoch, info.epoch);
        return 0;
    case -ENOENT:
        meet(session, segment, BACKING_LOST);
        return 0;
    case -DSM_EFENCED:
    case -EBUSY:
    case -EACCES:
        meet(session, segment, BACKING_FENCED);
        return 0;
    default:
        return error;
    }
}

// Under the session's lock. A server that was restarted has forgotten that they were open, and says so: that is as good.
static int pay_all(struct session *session, struct backing_lane *lane)
{
    int error = 0;
    for (int i = 0; i < LIMIT_SESSION_SEGMENTS && error == 0; i++) {
        struct session_segment *listed = &session->segments[i];
        if (listed->owed != 0) {
            error = control_let_go(lane, listed->owed, sync_after_ms(LIMIT_RPC_MS));
            listed->owed = error == 0 ? 0 : listed->owed;
        }
    }
    return error;
}

static int resume_all(struct session *session, struct backing_lane *lane, bool same_store)
{
    (void)pthread_mutex_lock(&session->lock);
    int error = same_store ? pay_all(session, lane) : 0;
    for (int i = 0; i < LIMIT_SESSION_SEGMENTS && error == 0; i++) {
        struct session_segment *listed = &session->segments[i];
        listed->owed = 0; // paid, or never open in this store
        if (listed->segment == NULL || listed->away ||
            atomic_load(&listed->segment->fate) != BACKING_WELL) {
            continue;
        }
        if (same_store) {
            error = resume_one(session, lane, listed);
        } else {
            meet(session, listed->segment, BACKING_LOST);
        }
    }
    if (error ==
        0) { // under the lock: whoever lists a segment sees whether this time passed it over
        (void)atomic_fetch_add(&session->backing.resumed, 1);
        sync_wake(&session->backing.resumed, INT_MAX);
    }
    (void)pthread_mutex_unlock(&session->lock);
    return error;
}

// ---- connecting ----

static bool same_store(const struct session *session, const struct wire_attached *attached)
{
    return !session->ever_attached ||
           memcmp(session->attached.store_id, attached->store_id, sizeof attached->store_id) == 0;
}

// The lane is down: nobody else touches it.
static int bring_up(struct session *session, struct backing_lane *lane, struct failure *failure)
{
    struct wire_attached attached;
    struct lane *connected = NULL;
    lane_destroy(&lane->lane);
    // Generations of a lane only rise; one counter for all lanes does that.
    uint32_t connection = ++session->connections;
    int error = connect_lane(session, lane, connection, &connected, &attached, failure);
    if (error == -EOWNERDEAD) { // an embedded server does not come back
        (void)resume_all(session, lane, false);
    }
    if (error != 0) {
        return error;
    }
    lane->lane = connected;
    connected->spin.share = &session->spinning;
    if (lane->class == BACKING_CONTROL) {
        error = resume_all(session, lane, same_store(session, &attached));
        if (error != 0) {
            lane_destroy(&lane->lane);
            return error;
        }
        session->attached = attached;
        session->ever_attached = true;
    }
    atomic_store_explicit(&lane->up, connection, memory_order_release);
    sync_wake(&lane->up, INT_MAX);
    return 0;
}

static bool bring_all_up(struct session *session)
{
    for (uint32_t i = 0; i < session->backing.lane_count; i++) {
        struct backing_lane *lane = &session->backing.lanes[i];
        if (atomic_load(&session->backing.stopping) != 0) {
            return false;
        }
        if (atomic_load_explicit(&lane->up, memory_order_acquire) == 0) {
            if (bring_up(session, lane, NULL) != 0) {
                return false;
            }
            STAT_ADD(session->backing.stat, reconnects, 1);
            probe_reconnect(0, lane->number, atomic_load(&lane->up),
                            (u64)(sync_now() - atomic_load(&lane->down_since)));
        }
    }
    return true;
}

// Keeps the lease, finds out that the server is gone when nobody asks it anything.
static void heartbeat(struct session *session, enum backing_class class)
{
    struct backing_lane *lane = backing_try(&session->backing, class);
    if (lane == NULL) {
        return; // somebody talks to the server just now
    }
    if (atomic_load_explicit(&lane->up, memory_order_acquire) != 0) {
        struct backing_exchange ping = {.op = WIRE_PING};
        if (backing_exchange(lane, &ping, sync_after_ms(LIMIT_HEARTBEAT_MS)) < 0) {
            backing_lane_down(lane);
        }
    }
    backing_give(lane);
}

static bool control_is_stale(const struct session *session)
{
    return atomic_load(&session->backing.lanes[0].up) != 0;
}

static void *keep(void *argument)
{
    struct session *session = argument;
    struct backing *backing = &session->backing;
    int64_t pause_ms = LIMIT_RECONNECT_MIN_MS;
    int64_t next_heartbeat = sync_after_ms(LIMIT_HEARTBEAT_MS);
    uint32_t broken;
    while (sync_goes_on(&backing->stopping, &backing->broken, &broken)) {
        uint64_t before = STAT_GET(backing->stat, reconnects);
        int64_t wake = next_heartbeat;
        if (bring_all_up(session)) {
            pause_ms = LIMIT_RECONNECT_MIN_MS;
        } else {
            wake = sync_after_ms(pause_ms);
            pause_ms =
                pause_ms * 2 < LIMIT_RECONNECT_MAX_MS ? pause_ms * 2 : LIMIT_RECONNECT_MAX_MS;
        }
        // A data lane that was cut is a hint that the control lane is, too: look at once. Otherwise a lane of calls does,
        // which is direct unless told otherwise: nothing is allocated for what nobody asked for.
        bool hint = STAT_GET(backing->stat, reconnects) != before && control_is_stale(session);
        if (hint || sync_now() >= next_heartbeat) {
            heartbeat(session, hint ? BACKING_CONTROL : BACKING_CALL);
            next_heartbeat = sync_after_ms(LIMIT_HEARTBEAT_MS);
            continue;
        }
        (void)sync_wait(&backing->broken, broken, wake);
    }
    return NULL;
}

// ---- start and stop ----

static int list(struct session *session, struct backing_segment *segment, const char *name,
                bool write, bool away)
{
    int error = -EMFILE;
    (void)pthread_mutex_lock(&session->lock);
    for (int i = 0; i < LIMIT_SESSION_SEGMENTS; i++) {
        struct session_segment *listed = &session->segments[i];
        if (listed->owed == segment->id) {
            listed->owed = 0; // it was opened once more
        }
        if (listed->segment == NULL && listed->owed == 0 && error != 0) {
            listed->segment = segment;
            listed->write = write;
            listed->away = away;
            strncpy(listed->name, name, sizeof listed->name - 1);
            error = 0;
        }
    }
    (void)pthread_mutex_unlock(&session->lock);
    return error;
}

int session_list(struct session *session, struct backing_segment *segment, const char *name,
                 bool write)
{
    return list(session, segment, name, write, false);
}

int session_list_away(struct session *session, struct backing_segment *segment, const char *name)
{
    return list(session, segment, name, true, true);
}

void session_set_away(struct session *session, struct backing_segment *segment, bool away)
{
    (void)pthread_mutex_lock(&session->lock);
    for (int i = 0; i < LIMIT_SESSION_SEGMENTS; i++) {
        if (session->segments[i].segment == segment) {
            session->segments[i].away = away;
        }
    }
    (void)pthread_mutex_unlock(&session->lock);
}

void session_unlist(struct session *session, struct backing_segment *segment)
{
    (void)pthread_mutex_lock(&session->lock);
    for (int i = 0; i < LIMIT_SESSION_SEGMENTS; i++) {
        if (session->segments[i].segment == segment) {
            session->segments[i].segment = NULL;
        }
    }
    (void)pthread_mutex_unlock(&session->lock);
}

void session_owe_close(struct session *session, uint64_t id)
{
    bool owed = false;
    (void)pthread_mutex_lock(&session->lock);
    for (int i = 0; i < LIMIT_SESSION_SEGMENTS && !owed; i++) {
        struct session_segment *listed = &session->segments[i];
        owed = listed->segment == NULL && listed->owed == 0;
        listed->owed = owed ? id : listed->owed;
    }
    (void)pthread_mutex_unlock(&session->lock); // no place: so many may be open there, and no more
}

int session_pay(struct session *session, struct backing_lane *lane)
{
    (void)pthread_mutex_lock(&session->lock);
    int error = pay_all(session, lane);
    (void)pthread_mutex_unlock(&session->lock);
    return error;
}

bool session_owes_in_vain(struct session *session)
{
    bool owes = false;
    (void)pthread_mutex_lock(&session->lock);
    for (int i = 0; i < LIMIT_SESSION_SEGMENTS && !owes; i++) {
        owes = session->segments[i].owed != 0;
    }
    (void)pthread_mutex_unlock(&session->lock);
    return owes && atomic_load(&session->backing.lanes[0].up) == 0;
}

static void drop_lanes(struct session *session)
{
    for (uint32_t i = 0; i < session->backing.lane_count; i++) {
        lane_destroy(&session->backing.lanes[i].lane);
    }
    lane_grpc_library_put();
    connect_forget(session);
    (void)pthread_mutex_destroy(&session->lock);
}

// The program's signals are for its own threads: a handler that leaves by siglongjmp must not run in one of ours.
static int start_keeper(struct session *session)
{
    sync_mask before = sync_block_signals();
    int error = -pthread_create(&session->keeper, NULL, keep, session);
    sync_restore_signals(before);
    session->keeper_runs = error == 0;
    return error;
}

int session_start(struct session *session, const struct settings *settings, struct counters *stat,
                  struct failure *failure)
{
    session->settings = settings;
    session->backing.stat = stat;
    spin_share_init(&session->spinning, (enum spin_way)settings->spin, &stat->answers_spun,
                    &stat->answers_slept);
    int error = connect_prepare(session, failure);
    if (error != 0) {
        return error;
    }
    (void)pthread_mutex_init(&session->lock, NULL);
    lane_grpc_library_get();
    uint32_t faults = (uint32_t)settings->fault_workers;
    add_lanes(&session->backing, BACKING_CONTROL, 1);
    add_lanes(&session->backing, BACKING_BULK, BULK_LANES);
    add_lanes(&session->backing, BACKING_CALL, CALL_LANES);
    add_lanes(&session->backing, BACKING_FAULT,
              faults < MOST_FAULT_LANES ? faults : MOST_FAULT_LANES);
    for (uint32_t i = 0; i < session->backing.lane_count && error == 0; i++) {
        error = bring_up(session, &session->backing.lanes[i], failure);
    }
    if (error == 0) {
        error = start_keeper(session);
    }
    if (error != 0) {
        drop_lanes(session);
    }
    return error;
}

void session_cancel(struct session *session)
{
    struct backing *backing = &session->backing;
    atomic_store(&backing->stopping, 1);
    (void)atomic_fetch_add(&backing->broken, 1);
    sync_wake(&backing->broken, INT_MAX);
    for (uint32_t i = 0; i < backing->lane_count; i++) {
        sync_wake(&backing->lanes[i].up, INT_MAX);
    }
    for (int i = 0; i < BACKING_CLASS_COUNT; i++) {
        (void)atomic_fetch_add(&backing->given[i], 1);
        sync_wake(&backing->given[i], INT_MAX);
    }
}

void session_stop(struct session *session)
{
    session_cancel(session);
    if (session->keeper_runs) {
        (void)pthread_join(session->keeper, NULL);
    }
    drop_lanes(session);
}
