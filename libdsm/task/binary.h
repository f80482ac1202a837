// SPDX-License-Identifier: Apache-2.0
//
// The program that runs: which binary it is, and whether its code lies at the same addresses in every process. Addresses of its
// functions stand on a task's stack, so a task goes on only in the same binary.
#ifndef LIBDSM_TASK_BINARY_H
#define LIBDSM_TASK_BINARY_H

#include <stdbool.h>
#include <stdint.h>

#include "rpc/limits.h"

struct task_binary {
    uint8_t build_id[LIMIT_BUILD_ID_BYTES];
    uint32_t build_id_bytes; // 0: the linker was not told to make one
    uint16_t machine;        // ELF's number
    bool fixed;              // not position-independent
};

void task_binary_read(struct task_binary *binary);
bool task_binary_has(uintptr_t code); // executable, and the program's own
bool task_shadow_stack(
    void); // the system keeps a second stack of return addresses: one can then not be changed for another

#endif
