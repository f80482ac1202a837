// SPDX-License-Identifier: Apache-2.0
//
// A task: one computation whose heap and stack are segments, so that it can stop in one process and go on in another, independently
// started process of the same binary. It moves only where it says so (dsm_task_yield()): nothing else of it is then but memory.
//
// Task code keeps its state in its heap and on its stack. What belongs to one process (variables of the program, thread-local ones and
// errno, FILE*, locks, descriptors, jmp_bufs, addresses of libraries' data) it must not keep across a yield.
//
// Threads: one runs it at a time; dsm_task_stop() from any, and from signal handlers.
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

struct task_mover;

struct dsm_task {
    struct task_switch context; // first: task_running points here
    dsm *session;
    dsm_segment *heap, *stack;
    dsm_segment *code;                       // or NULL; it does not move
    dsm_segment *data[LIMIT_IMAGE_SEGMENTS]; // what was added
    uint32_t data_count;
    dsm_task_function *function;
    enum task_state state;
    int status;      // it ended with
    uint64_t pinned; // the first page of the stack that is pinned; all above it are, too
    _Atomic bool stop;
    uint8_t id[CAPSULE_ID_BYTES];         // of its image, at every hop
    struct image *image;                  // on its way out: frozen, or
    struct capsule *capsule;              // what goes
    bool parked;                          // on the server it is the capsule's
    _Atomic bool move;                    // somebody asks for it: stop at the next yield, and serve
    struct task_mover *mover;             // NULL: nobody may ask
    int (*serve_request)(dsm_task *task); // 1: it has left, and is freed; 0: it is here; -errno
    void (*end_mover)(struct task_mover *mover);
};

void task_end_mover(dsm_task *task); // nobody may ask any more: before its first segment goes
void task_free(dsm_task *task);      // itself, not its segments

// ---- its segments: heap, stack, data in the order in which they were added; and perhaps code ----
enum { TASK_MOST_DATA = LIMIT_IMAGE_SEGMENTS - 3 };
static inline uint32_t task_parts(const dsm_task *task) // those that move
{
    return 2 + task->data_count;
}
static inline dsm_segment *task_part(const dsm_task *task, uint32_t part)
{
    return part == 0 ? task->heap : part == 1 ? task->stack : task->data[part - 2];
}
void task_own(dsm_task *task); // nobody else closes them from here on

// ---- for the capsule ----
// Its registers and what else is not memory.
void task_encode(const dsm_task *task, struct capsule *capsule);
// Of an opened capsule, with its segments open here. -EINVAL with a reason: this is no task of this program.
int task_decode(dsm *session, const struct capsule *capsule, dsm_segment *heap, dsm_segment *stack,
                dsm_task **task, struct failure *failure);
// Whether a task of that binary can go on here: -ENOEXEC another binary, machine or page size; -ENOTSUP.
int task_binary_check(const struct capsule *capsule, struct failure *failure);

#endif
