// SPDX-License-Identifier: Apache-2.0
//
// Segments have the same addresses in every process: where something else lies there, what it is.
#ifndef LIBDSM_ADDRESSES_H
#define LIBDSM_ADDRESSES_H

#include <stdint.h>

#include "rpc/failure.h"

// -EADDRINUSE, with a sentence that names what lies in the way of the segment.
int addresses_in_use(const char *segment, uint64_t base, uint64_t bytes, struct failure *failure);

#endif
