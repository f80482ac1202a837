// SPDX-License-Identifier: Apache-2.0
//
// dsmd as the private server of one program, which started it with --embedded FD. It ends with the program and
// leaves nothing behind.
#ifndef SERVER_EMBEDDED_H
#define SERVER_EMBEDDED_H

#include <stdbool.h>
#include <stdint.h>

#include "rpc/failure.h"
#include "rpc/keyfile.h"

struct embedded;

// To be called before any thread is started: leaves the program's process tree, reads its hello from
// `control`, and makes the place for the store. 0 or -errno with a sentence; *embedded is made in any case but -ENOMEM.
int embedded_begin(int control, struct embedded **embedded, struct failure *failure);
// Throw-away keys: the server's, and the grant of the program's.
int embedded_keys(struct embedded *embedded, struct key_identity **identity,
                  struct key_grants **grants, struct failure *failure);
const char *embedded_directory(const struct embedded *embedded); // of the store
uint64_t embedded_capacity(const struct embedded *embedded);     // bytes of pages
int embedded_control(const struct embedded *embedded);           // connections come over it
// Says that connections may come, or why none will.
void embedded_say_ready(struct embedded *embedded, const struct key_identity *identity);
void embedded_say_failed(struct embedded *embedded, const char *text);
// Waits up to wait_ms for `signals` to be readable or the program to be gone; true: it is gone.
bool embedded_wait(const struct embedded *embedded, int signals, int wait_ms);
// Takes the store's place away; what is open stays usable. May be NULL.
void embedded_destroy(struct embedded **embedded);

#endif
