// SPDX-License-Identifier: Apache-2.0
//
// What movers say over sockets: another end that does not read, says nothing or goes away costs its deadline and no more, and of
// what follows a line nothing is taken.
#include "tools/mover_socket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <errno.h>

#include "rpc/deadline.h"
#include "rpc/tcp.h"

enum { MUCH = 8 << 20, PATIENCE_MS = 50, AGES_MS = 60000 };

static int ends[2];

static int set_up(void **state)
{
    (void)state;
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends); // they block
}

static int tear_down(void **state)
{
    (void)state;
    (void)close(ends[0]);
    return close(ends[1]);
}

static void who_does_not_read_is_not_waited_for(void **state)
{
    (void)state;
    char *much = calloc(1, MUCH);
    assert_non_null(much);
    int64_t begun = deadline_now();
    assert_int_equal(tcp_send(ends[0], much, MUCH, deadline_after_ms(PATIENCE_MS)), -ETIMEDOUT);
    assert_true(deadline_now() - begun >= (int64_t)PATIENCE_MS * DEADLINE_NS_PER_MS);
    free(much);
}

static void who_is_silent_is_not_waited_for(void **state)
{
    (void)state;
    char line[MOVER_LINE_BYTES];
    assert_int_equal(mover_hear_line(ends[0], line, deadline_after_ms(PATIENCE_MS)), -ETIMEDOUT);
    assert_int_equal(write(ends[1], "half a l", 8), 8);
    assert_int_equal(mover_hear_line(ends[0], line, deadline_after_ms(PATIENCE_MS)), -ETIMEDOUT);
}

static void who_has_gone_is_told_apart(void **state)
{
    (void)state;
    char line[MOVER_LINE_BYTES];
    assert_int_equal(write(ends[1], "half", 4), 4);
    (void)shutdown(ends[1], SHUT_RDWR);
    assert_int_equal(mover_hear_line(ends[0], line, deadline_after_ms(AGES_MS)), -ENODATA);
    assert_int_equal(mover_say_line(ends[0], "x", deadline_after_ms(AGES_MS)), -ENODATA);
}

static void a_line_takes_nothing_of_what_follows(void **state)
{
    (void)state;
    char line[MOVER_LINE_BYTES], rest[5];
    assert_int_equal(write(ends[1], "MOVE\n\nrest!", 11), 11);
    assert_int_equal(mover_hear_line(ends[0], line, deadline_after_ms(AGES_MS)), 0);
    assert_string_equal(line, "MOVE");
    assert_int_equal(mover_hear_line(ends[0], line, deadline_after_ms(AGES_MS)), 0);
    assert_string_equal(line, "");
    assert_int_equal(tcp_receive(ends[0], rest, sizeof rest, deadline_after_ms(AGES_MS)), 0);
    assert_memory_equal(rest, "rest!", sizeof rest);
}

static void lines_are_bounded(void **state)
{
    (void)state;
    char text[2 * MOVER_LINE_BYTES], line[MOVER_LINE_BYTES];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    assert_int_equal(mover_say_line(ends[1], text, deadline_after_ms(AGES_MS)), 0);
    assert_int_equal(mover_hear_line(ends[0], line, deadline_after_ms(AGES_MS)), 0);
    assert_int_equal(strlen(line), MOVER_LINE_BYTES - 2);
    assert_int_equal(write(ends[1], text, sizeof text), sizeof text);
    assert_int_equal(mover_hear_line(ends[0], line, deadline_after_ms(AGES_MS)), -EBADMSG);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(who_does_not_read_is_not_waited_for),
        TEST(who_is_silent_is_not_waited_for),
        TEST(who_has_gone_is_told_apart),
        TEST(a_line_takes_nothing_of_what_follows),
        TEST(lines_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
