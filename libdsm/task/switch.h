// SPDX-License-Identifier: Apache-2.0
//
// Two stacks, and how a thread goes from one to the other: a task's, which lies in a segment and may go on in another process,
// and its host's, the thread's own. What a task has in registers is on its own stack while it is away, so that the stack
// pointer and the guard word are all that must be told beside the memory.
#ifndef LIBDSM_TASK_SWITCH_H
#define LIBDSM_TASK_SWITCH_H

#include "dsm/dsm.h"

struct task_switch { // the assembler knows these places
    uintptr_t host_sp;
    uintptr_t task_sp;
    uint64_t host_guard; // of the stack protector, where it lies in thread-local storage
    uint64_t task_guard;
};

// The first time: on an empty stack that ends at `top`, a multiple of 16. Comes back when the task leaves. The function never returns.
void task_switch_begin(struct task_switch *s, uintptr_t top, dsm_task_function *function,
                       void *heap, uint64_t heap_bytes);
// Goes on where the task left.
void task_switch_enter(struct task_switch *s);
// On the task's stack: to the host, which goes on behind begin or enter.
void task_switch_leave(struct task_switch *s);
// dsm_task_yield() is the same for the task that this thread runs. No frame of the library's stays on the task's stack.

// Of the task that this thread runs, or NULL.
extern _Thread_local struct task_switch *task_running
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

#endif
