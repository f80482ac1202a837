// SPDX-License-Identifier: Apache-2.0
//
// A pager that stops while one of its threads is anywhere on its way from one sleep to the next: the thread ends all the same. It is
// stopped by the debugger's means after each instruction of that way in turn, the pager is told to stop, the thread goes on. A
// thread that then sleeps on a word as it is has missed the stop, and with it every dsm_close() would wait for ever.
#include "tests/unit/pager_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <dirent.h>

enum { SKIPPED = 77, MOST_STEPS = 5000, FEWEST_STEPS = 10 };

// ---- the pager, in a process of its own ----

struct subject {
    pid_t pid;
    int go; // a byte: stop
    int memory;
};

static void run_subject(int ready, int go)
{
    char byte = 0;
    rig_start(&(struct rig_options){.fault_workers = 1, .laundry = true, .second_chance = true});
    rig_detach(0);
    (void)!write(ready, &byte, 1);
    (void)!read(go, &byte, 1);
    pager_stop(&rig.pager);
    _exit(0);
}

static struct subject start(void)
{
    int ready[2], go[2];
    char byte, path[64];
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    assert_int_equal(pipe2(go, O_CLOEXEC), 0);
    struct subject subject = {.pid = fork(), .go = go[1]};
    assert_true(subject.pid >= 0);
    if (subject.pid == 0) {
        (void)close(go[1]);
        run_subject(ready[1], go[0]);
    }
    (void)close(ready[1]);
    (void)close(go[0]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    (void)close(ready[0]);
    (void)snprintf(path, sizeof path, "/proc/%d/mem", (int)subject.pid);
    subject.memory = open(path, O_RDWR | O_CLOEXEC);
    assert_true(subject.memory >= 0);
    return subject;
}

// Its words lie where ours do.
static uint32_t get(const struct subject *subject, const _Atomic uint32_t *word)
{
    uint32_t value;
    assert_int_equal(pread(subject->memory, &value, sizeof value, (off_t)(uintptr_t)word),
                     sizeof value);
    return value;
}

static void add_one(const struct subject *subject, const _Atomic uint32_t *word)
{
    uint32_t value = get(subject, word) + 1;
    assert_int_equal(pwrite(subject->memory, &value, sizeof value, (off_t)(uintptr_t)word),
                     sizeof value);
}

// ---- its threads ----

// Whether the thread sleeps on the word, as the word now is, and for ever.
static bool sleeps_on(const struct subject *subject, pid_t thread, const _Atomic uint32_t *word)
{
    char path[96], text[256] = "";
    unsigned long long call[5] = {0}; // number, word, operation, value, until
    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/syscall", (int)subject->pid, (int)thread);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = file >= 0 ? read(file, text, sizeof text - 1) : 0;
    (void)close(file);
    char *at = text;
    for (size_t i = 0; got > 0 && i < 5; i++) { // "running" is no number
        call[i] = strtoull(at, &at, 0);
    }
    return call[0] == SYS_futex && call[1] == (uintptr_t)word &&
           (uint32_t)call[3] == get(subject, word) && call[4] == 0;
}

static pid_t find_sleeper(const struct subject *subject, const _Atomic uint32_t *word)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/task", (int)subject->pid);
    for (;;) {
        DIR *tasks = opendir(path);
        assert_non_null(tasks);
        struct dirent *entry;
        pid_t found = 0;
        while (found == 0 && (entry = readdir(tasks)) != NULL) {
            pid_t thread = (pid_t)strtol(entry->d_name, NULL, 10);
            found = thread > 0 && sleeps_on(subject, thread, word) ? thread : 0;
        }
        (void)closedir(tasks);
        if (found != 0) {
            return found;
        }
        (void)usleep(200);
    }
}

static void trace(pid_t thread)
{
    if (ptrace(PTRACE_SEIZE, thread, NULL, NULL) != 0) {
        print_message("skipped: a thread cannot be traced here: %s\n", strerror(errno));
        exit(SKIPPED);
    }
    assert_int_equal(ptrace(PTRACE_INTERRUPT, thread, NULL, NULL), 0);
    assert_int_equal(waitpid(thread, NULL, __WALL), thread);
}

// One instruction; false: that was the call in which it sleeps.
static bool step(const struct subject *subject, pid_t thread, const _Atomic uint32_t *word)
{
    assert_int_equal(ptrace(PTRACE_SINGLESTEP, thread, NULL, NULL), 0);
    for (unsigned looks = 0;; looks++) {
        if (waitpid(thread, NULL, __WALL | WNOHANG) == thread) {
            return true;
        }
        if (looks > 100 && sleeps_on(subject, thread, word)) {
            return false;
        }
    }
}

static void end(const struct subject *subject, pid_t thread)
{
    (void)kill(subject->pid, SIGKILL);
    (void)waitpid(thread, NULL,
                  __WALL); // first, if it is traced: the process ends with its last thread
    (void)waitpid(subject->pid, NULL, __WALL);
}

// ---- the two together ----

// With the thread where it is; it goes on once the pager is told.
static void stop(const struct subject *subject, pid_t thread)
{
    uint32_t before = get(subject, &rig.pager.frames_word);
    assert_int_equal(write(subject->go, "", 1), 1);
    while (get(subject, &rig.pager.frames_word) == before) { // the last that pager_stop() changes
        (void)usleep(100);
    }
    assert_int_equal(ptrace(PTRACE_DETACH, thread, NULL, NULL), 0);
}

static void await_end(const struct subject *subject, pid_t thread, const _Atomic uint32_t *word,
                      unsigned steps)
{
    int status;
    while (waitpid(subject->pid, &status, WNOHANG) == 0) {
        if (sleeps_on(subject, thread, word)) {
            end(subject, thread);
            fail_msg("the stop is missed by a thread %u instructions after its sleep", steps);
        }
        (void)usleep(100);
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// Stops the pager when the thread has gone so many instructions from its sleep; false: it sleeps again by then.
static bool stop_after(const _Atomic uint32_t *word, unsigned steps)
{
    struct subject subject = start();
    pid_t thread = find_sleeper(&subject, word);
    trace(thread);
    add_one(&subject, word); // wakes it for nothing
    bool awake = true;
    for (unsigned i = 0; awake && i < steps; i++) {
        awake = step(&subject, thread, word);
    }
    if (awake) {
        stop(&subject, thread);
        await_end(&subject, thread, word, steps);
    } else {
        end(&subject, thread);
    }
    (void)close(subject.go);
    (void)close(subject.memory);
    return awake;
}

static void stop_everywhere(const _Atomic uint32_t *word)
{
    unsigned steps = 0;
    while (stop_after(word, steps)) {
        steps++;
        assert_true(steps < MOST_STEPS);
    }
    assert_true(steps > FEWEST_STEPS); // else nothing was tried
    print_message("stopped after each of %u instructions\n", steps);
}

static void a_thread_that_serves_faults(void **state)
{
    (void)state;
    stop_everywhere(&rig.pager.queue_word);
}

static void a_thread_that_serves_calls(void **state)
{
    (void)state;
    stop_everywhere(&rig.pager.call_word);
}

static void the_laundry(void **state)
{
    (void)state;
    stop_everywhere(&rig.pager.laundry_word);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thread_that_serves_faults),
        cmocka_unit_test(a_thread_that_serves_calls),
        cmocka_unit_test(the_laundry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
