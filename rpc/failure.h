// SPDX-License-Identifier: Apache-2.0
//
// A sentence that says what went wrong and what to do about it, carried beside a -errno. The library
// never prints: whoever has a user in front of them prints the text.
#ifndef RPC_FAILURE_H
#define RPC_FAILURE_H

enum { FAILURE_TEXT_BYTES = 320 };

struct failure {
    char text[FAILURE_TEXT_BYTES];
};

// Writes the sentence (f may be NULL) and returns `error` (a -errno), so that a caller can say
// `return failure_set(f, -EINVAL, "...")`. Cuts at FAILURE_TEXT_BYTES - 1. Not for signal handlers.
int failure_set(struct failure *f, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
