// SPDX-License-Identifier: Apache-2.0
//
// The front for gRPC lanes: one gRPC core server that listens nowhere (its connections come
// authenticated, by descriptor), one completion queue, a fixed number of workers that drive it and
// handle messages on it, and the watchdog's thread. Each connection is one bidi stream.
//
// Which connection a new call came on: gRPC names the transport of a descriptor "fd:N". N stays
// open as long as any call of that transport exists, so while a call is in our hands N cannot have
// been given to another connection. The table by_fd says whose N it is, and the kernel's cookie of
// the socket must agree, or the call is refused. A second call on a connection ends the
// connection. Anything but LANE_GRPC_METHOD is answered UNIMPLEMENTED.
//
// Stop: no call is asked for any more; every peer is cut; the server is shut down and its calls
// are cancelled; when the shutdown's tag is back and neither peers nor calls are left, the queue
// is shut down and drained. gRPC aborts on work posted after that, hence the counts.
//
// Locks: the front's, then a peer's. The service is called without either.
//
// Rejected: a gRPC server for each connection. It needs no table, but costs its own channel
// arguments, pollset wiring and an armed call, several times what the connection itself takes.
#include "rpc/lane_grpc_front.h"

#include <assert.h>
#include <errno.h>
#include <grpc/grpc.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/lane.h"

struct grpc_arm {
    struct grpc_tag tag;
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
};

struct stray { // a call that is answered with a status and forgotten
    struct grpc_tag tag;
    grpc_call *call;
    int cancelled;
};

static void calls_count(struct grpc_front *front, int change)
{
    pthread_mutex_lock(&front->lock);
    front->calls += change;
    pthread_cond_broadcast(&front->idle);
    pthread_mutex_unlock(&front->lock);
}

// Gives the call the status and lets go of it.
static void call_refuse(struct grpc_front *front, grpc_call *call, grpc_status_code status)
{
    struct stray *stray = calloc(1, sizeof(*stray));
    if (stray == NULL) {
        grpc_call_cancel(call, NULL);
        grpc_call_unref(call);
        return;
    }
    grpc_slice details = grpc_empty_slice();
    grpc_op ops[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_STATUS_FROM_SERVER,
         .data.send_status_from_server = {.status = status, .status_details = &details}},
        {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
         .data.recv_close_on_server.cancelled = &stray->cancelled},
    };
    stray->call = call;
    calls_count(front, 1);
    grpc_call_error error =
        grpc_call_start_batch(call, ops, sizeof(ops) / sizeof(ops[0]),
                              grpc_tag_hand(&stray->tag, GRPC_TAG_STRAY, stray), NULL);
    assert(error == GRPC_CALL_OK);
    (void)error;
}

static void stray_done(struct grpc_front *front, struct stray *stray)
{
    grpc_call_unref(stray->call);
    free(stray);
    calls_count(front, -1);
}

static uint64_t socket_cookie(int fd)
{
    uint64_t cookie = 0;
    socklen_t bytes = sizeof(cookie);
    return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &bytes) == 0 ? cookie : 0;
}

// The descriptor that gRPC named a call's transport after; -1 when it is not so named.
static int fd_of_call(grpc_call *call)
{
    static const char prefix[] = "fd:";
    const size_t start = sizeof(prefix) - 1;
    char *name = grpc_call_get_peer(call);
    char *end = name;
    long fd = -1;
    if (strncmp(name, prefix, start) == 0 && name[start] >= '0' && name[start] <= '9') {
        fd = strtol(name + start, &end, 10);
    }
    bool whole = end != name && *end == '\0' && fd <= INT_MAX;
    gpr_free(name);
    return whole ? (int)fd : -1;
}

static struct grpc_peer *peer_of_call_locked(struct grpc_front *front, grpc_call *call)
{
    int fd = fd_of_call(call);
    struct grpc_peer *peer = fd >= 0 && fd < front->by_fd_count ? front->by_fd[fd] : NULL;
    return peer != NULL && peer->cookie == socket_cookie(fd) ? peer : NULL;
}

// A new call: the first of its connection becomes the peer's.
static void call_arrived(struct grpc_front *front, grpc_call *call, bool known)
{
    bool taken = false;
    pthread_mutex_lock(&front->lock);
    struct grpc_peer *peer = front->stopping ? NULL : peer_of_call_locked(front, call);
    if (peer != NULL && known) {
        taken = grpc_peer_attach(peer, call);
        if (!taken) {
            grpc_peer_cut(peer, -EPROTO);
        }
    }
    pthread_mutex_unlock(&front->lock);
    if (!taken) {
        call_refuse(front, call, known ? GRPC_STATUS_UNAVAILABLE : GRPC_STATUS_UNIMPLEMENTED);
    }
}

static void arm(struct grpc_front *front, struct grpc_arm *arm)
{
    arm->call = NULL;
    grpc_call_details_init(&arm->details);
    grpc_metadata_array_init(&arm->metadata);
    pthread_mutex_lock(&front->lock); // stop() may not shut the server down in between
    bool asked = !front->stopping &&
                 grpc_server_request_call(
                     front->server, &arm->call, &arm->details, &arm->metadata, front->queue,
                     front->queue, grpc_tag_hand(&arm->tag, GRPC_TAG_CALL, arm)) == GRPC_CALL_OK;
    front->calls += asked;
    pthread_mutex_unlock(&front->lock);
    if (!asked) {
        grpc_call_details_destroy(&arm->details);
        grpc_metadata_array_destroy(&arm->metadata);
    }
}

static void arm_done(struct grpc_front *front, struct grpc_arm *done, bool good)
{
    grpc_call *call = good ? done->call : NULL;
    bool known = call != NULL && grpc_slice_str_cmp(done->details.method, LANE_GRPC_METHOD) == 0;
    grpc_call_details_destroy(&done->details);
    grpc_metadata_array_destroy(&done->metadata);
    if (call != NULL) {
        call_arrived(front, call, known);
        arm(front, done);
    }
    calls_count(front, -1);
}

static void front_shut_down(struct grpc_front *front)
{
    pthread_mutex_lock(&front->lock);
    front->shut_down = true;
    pthread_cond_broadcast(&front->idle);
    pthread_mutex_unlock(&front->lock);
}

static void dispatch(struct grpc_worker *worker, struct grpc_tag *tag, bool good)
{
    struct grpc_front *front = worker->front;
    switch ((enum grpc_tag_kind)atomic_load_explicit(&tag->kind, memory_order_acquire)) {
    case GRPC_TAG_CALL:
        arm_done(front, tag->owner, good);
        break;
    case GRPC_TAG_RECEIVED:
        grpc_peer_received(tag->owner, worker, good);
        break;
    case GRPC_TAG_SENT:
        grpc_peer_sent(tag->owner, good);
        break;
    case GRPC_TAG_OVER:
        grpc_peer_over(tag->owner);
        break;
    case GRPC_TAG_STRAY:
        stray_done(front, tag->owner);
        break;
    case GRPC_TAG_SHUTDOWN:
        front_shut_down(front);
        break;
    }
}

static void *worker_run(void *argument)
{
    struct grpc_worker *worker = argument;
    for (;;) {
        grpc_event event = grpc_completion_queue_next(worker->front->queue,
                                                      gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN) {
            return NULL;
        }
        dispatch(worker, event.tag, event.success != 0);
    }
}

static int by_fd_reserve_locked(struct grpc_front *front, int fd)
{
    if (fd < front->by_fd_count) {
        return 0;
    }
    int count = (fd + 64) / 64 * 2 * 64;
    struct grpc_peer **by_fd = realloc(front->by_fd, (size_t)count * sizeof(*by_fd));
    if (by_fd == NULL) {
        return -ENOMEM;
    }
    memset(by_fd + front->by_fd_count, 0, (size_t)(count - front->by_fd_count) * sizeof(*by_fd));
    front->by_fd = by_fd;
    front->by_fd_count = count;
    return 0;
}

static int peer_enter(struct grpc_front *front, struct grpc_peer *peer)
{
    pthread_mutex_lock(&front->lock);
    int error = by_fd_reserve_locked(front, peer->grpc_fd);
    peer->serial = front->next_serial++;
    if (error == 0) {
        error = lane_watchdog_add(peer);
    }
    if (error == 0) {
        front->by_fd[peer->grpc_fd] = peer;
        TAILQ_INSERT_TAIL(&front->peers, peer, link);
        front->peer_count++;
    }
    pthread_mutex_unlock(&front->lock);
    return error;
}

// *peer is written before the first message can come.
static int front_add(struct lane_front *base, int fd, struct noise_cipher *send,
                     struct noise_cipher *receive, void *user, struct lane_peer **peer)
{
    struct grpc_front *front = (struct grpc_front *)base;
    struct grpc_peer *made = grpc_peer_create(front, fd, send, receive, user);
    int error = made == NULL ? -ENOMEM : made->fd < 0 ? -EMFILE : lane_front_socket_setup(fd);
    if (error == 0) {
        made->cookie = socket_cookie(fd);
        *peer = &made->head;
        error = lane_http2_add(made);
    }
    if (error == 0) {
        error = peer_enter(front, made);
    }
    if (error != 0) {
        if (made != NULL) {
            lane_http2_remove(made);
            grpc_peer_free(made);
        }
        close(fd);
        return error;
    }
    grpc_server_add_channel_from_fd(front->server, fd, front->credentials);
    return 0;
}

static void peers_cut(struct grpc_front *front)
{
    struct grpc_peer *peer;
    pthread_mutex_lock(&front->lock);
    front->stopping = true;
    TAILQ_FOREACH(peer, &front->peers, link)
    {
        grpc_peer_cut(peer, -ECANCELED);
    }
    pthread_mutex_unlock(&front->lock);
}

static void server_stop(struct grpc_front *front)
{
    peers_cut(front);
    grpc_server_shutdown_and_notify(front->server, front->queue,
                                    grpc_tag_hand(&front->on_shutdown, GRPC_TAG_SHUTDOWN, front));
    grpc_server_cancel_all_calls(front->server);
    pthread_mutex_lock(&front->lock);
    while (!front->shut_down || front->peer_count > 0 || front->calls > 0) {
        pthread_cond_wait(&front->idle, &front->lock);
    }
    pthread_mutex_unlock(&front->lock);
}

static void front_free(struct grpc_front *front)
{
    if (front->server != NULL) {
        grpc_server_destroy(front->server);
    }
    if (front->queue != NULL) {
        grpc_completion_queue_destroy(front->queue);
    }
    if (front->credentials != NULL) {
        grpc_server_credentials_release(front->credentials);
    }
    for (int i = 0; front->workers != NULL && i < front->worker_count; i++) {
        free(front->workers[i].payload);
    }
    if (front->library) {
        lane_grpc_library_put();
    }
    pthread_mutex_destroy(&front->lock);
    pthread_cond_destroy(&front->idle);
    free(front->workers);
    free(front->arms);
    free(front->by_fd);
    free(front);
}

static void front_stop(struct lane_front *base)
{
    struct grpc_front *front = (struct grpc_front *)base;
    if (front->worker_count > 0) {
        server_stop(front);
    }
    if (front->watching) {
        lane_watchdog_stop(front);
    }
    if (front->queue != NULL) {
        grpc_completion_queue_shutdown(front->queue);
    }
    for (int i = 0; i < front->worker_count; i++) {
        pthread_join(front->workers[i].thread, NULL);
    }
    front_free(front);
}

void lane_grpc_front_wear(struct lane_front *front, const struct lane_wear *wear)
{
    ((struct grpc_front *)front)->wear = *wear;
}

static grpc_arg number(const char *key, int value)
{
    return (grpc_arg){
        .type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = value};
}

static int server_create(struct grpc_front *front)
{
    grpc_arg list[] = {
        number(GRPC_ARG_MAX_CONCURRENT_STREAMS, 1),
        number(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, RECORD_MESSAGE_MAX),
        number(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, RECORD_MESSAGE_MAX),
        number(GRPC_ARG_MAX_METADATA_SIZE, GRPC_METADATA_BYTES),
        number(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, GRPC_LOOKAHEAD_BYTES),
        number(GRPC_ARG_HTTP2_BDP_PROBE, 0), // windows that grow are memory that a client can take
        number(GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION, 0),
        number(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0),
        number(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1),
        number(GRPC_ARG_ENABLE_CHANNELZ, 0),
        number(GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, GRPC_READ_BYTES),
    };
    grpc_channel_args arguments = {sizeof(list) / sizeof(list[0]), list};
    front->server = grpc_server_create(&arguments, NULL);
    front->queue = grpc_completion_queue_create_for_next(NULL);
    front->credentials = grpc_insecure_server_credentials_create();
    if (front->server == NULL || front->queue == NULL || front->credentials == NULL) {
        return -ENOMEM;
    }
    grpc_server_register_completion_queue(front->server, front->queue, NULL);
    grpc_server_start(front->server);
    return 0;
}

static int worker_start(struct grpc_front *front, struct grpc_worker *worker)
{
    worker->front = front;
    worker->payload = malloc(LANE_PAYLOAD_BUFFER_BYTES);
    int error = worker->payload == NULL
                    ? -ENOMEM
                    : lane_front_thread_start(&worker->thread, worker_run, worker);
    if (error != 0) {
        free(worker->payload);
    } else {
        front->worker_count++;
    }
    return error;
}

static int front_start(struct grpc_front *front, int threads)
{
    sigset_t before;
    // Without this, gRPC ignores the bound on its read buffer, which grows with the longest
    // message and stays with an idle connection: up to 1 MiB for each. Read once, when gRPC
    // starts.
    setenv("GRPC_EXPERIMENTS", "-tcp_read_chunks", 0);
    lane_front_signals_block(&before); // gRPC's own threads inherit the mask
    lane_grpc_library_get();
    front->library = true;
    int error = server_create(front);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0) {
        error = lane_watchdog_start(front);
    }
    for (int i = 0; error == 0 && i < threads; i++) {
        error = worker_start(front, &front->workers[i]);
    }
    for (int i = 0; error == 0 && i < GRPC_ARMED_CALLS; i++) {
        arm(front, &front->arms[i]);
    }
    return error;
}

struct lane_front *lane_grpc_front_create(const struct lane_service *service, int threads)
{
    static const struct lane_front_ops ops = {.add = front_add, .stop = front_stop};
    struct grpc_front *front = calloc(1, sizeof(*front));
    if (front == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    front->front.ops = &ops;
    front->service = service;
    front->wear = lane_wear_product;
    pthread_mutex_init(&front->lock, NULL);
    pthread_cond_init(&front->idle, NULL);
    TAILQ_INIT(&front->peers);
    TAILQ_INIT(&front->parked);
    front->workers = calloc((size_t)threads, sizeof(front->workers[0]));
    front->arms = calloc(GRPC_ARMED_CALLS, sizeof(front->arms[0]));
    int error =
        front->workers == NULL || front->arms == NULL ? -ENOMEM : front_start(front, threads);
    if (error != 0) {
        front_stop(&front->front);
        errno = -error;
        return NULL;
    }
    return &front->front;
}
