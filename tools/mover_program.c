// SPDX-License-Identifier: Apache-2.0
//
// Finding a task among the programs of this host. Their sockets have names in the abstract namespace, which the kernel lists; whose a
// socket is the kernel says, too, so a name that somebody else made up is passed over: what listens must be the process of
// that number. The tasks' own names come from the programs.
#include "tools/mover_program.h"
#include "rpc/deadline.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tools/mover_socket.h"

enum { MOST_SOCKETS = 4096, GREETING_MS = 2000, SEEN_BYTES = 256 };

// Who listens there is known only after this, so nobody is waited for: -EAGAIN if the queue is full.
static int connect_to(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t bytes = strlen(name);
    if (bytes + 1 > sizeof address.sun_path) {
        return -ENOENT;
    }
    memcpy(address.sun_path + 1, name, bytes);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address,
                           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + bytes)) != 0) {
        int error = -errno;
        (void)close(fd);
        return error;
    }
    return fd >= 0 ? fd : -errno;
}

// "DSM-TASK 1 BUILD-ID NAME"
static bool understand(const char *line, struct mover_offer *task)
{
    char id[2 * LIMIT_BUILD_ID_BYTES + 1];
    memset(task, 0, sizeof *task);
    if (sscanf(line, "DSM-TASK 1 %128[0-9a-f] %255s", id, task->name) != 2 || strlen(id) % 2 != 0) {
        return false;
    }
    for (size_t i = 0; i < strlen(id) / 2; i++) {
        const char digits[3] = {id[2 * i], id[2 * i + 1], 0};
        task->build_id[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    task->build_id_bytes = (uint32_t)(strlen(id) / 2);
    return true;
}

static int hear_greeting(int fd, struct mover_offer *task)
{
    char line[MOVER_LINE_BYTES];
    int error = mover_hear_line(fd, line, deadline_after_ms(GREETING_MS));
    if (error != 0) {
        return error == -ETIMEDOUT ? error : -ENOENT;
    }
    return understand(line, task) ? 0 : -ENOENT;
}

// 0; -EACCES: it is another user's; -ENOENT: nobody, or somebody else under that name; -ETIMEDOUT:
// it does not answer.
static int meet(const char *name, pid_t pid, struct mover_program *program)
{
    struct ucred who;
    socklen_t bytes = sizeof who;
    *program = (struct mover_program){.fd = connect_to(name), .pid = pid};
    if (program->fd < 0) {
        return program->fd == -EAGAIN ? -ETIMEDOUT : -ENOENT;
    }
    int error =
        getsockopt(program->fd, SOL_SOCKET, SO_PEERCRED, &who, &bytes) == 0 && who.pid == pid
            ? 0
            : -ENOENT;
    if (error == 0 && geteuid() != 0 && who.uid != geteuid()) {
        error = -EACCES;
    }
    if (error == 0) {
        error = hear_greeting(program->fd, &program->task);
    }
    if (error != 0) {
        (void)close(program->fd);
    }
    return error;
}

struct search {
    const char *wanted;
    long pid; // -1: it is a name
    struct mover_program *found;
    unsigned count;
    bool others;           // another user's has that number
    bool silent;           // one of that number does not answer
    char seen[SEEN_BYTES]; // names of those that it is not
};

static void look_at(struct search *search, const char *name)
{
    struct mover_program program;
    char *end = NULL;
    long pid = strtol(name + strlen("dsm-task-"), &end, 10);
    if (*end != '-' || pid <= 0 || (search->pid >= 0 && pid != search->pid)) {
        return;
    }
    int error = meet(name, (pid_t)pid, &program);
    search->others = search->others || (error == -EACCES && search->pid >= 0);
    search->silent = search->silent || (error == -ETIMEDOUT && search->pid >= 0);
    if (error != 0) {
        return;
    }
    if (search->pid >= 0 || strcmp(program.task.name, search->wanted) == 0) {
        if (search->count++ == 0) {
            *search->found = program;
            return;
        }
    } else {
        size_t used = strlen(search->seen);
        (void)snprintf(search->seen + used, sizeof search->seen - used, "%s%s (%d)",
                       used > 0 ? ", " : "", program.task.name, (int)program.pid);
    }
    (void)close(program.fd);
}

static int look_at_all(struct search *search)
{
    char line[512];
    FILE *list = fopen("/proc/net/unix", "re");
    if (list == NULL) {
        return -errno;
    }
    for (int i = 0; i < MOST_SOCKETS && fgets(line, sizeof line, list) != NULL;) {
        char *name = strstr(line, " @dsm-task-");
        if (name != NULL) {
            name[strcspn(name, "\n")] = 0;
            look_at(search, name + 2);
            i++;
        }
    }
    (void)fclose(list);
    return 0;
}

int mover_program_find(const char *wanted, struct mover_program *program, struct failure *failure)
{
    bool number = wanted[0] != 0 && strspn(wanted, "0123456789") == strlen(wanted);
    struct search search = {
        .wanted = wanted, .pid = number ? strtol(wanted, NULL, 10) : -1, .found = program};
    int error = look_at_all(&search);
    if (error != 0) {
        return failure_set(failure, error, "/proc/net/unix cannot be read: %s.", strerror(-error));
    }
    if (search.count == 1) {
        return 0;
    }
    if (search.count > 1) {
        (void)close(program->fd);
        return failure_set(failure, -EEXIST, "%u tasks here are \"%s\": say the %s.", search.count,
                           wanted, number ? "task's name" : "process id");
    }
    if (search.others) {
        return failure_set(failure, -EACCES, "The task of process %s is another user's.", wanted);
    }
    if (search.silent) {
        return failure_set(failure, -ETIMEDOUT,
                           "Process %s does not answer: it may be stopped, or busy with others.",
                           wanted);
    }
    return failure_set(failure, -ENOENT,
                       "There is no task \"%.100s\" here that can be moved and is yours.%s%s%s "
                       "(A program lets its task be moved by dsm_task_movable().)",
                       wanted, search.seen[0] != 0 ? " There are: " : "", search.seen,
                       search.seen[0] != 0 ? "." : "");
}
