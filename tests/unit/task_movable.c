// SPDX-License-Identifier: Apache-2.0
//
// The thread that listens for a movable task while the process, or the host, has no descriptors or no memory for a connection: it uses
// next to no processor time, ends when it shall, and listens again afterwards. accept4() goes through this file, which
// counts, and can fail as it is told.
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <time.h>

#include "libdsm/sync/futex.h"
#include "libdsm/task/task.h"

enum {
    FAILURES = 3,
    LOOK_MS = 600,       // how long the thread is watched
    LEAST_PAUSE_MS = 10, // between two calls, on an average
    SOME_CALLS = 10,
    PATIENCE_MS = 20000,
    TOO_LONG_S = 120,
};

static dsm_task task;
static dsm_segment heap;
static struct rlimit usual;
static int highest; // with it every number below is in use
static _Atomic int listener;
static _Atomic unsigned calls, full;
static int failures[FAILURES]; // of the first calls

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *bytes, int flags);
int __real_accept4(int fd, struct sockaddr *address, socklen_t *bytes, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *bytes, int flags)
{
    atomic_store(&listener, fd);
    unsigned call = atomic_fetch_add(&calls, 1);
    if (call < FAILURES && failures[call] != 0) {
        errno = failures[call];
        return -1;
    }
    int accepted = __real_accept4(fd, address, bytes, flags);
    if (accepted < 0 && errno == EMFILE) {
        (void)atomic_fetch_add(&full, 1);
    }
    return accepted;
}

static void pause_ms(long ms)
{
    const struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&pause, NULL);
}

static void await(const _Atomic unsigned *count)
{
    while (atomic_load(count) == 0) {
        pause_ms(1);
    }
}

static int set_up(void **state)
{
    (void)state;
    memset(failures, 0, sizeof failures);
    memset(&task, 0, sizeof task);
    atomic_store(&calls, 0);
    atomic_store(&full, 0);
    (void)strcpy(heap.segment.name, "tried/heap");
    task.heap = &heap;
    (void)alarm(TOO_LONG_S); // what never ends does so with the test
    highest = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return highest < 0 || getrlimit(RLIMIT_NOFILE, &usual) != 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)setrlimit(RLIMIT_NOFILE, &usual);
    if (task.mover != NULL) {
        task.end_mover(task.mover);
    }
    (void)alarm(0);
    return close(highest);
}

static int connected(int fd)
{
    struct sockaddr_un address;
    socklen_t bytes = sizeof address;
    assert_int_equal(getsockname(atomic_load(&listener), (struct sockaddr *)&address, &bytes), 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, bytes), 0);
    return fd;
}

static int client(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    return fd;
}

static void is_greeted(void)
{
    char text[9] = "";
    int fd = connected(client());
    struct pollfd p = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    assert_int_equal(recv(fd, text, 8, MSG_WAITALL), 8);
    assert_string_equal(text, "DSM-TASK");
    (void)close(fd);
}

// Its accept4() may have had a number already: the next one has none.
static void listen_without_descriptors(void)
{
    assert_int_equal(dsm_task_movable(&task), 0);
    await(&calls);
    int fd = client();
    struct rlimit less = usual;
    less.rlim_cur = (rlim_t)highest + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &less), 0);
    (void)close(connected(fd));
    await(&full);
}

static void who_has_no_descriptor_waits(void **state)
{
    (void)state;
    listen_without_descriptors();
    int64_t begun = sync_now();
    unsigned before = atomic_load(&calls);
    pause_ms(LOOK_MS);
    unsigned called = atomic_load(&calls) - before;
    int64_t ms = (sync_now() - begun) / 1000000;
    if (called > ms / LEAST_PAUSE_MS + SOME_CALLS) {
        fail_msg("%u calls in %lld ms", called, (long long)ms);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
    is_greeted();
}

static void who_has_no_descriptor_ends(void **state)
{
    (void)state;
    listen_without_descriptors();
    task.end_mover(task.mover);
    task.mover = NULL;
}

static void what_the_host_lacks_may_come_back(void **state)
{
    (void)state;
    failures[0] = ENFILE;
    failures[1] = ENOMEM;
    failures[2] = ENOBUFS;
    assert_int_equal(dsm_task_movable(&task), 0);
    await(&calls);
    is_greeted();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_the_host_lacks_may_come_back),
        TEST(who_has_no_descriptor_waits),
        TEST(who_has_no_descriptor_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
