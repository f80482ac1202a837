// SPDX-License-Identifier: Apache-2.0
//
// Looking for a task among programs of which some do not answer: whoever fills the queue of a socket, or is stopped, is passed over, and
// is named where it is the one that was asked for. The program is this process, and it never accepts.
#include "tools/mover_program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <errno.h>

enum { MOST_CLIENTS = 16, TOO_LONG_S = 120 };

static struct sockaddr_un address;
static socklen_t address_bytes;
static int listener, clients[MOST_CLIENTS], count;
static char own_pid[16];

static int client(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    if (connect(fd, (const struct sockaddr *)&address, address_bytes) != 0) {
        assert_int_equal(errno, EAGAIN);
        (void)close(fd);
        return -1;
    }
    return fd;
}

static int set_up(void **state)
{
    (void)state;
    address.sun_family = AF_UNIX;
    int bytes =
        snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "dsm-task-%d-x", (int)getpid());
    address_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)bytes);
    (void)snprintf(own_pid, sizeof own_pid, "%d", (int)getpid());
    count = 0;
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)alarm(TOO_LONG_S); // what waits without bound ends with the test
    return listener < 0 || bind(listener, (const struct sockaddr *)&address, address_bytes) != 0 ||
           listen(listener, 0) != 0;
}

static int tear_down(void **state)
{
    (void)state;
    while (count > 0) {
        (void)close(clients[--count]);
    }
    (void)alarm(0);
    return close(listener);
}

static void fill(void)
{
    int fd;
    while ((fd = client()) >= 0) {
        assert_true(count < MOST_CLIENTS);
        clients[count++] = fd;
    }
}

static void finds(const char *wanted, int result, const char *words)
{
    struct mover_program program;
    struct failure failure = {.text = ""};
    assert_int_equal(mover_program_find(wanted, &program, &failure), result);
    if (strstr(failure.text, words) == NULL) {
        fail_msg("no word of \"%s\": %s", words, failure.text);
    }
}

static void a_full_queue_is_passed_over(void **state)
{
    (void)state;
    fill();
    finds("other", -ENOENT, "There is no task \"other\"");
}

static void a_full_queue_is_named_where_it_was_asked_for(void **state)
{
    (void)state;
    fill();
    finds(own_pid, -ETIMEDOUT, "does not answer");
}

static void who_is_silent_is_named_where_it_was_asked_for(void **state)
{
    (void)state;
    finds(own_pid, -ETIMEDOUT, "does not answer");
    finds("other", -ENOENT, "There is no task \"other\"");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_full_queue_is_passed_over),
        TEST(a_full_queue_is_named_where_it_was_asked_for),
        TEST(who_is_silent_is_named_where_it_was_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
