// SPDX-License-Identifier: Apache-2.0
//
// The client's end of connections, in the place of libdsm/backing/connect.c. The lane is lane_loop: sealed, opened and checked as
// on any other. It asks for an answer while its owner waits in receive(); this file lets the virtual time pass there,
// within the deadline that the owner gave. Connecting goes to the service without a handshake, which has tests of its
// own, but with all that comes after it: sessions, generations, older connections that must end first.
#include "tests/simulator/network_internal.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "libdsm/backing/connect.h"
#include "server/clock.h"
#include "tests/simulator/capture.h"
#include "tests/simulator/virtual_time.h"

// ---- the client's end ----

// The answering end of lane_loop: lets the time pass until the answer is there.
static int ask(void *context, const struct wire_header *request, const void *payload,
               struct wire_header *answer, void *answer_payload)
{
    struct connection *c = context;
    struct message *m = malloc(sizeof *m + request->length);
    if (m == NULL) {
        vt_fail("no memory for a message");
    }
    *m = (struct message){.connection = c, .number = ++c->asked, .header = *request};
    memcpy(m->payload, payload, request->length);
    int64_t arrival = vt_now() + network_travel();
    c->last_arrival = arrival > c->last_arrival ? arrival : c->last_arrival;
    c->users++;
    vt_at(c->last_arrival, network_request_arrives, m);
    while (c->answered != c->asked && !c->broken) {
        uint32_t news = atomic_load(&c->news);
        if (c->deadline != LANE_NO_DEADLINE && vt_now() >= c->deadline) {
            return -ETIMEDOUT;
        }
        (void)vt_wait(&c->news, news, c->deadline);
    }
    if (c->answered != c->asked) {
        return -ECONNRESET;
    }
    if (c->error != 0) {
        return c->error;
    }
    *answer = c->answer;
    memcpy(answer_payload, c->answer_payload, c->answer.length);
    return 0;
}

static int lane_send(struct lane *lane, const struct wire_header *header,
                     const struct iovec *pieces, int count, int64_t deadline)
{
    struct connection *c = (struct connection *)lane;
    int error =
        c->broken ? -ECONNRESET : c->loop->ops->send(c->loop, header, pieces, count, deadline);
    lane->counts = c->loop->counts;
    return error;
}

static int lane_receive(struct lane *lane, struct wire_header *header, int64_t deadline)
{
    struct connection *c = (struct connection *)lane;
    c->deadline = deadline;
    int error = c->loop->ops->receive(c->loop, header, deadline);
    lane->counts = c->loop->counts;
    return error;
}

static ssize_t lane_receive_data(struct lane *lane, void *to, const void **data, int64_t deadline)
{
    struct connection *c = (struct connection *)lane;
    ssize_t bytes = c->loop->ops->receive_data(c->loop, to, data, deadline);
    lane->counts = c->loop->counts;
    return bytes;
}

static void lane_shut(struct lane *lane)
{
    struct connection *c = (struct connection *)lane;
    c->loop->ops->shut(c->loop);
}

static void close_arrives(void *context)
{
    struct connection *c = context;
    if (c->server_has && (c->client->no_requests || c->client->held)) {
        vt_at(vt_now() + NETWORK_HELD_NS, close_arrives, c);
        return;
    }
    if (c->server_has && !c->peer->shut) {
        network_end_server(c, -ESHUTDOWN, 0);
    }
    network_put(c);
}

static void lane_gone(struct lane *lane)
{
    struct connection *c = (struct connection *)lane;
    c->client_has = false;
    lane_destroy(&c->loop);
    int64_t arrival = vt_now() + network_travel();
    c->last_arrival = arrival > c->last_arrival ? arrival : c->last_arrival;
    vt_at(c->last_arrival, close_arrives, c); // takes over the client's share
}

static const struct lane_ops simulated = {
    .send = lane_send,
    .receive = lane_receive,
    .receive_data = lane_receive_data,
    .shut = lane_shut,
    .destroy = lane_gone,
};

// ---- connecting ----

static struct connection *coming; // to the front's add(), which is told nothing

static int front_add(struct lane_front *front, int fd, struct noise_cipher *send,
                     struct noise_cipher *receive, void *user, struct lane_peer **peer)
{
    (void)front;
    (void)fd;
    (void)send;
    (void)receive;
    struct lane_peer *made = malloc(sizeof *made);
    if (made == NULL) {
        return -ENOMEM;
    }
    memset(made, 0, offsetof(struct lane_peer, payload));
    made->user = user;
    coming->peer = made;
    coming->server_has = true;
    coming->users++;
    network_list(coming);
    *peer = made;
    return 0;
}

static const struct lane_front_ops front_ops = {.add = front_add};

// The server's part: from a hello to a connection that a front has.
static int attach(struct connection *c, const struct wire_attach *hello,
                  struct wire_attached *attached, int64_t deadline)
{
    struct lane_front front = {.ops = &front_ops};
    struct service_lane *lane = NULL;
    if (sim_server.service == NULL) {
        return -ECONNREFUSED;
    }
    c->life = sim_server.life;
    memset(attached, 0, sizeof *attached);
    server_works(true);
    enum wire_status status =
        service_attach(sim_server.service, sim_key, hello, clock_now_ms(), &lane, attached);
    server_works(false);
    if (status != WIRE_OK) {
        return -EACCES;
    }
    for (;;) {
        enum service_lane_state state = service_lane_state(lane);
        if (state == SERVICE_LANE_READY) {
            coming = c;
            return service_lane_start(&lane, &front, -1, NULL, NULL);
        }
        if (state == SERVICE_LANE_REFUSED || vt_now() >= deadline) {
            service_lane_abandon(&lane);
            return -ECONNRESET;
        }
        vt_sleep(VT_MS);
        if (!network_server_lives(c)) { // the process that had it is gone, and the memory with it
            return -ECONNRESET;
        }
    }
}

static struct connection *connection_make(const struct session *session)
{
    struct connection *c = malloc(sizeof *c);
    if (c == NULL) {
        vt_fail("no memory for a connection");
    }
    memset(c, 0, offsetof(struct connection, answer_payload));
    if ((c->loop = lane_loop_create(ask, c)) == NULL) {
        vt_fail("no memory for a connection");
    }
    c->lane.ops = &simulated;
    c->client = network_client_of(session);
    c->users = 1;
    c->client_has = true;
    network_totals.connections++;
    return c;
}

// In the place of connect.c's.
int connect_lane(struct session *session, const struct backing_lane *lane, uint64_t generation,
                 struct lane **connected, struct wire_attached *attached, struct failure *failure)
{
    const struct network_client *client = network_client_of(session);
    int64_t deadline = vt_now() + LIMIT_CONNECT_MS * (int64_t)VT_MS;
    struct wire_attach hello = session->client.attach;
    hello.lane = lane->number;
    hello.generation = generation;
    vt_sleep(network_travel());
    while (client->no_requests || client->no_answers || client->held) {
        if (vt_now() >= deadline) {
            return failure_set(failure, -ETIMEDOUT, "No answer.");
        }
        vt_sleep(NETWORK_HELD_NS);
    }
    struct connection *c = connection_make(session);
    int error = attach(c, &hello, attached, deadline);
    if (error == 0) {
        capture_attach(&hello, attached);
    }
    vt_sleep(network_travel());
    if (error == 0 && (vt_chance(network_plan.lost_attach) || vt_now() >= deadline)) {
        error = -ETIMEDOUT;
    }
    if (error != 0) {
        struct lane *gone = &c->lane;
        lane_destroy(&gone);
        return failure_set(failure, error, "No connection: %s", attached->text);
    }
    *connected = &c->lane;
    return 0;
}

int connect_prepare(struct session *session, struct failure *failure)
{
    (void)failure;
    noise_random(session->client.attach.instance, sizeof session->client.attach.instance);
    memcpy(session->client.attach.holder, "simulated", sizeof "simulated");
    memcpy(session->host, "server", sizeof "server");
    memcpy(session->port, "0", sizeof "0");
    return 0;
}

void connect_forget(struct session *session)
{
    (void)session;
}
