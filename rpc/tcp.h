// SPDX-License-Identifier: Apache-2.0
//
// TCP connections, as every client of this project makes them.
#ifndef RPC_TCP_H
#define RPC_TCP_H

#include <stdint.h>

// To the first of the name's addresses that takes it, before the deadline (rpc/deadline.h). The descriptor, which does not block
// and does not wait for more to send; or -errno. -ENOENT with *unknown not NULL: it has no address, and why.
int tcp_connect(const char *host, const char *port, int64_t deadline, const char **unknown);

#endif
