// SPDX-License-Identifier: Apache-2.0
//
// TCP on loopback for the raw limits, and sending and receiving on any stream. Whoever waits for bytes looks for them for `spin_us` microseconds before it sleeps.
#ifndef TOOLS_DSMPERF_NET_H
#define TOOLS_DSMPERF_NET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

int perf_net_listen(uint16_t *port); // a socket, or -errno
int perf_net_connect(uint16_t port); // the same
int perf_net_accept(int listener);   // the same
int perf_net_pair(int fds[2]);       // connected; 0 or -errno
// 0, -errno, or -ECONNRESET at the end of the connection.
int perf_net_send(int fd, const void *from, size_t bytes);
int perf_net_receive(int fd, void *to, size_t bytes, uint32_t spin_us);
// Ends that spin need a processor each, or one waits for the time that the other burns: the calling thread (pid 0), or a
// process with all its threads, goes to the first (end 0) or the last (end 1) of those that this process may use.
void perf_net_place(int end, pid_t pid);
void perf_net_place_anywhere(void); // the calling thread

#endif
