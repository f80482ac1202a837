// SPDX-License-Identifier: Apache-2.0
//
// What the fronts have in common. It owns the rules of a connection's life that do not depend on
// how bytes move: a request's header opens, decodes and passes wire_request_check() before a
// single byte of its payload is looked at; a payload is opened record by record, each over its own
// place in the buffer, so the 16 bytes of a tag are overwritten by the record that follows and the
// plain bytes come out contiguous without a second copy; an answer is sealed in whole records, in
// portions of the caller's choice.
//
// A connection is worn out before the nonce range, the bytes or the hour allowed under one key end: the
// check stands where a message begins and leaves room for the largest request and the largest
// answer, so neither can cross the limit halfway.
//
// A peer dies once: the first to set `reason` decides what closed() is told. Threads: `reason` and
// `opened_bytes` are atomic, the rest belongs to the thread that handles the peer's message.
//
// Rejected: opening a payload as one block after all of it has arrived. It needs a memmove of the
// whole payload to close the gaps that the tags leave, and it keeps a core idle while bytes come
// in.
#include "rpc/lane_peer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#include "rpc/deadline.h"

const struct lane_wear lane_wear_product = {
    .records = 1ULL << LIMIT_LANE_RECORDS_LOG2,
    .bytes = LIMIT_LANE_BYTES,
    .age_ns = LIMIT_LANE_AGE_MS * DEADLINE_NS_PER_MS,
};

int lane_peer_answer(struct lane_peer *peer, const struct wire_header *header,
                     const struct iovec *pieces, int count)
{
    if (lane_peer_reason(peer) != 0) {
        return -ENOTCONN;
    }
    return peer->ops->answer(peer, header, pieces, count);
}

struct lane_cost lane_peer_cost(const struct lane_peer *peer)
{
    return (struct lane_cost){.ns = (uint64_t)(deadline_now() - peer->arrived),
                              .cipher_ns = peer->cipher_ns};
}

void lane_peer_shut(struct lane_peer *peer, int reason)
{
    if (lane_peer_doom(peer, reason != 0 ? reason : -ECANCELED)) {
        peer->ops->shut(peer);
    }
}

void lane_peer_init(struct lane_peer *peer, const struct lane_peer_ops *ops,
                    const struct lane_wear *wear, struct noise_cipher *send,
                    struct noise_cipher *receive, void *user)
{
    peer->ops = ops;
    peer->wear = *wear;
    peer->born = deadline_now();
    peer->send = send;
    peer->receive = receive;
    peer->user = user;
}

void lane_peer_clear(struct lane_peer *peer)
{
    noise_cipher_destroy(&peer->send);
    noise_cipher_destroy(&peer->receive);
}

bool lane_peer_doom(struct lane_peer *peer, int reason)
{
    int alive = 0;
    return atomic_compare_exchange_strong(&peer->reason, &alive, reason);
}

static bool peer_worn(struct lane_peer *peer, int64_t now)
{
    uint64_t bytes = peer->sealed_bytes + atomic_load(&peer->opened_bytes);
    return noise_cipher_records(peer->receive) + LANE_MESSAGE_RECORDS > peer->wear.records ||
           noise_cipher_records(peer->send) + LANE_MESSAGE_RECORDS > peer->wear.records ||
           bytes + UINT64_C(2) * RECORD_MESSAGE_MAX > peer->wear.bytes ||
           now - peer->born > peer->wear.age_ns;
}

int lane_peer_open_header(struct lane_peer *peer, const uint8_t *sealed,
                          struct wire_header *request)
{
    struct wire_header header;
    int64_t arrived = deadline_now();
    if (peer_worn(peer, arrived)) {
        return -ESTALE;
    }
    if (record_header_open(peer->receive, sealed, &header) != 0 ||
        wire_request_check(&header) != 0 || header.length > LIMIT_RUN_BYTES) {
        return -EBADMSG;
    }
    atomic_fetch_add(&peer->opened_bytes, WIRE_HEADER_SEALED_BYTES);
    peer->arrived = arrived;
    *request = header;
    return 0;
}

void lane_intake_start(struct lane_intake *intake, uint8_t *buffer, size_t length)
{
    *intake = (struct lane_intake){.buffer = buffer, .length = length};
}

size_t lane_intake_want(const struct lane_intake *intake, uint8_t **to)
{
    size_t plain = record_plain_bytes((uint32_t)(intake->length - intake->opened));
    *to = intake->buffer + intake->opened + intake->have;
    return plain == 0 ? 0 : plain + LIMIT_SEAL_BYTES - intake->have;
}

int lane_intake_took(struct lane_intake *intake, struct lane_peer *peer, size_t bytes)
{
    size_t plain = record_plain_bytes((uint32_t)(intake->length - intake->opened));
    uint8_t *record = intake->buffer + intake->opened;
    intake->have += bytes;
    if (intake->have < plain + LIMIT_SEAL_BYTES) {
        return 0;
    }
    if (noise_open(peer->receive, record, intake->have, record) != 0) {
        return -EBADMSG;
    }
    atomic_fetch_add(&peer->opened_bytes, intake->have);
    intake->opened += plain;
    intake->have = 0;
    return 0;
}

static uint32_t nanoseconds(int64_t ns)
{
    return ns < 0 ? 0 : ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

// The header says how long the request was here and how long its answer was sealed, so it is sealed after the data that leaves with
// it, in the place, and with the number, before them.
int lane_peer_seal(struct lane_peer *peer, struct record_source *answer, uint8_t *to,
                   size_t capacity, size_t *bytes)
{
    size_t done = 0;
    struct wire_header header;
    int64_t begun = 0;
    if (answer->header != NULL && capacity >= WIRE_HEADER_SEALED_BYTES) { // sealed last
        header = *answer->header;
        begun = deadline_now();
        int error = record_source_pass_header(answer);
        if (error != 0) {
            return error;
        }
        done = WIRE_HEADER_SEALED_BYTES;
    }
    size_t next = record_source_bytes(answer);
    while (next > 0 && done + next <= capacity) {
        int error = record_source_seal(answer, to + done);
        if (error != 0) {
            return error;
        }
        done += next;
        next = record_source_bytes(answer);
    }
    if (begun != 0) {
        int64_t now = deadline_now();
        header.server_ns = nanoseconds(now - peer->arrived);
        header.cipher_ns = peer->cipher_ns = nanoseconds(now - begun);
        int error = record_header_seal_late(answer->cipher, &header, to);
        if (error != 0) {
            return error;
        }
    }
    peer->sealed_bytes += done;
    *bytes = done;
    return 0;
}

size_t lane_answer_left(const struct record_source *answer)
{
    size_t header = answer->header != NULL ? WIRE_HEADER_SEALED_BYTES : 0;
    return header + wire_sealed_bytes(answer->left);
}

void lane_front_signals_block(sigset_t *before)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    sigset_t mask;
    sigfillset(&mask);
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        sigdelset(&mask, own[i]);
    }
    pthread_sigmask(SIG_SETMASK, &mask, before);
}

int lane_front_thread_start(pthread_t *thread, void *(*run)(void *), void *argument)
{
    sigset_t before;
    lane_front_signals_block(&before);
    int error = pthread_create(thread, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -error;
}

bool lane_front_socket_is_tcp(int fd)
{
    int domain = 0;
    socklen_t bytes = sizeof(domain);
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &bytes) == 0 &&
           (domain == AF_INET || domain == AF_INET6);
}

uint64_t lane_front_socket_taken(int fd)
{
    struct tcp_info info = {0};
    socklen_t bytes = sizeof info;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0 ? info.tcpi_bytes_acked : 0;
}

int lane_front_socket_setup(int fd)
{
    static const struct {
        int level;
        int name;
        int value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, LIMIT_FAILOVER_MS},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 2 * LIMIT_HEARTBEAT_MS / 1000},
        {IPPROTO_TCP, TCP_KEEPINTVL, LIMIT_HEARTBEAT_MS / 1000},
        {IPPROTO_TCP, TCP_KEEPCNT, 3},
    };
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
        return -errno;
    }
    if (!lane_front_socket_is_tcp(fd)) {
        return 0;
    }
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        if (setsockopt(fd, options[i].level, options[i].name, &options[i].value,
                       sizeof(options[i].value)) != 0) {
            return -errno;
        }
    }
    return 0;
}
