// SPDX-License-Identifier: Apache-2.0
//
// See lane_sock_rig.h. The peer is built on the record helpers alone, not on a front, so that lane
// and front are not tested by each other only.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/noise_pair.h"
#include "tests/unit/lane_sock_rig.h"

struct line *line_new(void)
{
    struct line *line = calloc(1, sizeof *line);
    struct noise_pair pair;
    int fds[2];
    assert_non_null(line);
    assert_int_equal(noise_pair_create(&pair, NOISE_CHACHAPOLY), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    line->lane = lane_sock_create(fds[0], pair.send[0], pair.receive[0]);
    assert_non_null(line->lane);
    line->fd = fds[1];
    line->seal = pair.send[1];
    line->open = pair.receive[1];
    return line;
}

bool line_read(int fd, void *to, size_t bytes)
{
    for (size_t have = 0; have < bytes;) {
        ssize_t got = recv(fd, (uint8_t *)to + have, bytes - have, 0);
        if (got <= 0) {
            return false;
        }
        have += (size_t)got;
    }
    return true;
}

bool line_write(int fd, const void *from, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t sent = send(fd, (const uint8_t *)from + done, bytes - done, MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        done += (size_t)sent;
    }
    return true;
}

// Takes one message off the socket and opens it.
static bool take_message(struct line *line)
{
    if (!line_read(line->fd, line->message, WIRE_HEADER_SEALED_BYTES) ||
        record_header_open(line->open, line->message, &line->last) != 0) {
        return false;
    }
    for (uint32_t done = 0; done < line->last.length;) {
        uint32_t bytes = record_plain_bytes(line->last.length - done);
        if (!line_read(line->fd, line->message, bytes + LIMIT_SEAL_BYTES) ||
            noise_open(line->open, line->message, bytes + LIMIT_SEAL_BYTES, line->payload + done) !=
                0) {
            return false;
        }
        done += bytes;
    }
    return true;
}

// Seals header and answer_payload into line->message.
size_t line_seal(struct line *line, const struct wire_header *header)
{
    struct record_source source;
    const struct iovec piece = {line->answer_payload, sizeof line->answer_payload};
    size_t used = 0;
    assert_int_equal(record_source_start(&source, line->seal, header, &piece, 1), 0);
    for (size_t next; (next = record_source_bytes(&source)) > 0; used += next) {
        assert_int_equal(record_source_seal(&source, line->message + used), 0);
    }
    return used;
}

static void *peer_thread(void *argument)
{
    struct line *line = argument;
    while (take_message(line) && line->last.op != WIRE_CLOSE) {
        (void)exercise_answer(NULL, &line->last, line->payload, &line->answer,
                              line->answer_payload);
        if (!line_write(line->fd, line->message, line_seal(line, &line->answer))) {
            break;
        }
    }
    shutdown(line->fd, SHUT_RDWR);
    return NULL;
}

void line_free(struct line *line)
{
    lane_destroy(&line->lane);
    if (line->running) {
        pthread_join(line->thread, NULL);
    }
    noise_cipher_destroy(&line->seal);
    noise_cipher_destroy(&line->open);
    close(line->fd);
    free(line);
}

struct line *line_with_peer(void)
{
    struct line *line = line_new();
    assert_int_equal(pthread_create(&line->thread, NULL, peer_thread, line), 0);
    line->running = true;
    return line;
}

void line_ask(struct line *line, enum wire_op op, uint32_t count, uint64_t id)
{
    struct wire_header request = {.op = (uint16_t)op, .request = id, .count = count};
    assert_int_equal(line->lane->ops->send(line->lane, &request, NULL, 0, LANE_NO_DEADLINE), 0);
    assert_true(take_message(line));
}

struct wire_header line_answer(const struct line *line, uint32_t length)
{
    return (struct wire_header){
        .op = line->last.op | WIRE_ANSWER, .request = line->last.request, .length = length};
}
