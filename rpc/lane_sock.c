// SPDX-License-Identifier: Apache-2.0
//
// A lane on the plain socket. The thread that faulted may be its owner, in a signal handler, under
// whatever lock the program holds: so send, receive and receive_data touch nothing but the lane's
// own memory, mapped by create, and bare system calls. No malloc, no stdio, no pthread, no logging;
// errors are return values, and errno, which the few helpers below cannot help setting, is saved
// and restored by the handler.
//
// Outgoing, several records are sealed and then sent at once. Incoming, as much is taken as is
// there (one system call for a page), and records are opened out of that straight to where the
// caller wants them: over the data go one copy by the kernel and one pass of the cipher.
//
// The lengths waited for come from the opened and checked header alone, so the buffers, which hold
// the longest record, cannot be overrun by anything that a peer sends.
//
// One owner at a time; shut() comes from any thread: a flag, and shutdown(2), which wakes the
// owner.
//
// Rejected: MSG_WAITALL into the frame. The tags lie between the pages, and a frame may hold only
// bytes that were verified. Also rejected: libc's recv and ppoll, which are cancellation points.
#include "rpc/lane.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rpc/deadline.h"
#include "rpc/lane_core.h"

enum {
    OUT_BYTES = WIRE_HEADER_SEALED_BYTES + 4 * RECORD_SEALED_MAX, // sealed before one send
    IN_BYTES = WIRE_HEADER_SEALED_BYTES + 8 * RECORD_SEALED_MAX,  // taken by one receive
};

struct lane_sock {
    struct lane_core core; // first
    int fd;
    uint32_t in_start, in_end; // received and not yet opened
    uint8_t plain[LIMIT_RECORD_DATA_BYTES];
    uint8_t out[OUT_BYTES];
    uint8_t in[IN_BYTES];
};

// The kernel's door. Each returns what the system call does, or -errno.
static long checked(long result)
{
    return result < 0 ? -errno : result;
}

static long sys_send(int fd, const void *from, size_t bytes)
{
    return checked(syscall(SYS_sendto, fd, from, bytes, MSG_NOSIGNAL | MSG_DONTWAIT, NULL, 0));
}

static long sys_receive(int fd, void *to, size_t bytes)
{
    return checked(syscall(SYS_recvfrom, fd, to, bytes, MSG_DONTWAIT, NULL, NULL));
}

static long sys_poll(int fd, short events, struct timespec *timeout)
{
    struct pollfd poll = {.fd = fd, .events = events};
    return checked(syscall(SYS_ppoll, &poll, 1, timeout, NULL, 0));
}

static long sys_shutdown(int fd)
{
    return checked(syscall(SYS_shutdown, fd, SHUT_RDWR));
}

static struct lane_sock *sock_of(struct lane *lane)
{
    return (struct lane_sock *)lane;
}

// When to stop waiting, and what is to be said then.
static int out_of_time(const struct lane_sock *sock, int64_t deadline)
{
    return deadline <= sock->core.lane.patience ? -ETIMEDOUT : -EINPROGRESS;
}

// What a system call that moved nothing means: 0 when it is worth trying again, after waiting if
// need be.
static int sock_stalled(struct lane_sock *sock, long result, short events, int64_t deadline)
{
    struct timespec left;
    int64_t patience = sock->core.lane.patience;
    int64_t until = deadline < patience ? deadline : patience;
    switch (result) {
    case -EINTR:
        return lane_core_alive(&sock->core);
    case -EAGAIN:
        break;
    case -ETIMEDOUT: // TCP gave up on data that nobody acknowledged
        return -ETIMEDOUT;
    default:
        return -ECONNRESET;
    }
    if (until != LANE_NO_DEADLINE && !deadline_left(until, &left)) {
        return out_of_time(sock, deadline);
    }
    spin_sleeps(&sock->core.lane.spin);
    long ready = sys_poll(sock->fd, events, until == LANE_NO_DEADLINE ? NULL : &left);
    return ready < 0 && ready != -EINTR ? (int)ready : lane_core_alive(&sock->core);
}

static int sock_push(struct lane_sock *sock, size_t bytes, int64_t deadline)
{
    int64_t begun = lane_core_clock(&sock->core);
    for (size_t sent = 0; sent < bytes;) {
        long result = sys_send(sock->fd, sock->out + sent, bytes - sent);
        if (result >= 0) {
            sent += (size_t)result;
            continue;
        }
        int error = sock_stalled(sock, result, POLLOUT, deadline);
        if (error != 0) { // half a request: nobody can go on from there
            return lane_core_fail(&sock->core, error == -EINPROGRESS ? -ETIMEDOUT : error);
        }
    }
    lane_core_io_time(&sock->core, begun);
    return 0;
}

// Seals as many records as `out` holds; *bytes is 0 at the end of the message.
static int sock_seal(struct lane_sock *sock, struct record_source *source, size_t *bytes)
{
    size_t used = 0;
    int64_t begun = lane_core_clock(&sock->core);
    for (size_t next = record_source_bytes(source); next > 0 && used + next <= OUT_BYTES;
         next = record_source_bytes(source)) {
        int error = record_source_seal(source, sock->out + used);
        if (error != 0) {
            return lane_core_fail(&sock->core, error);
        }
        used += next;
    }
    *bytes = used;
    lane_core_cipher_time(&sock->core, begun);
    return 0;
}

static int sock_send(struct lane *lane, const struct wire_header *header,
                     const struct iovec *pieces, int count, int64_t deadline)
{
    struct lane_sock *sock = sock_of(lane);
    struct record_source source;
    size_t bytes = 0, total = 0;
    int error = lane_core_ask(&sock->core, header, pieces, count, &source);
    if (error != 0) {
        return error;
    }
    do {
        error = sock_seal(sock, &source, &bytes);
        if (error == 0) {
            error = sock_push(sock, bytes, deadline);
        }
        if (error != 0) {
            return error;
        }
        total += bytes;
    } while (bytes > 0);
    lane_core_asked(&sock->core, header, total);
    return 0;
}

// Makes room for a record of `need` bytes that begins at in_start.
static void sock_make_room(struct lane_sock *sock, size_t need)
{
    uint32_t have = sock->in_end - sock->in_start;
    if (have == 0) {
        sock->in_start = 0;
        sock->in_end = 0;
    } else if (sock->in_start + need > IN_BYTES) {
        memmove(sock->in, sock->in + sock->in_start, have);
        sock->in_start = 0;
        sock->in_end = have;
    }
}

// Looks for bytes until they come or looking does not pay any more: -EAGAIN then.
static long sock_look(struct lane_sock *sock, uint8_t *to, size_t room)
{
    struct spin *spin = &sock->core.lane.spin;
    long result = -EAGAIN;
    if (spin_begin(spin)) {
        do {
            result = sys_receive(sock->fd, to, room);
        } while (result == -EAGAIN && spin_on(spin));
        spin_done(spin, result != -EAGAIN);
    }
    return result;
}

static int sock_receive_some(struct lane_sock *sock, int64_t deadline)
{
    uint8_t *to = sock->in + sock->in_end;
    size_t room = IN_BYTES - sock->in_end;
    long result = sys_receive(sock->fd, to, room);
    if (result == -EAGAIN) {
        result = sock_look(sock, to, room);
    }
    int error = 0;
    if (result > 0) {
        sock->in_end += (uint32_t)result;
    } else {
        error = result == 0 ? -ECONNRESET : sock_stalled(sock, result, POLLIN, deadline);
    }
    spin_end(&sock->core.lane.spin);
    return error;
}

// Receives until `need` bytes are there.
static int sock_pull(struct lane_sock *sock, size_t need, int64_t deadline)
{
    sock_make_room(sock, need);
    int64_t begun = sock->in_end - sock->in_start < need ? lane_core_clock(&sock->core) : 0;
    while (sock->in_end - sock->in_start < need) {
        int error = sock_receive_some(sock, deadline);
        if (error != 0) {
            lane_core_io_time(&sock->core, begun);
            return error == -EINPROGRESS ? error : lane_core_fail(&sock->core, error);
        }
    }
    lane_core_io_time(&sock->core, begun);
    return 0;
}

static ssize_t sock_receive_data(struct lane *lane, void *to, const void **data, int64_t deadline)
{
    struct lane_sock *sock = sock_of(lane);
    size_t need = lane_core_record_bytes(&sock->core);
    int error = lane_core_alive(&sock->core);
    if (error != 0 || need == 0) {
        return error;
    }
    error = sock_pull(sock, need, deadline);
    if (error != 0) {
        return error;
    }
    void *place = to != NULL ? to : sock->plain;
    ssize_t bytes = lane_core_record(&sock->core, sock->in + sock->in_start, place);
    sock->in_start += (uint32_t)need;
    lane->ahead = sock->in_end - sock->in_start;
    if (bytes > 0) {
        *data = place;
    }
    return bytes;
}

static int sock_receive(struct lane *lane, struct wire_header *header, int64_t deadline)
{
    struct lane_sock *sock = sock_of(lane);
    const void *dropped;
    int error = lane_core_expects(&sock->core);
    while (error == 0 && sock->core.left > 0) {
        ssize_t bytes = sock_receive_data(lane, NULL, &dropped, deadline);
        error = bytes < 0 ? (int)bytes : 0;
    }
    if (error == 0) {
        error = sock_pull(sock, WIRE_HEADER_SEALED_BYTES, deadline);
    }
    if (error != 0) {
        return error;
    }
    const uint8_t *sealed = sock->in + sock->in_start;
    sock->in_start += WIRE_HEADER_SEALED_BYTES;
    return lane_core_answer(&sock->core, sealed, header);
}

static void sock_shut(struct lane *lane)
{
    struct lane_sock *sock = sock_of(lane);
    atomic_store_explicit(&sock->core.shut, true, memory_order_release);
    (void)sys_shutdown(sock->fd);
}

static void sock_destroy(struct lane *lane)
{
    struct lane_sock *sock = sock_of(lane);
    size_t bytes = lane_core_close(&sock->core, sock->out);
    if (bytes > 0) {
        (void)sys_send(sock->fd, sock->out, bytes); // at once or not at all: nobody waits for it
    }
    lane_core_clear(&sock->core);
    close(sock->fd);
    noise_wipe(sock->plain, sizeof sock->plain);
    munmap(sock, sizeof *sock);
}

static const struct lane_ops sock_ops = {
    .send = sock_send,
    .receive = sock_receive,
    .receive_data = sock_receive_data,
    .shut = sock_shut,
    .destroy = sock_destroy,
};

// Socket pairs know nothing of TCP and need none of it.
static void tcp_set_up(int fd)
{
    const int on = 1, unacknowledged_ms = LIMIT_FAILOVER_MS;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacknowledged_ms,
                     sizeof unacknowledged_ms);
}

struct lane *lane_sock_create(int fd, struct noise_cipher *send, struct noise_cipher *receive)
{
    struct lane_sock *sock = mmap(NULL, sizeof *sock, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (sock == MAP_FAILED) {
        noise_cipher_destroy(&send);
        noise_cipher_destroy(&receive);
        close(fd);
        errno = ENOMEM;
        return NULL;
    }
    tcp_set_up(fd);
    lane_core_init(&sock->core, &sock_ops, send, receive);
    sock->fd = fd;
    return &sock->core.lane;
}
