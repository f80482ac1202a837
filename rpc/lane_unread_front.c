// SPDX-License-Identifier: Apache-2.0
//
// The bound on answers that nobody takes. A front keeps what it has sealed until the socket has taken it; who asks on each of
// the connections that a key may have, and never reads, would hold gigabytes. So the answers that wait, of all peers of all
// fronts, have one bound, LIMIT_UNREAD_BYTES:
//
//   - above half of it, a peer is read only while no answer of its own waits;
//   - at the bound no request is begun, of anybody: it waits in its front, and begins when there is room;
//   - while one waits, a peer that takes nothing is ended, the one that holds most first, until there is room.
//
// So what waits exceeds the bound by the answers of the requests that were in work when it was reached: one for each thread.
//
// Who takes nothing: TCP is asked how many bytes the other end has acknowledged since the peer was first seen to hold some here.
// It has HOLD_MS, and longer the more it took, so a slow network is not an attack unless it is very slow while others wait. A
// peer of the own program (an embedded server's) is not counted: that memory is its own, and it may stand in a debugger.
//
// Rejected: to end who holds most at once. Honest clients that read in bulk together hold as much for a moment; they wait
// instead. Rejected, too: a share of the bound for each peer. A connection costs an attacker nothing.
//
// Locks: U, the list's; under it only the doom of a peer and its ops->shut(), which take the front's or the peer's own lock; so no
// peer enters or leaves under one of those. What a peer holds is atomic, and changes under any lock.
#include "rpc/lane_peer.h"

#include <errno.h>

#include "rpc/deadline.h"

enum { HOLD_MS = 200 };

TAILQ_HEAD(lane_peers, lane_peer);
static pthread_mutex_t peers_lock = PTHREAD_MUTEX_INITIALIZER;
static struct lane_peers peers = TAILQ_HEAD_INITIALIZER(peers); // U
static int64_t relieved;                                        // U: when, the last time
static _Atomic size_t all_bytes;

void lane_unread_enter(struct lane_peer *peer, int fd)
{
    peer->unread.fd = fd;
    peer->unread.limited = lane_front_socket_is_tcp(fd);
    pthread_mutex_lock(&peers_lock);
    TAILQ_INSERT_TAIL(&peers, peer, unread.link);
    pthread_mutex_unlock(&peers_lock);
}

void lane_unread_leave(struct lane_peer *peer)
{
    pthread_mutex_lock(&peers_lock);
    TAILQ_REMOVE(&peers, peer, unread.link);
    pthread_mutex_unlock(&peers_lock);
}

void lane_unread_count(struct lane_peer *peer, size_t more, size_t less)
{
    if (peer->unread.limited) {
        atomic_fetch_add(&peer->unread.bytes, more - less);
        atomic_fetch_add(&all_bytes, more - less);
    }
}

bool lane_unread_crowded(void)
{
    return atomic_load(&all_bytes) > LIMIT_UNREAD_BYTES / 2;
}

bool lane_unread_full(void)
{
    return atomic_load(&all_bytes) >= LIMIT_UNREAD_BYTES;
}

static bool overdue_locked(struct lane_unread *unread, int64_t now)
{
    uint64_t acked = lane_front_socket_taken(unread->fd);
    if (unread->since == 0) {
        unread->since = now;
        unread->acked = acked;
    }
    int64_t patience_ms = HOLD_MS + (int64_t)((acked - unread->acked) / LANE_SLOWEST_BYTES_PER_MS);
    return now - unread->since > patience_ms * DEADLINE_NS_PER_MS;
}

// Who holds most of those that take nothing; *bytes: of all that go on. NULL: nobody.
static struct lane_peer *worst_locked(int64_t now, size_t *bytes)
{
    struct lane_peer *worst = NULL;
    size_t most = 0;
    struct lane_peer *peer;
    *bytes = 0;
    TAILQ_FOREACH(peer, &peers, unread.link)
    {
        size_t held = lane_peer_reason(peer) == 0 ? atomic_load(&peer->unread.bytes) : 0;
        *bytes += held;
        if (held == 0) {
            peer->unread.since = 0;
        } else if (overdue_locked(&peer->unread, now) && held > most) {
            worst = peer;
            most = held;
        }
    }
    return worst;
}

void lane_unread_relieve(void)
{
    static const int64_t tick_ns = (int64_t)LANE_UNREAD_TICK_MS * DEADLINE_NS_PER_MS;
    int64_t now = deadline_now();
    size_t bytes;
    struct lane_peer *worst;
    pthread_mutex_lock(&peers_lock);
    if (now - relieved < tick_ns) {
        pthread_mutex_unlock(&peers_lock);
        return;
    }
    relieved = now;
    while ((worst = worst_locked(now, &bytes)) != NULL && bytes >= LIMIT_UNREAD_BYTES) {
        lane_peer_shut(worst, -ETIMEDOUT);
    }
    pthread_mutex_unlock(&peers_lock);
}
