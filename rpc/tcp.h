// SPDX-License-Identifier: Apache-2.0
//
// TCP connections, as every client of this project makes them; and bytes over them, with a deadline for all: another end that is silent,
// or does not read, costs that and no more.
#ifndef RPC_TCP_H
#define RPC_TCP_H

#include <stddef.h>
#include <stdint.h>

// To the first of the name's addresses that takes it, before the deadline (rpc/deadline.h). The descriptor, which does not block
// and does not wait for more to send; or -errno. -ENOENT with *unknown not NULL: it has no address, and why.
int tcp_connect(const char *host, const char *port, int64_t deadline, const char **unknown);

// All of these, over a stream socket of any kind, whether it blocks or not. 0, -ENODATA: the other end has gone; -ETIMEDOUT, -errno.
int tcp_send(int fd, const void *from, size_t count, int64_t deadline);
int tcp_receive(int fd, void *to, size_t count, int64_t deadline);

// Makes the last close() of the socket a reset: no farewell of three more packets, and nothing left in the kernel. Else who does not
// read, or still writes, has buffers there for a minute.
void tcp_reset_at_close(int fd);

#endif
