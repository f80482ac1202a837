// SPDX-License-Identifier: Apache-2.0
//
// See network.h. A connection has two ends that know nothing of each other but by messages: the client's may be gone while the
// server still has a request of it on the way, and the other way round. Nothing here keeps the product from meeting what
// a TCP connection can do to it, and no more than that, with one exception: a request that was delivered may be
// delivered again later on the same connection, which sealed records rule out on a real one.
#include "tests/simulator/network_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/simulator/capture.h"
#include "tests/simulator/virtual_time.h"

enum { CLIENTS = 16 };

struct network_plan network_plan;
struct network_totals network_totals;

static struct network_client clients[CLIENTS];

struct network_client *network_client_of(const struct session *session)
{
    for (int i = 0; i < CLIENTS; i++) {
        if (clients[i].session == session || clients[i].session == NULL) {
            clients[i].session = session;
            return &clients[i];
        }
    }
    vt_fail("more than %d clients", CLIENTS);
}

void network_part(const struct session *session, bool to_server, bool to_client)
{
    network_client_of(session)->no_requests = to_server;
    network_client_of(session)->no_answers = to_client;
}

void network_join(const struct session *session)
{
    network_part(session, false, false);
}

void network_hold(const struct session *session, bool hold)
{
    network_client_of(session)->held = hold;
}

int64_t network_travel(void)
{
    network_totals.messages++;
    if (vt_chance(network_plan.stuck)) {
        network_totals.late++;
        return (LIMIT_RPC_MS + (int64_t)vt_below(8000)) * VT_MS;
    }
    if (vt_chance(network_plan.slow)) {
        return (int64_t)vt_below(50) * VT_MS;
    }
    return 30000 + (int64_t)vt_below(200000);
}

void network_put(struct connection *c)
{
    if (--c->users == 0) {
        free(c);
    }
}

static void tell(struct connection *c)
{
    (void)atomic_fetch_add(&c->news, 1);
    vt_wake(&c->news, INT32_MAX);
}

// ---- the server's end ----

int lane_peer_answer(struct lane_peer *peer, const struct wire_header *header,
                     const struct iovec *pieces, int count)
{
    size_t have = 0;
    if (peer->shut) {
        return -ENOTCONN;
    }
    for (int i = 0; i < count && have < header->length; i++) {
        size_t left = header->length - have;
        size_t bytes = pieces[i].iov_len < left ? pieces[i].iov_len : left;
        memcpy(peer->payload + have, pieces[i].iov_base, bytes);
        have += bytes;
    }
    if (have != header->length || peer->answered) {
        vt_fail("the service answered %s", peer->answered ? "twice" : "with too few bytes");
    }
    peer->answer = *header;
    peer->answered = true;
    return 0;
}

struct lane_cost lane_peer_cost(const struct lane_peer *peer)
{
    (void)peer;
    return (struct lane_cost){0};
}

static void break_client(void *context)
{
    struct connection *c = context;
    c->broken = true;
    tell(c);
    network_put(c);
}

static void put_late(void *context)
{
    network_put(context);
}

bool network_server_lives(const struct connection *c)
{
    return sim_server.service != NULL && c->life == sim_server.life;
}

static void server_end(void *context)
{
    struct connection *c = context;
    if (c->server_has) {
        c->server_has = false;
        if (network_server_lives(c)) {
            service_calls.closed(c->peer->user, c->peer->reason);
        }
        free(c->peer);
        vt_at(vt_now() + network_travel(), break_client, c); // takes over the server's share
    }
    network_put(c);
}

void network_end_server(struct connection *c, int reason, int64_t delay)
{
    if (c->server_has) {
        c->peer->shut = true;
        c->peer->reason = reason;
    }
    c->users++;
    vt_at(vt_now() + delay, server_end, c);
}

static struct connection *connection_of(const struct lane_peer *peer);

void lane_peer_shut(struct lane_peer *peer, int reason)
{
    if (!peer->shut) { // requests that were read are finished or dropped until then
        network_end_server(connection_of(peer), reason, (int64_t)vt_below(2 * VT_MS));
    }
}

// ---- connections, for the two that know only an end ----

enum { CONNECTIONS = 4096 };
static struct connection *all[CONNECTIONS]; // that have a server's end

void network_list(struct connection *c)
{
    for (int i = 0; i < CONNECTIONS; i++) {
        if (all[i] == NULL || !all[i]->server_has) {
            if (all[i] != NULL) {
                network_put(all[i]);
            }
            all[i] = c;
            c->users++;
            return;
        }
    }
    vt_fail("more than %d connections", CONNECTIONS);
}

static struct connection *connection_of(const struct lane_peer *peer)
{
    for (int i = 0; i < CONNECTIONS; i++) {
        if (all[i] != NULL && all[i]->server_has && all[i]->peer == peer) {
            return all[i];
        }
    }
    vt_fail("the service shuts a peer that is not there");
}

void network_server_gone(void)
{
    for (int i = 0; i < CONNECTIONS; i++) {
        struct connection *c = all[i];
        if (c == NULL) {
            continue;
        }
        all[i] = NULL;
        if (c->server_has) {
            c->server_has = false;
            free(c->peer);
            bool silent = vt_chance(2000); // the machine went, too: nobody says a word
            vt_at(vt_now() + network_travel(), silent ? put_late : break_client, c);
        }
        network_put(c);
    }
}

// ---- messages ----

static void answer_arrives(void *context)
{
    struct message *m = context;
    struct connection *c = m->connection;
    if (c->client_has && c->client->no_answers) {
        vt_at(vt_now() + NETWORK_HELD_NS, answer_arrives, m); // as TCP: until it comes through
        return;
    }
    c->answered = m->number;
    tell(c);
    free(m);
    network_put(c);
}

static void send_answer(struct message *m)
{
    struct connection *c = m->connection;
    network_totals.answers++;
    c->answer = c->peer->answer;
    c->error = 0;
    memcpy(c->answer_payload, c->peer->payload, c->answer.length);
    if (vt_chance(network_plan.cut_answer)) {
        network_totals.cut++;
        network_end_server(c, -ECONNRESET, network_travel());
    } else if (vt_chance(network_plan.lose_answer)) {
        network_totals.lost++;
    } else {
        if (vt_chance(network_plan.spoil)) {
            network_totals.spoiled++;
            c->error = -EBADMSG;
        }
        vt_at(vt_now() + network_travel(), answer_arrives, m);
        return;
    }
    free(m);
    network_put(c);
}

static bool repeats(const struct message *m)
{
    return m->times == 0 && vt_chance(network_plan.twice);
}

static void carry_out(struct message *m)
{
    struct connection *c = m->connection;
    bool again = repeats(m);
    capture_request(&m->header, m->payload);
    c->peer->answered = false;
    server_works(true);
    service_calls.message(c->peer->user, c->peer, &m->header, m->payload);
    server_works(false);
    if (!c->peer->answered && !c->peer->shut) {
        vt_fail("a request of op %u was not answered", m->header.op);
    }
    capture_answer(&c->peer->answer);
    if (m->times++ > 0) { // nobody waits for the answer to this one
        free(m);
        network_put(c);
        return;
    }
    if (again) {
        struct message *copy = malloc(sizeof *copy + m->header.length);
        if (copy == NULL) {
            vt_fail("no memory for a message");
        }
        memcpy(copy, m, sizeof *m + m->header.length);
        network_totals.repeated++;
        c->users++;
        // A control message is kept in order by its lane; of pages, even a late one must do no harm.
        bool late = m->header.op != WIRE_CONTROL && vt_chance(5000);
        if (late) {
            vt_at(vt_now() + (int64_t)vt_below(3000) * VT_MS, network_request_arrives, copy);
        } else {
            struct wire_header answer = c->peer->answer;
            static uint8_t payload[LIMIT_RUN_BYTES];
            memcpy(payload, c->peer->payload, answer.length);
            carry_out(copy);
            c->peer->answer = answer;
            memcpy(c->peer->payload, payload, answer.length);
        }
    }
    send_answer(m);
}

void network_request_arrives(void *context)
{
    struct message *m = context;
    struct connection *c = m->connection;
    if ((c->client->no_requests || c->client->held) && c->server_has) {
        vt_at(vt_now() + NETWORK_HELD_NS, network_request_arrives, m);
        return;
    }
    if (c->server_has && !c->peer->shut && network_server_lives(c)) {
        if (vt_chance(network_plan.lose_request)) {
            network_totals.lost++;
        } else if (vt_chance(network_plan.cut_request)) {
            network_totals.cut++;
            network_end_server(c, -ECONNRESET, 0);
        } else {
            carry_out(m);
            return;
        }
    }
    free(m);
    network_put(c);
}
