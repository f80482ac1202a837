// SPDX-License-Identifier: Apache-2.0
//
// One connection from its first byte to a lane. handshake.c has the bytes and the cryptography;
// here are the decisions: who may come in, to which session, and when.
//
//   WAITING/SENDING -> MESSAGE_1 -> open, verdict -> ATTACHING -> attach -> (an older lane ends) ->
//   attached -> DONE -> front; REFUSED and FAILED end it.
//
// Message 1 is opened and the verdict said in one go on the listener's only thread, so one slot
// serves all connections; the Noise state never has to wait with a peer.
//
// What is refused hears why, in one sealed sentence; what does not open hears nothing. Both count
// as failures of their address, and an address without a failure left is not worth a key agreement:
// it may have made its connections before the first of them failed. A lane that waits for its older self is not read meanwhile, and its
// deadline goes on.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "server/clock.h"
#include "server/listener_internal.h"
#include "server/probes.h"

static enum wire_status judge(struct listener *listener, struct pending *pending, char *text,
                              size_t bytes)
{
    const struct listener_options *options = &listener->options;
    const struct wire_hello *hello = handshake_hello(pending->handshake);
    struct key_grant grant;
    if (strcmp(hello->cluster, options->cluster) != 0) {
        (void)snprintf(text, bytes,
                       "This server belongs to cluster \"%s\", not \"%s\": set DSM_CLUSTER.",
                       options->cluster, hello->cluster);
        return WIRE_WRONG_CLUSTER;
    }
    if (hello->server[0] != '\0' && strcmp(hello->server, options->name) != 0) {
        (void)snprintf(text, bytes, "This server is \"%s\", not \"%s\".", options->name,
                       hello->server);
        return WIRE_WRONG_SERVER;
    }
    if (!service_grant(options->service, handshake_client_key(pending->handshake), &grant)) {
        (void)snprintf(
            text, bytes,
            "This key is not in the server's authorized file: its operator adds the .pub "
            "file with dsmctl authorize.");
        return WIRE_UNAUTHORIZED;
    }
    if (hello->role == WIRE_ROLE_MOVER) {
        (void)snprintf(text, bytes, "This is a memory server, not a host's agent.");
        return WIRE_WRONG_SERVER;
    }
    if (hello->lane_kind != WIRE_LANE_SOCK && hello->lane_kind != WIRE_LANE_GRPC) {
        (void)snprintf(text, bytes, "This kind of lane is unknown here.");
        return WIRE_INVALID;
    }
    if (hello->version != WIRE_VERSION) {
        (void)snprintf(text, bytes, "This server speaks version %d, not %u: %s.", WIRE_VERSION,
                       (unsigned)hello->version, wire_status_text(WIRE_OLD_VERSION));
        return WIRE_OLD_VERSION;
    }
    return WIRE_OK;
}

static enum handshake_state open_and_judge(struct listener *listener, struct pending *pending,
                                           int64_t now_ms)
{
    const struct listener_options *options = &listener->options;
    char text[sizeof pending->attached.text] = "";
    pending->silent = false;
    enum handshake_state state =
        handshake_open(pending->handshake, listener->slot, options->identity, options->psk);
    if (state != HANDSHAKE_KNOWN) {
        return state;
    }
    enum wire_status status = judge(listener, pending, text, sizeof text);
    if (status != WIRE_OK) {
        pending->refused = status;
        log_hostile(options->log, now_ms, "refused %s: %s", pending->text, text);
        listener_add(&listener->tallies.refused[status]);
    }
    state = handshake_verdict(pending->handshake, status, status == WIRE_OK ? NULL : text);
    return state == HANDSHAKE_SENDING ? handshake_step(pending->handshake) : state;
}

static enum handshake_state say_attached(struct listener *listener, struct pending *pending,
                                         enum wire_status status, int64_t now_ms)
{
    if (status != WIRE_OK) {
        pending->refused = status;
        log_hostile(listener->options.log, now_ms, "refused a lane of %s: %s", pending->text,
                    pending->attached.text);
        listener_add(&listener->tallies.refused[status]);
    }
    enum handshake_state state = handshake_attached(pending->handshake, status, &pending->attached);
    return state == HANDSHAKE_SENDING ? handshake_step(pending->handshake) : state;
}

// The session is found, the lane is registered. Goes on when the lane's older connection has ended.
static enum handshake_state settle(struct listener *listener, struct pending *pending,
                                   int64_t now_ms)
{
    enum service_lane_state lane = service_lane_state(pending->lane);
    bool wait = lane == SERVICE_LANE_WAITING;
    if (wait != pending->waiting) {
        pending->waiting = wait;
        listener->waiting += wait ? 1U : -1U;
    }
    if (wait) {
        return HANDSHAKE_ATTACHING;
    }
    if (lane == SERVICE_LANE_READY) {
        return say_attached(listener, pending, WIRE_OK, now_ms);
    }
    service_lane_abandon(&pending->lane);
    (void)snprintf(pending->attached.text, sizeof pending->attached.text,
                   "A newer connection has taken this lane's place.");
    return say_attached(listener, pending, WIRE_STALE_GENERATION, now_ms);
}

static enum handshake_state attach(struct listener *listener, struct pending *pending,
                                   int64_t now_ms)
{
    pending->proven = true;
    if (pending->lane != NULL) {
        return settle(listener, pending, now_ms);
    }
    pending->attached = (struct wire_attached){0};
    enum wire_status status = service_attach(
        listener->options.service, handshake_client_key(pending->handshake),
        handshake_attach(pending->handshake), now_ms, &pending->lane, &pending->attached);
    return status == WIRE_OK ? settle(listener, pending, now_ms)
                             : say_attached(listener, pending, status, now_ms);
}

static void tell_accepted(const struct listener *listener, const struct pending *pending)
{
    struct key_grant grant;
    if (probe_handshake_accept_on() &&
        service_grant(listener->options.service, handshake_client_key(pending->handshake),
                      &grant)) {
        const struct wire_hello *hello = handshake_hello(pending->handshake);
        probe_handshake_accept(hello->role, hello->lane_kind,
                               (u64)(clock_now_ns() - pending->accepted_ns), grant.principal);
    }
}

static void hand_over(struct listener *listener, struct pending *pending, int64_t now_ms)
{
    const struct listener_options *options = &listener->options;
    struct noise_cipher *send;
    struct noise_cipher *receive;
    bool grpc = handshake_hello(pending->handshake)->lane_kind == WIRE_LANE_GRPC;
    const struct wire_attach who = *handshake_attach(pending->handshake);
    tell_accepted(listener, pending);
    struct service_lane *lane = pending->lane;
    int fd = pending->fd;
    char from[sizeof pending->text];
    memcpy(from, pending->text, sizeof from);
    (void)pending_watch(listener, pending, 0);
    handshake_take(pending->handshake, &send, &receive);
    pending->lane = NULL;
    pending_release(listener, pending);
    service_lane_from(lane, from);
    int error = service_lane_start(&lane, grpc ? options->grpc_front : options->sock_front, fd,
                                   send, receive);
    if (error != 0) {
        log_hostile(options->log, now_ms, "a lane of %s could not be started: %s", from,
                    strerror(-error));
        listener_add(&listener->tallies.dropped[LISTENER_DROP_SHORTAGE]);
        return;
    }
    listener_add(&listener->tallies.accepted[grpc ? WIRE_LANE_GRPC : WIRE_LANE_SOCK]);
    log_line(options->log, LOG_LEVEL_DEBUG, "%s lane %u of \"%s\" at %s", grpc ? "grpc" : "sock",
             who.lane, who.holder, from);
}

// Acts on the state until it needs the peer; that state is returned. DONE, REFUSED and FAILED: the
// connection is no longer pending.
static enum handshake_state act(struct listener *listener, struct pending *pending,
                                enum handshake_state state, int64_t now_ms)
{
    for (;;) {
        switch (state) {
        case HANDSHAKE_MESSAGE_1:
            if (rate_exceeded(&listener->rate, &pending->address, now_ms)) {
                pending_drop(listener, pending, now_ms, LISTENER_DROP_FAILURES);
                return HANDSHAKE_FAILED;
            }
            state = open_and_judge(listener, pending, now_ms);
            break;
        case HANDSHAKE_ATTACHING:
            state = attach(listener, pending, now_ms);
            if (state == HANDSHAKE_ATTACHING) {
                return state;
            }
            break;
        case HANDSHAKE_DONE:
            hand_over(listener, pending, now_ms);
            return state;
        case HANDSHAKE_REFUSED:
            pending_drop(listener, pending, now_ms, LISTENER_DROP_TOLD);
            return state;
        case HANDSHAKE_WAITING:
        case HANDSHAKE_SENDING:
            return state;
        default:
            pending_drop(listener, pending, now_ms, LISTENER_DROP_BROKEN);
            return HANDSHAKE_FAILED;
        }
    }
}

void pending_step(struct listener *listener, struct pending *pending, int64_t now_ms)
{
    static const uint32_t interests[] = {
        [HANDSHAKE_WAITING] = EPOLLIN,
        [HANDSHAKE_SENDING] = EPOLLOUT,
        [HANDSHAKE_ATTACHING] = EPOLLRDHUP, // it has nothing to say, but may go
    };
    enum handshake_state state =
        pending->waiting ? HANDSHAKE_ATTACHING : handshake_step(pending->handshake);
    state = act(listener, pending, state, now_ms);
    if (state == HANDSHAKE_DONE || state == HANDSHAKE_REFUSED || state == HANDSHAKE_FAILED) {
        return;
    }
    if (pending_watch(listener, pending, interests[state]) != 0) {
        pending_drop(listener, pending, now_ms, LISTENER_DROP_SHORTAGE);
    }
}
