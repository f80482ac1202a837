// SPDX-License-Identifier: Apache-2.0
//
// How fast connections make room for others where places or descriptors are out. Who is ended
// comes again at once if that costs him nothing, so a few thousand silent connections would keep
// the listener and the kernel as busy as they can be, at the cost of those who are in. Hence
// LIMIT_MADE_ROOM_PER_S; who comes meanwhile waits in the kernel, in the line of his socket.
//
// A newcomer waits there, too, behind the crowd. So the pace ends where the line has five eighths of
// its limit: that many at this rate are 0.83 s. The rest is for those who come all at once, since a
// full line turns newcomers away; with a quarter left over it did so some eight times as often.
//
// A token for each that makes room. They grow with the time; a listener that was kept from its work
// makes up for LISTENER_PACE_SLEPT_MS of it. Each socket has its own: a crowd at one address must
// not hold up those who come to another.
//
// Rejected: a rate in proportion to the line's length. It falls asleep over the last ones, and a
// newcomer may be one of them. TCP_DEFER_ACCEPT, which leaves the silent ones to the kernel: who
// sends a byte is not silent to it.
//
// Used by the listener's thread only.
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "server/listener_internal.h"

void pace_grow(struct pace *pace, int64_t now_ms)
{
    const int64_t most = (int64_t)LIMIT_MADE_ROOM_PER_S * LISTENER_PACE_SLEPT_MS;
    int64_t passed_ms = now_ms - pace->grown_ms;
    passed_ms = passed_ms < LISTENER_PACE_SLEPT_MS ? passed_ms : LISTENER_PACE_SLEPT_MS;
    pace->thousandths += passed_ms * LIMIT_MADE_ROOM_PER_S;
    pace->thousandths = pace->thousandths < most ? pace->thousandths : most;
    pace->grown_ms = now_ms;
}

// Of a socket that listens, the kernel says the line's length and its limit.
static bool line_is_long(int fd)
{
    struct tcp_info info;
    socklen_t bytes = sizeof info;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0 &&
           pace_line_is_long(info.tcpi_unacked, info.tcpi_sacked);
}

bool pace_line_is_long(unsigned length, unsigned limit)
{
    return length > limit / 8 * 5;
}

bool pace_allows(struct pace *pace, int fd, int64_t now_ms)
{
    pace_grow(pace, now_ms);
    if (pace->thousandths < 1000 && line_is_long(fd)) {
        pace->thousandths += (int64_t)LISTENER_ACCEPTS * 1000;
    }
    return pace->thousandths >= 1000;
}

void pace_made_room(struct pace *pace)
{
    pace->thousandths -= 1000;
}
