// SPDX-License-Identifier: Apache-2.0
//
// What the process may still ask of the kernel once it serves.
#ifndef SERVER_SANDBOX_H
#define SERVER_SANDBOX_H

#include "rpc/failure.h"

// Gives up every capability, in all three sets: a dsmd that root started is bound by modes and owners from here on.
// The calling thread and those that it starts; so before the first. Negative errno with a sentence.
int sandbox_drop(struct failure *failure);

// mode: "on", "off" or "log". All threads of the process, for good. Builds with a sanitizer leave it
// out. Negative errno with a sentence.
int sandbox_enter(const char *mode, struct failure *failure);

#endif
