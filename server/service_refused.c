// SPDX-License-Identifier: Apache-2.0
//
// What the log says of clients that have a key: requests that were refused, and connections that
// were ended because of what came on them. The client is told by a status; these lines are for the
// operator, who else would see a hostile or broken client only in the counters.
//
// What is part of an ordinary life is not told: a segment that is open elsewhere or exists already, requests that
// come while dsmd stops, and connections that end or break.
//
// Lines are few (log_client), so a client cannot fill a disk with them nor pay for them in time.
// What a client says of itself is cut and printable; the log sees to that.
//
// Threads: the fronts' own. Nothing is kept.
#include "server/service_internal.h"

#include <errno.h>
#include <inttypes.h>

#include "server/clock.h"

static bool is_ordinary(unsigned status)
{
    return status == WIRE_OK || status == WIRE_BUSY || status == WIRE_EXISTS ||
           status == WIRE_DRAINING;
}

void service_say_refused(const struct service_lane *lane, const struct wire_header *request,
                         const struct wire_header *answer, const char *detail)
{
    struct log *log = lane->service->options.log;
    if (is_ordinary(answer->status)) {
        return;
    }
    if (detail != NULL) {
        log_client(log, LOG_LEVEL_INFO, clock_now_ms(),
                   "refused a request of \"%s\" (\"%s\" at %s): %s", lane->principal, lane->holder,
                   lane->address, detail);
        return;
    }
    log_client(log, LOG_LEVEL_INFO, clock_now_ms(),
               "refused a %s of \"%s\" (\"%s\" at %s): %s: segment %" PRIu64 " page %" PRIu64
               " count %u epoch %" PRIu64,
               tally_op_name(request->op), lane->principal, lane->holder, lane->address,
               wire_status_text((enum wire_status)answer->status), request->segment, request->page,
               request->count, request->epoch);
}

void service_say_ended(const struct service_lane *lane, int reason)
{
    const char *text = NULL;
    switch (reason) {
    case -EBADMSG:
        text = "what came does not open, or is no request";
        break;
    case -EPROTO:
        text = "what came beside its requests is too much, or no HTTP/2 of ours";
        break;
    case -ETIMEDOUT:
        text = "what it began did not come, or its answers were not taken, in time";
        break;
    case -EACCES:
        text = "its key may not connect any more";
        break;
    default:
        return;
    }
    log_client(lane->service->options.log, LOG_LEVEL_WARNING, clock_now_ms(),
               "ended a connection of \"%s\" (\"%s\" at %s): %s", lane->principal, lane->holder,
               lane->address, text);
}
