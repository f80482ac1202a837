// SPDX-License-Identifier: Apache-2.0
//
// The filter on system calls, in a child each time, since it stays: what serving takes goes on, what only an
// intruder would want fails, for threads that were there before as well.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/sandbox.h"

enum { CHILD_WELL = 0, CHILD_NO_FILTER = 100 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { FILTERED = 0 }; // sandbox_enter() does nothing there
#else
enum { FILTERED = 1 };
#endif

static bool refused(long result)
{
    return result < 0 && errno == EPERM;
}

// The number of the first thing that was allowed and must not be, else 0. No assertions: it is a child.
static int intrude(void)
{
    struct rlimit limit = {0};
    char *program[] = {"/bin/false", NULL};
    const bool attempts[] = {
        refused(execve(program[0], program, NULL)),
        refused(fork()),
        refused(socket(AF_INET6, SOCK_STREAM, 0)),
        refused(socket(AF_NETLINK, SOCK_RAW, 0)),
        refused(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                        MAP_FAILED
                    ? -1
                    : 0),
        refused(ptrace(PTRACE_ATTACH, getppid(), 0, 0)),
        refused(kill(getppid(), 0)),
        refused(setuid(1)),
        refused(unshare(CLONE_NEWUSER)),
        refused(setrlimit(RLIMIT_CORE, &limit)),
        refused(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)),
        refused(chmod("/no/such/file", 0700)),
        refused(symlink("/etc/passwd", "/no/such/link")),
        refused(memfd_create("x", 0)),
    };
    for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++) {
        if (!attempts[i]) {
            return (int)i + 1;
        }
    }
    return 0;
}

static void *nothing(void *argument)
{
    return argument;
}

static int work(void)
{
    pthread_t thread;
    int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    char byte;
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool well = fd >= 0 && read(fd, &byte, 1) == 1 && close(fd) == 0 && page != MAP_FAILED &&
                mprotect(page, 4096, PROT_READ) == 0 && munmap(page, 4096) == 0 &&
                pthread_create(&thread, NULL, nothing, NULL) == 0 &&
                pthread_join(thread, NULL) == 0;
    fd = socket(AF_UNIX, SOCK_DGRAM, 0); // sd_notify
    return well && fd >= 0 ? 0 : 50;
}

static atomic_int go;

static void *wait_and_intrude(void *result)
{
    while (atomic_load(&go) == 0) {
        (void)sched_yield();
    }
    *(int *)result = intrude();
    return NULL;
}

static int in_child(int (*attempt)(void))
{
    pid_t child = fork();
    if (child == 0) {
        _exit(attempt());
    }
    int status = 0;
    assert_true(child > 0 && waitpid(child, &status, 0) == child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

// A thread that was there before the filter.
static int intrude_from_thread(void)
{
    pthread_t thread;
    struct failure failure = {.text = ""};
    int result = CHILD_NO_FILTER;
    if (pthread_create(&thread, NULL, wait_and_intrude, &result) != 0 ||
        sandbox_enter("on", &failure) != 0) {
        return CHILD_NO_FILTER;
    }
    atomic_store(&go, 1);
    return pthread_join(thread, NULL) == 0 ? result : CHILD_NO_FILTER;
}

static int filter_and_intrude(void)
{
    struct failure failure = {.text = ""};
    return sandbox_enter("on", &failure) == 0 ? intrude() : CHILD_NO_FILTER;
}

static int filter_and_work(void)
{
    struct failure failure = {.text = ""};
    return sandbox_enter("on", &failure) == 0 ? work() : CHILD_NO_FILTER;
}

static void test_intruder(void **state)
{
    (void)state;
    assert_int_equal(in_child(filter_and_intrude), 0);
    assert_int_equal(in_child(intrude_from_thread), 0);
}

static void test_work(void **state)
{
    (void)state;
    assert_int_equal(in_child(filter_and_work), CHILD_WELL);
}

static void test_off(void **state)
{
    (void)state;
    struct failure failure = {.text = ""};
    assert_int_equal(sandbox_enter("off", &failure), 0);
    assert_int_equal(prctl(PR_GET_SECCOMP, 0, 0, 0, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_intruder),
        cmocka_unit_test(test_work),
        cmocka_unit_test(test_off),
    };
    return FILTERED ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
}
