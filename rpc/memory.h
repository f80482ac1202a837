// SPDX-License-Identifier: Apache-2.0
//
// How much memory this process may still take: of the system, and of its memory control group.
#ifndef RPC_MEMORY_H
#define RPC_MEMORY_H

#include <stdint.h>

// root: "" for the system; tests give a folder that holds proc/ and sys/. UINT64_MAX: unknown, or no bound.
uint64_t memory_available(const char *root); // MemAvailable, bytes
uint64_t memory_cgroup_left(
    const char *root); // bytes to the nearest limit, of this group and those above it

#endif
