// SPDX-License-Identifier: Apache-2.0
//
// A connection for a tool, made of the library's own rooms (settings, backing/connect.c), so that a tool finds a server exactly
// as a program does, and is refused with the same words. It is a session of one lane: of the kind that faults take,
// which starts no thread, unless DSM_FAULT_LANES says that only gRPC gets through.
//
// The library's keeper is left out: a tool that gets no answer tells its user, and does not wait for 20 s. But a dsmd that is
// just being started again (an upgrade) is waited for as long as a connection may take.
//
// The hello says that this is a tool. The session opens no segment by itself; what a create opens, the command closes.
#include "tools/tool_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdsm/backing/connect.h"
#include "libdsm/settings.h"
#include "libdsm/sync/futex.h"

struct tool_client {
    struct settings settings;
    struct session session;
    struct backing_lane lane;
    struct wire_attached attached;
    uint64_t generation;
    bool grpc;
    uint8_t answer[LIMIT_CONTROL_BYTES];
};

static int connect_again(struct tool_client *client, struct failure *failure)
{
    lane_destroy(&client->lane.lane);
    return connect_lane(&client->session, &client->lane, ++client->generation, &client->lane.lane,
                        &client->attached, failure);
}

static int prepare(struct tool_client *client, const char *server, struct failure *failure)
{
    int error = settings_read(&client->settings, failure);
    if (error == 0 && server != NULL) {
        if (strlen(server) >= sizeof client->settings.server) {
            return failure_set(failure, -EINVAL, "The server's address is too long.");
        }
        memcpy(client->settings.server, server, strlen(server) + 1);
    }
    const char *named = client->settings.server;
    if (error == 0 && (named[0] == '\0' || strcmp(named, "embedded") == 0)) {
        return failure_set(failure, -EINVAL,
                           "DSM_SERVER is not set: name the server as HOST:PORT. (An embedded "
                           "server answers to its own program alone.)");
    }
    client->session.settings = &client->settings;
    error = error != 0 ? error : connect_prepare(&client->session, failure);
    if (error == 0) {
        client->session.client.hello.role = WIRE_ROLE_TOOL;
    }
    return error;
}

int tool_client_open(const char *server, struct tool_client **client, struct failure *failure)
{
    struct tool_client *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return failure_set(failure, -ENOMEM, "Out of memory.");
    }
    int error = prepare(made, server, failure);
    if (error != 0) {
        free(made);
        return error;
    }
    made->lane = (struct backing_lane){.backing = &made->session.backing, .class = BACKING_CALL};
    made->grpc = made->settings.fault_lanes == SETTINGS_GRPC;
    if (made->grpc) {
        lane_grpc_library_get();
    }
    error = connect_again(made, failure);
    if (error != 0) {
        tool_client_close(&made);
        return error;
    }
    *client = made;
    return 0;
}

void tool_client_close(struct tool_client **client)
{
    struct tool_client *gone = *client;
    if (gone == NULL) {
        return;
    }
    lane_destroy(&gone->lane.lane);
    if (gone->grpc) {
        lane_grpc_library_put();
    }
    connect_forget(&gone->session);
    free(gone);
    *client = NULL;
}

void tool_client_facts(const struct tool_client *client, struct tool_client_facts *facts)
{
    *facts = (struct tool_client_facts){
        .suite = client->session.client.hello.suite,
        .lane_kind = client->grpc ? WIRE_LANE_GRPC : WIRE_LANE_SOCK,
        .attached = client->attached,
    };
    (void)snprintf(facts->server, sizeof facts->server, "%s:%s", client->session.host,
                   client->session.port);
}

static int no_answer(const struct tool_client *client, int error, struct failure *failure)
{
    if (error == -ETIMEDOUT) {
        return failure_set(failure, error,
                           "%s:%s is connected but has not answered for %d s: is dsmd stopped?",
                           client->session.host, client->session.port, LIMIT_RPC_MS / 1000);
    }
    return failure_set(failure, error, "The connection to %s:%s was cut: %s. dsmd's log says why.",
                       client->session.host, client->session.port, strerror(-error));
}

// The bytes of the answer in client->answer, or the connection's error.
static ssize_t exchange(struct tool_client *client, struct backing_exchange *what)
{
    if (client->lane.lane == NULL) {
        return -ENOTCONN;
    }
    what->answer = client->answer;
    what->capacity = sizeof client->answer;
    ssize_t got = backing_exchange(&client->lane, what, sync_after_ms(LIMIT_RPC_MS));
    if (got < 0) {
        lane_destroy(&client->lane.lane);
    }
    return got;
}

int tool_client_ping(struct tool_client *client, struct failure *failure)
{
    struct backing_exchange ping = {.op = WIRE_PING};
    ssize_t got = exchange(client, &ping);
    if (got < 0) {
        return no_answer(client, (int)got, failure);
    }
    int error = wire_status_errno(ping.status);
    return error == 0 ? 0 : failure_set(failure, error, "%s.", wire_status_text(ping.status));
}

// After a cut: dsmd may come back. The last refusal is what is said in the end.
static int wait_for_server(struct tool_client *client, struct failure *failure)
{
    int64_t deadline = sync_after_ms(LIMIT_CONNECT_MS);
    int error;
    while ((error = connect_again(client, failure)) != 0 && sync_now() < deadline) {
        (void)usleep(LIMIT_RECONNECT_MIN_MS * 1000);
    }
    return error;
}

static ssize_t ask(struct tool_client *client, struct backing_exchange *what,
                   struct failure *failure)
{
    ssize_t got = exchange(client, what);
    if (got >= 0) {
        return got;
    }
    if (got == -ETIMEDOUT) { // it is there and does not answer: asking again would take as long
        return no_answer(client, (int)got, failure);
    }
    int error = wait_for_server(client, failure);
    if (error != 0) {
        return error;
    }
    got = exchange(client, what);
    return got < 0 ? no_answer(client, (int)got, failure) : got;
}

static int judge(const struct tool_client *client, enum wire_status status,
                 const Dsm__ControlAnswer *answer, Dsm__ControlAnswer__BodyCase body,
                 struct failure *failure)
{
    int error = wire_status_errno(status);
    if (error == 0 && answer->body_case != body) {
        return failure_set(failure, -EBADMSG,
                           "%s:%s gave an answer that this version does not know.",
                           client->session.host, client->session.port);
    }
    if (error != 0) {
        (void)failure_set(failure, error, "%s",
                          answer->detail[0] != '\0' ? answer->detail : wire_status_text(status));
    }
    return error;
}

int tool_client_control(struct tool_client *client, const Dsm__Control *control,
                        Dsm__ControlAnswer__BodyCase body, Dsm__ControlAnswer **answer,
                        struct failure *failure)
{
    uint8_t request[2048];
    size_t bytes = dsm__control__get_packed_size(control);
    if (bytes > sizeof request) {
        return failure_set(failure, -EMSGSIZE, "The names are too long.");
    }
    (void)dsm__control__pack(control, request);
    struct backing_exchange what = {
        .op = WIRE_CONTROL, .request = request, .request_bytes = (uint32_t)bytes};
    ssize_t got = ask(client, &what, failure);
    if (got < 0) {
        return (int)got;
    }
    Dsm__ControlAnswer *taken = dsm__control_answer__unpack(NULL, (size_t)got, client->answer);
    if (taken == NULL) {
        return failure_set(failure, -EBADMSG, "%s:%s gave an answer that is malformed.",
                           client->session.host, client->session.port);
    }
    int error = judge(client, what.status, taken, body, failure);
    if (error != 0) {
        tool_client_free(&taken);
        return error;
    }
    *answer = taken;
    return 0;
}

void tool_client_free(Dsm__ControlAnswer **answer)
{
    if (*answer != NULL) {
        dsm__control_answer__free_unpacked(*answer, NULL);
        *answer = NULL;
    }
}
