// SPDX-License-Identifier: Apache-2.0
//
// Telling whoever started the server that clients can connect, and that it stops.
#ifndef SERVER_READY_H
#define SERVER_READY_H

#include <stdint.h>

// "READY PORT 127.0.0.1:PORT\n" on fd (0: nobody asked), and to the service manager where there is
// one.
void ready_say(int fd, uint16_t port);
void ready_reloading(void);
void ready_reloaded(void);
void ready_stopping(void);
void ready_failed(int error, const char *sentence);
int ready_thread_count(void); // of this process, 0 when unknown

#endif
