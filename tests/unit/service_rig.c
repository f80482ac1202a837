// SPDX-License-Identifier: Apache-2.0
//
// See service_rig.h. It takes the place of the whole of rpc's fronts: the functions that the service calls of them are here, so
// a program has either this or a front. Nothing is allocated, since allocations may be what a test lets fail; and
// what does not hold ends the program by abort(), which is what a fuzzer looks for and what a unit test shows as
// its failure.
#include "tests/unit/service_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

int lane_peer_answer(struct lane_peer *peer, const struct wire_header *header,
                     const struct iovec *pieces, int count)
{
    size_t have = 0;
    for (int i = 0; i < count; i++) {
        require(pieces[i].iov_len <= sizeof peer->payload - have);
        memcpy(peer->payload + have, pieces[i].iov_base, pieces[i].iov_len);
        have += pieces[i].iov_len;
    }
    require(have == header->length);
    peer->answer = *header;
    peer->answers++;
    return 0;
}

struct lane_cost lane_peer_cost(const struct lane_peer *peer)
{
    (void)peer;
    return (struct lane_cost){0};
}

void lane_peer_shut(struct lane_peer *peer, int reason)
{
    peer->shut = reason;
}

static int front_add(struct lane_front *front, int fd, struct noise_cipher *send,
                     struct noise_cipher *receive, void *user, struct lane_peer **peer)
{
    struct rig_front *own = (struct rig_front *)front;
    (void)fd;
    (void)send;
    (void)receive;
    if (own->error != 0) {
        return own->error;
    }
    own->coming->user = user;
    own->coming->shut = 0;
    own->coming->answers = 0;
    *peer = own->coming;
    if (own->closes) {
        service_calls.closed(user, -ECONNRESET);
    }
    return 0;
}

void rig_front_init(struct rig_front *own)
{
    static const struct lane_front_ops ops = {.add = front_add};
    *own = (struct rig_front){.front = {.ops = &ops}};
}

void rig_front_woken(void *context)
{
    (void)context;
}

enum wire_status rig_front_ask(struct lane_peer *peer, const struct wire_header *request,
                               const void *payload)
{
    unsigned before = peer->answers;
    service_calls.message(peer->user, peer, request, payload);
    require(peer->answers == before + 1);
    require(wire_answer_check(&peer->answer, request) == 0);
    return (enum wire_status)peer->answer.status;
}
