// SPDX-License-Identifier: Apache-2.0
//
// The rig of the fronts' tests. The service keeps no pages: what a page holds follows from its
// number, so a READ's answer and a WRITE's payload can be checked on either end without memory.
// Connections begin with known keys; the handshake has tests of its own. The raw client is
// blocking, with a generous time-out instead of deadlines.
#include "fronts_rig.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "rpc/noise_internal.h"

bool rig_is_grpc(enum rig_kind kind)
{
    return kind == RIG_GRPC || kind == RIG_GRPC_TCP;
}

static struct timespec rig_deadline(clockid_t clock)
{
    struct timespec at;
    clock_gettime(clock, &at);
    at.tv_sec += RIG_WAIT_S;
    return at;
}

void rig_pattern(uint8_t *to, uint64_t page, uint32_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        for (uint64_t word = 0; word < RIG_PAGE_BYTES / sizeof(uint64_t); word++) {
            uint64_t value = (page + i) * 0x9e3779b97f4a7c15ULL + word;
            memcpy(to + i * RIG_PAGE_BYTES + word * sizeof(value), &value, sizeof(value));
        }
    }
}

struct wire_header rig_request(enum wire_op op, uint64_t page, uint32_t count)
{
    static _Atomic uint64_t next;
    struct wire_header header = {
        .op = (uint16_t)op,
        .request = atomic_fetch_add(&next, 1),
        .segment = 1,
        .page = page,
        .count = count,
        .hint = WIRE_NO_HINT,
    };
    for (unsigned i = 0; op == WIRE_WRITE && i < count; i++) {
        wire_map_set(header.map, i);
    }
    header.length = op == WIRE_WRITE ? count * RIG_PAGE_BYTES : 0;
    return header;
}

bool rig_malformed(size_t i, struct wire_header *request)
{
    static const struct {
        uint64_t page;
        uint32_t count;
        uint16_t op;
        uint16_t status;
    } list[] = {
        {0, 0, WIRE_ATTACH, 0},        {0, 1, WIRE_READ | WIRE_ANSWER, 0},
        {0, 0, WIRE_READ, 0},          {0, LIMIT_RUN_PAGES + 1, WIRE_READ, 0},
        {UINT64_MAX, 2, WIRE_READ, 0}, {0, 1, WIRE_READ, WIRE_BUSY},
        {0, 0, WIRE_DISCARD, 0},       {0, 1, 99, 0},
    };
    if (i >= sizeof(list) / sizeof(list[0])) {
        return false;
    }
    *request = rig_request(WIRE_READ, list[i].page, list[i].count);
    request->op = list[i].op;
    request->status = list[i].status;
    return true;
}

static void service_gate(struct rig *rig)
{
    pthread_mutex_lock(&rig->lock);
    rig->at_gate++;
    pthread_cond_broadcast(&rig->changed);
    while (!rig->gate_open) {
        pthread_cond_wait(&rig->changed, &rig->lock);
    }
    rig->at_gate--;
    pthread_mutex_unlock(&rig->lock);
}

static void service_answer(struct rig_session *session, struct lane_peer *peer,
                           const struct wire_header *header, const uint8_t *data)
{
    struct iovec pieces[LIMIT_RUN_PAGES]; // as pages of a store: one piece each
    int count = 0;
    for (uint32_t at = 0; at < header->length; at += RIG_PAGE_BYTES) {
        uint32_t left = header->length - at;
        pieces[count++] = (struct iovec){(void *)(uintptr_t)(data + at),
                                         left < RIG_PAGE_BYTES ? left : RIG_PAGE_BYTES};
    }
    if (lane_peer_answer(peer, header, pieces, count) != 0) {
        pthread_mutex_lock(&session->rig->lock);
        session->rig->refused++;
        pthread_mutex_unlock(&session->rig->lock);
    }
}

static void service_message(void *user, struct lane_peer *peer, const struct wire_header *request,
                            const uint8_t *payload)
{
    struct rig_session *session = user;
    struct wire_header answer = *request;
    static _Thread_local uint8_t pages[LIMIT_RUN_BYTES];
    const uint8_t *data = pages;
    if (atomic_exchange(&session->inside, 1) != 0) {
        atomic_fetch_add(&session->rig->overlaps, 1);
    }
    atomic_fetch_add(&session->messages, 1);
    answer.op = request->op | WIRE_ANSWER;
    answer.length = 0;
    memset(answer.map, 0, sizeof(answer.map));
    if (request->op == WIRE_READ) {
        rig_pattern(pages, request->page, request->count);
        answer.length = request->count * RIG_PAGE_BYTES;
        for (unsigned i = 0; i < request->count; i++) {
            wire_map_set(answer.map, i);
        }
    } else if (request->op == WIRE_WRITE) {
        rig_pattern(pages, request->page, request->count);
        bool same = memcmp(pages, payload, request->length) == 0;
        answer.status = same ? WIRE_OK : WIRE_STORE_ERROR;
        answer.done = request->count;
    } else if (request->op == WIRE_CONTROL) {
        answer.length = request->length;
        data = payload;
    } else if (request->op == WIRE_PING && request->segment == RIG_GATE) {
        service_gate(session->rig);
    }
    service_answer(session, peer, &answer, data);
    atomic_store(&session->inside, 0);
}

static void service_closed(void *user, int reason)
{
    struct rig_session *session = user;
    if (atomic_load(&session->inside) != 0) {
        atomic_fetch_add(&session->rig->overlaps, 1);
    }
    pthread_mutex_lock(&session->rig->lock);
    session->closed++;
    session->reason = reason;
    session->peer = NULL;
    pthread_cond_broadcast(&session->rig->changed);
    pthread_mutex_unlock(&session->rig->lock);
}

void rig_start(struct rig *rig, enum rig_kind kind, int threads)
{
    memset(rig, 0, sizeof(*rig));
    assert_int_equal(noise_init(), 0);
    rig->kind = kind;
    rig->service = (struct lane_service){.message = service_message, .closed = service_closed};
    pthread_mutex_init(&rig->lock, NULL);
    pthread_cond_init(&rig->changed, NULL);
    spin_share_init(&rig->spinning, SPIN_AUTO, &rig->spun, &rig->slept);
    rig->front = rig_is_grpc(kind) ? lane_grpc_front_create(&rig->service, threads)
                                   : lane_sock_front_create(&rig->service, threads, &rig->spinning);
    assert_non_null(rig->front);
}

void rig_stop(struct rig *rig)
{
    rig->front->ops->stop(rig->front);
    rig->front = NULL;
    assert_int_equal(atomic_load(&rig->overlaps), 0);
    pthread_mutex_destroy(&rig->lock);
    pthread_cond_destroy(&rig->changed);
}

static void tcp_pair(int *mine, int *theirs)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof(at);
    int one = 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *mine = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(listener >= 0 && *mine >= 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, bytes), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &bytes), 0);
    assert_int_equal(connect(*mine, (struct sockaddr *)&at, bytes), 0);
    assert_int_equal(setsockopt(*mine, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
    *theirs = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(*theirs >= 0);
    close(listener);
}

void rig_socket_pair(enum rig_kind kind, int *mine, int *theirs)
{
    struct timeval patience = {.tv_sec = RIG_WAIT_S};
    if (kind == RIG_SOCK_TCP || kind == RIG_GRPC_TCP) {
        tcp_pair(mine, theirs);
    } else {
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        *mine = pair[0];
        *theirs = pair[1];
    }
    assert_int_equal(setsockopt(*mine, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    assert_int_equal(setsockopt(*mine, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)), 0);
}

struct noise_cipher *rig_cipher(uint8_t key)
{
    uint8_t bytes[NOISE_KEY_BYTES];
    struct noise_cipher *cipher = noise_cipher_create();
    memset(bytes, key, sizeof(bytes));
    assert_non_null(cipher);
    assert_int_equal(noise_cipher_set_key(cipher, NOISE_CHACHAPOLY, bytes), 0);
    return cipher;
}

void rig_connect_keys(struct rig *rig, struct rig_client *client, uint8_t send, uint8_t receive)
{
    int theirs;
    memset(client, 0, sizeof(*client));
    client->session.rig = rig;
    rig_socket_pair(rig->kind, &client->fd, &theirs);
    assert_int_equal(rig->front->ops->add(rig->front, theirs, rig_cipher(2), rig_cipher(1),
                                          &client->session, &client->session.peer),
                     0);
    client->send = rig_cipher(send);
    client->receive = rig_cipher(receive);
    if (rig_is_grpc(rig->kind)) {
        client->lane = lane_grpc_create(client->fd, client->send, client->receive);
        assert_non_null(client->lane);
        client->fd = -1;
    }
}

void rig_connect(struct rig *rig, struct rig_client *client)
{
    rig_connect_keys(rig, client, 1, 2);
}

void rig_close(struct rig_client *client)
{
    struct wire_header request = rig_request(WIRE_CLOSE, 0, 0);
    if (client->lane != NULL) {
        lane_destroy(&client->lane);
    } else {
        assert_int_equal(rig_send(client, &request, NULL), 0);
        rig_hang_up(client);
    }
}

void rig_hang_up(struct rig_client *client)
{
    if (client->lane != NULL) {
        client->lane->ops->shut(client->lane);
        lane_destroy(&client->lane);
    } else if (client->fd >= 0) {
        close(client->fd);
        client->fd = -1;
        noise_cipher_destroy(&client->send);
        noise_cipher_destroy(&client->receive);
    }
}

void rig_shut(struct rig_client *client, int reason)
{
    struct rig *rig = client->session.rig;
    pthread_mutex_lock(&rig->lock);
    if (client->session.peer != NULL) {
        lane_peer_shut(client->session.peer, reason);
    }
    pthread_mutex_unlock(&rig->lock);
}

bool rig_is_closed(struct rig_client *client)
{
    struct rig *rig = client->session.rig;
    pthread_mutex_lock(&rig->lock);
    bool closed = client->session.closed > 0;
    pthread_mutex_unlock(&rig->lock);
    return closed;
}

int rig_closed(struct rig_client *client)
{
    struct rig *rig = client->session.rig;
    struct timespec deadline = rig_deadline(CLOCK_REALTIME);
    int error = 0;
    pthread_mutex_lock(&rig->lock);
    while (client->session.closed == 0 && error == 0) {
        error = pthread_cond_timedwait(&rig->changed, &rig->lock, &deadline);
    }
    int closed = client->session.closed;
    int reason = client->session.reason;
    pthread_mutex_unlock(&rig->lock);
    assert_int_equal(closed, 1);
    return reason;
}

void rig_wait_at_gate(struct rig *rig, int count)
{
    struct timespec deadline = rig_deadline(CLOCK_REALTIME);
    int error = 0;
    pthread_mutex_lock(&rig->lock);
    while (rig->at_gate < count && error == 0) {
        error = pthread_cond_timedwait(&rig->changed, &rig->lock, &deadline);
    }
    pthread_mutex_unlock(&rig->lock);
    assert_int_equal(error, 0);
}

void rig_open_gate(struct rig *rig)
{
    pthread_mutex_lock(&rig->lock);
    rig->gate_open = true;
    pthread_cond_broadcast(&rig->changed);
    pthread_mutex_unlock(&rig->lock);
}

static int64_t lane_deadline(void)
{
    struct timespec at = rig_deadline(CLOCK_MONOTONIC);
    return at.tv_sec * INT64_C(1000000000) + at.tv_nsec;
}

static int raw_send(struct rig_client *client, struct record_source *source)
{
    static _Thread_local uint8_t sealed[RECORD_MESSAGE_MAX];
    size_t bytes = 0;
    size_t next;
    while ((next = record_source_bytes(source)) > 0) {
        int error = record_source_seal(source, sealed + bytes);
        if (error != 0) {
            return error;
        }
        bytes += next;
    }
    for (size_t sent = 0; sent < bytes;) {
        ssize_t part = send(client->fd, sealed + sent, bytes - sent, MSG_NOSIGNAL);
        if (part < 0) {
            return -errno;
        }
        sent += (size_t)part;
    }
    return 0;
}

int rig_send(struct rig_client *client, const struct wire_header *header, const void *payload)
{
    struct iovec piece = {(void *)(uintptr_t)payload, header->length};
    int count = header->length > 0;
    if (client->lane != NULL) {
        return client->lane->ops->send(client->lane, header, &piece, count, lane_deadline());
    }
    struct record_source source;
    int error = record_source_start(&source, client->send, header, &piece, count);
    return error != 0 ? error : raw_send(client, &source);
}

static int raw_take(struct rig_client *client, uint8_t *to, size_t bytes)
{
    ssize_t got = recv(client->fd, to, bytes, MSG_WAITALL);
    if (got < 0) {
        return -errno;
    }
    return (size_t)got == bytes ? 0 : -ECONNRESET;
}

static int raw_receive(struct rig_client *client, struct wire_header *header, uint8_t *payload)
{
    uint8_t record[RECORD_SEALED_MAX];
    int error = raw_take(client, record, WIRE_HEADER_SEALED_BYTES);
    if (error == 0) {
        error = record_header_open(client->receive, record, header);
    }
    for (uint32_t at = 0; error == 0 && at < header->length;) {
        uint32_t plain = record_plain_bytes(header->length - at);
        error = raw_take(client, record, plain + LIMIT_SEAL_BYTES);
        if (error == 0) {
            error = noise_open(client->receive, record, plain + LIMIT_SEAL_BYTES, payload + at);
        }
        at += plain;
    }
    return error;
}

int rig_receive(struct rig_client *client, struct wire_header *header, void *payload)
{
    if (client->lane == NULL) {
        return raw_receive(client, header, payload);
    }
    int64_t deadline = lane_deadline();
    int error = client->lane->ops->receive(client->lane, header, deadline);
    uint8_t *to = payload;
    for (uint32_t at = 0; error == 0 && at < header->length;) {
        const void *data;
        ssize_t got = client->lane->ops->receive_data(client->lane, to + at, &data, deadline);
        if (got <= 0) {
            return got == 0 ? -EBADMSG : (int)got;
        }
        at += (uint32_t)got;
    }
    return error;
}

static void expect(struct rig_client *client, enum wire_op op, struct wire_header *answer,
                   void *payload)
{
    assert_int_equal(rig_receive(client, answer, payload), 0);
    assert_int_equal(answer->op, (unsigned)op | WIRE_ANSWER);
    assert_int_equal(answer->status, WIRE_OK);
}

void rig_ping(struct rig_client *client)
{
    struct wire_header request = rig_request(WIRE_PING, 0, 0);
    struct wire_header answer = {0};
    assert_int_equal(rig_send(client, &request, NULL), 0);
    expect(client, WIRE_PING, &answer, NULL);
    assert_int_equal(answer.request, request.request);
}

void rig_expect_read(struct rig_client *client, uint64_t page, uint32_t count)
{
    static _Thread_local uint8_t got[LIMIT_RUN_BYTES], want[LIMIT_RUN_BYTES];
    struct wire_header answer = {0};
    expect(client, WIRE_READ, &answer, got);
    assert_int_equal(answer.length, count * RIG_PAGE_BYTES);
    rig_pattern(want, page, count);
    assert_memory_equal(got, want, answer.length);
}

void rig_read(struct rig_client *client, uint64_t page, uint32_t count)
{
    struct wire_header request = rig_request(WIRE_READ, page, count);
    assert_int_equal(rig_send(client, &request, NULL), 0);
    rig_expect_read(client, page, count);
}

void rig_write(struct rig_client *client, uint64_t page, uint32_t count)
{
    static _Thread_local uint8_t pages[LIMIT_RUN_BYTES];
    struct wire_header request = rig_request(WIRE_WRITE, page, count);
    struct wire_header answer = {0};
    rig_pattern(pages, page, count);
    assert_int_equal(rig_send(client, &request, pages), 0);
    expect(client, WIRE_WRITE, &answer, NULL);
    assert_int_equal(answer.done, count);
}

int rig_threads(void)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
        count += entry->d_name[0] != '.';
    }
    closedir(tasks);
    return count;
}

size_t rig_resident_bytes(void)
{
    char line[128] = "";
    char *resident = line;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof(line), file));
    fclose(file);
    strtoul(line, &resident, 10);
    return strtoul(resident, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}
