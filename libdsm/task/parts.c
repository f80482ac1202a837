// SPDX-License-Identifier: Apache-2.0
//
// The segments of a task beside its heap and stack: code, of which it has one at most, and data. They belong to it from when they
// are added: it closes them, and they go where it goes. Code does not move, since it is the same for everybody; but a task
// that has it finds it at its next host, at the same address, so that what points into it stays right. Several tasks may have the same
// code, each with an opening of its own: that is what it closes.
//
// They have numbers, and a program asks by number, since a handle is of one process: 0 heap, 1 stack, 2 code, 3 and on data in the
// order in which they were added.
//
// What is open for reading only may be added, and keeps the task from moving as long as it is so: the server says who shares it.
#include <errno.h>

#include "libdsm/error.h"
#include "libdsm/task/task.h"

enum { NUMBER_HEAP, NUMBER_STACK, NUMBER_CODE, NUMBER_DATA };

static int refuse(const dsm_segment *segment, int error, const char *text)
{
    return error_set(error, segment->segment.name, DSM_NO_PAGE, NULL, "%s", text);
}

void task_own(dsm_task *task)
{
    for (uint32_t i = 0; i < task_parts(task); i++) {
        task_part(task, i)->in_task = true;
    }
}

static int add_code(dsm_task *task, dsm_segment *code)
{
    if (task->code != NULL) {
        return refuse(code, -EEXIST, "The task has code already.");
    }
    if (!code_to_task(code)) {
        return refuse(code, -EINVAL,
                      "Tasks have the code as often as it is open here: dsm_code_open() it once "
                      "more for this one.");
    }
    task->code = code;
    return 0;
}

DSM_API int dsm_task_add(dsm_task *task, dsm_segment *segment)
{
    int error = api_alive();
    if (error != 0) {
        return error;
    }
    if (task->image != NULL || (task->state != TASK_NEW && task->state != TASK_AWAY)) {
        return refuse(segment, -EBUSY, "The task runs, is on its way, or has ended.");
    }
    if (segment->session != task->session || segment->in_task) {
        return refuse(segment, -EINVAL, "The segment is a task's already, or another session's.");
    }
    if (segment->code) {
        return add_code(task, segment);
    }
    if (task->data_count == TASK_MOST_DATA) {
        return refuse(segment, -EMFILE, "The task has as many segments as a task can have.");
    }
    task->data[task->data_count++] = segment;
    segment->in_task = true;
    return 0;
}

DSM_API dsm_segment *dsm_task_segment(const dsm_task *task, unsigned number)
{
    switch (number) {
    case NUMBER_HEAP:
        return task->heap;
    case NUMBER_STACK:
        return task->stack;
    case NUMBER_CODE:
        return task->code;
    default:
        return number - NUMBER_DATA < task->data_count ? task->data[number - NUMBER_DATA] : NULL;
    }
}
