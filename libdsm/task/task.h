// SPDX-License-Identifier: Apache-2.0
//
// A task: one computation whose heap and stack are segments, so that it can stop in one process and go on in another, independently
// started process of the same binary. It moves only where it says so (task_yield()): nothing else of it is then but memory.
//
// Task code keeps its state in its heap and on its stack. What belongs to one process (variables of the program, thread-local ones and
// errno, FILE*, locks, descriptors, jmp_bufs, addresses of libraries' data) it must not keep across a yield.
//
// Threads: one runs it at a time; task_stop() from any, and from signal handlers.
#ifndef LIBDSM_TASK_TASK_H
#define LIBDSM_TASK_TASK_H

#include "libdsm/migrate/capsule.h"
#include "libdsm/session_api.h"
#include "libdsm/task/binary.h"
#include "libdsm/task/switch.h"

enum {
    TASK_STACK_BELOW_BYTES = 64 << 10, // pinned beside what the stack holds
    TASK_LEAST_STACK_BYTES = 2 * TASK_STACK_BELOW_BYTES,
};

enum task_state { TASK_NEW, TASK_AWAY, TASK_RUNNING, TASK_ENDED };

struct task {
    struct task_switch context; // first: task_running points here
    dsm *session;
    dsm_segment *heap, *stack;
    task_function *function;
    enum task_state state;
    int status;      // it ended with
    uint64_t pinned; // the first page of the stack that is pinned; all above it are, too
    _Atomic bool stop;
};

// Makes NAME/heap and NAME/stack. -ENOTSUP: this program cannot have tasks; -EINVAL; as dsm_segment_create.
int task_create(dsm *session, const char *name, task_function *function, uint64_t heap_bytes,
                uint64_t stack_bytes, struct task **task);
// Runs it in the calling thread until it ends (1), or yields after task_stop (0). -EDEADLK: this thread runs one already;
// -EBUSY: another runs it; -ENOENT: it has ended; as dsm_swap_in, for its stack.
int task_run(struct task *task);
void task_stop(struct task *task);
// In the task: ends it.
void task_exit(int status) __attribute__((noreturn));
// Closes its segments; deletes them when it has ended. The first error; it is gone all the same.
int task_destroy(struct task **task);

// ---- for the capsule ----
// Its registers and what else is not memory.
void task_encode(const struct task *task, struct capsule *capsule);
// Of an opened capsule, with its segments open here. -EINVAL with a reason: this is no task of this program.
int task_decode(dsm *session, const struct capsule *capsule, dsm_segment *heap, dsm_segment *stack,
                struct task **task, struct failure *failure);
// Whether a task of that binary can go on here: -ENOEXEC another binary, machine or page size; -ENOTSUP.
int task_binary_check(const struct capsule *capsule, struct failure *failure);

#endif
