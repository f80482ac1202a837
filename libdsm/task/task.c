// SPDX-License-Identifier: Apache-2.0
//
// Tasks: making, running, stopping. See task.h for what a task may keep.
//
// The handler of faults and the kernel both need the stack while the task runs: the handler has an alternate one (a signal's
// frame cannot be put on a page that is not there), and system calls are given buffers on the task's own. So what the stack
// holds, and 64 KiB below, is brought in and pinned for writing, in one run, before the task goes on; deeper calls fault as any
// other touch does, and at the next yield the pins follow. They never give way before the task stops: a stack that was deep
// once will be so again.
//
// Rejected: pins that follow the stack at each fault. A fault's handler would have to pin, and a signal of the program's own could
// come in between.
//
// A task's code addresses are the program's, so the program must lie where it lies in every process: linked with -no-pie. The
// addresses of segments come from servers, in a range where the kernel puts nothing by itself for such a program.
//
// Threads: see task.h. task_running is the thread's; it is set only while the task's stack is in use.
#include "libdsm/task/task.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libdsm/error.h"
#include "libdsm/migrate/image.h"

_Thread_local struct task_switch *task_running;

enum { RECORD_VERSION = 1, RECORD_BYTES = 2 + 2 + 4 + 4 * 8 };

static int refuse(const char *name, int error, const char *text)
{
    return error_set(error, name, DSM_NO_PAGE, NULL, "%s", text);
}

// Why this program cannot have tasks, or NULL.
static const char *unfit(const struct task_binary *binary)
{
    if (!binary->fixed) {
        return "Tasks need a program whose code lies at the same addresses in every process: "
               "compile it with -fno-pie and "
               "link it with -no-pie.";
    }
    if (binary->build_id_bytes == 0) {
        return "Tasks need a program with a build id: link it with -Wl,--build-id.";
    }
    return task_shadow_stack() ? "Tasks cannot change stacks where the system keeps shadow stacks: "
                                 "link the program with -Wl,-z,noshstk or run it with "
                                 "GLIBC_TUNABLES=glibc.cpu.x86_shstk=off."
                               : NULL;
}

// ---- making

static int create_segment(dsm *session, const char *name, const char *part, uint64_t bytes,
                          unsigned type, dsm_segment **segment)
{
    char full[LIMIT_SEGMENT_NAME_BYTES];
    if (snprintf(full, sizeof full, "%s/%s", name, part) >= (int)sizeof full) {
        return refuse(name, -EINVAL, "The task's name is too long.");
    }
    return dsm_segment_create(session, full, bytes, 0, DSM_EXCLUSIVE | type, segment);
}

static int check_new(const char *name, dsm_task_function *function, uint64_t heap_bytes,
                     uint64_t stack_bytes)
{
    struct task_binary binary;
    task_binary_read(&binary);
    const char *why = unfit(&binary);
    if (why != NULL) {
        return refuse(name, -ENOTSUP, why);
    }
    if (!task_binary_has((uintptr_t)function)) {
        return refuse(name, -EINVAL,
                      "A task's function must be one of the program, not of a library.");
    }
    return heap_bytes > 0 && stack_bytes >= TASK_LEAST_STACK_BYTES
               ? 0
               : refuse(name, -EINVAL, "A task has a heap, and a stack of at least 128 KiB.");
}

static int make_heap(dsm *session, dsm_segment *from, const char *name, uint64_t bytes,
                     dsm_segment **heap)
{
    char full[LIMIT_SEGMENT_NAME_BYTES];
    if (from == NULL) {
        return create_segment(session, name, "heap", bytes, DSM_HEAP, heap);
    }
    if (snprintf(full, sizeof full, "%s/heap", name) >= (int)sizeof full) {
        return refuse(name, -EINVAL, "The task's name is too long.");
    }
    return dsm_segment_clone(from, full, bytes, DSM_EXCLUSIVE | DSM_HEAP, heap);
}

static void begin_context(dsm_task *task)
{
    noise_random(task->id, sizeof task->id);
    noise_random(&task->context.task_guard, sizeof task->context.task_guard);
    task->context.task_guard &= ~(uint64_t)0xff; // as libc's: a string that runs over ends there
    task->pinned = dsm_segment_size(task->stack) / dsm_segment_page_size(task->stack);
}

static int make_segments(dsm_task *task, dsm_segment *from, const char *name, uint64_t heap_bytes,
                         uint64_t stack_bytes)
{
    int error = make_heap(task->session, from, name, heap_bytes, &task->heap);
    if (error != 0) {
        free(task);
        return error;
    }
    error = create_segment(task->session, name, "stack", stack_bytes, DSM_STACK, &task->stack);
    if (error != 0) {
        const dsm_error_detail why = *dsm_error();
        task->state = TASK_ENDED; // what was made is deleted again
        (void)dsm_task_destroy(task);
        return error_set(error, why.segment, why.page, why.server, "%s", why.text);
    }
    task_own(task);
    return 0;
}

static int create(dsm *session, dsm_segment *from, const char *name, dsm_task_function *function,
                  uint64_t heap_bytes, uint64_t stack_bytes, dsm_task **task)
{
    dsm_task *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return refuse(name, -ENOMEM, "There is no memory for a task.");
    }
    made->session = session;
    made->function = function;
    made->state = TASK_NEW;
    int error = make_segments(made, from, name, heap_bytes, stack_bytes);
    if (error != 0) {
        return error;
    }
    begin_context(made);
    *task = made;
    return 0;
}

DSM_API int dsm_task_create(dsm *session, const char *name, dsm_task_function *function,
                            uint64_t heap_bytes, uint64_t stack_bytes, dsm_task **task)
{
    int error = api_alive();
    error = error != 0 ? error : check_new(name, function, heap_bytes, stack_bytes);
    return error != 0 ? error
                      : create(session, NULL, name, function, heap_bytes, stack_bytes, task);
}

DSM_API int dsm_task_create_from(dsm_segment *source, const char *name, dsm_task_function *function,
                                 uint64_t heap_bytes, uint64_t stack_bytes, dsm_task **task)
{
    int error = api_alive();
    uint64_t bytes = error == 0 && heap_bytes == 0 ? dsm_segment_size(source) : heap_bytes;
    error = error != 0 ? error : check_new(name, function, bytes, stack_bytes);
    return error != 0 ? error
                      : create(source->session, source, name, function, bytes, stack_bytes, task);
}

static int let_go(dsm *session, dsm_segment *segment, bool delete)
{
    char name[LIMIT_SEGMENT_NAME_BYTES];
    if (segment == NULL) {
        return 0;
    }
    (void)snprintf(name, sizeof name, "%s", segment->segment.name);
    int error = segment_release(segment);
    int deleted = delete ? dsm_segment_delete(session, name) : 0;
    return error != 0 ? error : deleted;
}

void task_end_mover(dsm_task *task)
{
    if (task->mover != NULL) {
        task->end_mover(task->mover);
        task->mover = NULL;
    }
}

void task_free(dsm_task *task)
{
    if (task->image != NULL) {
        image_thaw(task->image);
        free(task->image);
    }
    capsule_destroy(&task->capsule);
    noise_wipe(task, sizeof *task);
    free(task);
}

DSM_API int dsm_task_destroy(dsm_task *task)
{
    int error = task == NULL ? 0 : api_alive();
    if (task == NULL || error != 0) {
        return error;
    }
    if (task->state == TASK_RUNNING || task->image != NULL) {
        return refuse(NULL, -EBUSY,
                      task->image != NULL
                          ? "The task is on its way: dsm_migrate_finish or dsm_migrate_abort first."
                          : "The task runs: dsm_task_stop it first.");
    }
    task_end_mover(task);
    bool ended = task->state == TASK_ENDED;
    error = let_go(task->session, task->heap, ended);
    int second = let_go(task->session, task->stack, ended);
    error = error != 0 ? error : second;
    for (uint32_t i = 0; i < task->data_count; i++) {
        second = let_go(task->session, task->data[i], false);
        error = error != 0 ? error : second;
    }
    second = let_go(task->session, task->code, false);
    task_free(task);
    return error != 0 ? error : second;
}

// ---- running

static uintptr_t stack_base(const dsm_task *task)
{
    return (uintptr_t)dsm_segment_base(task->stack);
}

static uintptr_t stack_top(const dsm_task *task)
{
    return stack_base(task) + dsm_segment_size(task->stack);
}

// Pins what lies above `sp`, and TASK_STACK_BELOW_BYTES below it, as far as that is not pinned yet.
static int pin_stack(dsm_task *task, uintptr_t sp)
{
    uint32_t page_bytes = dsm_segment_page_size(task->stack);
    uintptr_t above_base = sp - stack_base(task);
    uint64_t first = above_base > TASK_STACK_BELOW_BYTES
                         ? (above_base - TASK_STACK_BELOW_BYTES) / page_bytes
                         : 0;
    if (first >= task->pinned) {
        return 0;
    }
    int error = dsm_swap_in(task->stack, (dsm_interval){first, task->pinned - first},
                            DSM_PIN | DSM_WRITE, DSM_NO_PAGE);
    task->pinned = error == 0 ? first : task->pinned;
    return error;
}

static void unpin_stack(dsm_task *task)
{
    uint64_t pages = dsm_segment_size(task->stack) / dsm_segment_page_size(task->stack);
    (void)dsm_unpin(task->stack, (dsm_interval){task->pinned, pages - task->pinned});
    task->pinned = pages;
}

// One stay on the task's stack.
static void go(dsm_task *task, bool begin)
{
    task_running = &task->context;
    if (begin) {
        task_switch_begin(&task->context, stack_top(task), task->function,
                          dsm_segment_base(task->heap), dsm_segment_size(task->heap));
    } else {
        task_switch_enter(&task->context);
    }
    task_running = NULL;
}

// Until it ends, somebody wants it to stop or to move, or its stack cannot be pinned.
static int stay(dsm_task *task)
{
    bool begin = task->state == TASK_NEW;
    int error = pin_stack(task, begin ? stack_top(task) : task->context.task_sp);
    if (error != 0) {
        return error;
    }
    do {
        task->state = TASK_RUNNING;
        go(task, begin);
        begin = false;
        if (task->state == TASK_RUNNING) {
            task->state = TASK_AWAY;
            error = pin_stack(task, task->context.task_sp);
        }
    } while (task->state == TASK_AWAY && error == 0 && !atomic_load(&task->stop) &&
             !atomic_load(&task->move));
    unpin_stack(task);
    return error;
}

static int check_run(const dsm_task *task)
{
    if (task_running != NULL) {
        return refuse(NULL, -EDEADLK, "This thread runs a task already.");
    }
    if (task->state == TASK_ENDED) {
        return refuse(NULL, -ENOENT, "The task has ended.");
    }
    if (task->state == TASK_RUNNING || task->image != NULL) {
        return refuse(NULL, -EBUSY, "Another thread runs the task, or it is on its way elsewhere.");
    }
    return 0;
}

DSM_API int dsm_task_run(dsm_task *task, int *status)
{
    int error = api_alive();
    error = error != 0 ? error : check_run(task);
    error = error != 0 ? error : dsm_thread_init();
    while (error == 0) {
        error = stay(task);
        if (error != 0 || task->state != TASK_AWAY || atomic_load(&task->stop)) {
            break;
        }
        int left = task->serve_request(task); // nobody else sets `move`
        if (left != 0) {
            return left > 0 ? DSM_TASK_LEFT : left;
        }
    }
    if (error != 0) {
        return error;
    }
    atomic_store(&task->stop, false);
    if (task->state == TASK_ENDED && status != NULL) {
        *status = task->status;
    }
    return task->state == TASK_ENDED;
}

DSM_API void dsm_task_stop(dsm_task *task)
{
    atomic_store(&task->stop, true);
}

DSM_API void dsm_task_exit(int status)
{
    dsm_task *task = (dsm_task *)task_running;
    if (task == NULL) {
        abort();
    }
    task->status = status;
    task->state = TASK_ENDED;
    for (;;) {
        task_switch_leave(&task->context);
    }
}

// ---- the capsule

static void put(uint8_t **at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        *(*at)++ = (uint8_t)(value >> (8 * i));
    }
}

static uint64_t get(const uint8_t **at, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = bytes; i-- > 0;) {
        value = value << 8 | (*at)[i];
    }
    *at += bytes;
    return value;
}

void task_encode(const dsm_task *task, struct capsule *capsule)
{
    struct task_binary binary;
    uint8_t *at = capsule->task;
    task_binary_read(&binary);
    memcpy(capsule->image, task->id, sizeof capsule->image);
    capsule->machine = binary.machine;
    capsule->system_page_bytes = (uint32_t)sysconf(_SC_PAGESIZE);
    capsule->build_id_bytes = binary.build_id_bytes;
    memcpy(capsule->build_id, binary.build_id, sizeof binary.build_id);
    put(&at, RECORD_VERSION, 2);
    put(&at, task->state, 2);
    put(&at, 0, 4);
    put(&at, (uintptr_t)task->function, 8);
    put(&at, task->state == TASK_NEW ? 0 : task->context.task_sp, 8);
    put(&at, task->context.task_guard, 8);
    put(&at, 0, 8);
    capsule->task_bytes = RECORD_BYTES;
}

int task_binary_check(const struct capsule *capsule, struct failure *failure)
{
    struct task_binary binary;
    task_binary_read(&binary);
    const char *why = unfit(&binary);
    if (why != NULL) {
        return failure_set(failure, -ENOTSUP, "%s", why);
    }
    if (capsule->machine != binary.machine ||
        capsule->system_page_bytes != (uint32_t)sysconf(_SC_PAGESIZE)) {
        return failure_set(failure, -ENOEXEC,
                           "The task comes from a machine of another kind (ELF %u, pages of %u "
                           "bytes): it can go on only on the same.",
                           capsule->machine, capsule->system_page_bytes);
    }
    if (capsule->build_id_bytes != binary.build_id_bytes ||
        memcmp(capsule->build_id, binary.build_id, binary.build_id_bytes) != 0) {
        return failure_set(failure, -ENOEXEC,
                           "The task belongs to another binary than this program: their build ids "
                           "differ. Start the same file here.");
    }
    return 0;
}

int task_decode(dsm *session, const struct capsule *capsule, dsm_segment *heap, dsm_segment *stack,
                dsm_task **task, struct failure *failure)
{
    const uint8_t *at = capsule->task;
    if (capsule->task_bytes != RECORD_BYTES || get(&at, 2) != RECORD_VERSION) {
        return failure_set(failure, -EINVAL, "The capsule has no task that this release knows.");
    }
    dsm_task *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return failure_set(failure, -ENOMEM, "There is no memory for a task.");
    }
    made->session = session;
    made->heap = heap;
    made->stack = stack;
    memcpy(made->id, capsule->image, sizeof made->id);
    made->pinned = dsm_segment_size(stack) / dsm_segment_page_size(stack);
    made->state = (enum task_state)get(&at, 2);
    (void)get(&at, 4);
    uintptr_t function = get(&at, 8);
    made->function = (dsm_task_function *)function; // NOLINT(performance-no-int-to-ptr): is checked
    made->context.task_sp = get(&at, 8);
    made->context.task_guard = get(&at, 8);
    bool begun = made->state == TASK_AWAY;
    bool inside = made->context.task_sp > stack_base(made) &&
                  made->context.task_sp < stack_top(made) && made->context.task_sp % 8 == 0;
    if ((!begun && made->state != TASK_NEW) || (begun && !inside) || !task_binary_has(function)) {
        free(made);
        return failure_set(failure, -EINVAL, "The capsule's task has registers that cannot be.");
    }
    *task = made;
    return 0;
}
