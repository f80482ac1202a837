// SPDX-License-Identifier: Apache-2.0
//
// How tasks end: what they had is let go of once, and nothing of it is read after that.
//
//   closing  while a movable task's segments close, and dsmd does not answer, nobody listens for it any more
//   left     who asks all the time hears a movable task's name, or nothing, while dsm_migrate_finish() lets go of its segments
//   closed   the same once the session is closed, and the task was forgotten
//   code     code is closed by its tasks and by who opened it, each as often as it was opened for them
//
// Freed memory is overwritten here, by the C library (GLIBC_TUNABLES): what is read from there is no name.
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "libdsm/session_api.h"
#include "tests/e2e/task_rig.h"

enum {
    HEAP_PAGES = 16,
    STACK_PAGES = 32,
    DATA = 40,
    CODE_BYTES = 2 * PAGE + 100,
    NUMBER_CODE = 2,
    LINE_BYTES = 2048,
    LEAST_HEARD = 3,
};

static dsm *session;
static dsm_task *task;

static void work(void *heap, uint64_t heap_bytes)
{
    (void)heap;
    (void)heap_bytes;
    dsm_task_exit(0);
}

static dsm_task *make_task(const char *name)
{
    dsm_task *made = NULL;
    OK(dsm_task_create(session, name, work, (uint64_t)HEAP_PAGES * PAGE,
                       (uint64_t)STACK_PAGES * PAGE, &made));
    return made;
}

// ---- who asks for tasks

// The address at which this process' only movable task is heard. False: there is none.
static bool find_socket(struct sockaddr_un *address, socklen_t *bytes)
{
    char line[512], wanted[32];
    const char *at = NULL;
    FILE *file = fopen("/proc/net/unix", "re");
    CHECK(file != NULL);
    (void)snprintf(wanted, sizeof wanted, "@dsm-task-%d-", (int)getpid());
    while (at == NULL && fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = 0;
        at = strstr(line, wanted);
    }
    (void)fclose(file);
    if (at != NULL) {
        *address = (struct sockaddr_un){.sun_family = AF_UNIX};
        (void)snprintf(address->sun_path + 1, sizeof address->sun_path - 1, "%s", at + 1);
        *bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(at));
    }
    return at != NULL;
}

// What is said first to who connects: false when nobody says anything.
static bool greeted(const struct sockaddr_un *address, socklen_t bytes, char line[LINE_BYTES])
{
    size_t got = 0;
    ssize_t more = 0;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    bool heard = connect(fd, (const struct sockaddr *)address, bytes) == 0;
    while (heard && got + 1 < LINE_BYTES && (got == 0 || line[got - 1] != '\n') &&
           (more = read(fd, line + got, LINE_BYTES - 1 - got)) > 0) {
        got += (size_t)more;
    }
    (void)close(fd);
    line[got] = 0;
    return got > 0;
}

static void check_name(const char *line, const char *name)
{
    char wanted[64];
    const char *last = strrchr(line, ' ');
    (void)snprintf(wanted, sizeof wanted, " %s\n", name);
    CHECK(last != NULL && strcmp(last, wanted) == 0, "it said: %s", line);
}

// ---- closing

static void *destroy(void *unused)
{
    OK(dsm_task_destroy(task));
    return unused;
}

static void closing(void)
{
    pthread_t thread;
    struct sockaddr_un address;
    socklen_t bytes;
    char line[LINE_BYTES];
    session = hold_open(4 * MIB);
    task = make_task("closing");
    OK(dsm_task_movable(task));
    CHECK(find_socket(&address, &bytes) && greeted(&address, bytes, line));
    check_name(line, "closing");
    hold_fill_all(dsm_task_segment(task, 0), 1);
    hold_say("pause");
    hold_await("paused");
    uint64_t written = hold_stats(session).write_requests;
    CHECK(pthread_create(&thread, NULL, destroy, NULL) == 0);
    while (hold_stats(session).write_requests == written) {
        hold_pause_ms(1);
    }
    CHECK(!greeted(&address, bytes, line), "the first segment closes, and it is said: %s", line);
    hold_say("continue");
    CHECK(pthread_join(thread, NULL) == 0);
    hold_close(session);
}

// ---- left

static struct {
    struct sockaddr_un address;
    socklen_t bytes;
    const char *name;
    _Atomic unsigned heard;
    _Atomic bool enough;
} asking;

static void *ask(void *unused)
{
    char line[LINE_BYTES];
    while (!asking.enough) {
        if (greeted(&asking.address, asking.bytes, line)) {
            check_name(line, asking.name);
            asking.heard++;
        }
    }
    return unused;
}

static void encap(int fd)
{
    OK(dsm_migrate_initiate(task, NULL));
    OK(dsm_migrate_encap(task, fd, task_public_key(), 60));
}

static void left(void)
{
    pthread_t thread;
    int fd = memfd_create("capsule", MFD_CLOEXEC);
    session = hold_open(4 * MIB);
    asking.name = "left";
    task = make_task(asking.name);
    for (int i = 0; i < DATA; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "data-%d", i);
        OK(dsm_task_add(task, hold_create(session, name, 1, PAGE)));
    }
    OK(dsm_task_movable(task));
    encap(fd);
    CHECK(find_socket(&asking.address, &asking.bytes));
    CHECK(pthread_create(&thread, NULL, ask, NULL) == 0);
    while (asking.heard < LEAST_HEARD) {
        hold_pause_ms(1);
    }
    OK(dsm_migrate_finish(task));
    asking.enough = true;
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(!find_socket(&asking.address, &asking.bytes), "it has left, and somebody listens");
    (void)close(fd);
    hold_close(session);
}

// ---- closed

static void closed(void)
{
    struct sockaddr_un address;
    socklen_t bytes;
    char line[LINE_BYTES];
    session = hold_open(4 * MIB);
    task = make_task("closed");
    OK(dsm_task_movable(task));
    CHECK(find_socket(&address, &bytes));
    hold_close(session);
    if (greeted(&address, bytes, line)) {
        check_name(line, "closed");
    }
}

// ---- code

static uint8_t contents[CODE_BYTES];

static dsm_segment *open_code(void)
{
    dsm_segment *code = NULL;
    memset(contents, 7, sizeof contents);
    OK(dsm_code_open(session, contents, sizeof contents, PAGE, &code));
    return code;
}

static bool is_open(const dsm_segment *code)
{
    bool found = false;
    for (const dsm_segment *s = session->segments; s != NULL; s = s->next) {
        found = found || s == code;
    }
    return found;
}

static void share_code(void)
{
    dsm_task *other = make_task("other");
    task = make_task("one");
    dsm_segment *code = open_code();
    OK(dsm_task_add(task, code));
    RESULT(dsm_task_add(other, code), -EINVAL); // it was opened for one
    CHECK(dsm_task_segment(other, NUMBER_CODE) == NULL);
    RESULT(dsm_segment_close(code), -EBUSY);
    CHECK(open_code() == code);
    OK(dsm_task_add(other, code));
    RESULT(dsm_segment_close(code), -EBUSY);
    CHECK(open_code() == code);
    OK(dsm_segment_close(code));
    RESULT(dsm_segment_close(code), -EBUSY);
    OK(dsm_task_destroy(task));
    RESULT(dsm_segment_close(code), -EBUSY);
    CHECK(memcmp(dsm_segment_base(code), contents, sizeof contents) == 0);
    OK(dsm_task_destroy(other));
    CHECK(!is_open(code), "nobody has it");
}

static int deencap(int fd)
{
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    return dsm_migrate_deencap(session, fd, hold_setting("TASK_KEY"), &task);
}

static void move_code(void)
{
    int fd = memfd_create("capsule", MFD_CLOEXEC);
    task = make_task("moves");
    dsm_segment *code = open_code();
    OK(dsm_task_add(task, code));
    CHECK(open_code() == code);
    encap(fd);
    RESULT(deencap(fd), -EADDRINUSE); // the code was found before that
    OK(dsm_migrate_finish(task));
    CHECK(is_open(code));
    OK(deencap(fd));
    CHECK(dsm_task_segment(task, NUMBER_CODE) == code);
    OK(dsm_segment_close(code));
    RESULT(dsm_segment_close(code), -EBUSY);
    CHECK(open_code() == code);
    OK(dsm_task_destroy(task));
    OK(dsm_segment_close(code));
    CHECK(!is_open(code), "nobody has it");
    (void)close(fd);
}

static void code_of_tasks(void)
{
    session = hold_open(4 * MIB);
    share_code();
    OK(dsm_segment_delete(session, "other/heap")); // of tasks that have not ended
    OK(dsm_segment_delete(session, "other/stack"));
    move_code();
    hold_close_after_errors(session);
}

int main(int argc, char **argv)
{
    static const struct hold_role roles[] = {
        {"closing", closing}, {"left", left}, {"closed", closed}, {"code", code_of_tasks}};
    return hold_main(argc, argv, roles, sizeof roles / sizeof *roles);
}
