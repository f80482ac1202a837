// SPDX-License-Identifier: Apache-2.0
//
// What the address sanitizer has to be told when a thread goes on on another stack; without it, nothing.
#ifndef TESTS_SIMULATOR_STACK_SWITCH_H
#define TESTS_SIMULATOR_STACK_SWITCH_H

#include <stddef.h>

// Before the switch: to which stack, and where to keep what belongs to this one (NULL: nobody comes back to it).
void stack_leave(void **shadow, const void *to, size_t bytes);
// After it: what was kept of this one (NULL: it is new), and which stack it came from.
void stack_enter(void *shadow, const void **from, size_t *bytes);
void stack_clear(const void *stack, size_t bytes); // of what its former user left

#endif
