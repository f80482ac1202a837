// SPDX-License-Identifier: Apache-2.0
//
// Nobody reads the log: stderr is a full pipe. A line is dropped then, and whoever wanted to log
// goes on; once somebody reads again, lines come. And what peers choose cannot forge a line.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/log.h"

enum { PATIENCE_S = 20 };

static int own_stderr;
static int pipes[2];

static void stderr_is_a_pipe(void)
{
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    own_stderr = dup(STDERR_FILENO);
    assert_true(own_stderr >= 0);
    assert_int_equal(dup2(pipes[1], STDERR_FILENO), STDERR_FILENO);
}

static void stderr_as_before(void)
{
    (void)dup2(own_stderr, STDERR_FILENO);
    (void)close(own_stderr);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
}

static void fill(int fd)
{
    static const char bytes[4096];
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    while (write(fd, bytes, sizeof bytes) > 0) {
    }
    assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
}

static void empty(int fd)
{
    char bytes[4096];
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    while (read(fd, bytes, sizeof bytes) > 0) {
    }
}

static void test_full_pipe(void **state)
{
    char line[512] = "";
    struct log *log = log_create(LOG_LEVEL_INFO);
    (void)state;
    assert_non_null(log);
    stderr_is_a_pipe();
    fill(pipes[1]);
    (void)alarm(PATIENCE_S); // a log that blocks ends the test
    log_line(log, LOG_LEVEL_INFO, "dropped");
    (void)alarm(0);
    empty(pipes[0]);
    log_line(log, LOG_LEVEL_INFO, "holder \"%s\"", "a\ndsmd: error: forged\x1b[31m");
    ssize_t got = read(pipes[0], line, sizeof line - 1);
    stderr_as_before();
    assert_true(got > 0);
    assert_string_equal(line, "dsmd: info: holder \"a?dsmd: error: forged?[31m\"\n");
    log_destroy(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_full_pipe)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
