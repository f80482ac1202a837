// SPDX-License-Identifier: Apache-2.0
//
// How a program and the dsmd that it started for itself talk: one pair of sequenced-packet sockets, which the program made
// and dsmd inherited. Both ends' forms are here, and nowhere else.
//
//   program                                    dsmd
//   hello: key, size + its own pidfd       -->
//                                          <-- answer: public key, or a sentence
//   one byte + end of a new stream socket  --> (any number of times: that is a connection)
//   end of file                            --> dsmd ends
#ifndef RPC_EMBEDDED_H
#define RPC_EMBEDDED_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "rpc/failure.h"
#include "rpc/noise.h"

enum {
    EMBEDDED_TAG_BYTES = 16,
    EMBEDDED_HELLO_BYTES = EMBEDDED_TAG_BYTES + 8 + NOISE_KEY_BYTES,
    EMBEDDED_ANSWER_MOST_BYTES = 1 + sizeof(struct failure),
};

struct embedded_hello {
    uint64_t size_bytes; // of pages that the server may hold; 0: it decides
    uint8_t client_key[NOISE_KEY_BYTES];
};

// One message, with a copy of fd when that is not negative. Does not wait: -EAGAIN. -EPIPE: the other end is gone.
int embedded_send(int control, const void *data, size_t bytes, int fd);
// The next message; *fd is the descriptor that came along (close-on-exec, the caller's from now on) or -1. Does not
// wait: -EAGAIN. 0: end of file. -EMSGSIZE: longer than capacity.
ssize_t embedded_receive(int control, void *data, size_t capacity, int *fd);

void embedded_hello_encode(const struct embedded_hello *hello, uint8_t to[EMBEDDED_HELLO_BYTES]);
int embedded_hello_decode(const uint8_t *from, size_t bytes,
                          struct embedded_hello *hello); // -EPROTO

// The answer is one byte and the server's public key, or one byte and a sentence.
int embedded_answer_ready(int control, const uint8_t server_key[NOISE_KEY_BYTES]);
int embedded_answer_failed(int control, const char *text);
// 0 with the key; -ECONNABORTED with the server's sentence; -EPROTO.
int embedded_answer_decode(const uint8_t *from, size_t bytes, uint8_t server_key[NOISE_KEY_BYTES],
                           struct failure *failure);

#endif
