// SPDX-License-Identifier: Apache-2.0
//
// Messages between a program and its embedded dsmd, and the descriptors that travel with them.
//
// A connection is made by the program: it makes a pair of stream sockets and sends one end over. So there is no
// address that another process could find or connect to, nothing in a file system, and nothing left when both processes are
// gone. (A listening socket with an abstract name was rejected: anybody in the network namespace may connect to it.)
//
// A message carries one descriptor at most; more of them, or of other control data, are closed or ignored, never kept.
// The tag at the start of the hello tells a dsmd of another release apart before anything is believed.
//
// No state, no locks.
#include "rpc/embedded.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char hello_tag[EMBEDDED_TAG_BYTES] = "dsm-embedded-1";

enum { ANSWER_READY = 'R', ANSWER_FAILED = 'F' };

union descriptor_space {
    struct cmsghdr head;
    char bytes[CMSG_SPACE(sizeof(int))];
};

int embedded_send(int control, const void *data, size_t bytes, int fd)
{
    struct iovec piece = {.iov_base = (void *)(uintptr_t)data, .iov_len = bytes};
    union descriptor_space space = {.bytes = {0}};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = &space;
        message.msg_controllen = sizeof space;
        space.head.cmsg_level = SOL_SOCKET;
        space.head.cmsg_type = SCM_RIGHTS;
        space.head.cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(&space.head), &fd, sizeof fd);
    }
    ssize_t sent;
    do {
        sent = sendmsg(control, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
        return 0;
    }
    return errno == ECONNRESET ? -EPIPE : -errno;
}

static int take_descriptor(struct msghdr *message)
{
    int fd = -1;
    const struct cmsghdr *head = CMSG_FIRSTHDR(message);
    if (head != NULL && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS &&
        head->cmsg_len == CMSG_LEN(sizeof fd)) {
        memcpy(&fd, CMSG_DATA(head), sizeof fd);
    }
    return fd;
}

ssize_t embedded_receive(int control, void *data, size_t capacity, int *fd)
{
    struct iovec piece = {.iov_base = data, .iov_len = capacity};
    union descriptor_space space = {.bytes = {0}};
    struct msghdr message = {
        .msg_iov = &piece,
        .msg_iovlen = 1,
        .msg_control = &space,
        .msg_controllen = sizeof space,
    };
    ssize_t got;
    *fd = -1;
    do {
        got = recvmsg(control, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return errno == ECONNRESET ? 0 : -errno;
    }
    *fd = take_descriptor(&message);
    if ((message.msg_flags & MSG_TRUNC) != 0) {
        if (*fd >= 0) {
            (void)close(*fd);
            *fd = -1;
        }
        return -EMSGSIZE;
    }
    return got;
}

void embedded_hello_encode(const struct embedded_hello *hello, uint8_t to[EMBEDDED_HELLO_BYTES])
{
    memcpy(to, hello_tag, EMBEDDED_TAG_BYTES);
    for (int i = 0; i < 8; i++) {
        to[EMBEDDED_TAG_BYTES + i] = (uint8_t)(hello->size_bytes >> (8 * i));
    }
    memcpy(to + EMBEDDED_TAG_BYTES + 8, hello->client_key, NOISE_KEY_BYTES);
}

int embedded_hello_decode(const uint8_t *from, size_t bytes, struct embedded_hello *hello)
{
    if (bytes != EMBEDDED_HELLO_BYTES || memcmp(from, hello_tag, EMBEDDED_TAG_BYTES) != 0) {
        return -EPROTO;
    }
    hello->size_bytes = 0;
    for (int i = 0; i < 8; i++) {
        hello->size_bytes |= (uint64_t)from[EMBEDDED_TAG_BYTES + i] << (8 * i);
    }
    memcpy(hello->client_key, from + EMBEDDED_TAG_BYTES + 8, NOISE_KEY_BYTES);
    return 0;
}

int embedded_answer_ready(int control, const uint8_t server_key[NOISE_KEY_BYTES])
{
    uint8_t answer[1 + NOISE_KEY_BYTES] = {ANSWER_READY};
    memcpy(answer + 1, server_key, NOISE_KEY_BYTES);
    return embedded_send(control, answer, sizeof answer, -1);
}

int embedded_answer_failed(int control, const char *text)
{
    uint8_t answer[EMBEDDED_ANSWER_MOST_BYTES] = {ANSWER_FAILED};
    size_t bytes = strnlen(text, sizeof answer - 1);
    memcpy(answer + 1, text, bytes);
    return embedded_send(control, answer, 1 + bytes, -1);
}

int embedded_answer_decode(const uint8_t *from, size_t bytes, uint8_t server_key[NOISE_KEY_BYTES],
                           struct failure *failure)
{
    if (bytes == 1 + NOISE_KEY_BYTES && from[0] == ANSWER_READY) {
        memcpy(server_key, from + 1, NOISE_KEY_BYTES);
        return 0;
    }
    if (bytes > 1 && from[0] == ANSWER_FAILED) {
        return failure_set(failure, -ECONNABORTED, "%.*s", (int)(bytes - 1),
                           (const char *)from + 1);
    }
    return -EPROTO;
}
