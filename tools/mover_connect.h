// SPDX-License-Identifier: Apache-2.0
//
// A connection to a host's agent, with this user's key.
#ifndef TOOLS_MOVER_CONNECT_H
#define TOOLS_MOVER_CONNECT_H

#include "tools/mover_link.h"

struct mover_host {
    char name[256];               // as the user said it
    char address[256], port[8];   //
    uint8_t key[NOISE_KEY_BYTES]; // the agent's
};

// From the list of hosts, or, with `key` (base64, or a .pub file), as it is. -ENOENT, -EINVAL with a sentence.
int mover_host_find(const char *name, const char *list, const char *key, struct mover_host *host,
                    struct failure *failure);
// 0, or -errno with a sentence: the connection's, or why the agent refused (-EACCES).
int mover_connect(const struct mover_host *host, struct mover_link *link, struct failure *failure);

#endif
