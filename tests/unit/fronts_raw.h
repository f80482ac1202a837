// SPDX-License-Identifier: Apache-2.0
//
// A client of the gRPC front that speaks HTTP/2 by hand, on loopback TCP. What it is to say is put
// into a text first, then sent at once.
#ifndef TESTS_UNIT_FRONTS_RAW_H
#define TESTS_UNIT_FRONTS_RAW_H

#include "fronts_rig.h"

enum {
    RAW_DATA = 0,
    RAW_HEADERS = 1,
    RAW_RST_STREAM = 3,
    RAW_SETTINGS = 4,
    RAW_PING = 6,
    RAW_WINDOW_UPDATE = 8
};
enum { RAW_ACK = 1, RAW_END_HEADERS = 4 };

struct raw_text { // grows no further than its array
    size_t bytes;
    uint8_t data[64 << 10];
};

void raw_put_frame(struct raw_text *text, uint8_t type, uint8_t flags, uint32_t stream,
                   const void *payload, size_t bytes);
void raw_put_call(struct raw_text *text, uint32_t stream, const char *method);
void raw_put_message(struct raw_text *text, uint32_t stream, const void *message, uint32_t bytes);
void raw_put_request(struct rig_client *client, struct raw_text *text, uint32_t stream,
                     const struct wire_header *request); // without payload
void raw_put_ping(struct rig_client *client, struct raw_text *text, uint32_t stream);
int raw_out(struct rig_client *client, const struct raw_text *text); // 0 or -errno
// Reads frames until one of the type on the stream; its payload goes to `body`. False at the end.
bool raw_await(struct rig_client *client, uint8_t type, uint32_t stream, struct raw_text *body);
void raw_expect_pong(struct rig_client *client, uint32_t stream);

// A connection that has said nothing; `text` begins with what comes first.
void raw_connect(struct rig *rig, struct rig_client *client, struct raw_text *text);
// A connection with its call open and one ping answered.
void raw_begin(struct rig *rig, struct rig_client *client, struct raw_text *text);

#endif
