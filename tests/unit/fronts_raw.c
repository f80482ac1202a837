// SPDX-License-Identifier: Apache-2.0
//
// HTTP/2 by hand: what a test says to the gRPC front that no gRPC library would. It knows just
// enough: frames, literal header fields without indexing, no flow control beyond the first
// 64 KiB of a connection.
#include "fronts_raw.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

enum { FRAME_HEADER_BYTES = 9, PREFIX_BYTES = 5 };

static void put(struct raw_text *text, const void *data, size_t bytes)
{
    assert_true(text->bytes + bytes <= sizeof(text->data));
    if (bytes > 0) {
        memcpy(text->data + text->bytes, data, bytes);
    }
    text->bytes += bytes;
}

void raw_put_frame(struct raw_text *text, uint8_t type, uint8_t flags, uint32_t stream,
                   const void *payload, size_t bytes)
{
    uint8_t head[FRAME_HEADER_BYTES] = {(uint8_t)(bytes >> 16),
                                        (uint8_t)(bytes >> 8),
                                        (uint8_t)bytes,
                                        type,
                                        flags,
                                        (uint8_t)(stream >> 24),
                                        (uint8_t)(stream >> 16),
                                        (uint8_t)(stream >> 8),
                                        (uint8_t)stream};
    put(text, head, sizeof(head));
    put(text, payload, bytes);
}

static void put_field(struct raw_text *text, const char *name, const char *value)
{
    uint8_t lengths[2] = {(uint8_t)strlen(name), (uint8_t)strlen(value)};
    put(text, "\0", 1); // literal, not indexed, new name
    put(text, &lengths[0], 1);
    put(text, name, lengths[0]);
    put(text, &lengths[1], 1);
    put(text, value, lengths[1]);
}

void raw_put_call(struct raw_text *text, uint32_t stream, const char *method)
{
    static struct raw_text fields;
    fields.bytes = 0;
    put_field(&fields, ":method", "POST");
    put_field(&fields, ":scheme", "http");
    put_field(&fields, ":path", method);
    put_field(&fields, ":authority", "dsm");
    put_field(&fields, "te", "trailers");
    put_field(&fields, "content-type", "application/grpc");
    raw_put_frame(text, RAW_HEADERS, RAW_END_HEADERS, stream, fields.data, fields.bytes);
}

void raw_put_message(struct raw_text *text, uint32_t stream, const void *message, uint32_t bytes)
{
    static struct raw_text body;
    uint32_t length = htonl(bytes);
    body.bytes = 0;
    put(&body, "\0", 1);
    put(&body, &length, sizeof(length));
    put(&body, message, bytes);
    raw_put_frame(text, RAW_DATA, 0, stream, body.data, body.bytes);
}

int raw_out(struct rig_client *client, const struct raw_text *text)
{
    for (size_t sent = 0; sent < text->bytes;) {
        ssize_t part = send(client->fd, text->data + sent, text->bytes - sent, MSG_NOSIGNAL);
        if (part < 0) {
            return -errno;
        }
        sent += (size_t)part;
    }
    return 0;
}

bool raw_await(struct rig_client *client, uint8_t type, uint32_t stream, struct raw_text *body)
{
    for (;;) {
        uint8_t head[FRAME_HEADER_BYTES];
        if (recv(client->fd, head, sizeof(head), MSG_WAITALL) != (ssize_t)sizeof(head)) {
            return false;
        }
        body->bytes = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        uint32_t id =
            (uint32_t)head[5] << 24 | (uint32_t)head[6] << 16 | (uint32_t)head[7] << 8 | head[8];
        assert_true(body->bytes <= sizeof(body->data));
        if (body->bytes > 0 &&
            recv(client->fd, body->data, body->bytes, MSG_WAITALL) != (ssize_t)body->bytes) {
            return false;
        }
        if (head[3] == type && id == stream) {
            return true;
        }
    }
}

void raw_connect(struct rig *rig, struct rig_client *client, struct raw_text *text)
{
    int theirs;
    memset(client, 0, sizeof(*client));
    client->session.rig = rig;
    rig_socket_pair(rig->kind, &client->fd, &theirs);
    client->send = rig_cipher(1);
    client->receive = rig_cipher(2);
    assert_int_equal(rig->front->ops->add(rig->front, theirs, rig_cipher(2), rig_cipher(1),
                                          &client->session, &client->session.peer),
                     0);
    text->bytes = 0;
    put(text, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    raw_put_frame(text, RAW_SETTINGS, 0, 0, NULL, 0);
    raw_put_frame(text, RAW_SETTINGS, RAW_ACK, 0, NULL, 0);
}

void raw_put_request(struct rig_client *client, struct raw_text *text, uint32_t stream,
                     const struct wire_header *request)
{
    struct record_source source;
    uint8_t sealed[WIRE_HEADER_SEALED_BYTES];
    assert_int_equal(record_source_start(&source, client->send, request, NULL, 0), 0);
    assert_int_equal(record_source_seal(&source, sealed), 0);
    raw_put_message(text, stream, sealed, sizeof(sealed));
}

void raw_put_ping(struct rig_client *client, struct raw_text *text, uint32_t stream)
{
    struct wire_header request = rig_request(WIRE_PING, 0, 0);
    raw_put_request(client, text, stream, &request);
}

void raw_expect_pong(struct rig_client *client, uint32_t stream)
{
    static struct raw_text body;
    struct wire_header answer;
    assert_true(raw_await(client, RAW_DATA, stream, &body));
    assert_int_equal(body.bytes, PREFIX_BYTES + WIRE_HEADER_SEALED_BYTES);
    assert_int_equal(record_header_open(client->receive, body.data + PREFIX_BYTES, &answer), 0);
    assert_int_equal(answer.op, WIRE_PING | WIRE_ANSWER);
}

void raw_begin(struct rig *rig, struct rig_client *client, struct raw_text *text)
{
    raw_connect(rig, client, text);
    raw_put_call(text, 1, "/dsm.Lane/Stream");
    raw_put_ping(client, text, 1);
    assert_int_equal(raw_out(client, text), 0);
    raw_expect_pong(client, 1);
    text->bytes = 0;
}
