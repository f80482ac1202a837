// SPDX-License-Identifier: Apache-2.0
//
// The socket that /metrics is served on.
#ifndef METRICS_LISTEN_H
#define METRICS_LISTEN_H

#include <stdbool.h>

#include "rpc/failure.h"

enum { METRICS_ADDRESS_BYTES = 64, METRICS_BACKLOG = 1024 };

struct metrics_socket {
    int fd;
    bool local; // bound to a loopback address
    char address[METRICS_ADDRESS_BYTES];
};

// 0 or -errno with a sentence. socket NULL: looks at the address only, and binds nothing.
int metrics_listen(const char *address, struct metrics_socket *socket, struct failure *failure);

#endif
