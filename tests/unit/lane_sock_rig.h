// SPDX-License-Identifier: Apache-2.0
//
// A lane_sock and the other end of its socket: in the test's own hands, or in those of a thread
// that answers well.
#ifndef TESTS_UNIT_LANE_SOCK_RIG_H
#define TESTS_UNIT_LANE_SOCK_RIG_H

#include <pthread.h>

#include "rpc/record.h"
#include "tests/unit/lane_exercise.h"

// A lane and the other end of its socket.
struct line {
    struct lane *lane;
    int fd;
    struct noise_cipher *seal, *open;
    pthread_t thread;
    bool running;
    struct wire_header last; // the last header that the peer's thread took
    struct wire_header answer;
    uint8_t payload[LIMIT_RUN_BYTES], answer_payload[LIMIT_RUN_BYTES];
    uint8_t message[RECORD_MESSAGE_MAX];
};

struct line *line_new(void);
struct line *line_with_peer(void); // a thread answers, until CLOSE or the end
void line_free(struct line *line);

// For tests that make the answers by hand.
bool line_read(int fd, void *to, size_t bytes);
bool line_write(int fd, const void *from, size_t bytes);
// Sends a request and takes it out at the other end, into line->last.
void line_ask(struct line *line, enum wire_op op, uint32_t count, uint64_t id);
struct wire_header line_answer(const struct line *line, uint32_t length);
// Seals header and line->answer_payload into line->message; its bytes.
size_t line_seal(struct line *line, const struct wire_header *header);

#endif
