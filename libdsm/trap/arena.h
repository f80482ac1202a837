// SPDX-License-Identifier: Apache-2.0
//
// The addresses at which segments lie in every process, kept from everybody else: reserved when the session is opened, so that what the
// program, or a library in it, maps later cannot come to lie where a task's heap must go. One for the process.
//
// Any thread; not from the handler.
#ifndef LIBDSM_TRAP_ARENA_H
#define LIBDSM_TRAP_ARENA_H

#include <stdbool.h>
#include <stdint.h>

// Reserves what is free of [from, from + bytes), whole GiB; what is in use stays as it is. The bytes reserved; 0 also where the
// system does not allow so many addresses, and then segments take theirs as they find them.
uint64_t arena_get(uintptr_t from, uint64_t bytes);
void arena_put(void);
bool arena_kept(void); // some are reserved
// The descriptor's first bytes at exactly this place, shared; access as for mmap. -EADDRINUSE: something is there; -ENOMEM, ...
int arena_map(void *base, uint64_t bytes, int access, int fd);
void arena_unmap(void *base, uint64_t bytes); // reserved again where it was taken from the arena

#endif
