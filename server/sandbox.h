// SPDX-License-Identifier: Apache-2.0
//
// What the process may still ask of the kernel once it serves.
#ifndef SERVER_SANDBOX_H
#define SERVER_SANDBOX_H

#include "rpc/failure.h"

// mode: "on", "off" or "log". All threads of the process, for good. Builds with a sanitizer leave it
// out. Negative errno with a sentence.
int sandbox_enter(const char *mode, struct failure *failure);

#endif
