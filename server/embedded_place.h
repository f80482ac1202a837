// SPDX-License-Identifier: Apache-2.0
//
// A place for a store that nobody else sees and that does not outlive this process.
#ifndef SERVER_EMBEDDED_PLACE_H
#define SERVER_EMBEDDED_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "rpc/failure.h"

struct embedded_place {
    char path[64];
    int fd;       // keeps it
    bool visible; // a directory that must be taken away
};

// While the process has one thread. 0 or -errno with a sentence.
int embedded_place_make(struct embedded_place *place, uint64_t capacity_bytes,
                        struct failure *failure);
void embedded_place_remove(struct embedded_place *place);

#endif
