/* SPDX-License-Identifier: Apache-2.0
 *
 * How large the cache is when nobody says it. */
#ifndef LIBDSM_CACHE_SIZE_H
#define LIBDSM_CACHE_SIZE_H

#include <stdint.h>

/* The smallest cache that is allowed, bytes. */
uint64_t cache_size_least(void);
/* Processes of one parallel program on this node, from the environment of its launcher; at least 1. */
uint64_t cache_size_ranks(void);
/* The smaller of a quarter of the available memory and half of what the memory control group has left, divided by ranks;
 * whole MiB, and never less than the smallest. root: see rpc/memory.h. */
uint64_t cache_size_default(const char *root, uint64_t ranks);

#endif
