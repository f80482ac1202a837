// SPDX-License-Identifier: Apache-2.0
//
// What became of connections: lanes, or why not. One table has what the log says of an end, by what name it is counted, and
// whether it counts against its address; so whoever adds an end adds all three.
//
// Counted by the listener's thread alone, read by any.
#include <string.h>

#include "server/listener_internal.h"

static const struct {
    const char *name, *text;
    bool fails;
} drops[LISTENER_DROPS] = {
    [LISTENER_DROP_TOLD] = {"told", NULL, true}, // and logged when it was told
    [LISTENER_DROP_FAILURES] = {"too_many_failures", "too many failed handshakes", false},
    [LISTENER_DROP_NO_PLACE] = {"no_place", "no place is free", false},
    [LISTENER_DROP_SILENT] = {"silent", "silent, and its place is needed", true},
    [LISTENER_DROP_UNPROVEN] = {"unproven", "nothing proven, and its place is needed", true},
    [LISTENER_DROP_LATE] = {"late", "no handshake within its time", true},
    [LISTENER_DROP_GONE] = {"gone", "gone while its lane was waited for", true},
    [LISTENER_DROP_BROKEN] = {"broken", "the handshake failed", true},
    [LISTENER_DROP_SHORTAGE] = {"shortage", "epoll failed", false},
    [LISTENER_DROP_STOPPING] = {"stopping", NULL, false},
};

const char *listener_drop_name(enum listener_drop drop)
{
    return drops[drop].name;
}

bool listener_drop_fails(enum listener_drop why)
{
    return drops[why].fails;
}

void listener_add(_Atomic uint64_t *tally)
{
    (void)atomic_fetch_add_explicit(tally, 1, memory_order_relaxed);
}

void listener_dropped(struct listener *listener, const char *from, enum listener_drop why,
                      int64_t now_ms)
{
    listener_add(&listener->tallies.dropped[why]);
    if (drops[why].text != NULL) {
        log_hostile(listener->options.log, now_ms, "dropped %s: %s", from, drops[why].text);
    }
}

static void copy(uint64_t *to, const _Atomic uint64_t *from, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        to[i] = atomic_load_explicit(&from[i], memory_order_relaxed);
    }
}

void listener_count(const struct listener *listener, struct listener_counts *counts)
{
    const struct tallies *tallies = &listener->tallies;
    copy(counts->accepted, tallies->accepted, WIRE_LANE_GRPC + 1);
    copy(counts->refused, tallies->refused, WIRE_STATUS_COUNT);
    copy(counts->dropped, tallies->dropped, LISTENER_DROPS);
}
