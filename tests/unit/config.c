// SPDX-License-Identifier: Apache-2.0
//
// Settings: defaults, kinds, ranges, the command line; and the bucket of failed handshakes and
// that of connections that make room, with the time moved by hand.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/config.h"
#include "server/listener_internal.h"

static struct failure failure;

static void test_defaults(void **state)
{
    (void)state;
    struct config config;
    assert_int_equal(config_init(&config, &failure), 0);
    assert_string_equal(config.store, "");
    assert_string_equal(config.durability, "process");
    assert_int_equal(config.lease_ms, LIMIT_LEASE_MS);
    assert_int_equal(config.listen.count, 1);
    assert_false(config.check);
    config_clear(&config);
}

static void test_values(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value;
        int error;
    } cases[] = {
        {"capacity", "16777216T", -EINVAL},
        {"capacity", "1P", -EINVAL},
        {"capacity", "-1", -EINVAL},
        {"capacity", "", -EINVAL},
        {"capacity", "1G ", -EINVAL},
        {"capacity", "99999999999999999999", -EINVAL},
        {"threads", "1K", -EINVAL},
        {"threads", "257", -EINVAL},
        {"lease-ms", "99", -EINVAL},
        {"check", "perhaps", -EINVAL},
        {"storage", "x", -ENOENT},
        {"store", "/somewhere", 0},
        {"capacity", "3g", 0},
        {"lease-ms", "100", 0},
        {"check", "yes", 0},
        {"threads", "256", 0},
    };
    struct config config;
    assert_int_equal(config_init(&config, &failure), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        failure.text[0] = '\0';
        int error = config_set(&config, cases[i].key, cases[i].value, &failure);
        if (error != cases[i].error || (error != 0) != (failure.text[0] != '\0')) {
            fail_msg("%s=%s: %d, \"%s\"", cases[i].key, cases[i].value, error, failure.text);
        }
    }
    assert_int_equal(config.capacity, 3ULL << 30);
    assert_int_equal(config.threads, 256);
    assert_true(config.check);
    config_clear(&config);
}

static void test_command_line(void **state)
{
    (void)state;
    char *good[] = {"dsmd", "--listen", "a:1", "--listen=b:2", "--check", "--capacity", "4K", NULL};
    char *bad[] = {"dsmd", "--capacity", "x", NULL};
    char *stray[] = {"dsmd", "stray", NULL};
    struct config config;
    assert_int_equal(config_init(&config, &failure), 0);
    assert_int_equal(config_arguments(&config, 7, good, &failure), 0);
    assert_int_equal(config.listen.count, 2); // in the place of the default
    assert_string_equal(config.listen.items[0], "a:1");
    assert_string_equal(config.listen.items[1], "b:2");
    assert_int_equal(config.capacity, 4096);
    assert_int_equal(config_arguments(&config, 3, bad, &failure), -EINVAL);
    assert_non_null(strstr(failure.text, "capacity"));
    assert_int_equal(config.capacity, 4096);
    assert_int_equal(config_arguments(&config, 2, stray, &failure), -EINVAL);
    config_clear(&config);
}

static void test_rate(void **state)
{
    (void)state;
    static struct rate rate = {.seed = 7};
    const struct address_key one = {{1}}, two = {{2}};
    int64_t now = 1000;
    assert_false(rate_exceeded(&rate, &one, now));
    for (int i = 0; i < LIMIT_HANDSHAKE_FAILURES_BURST; i++) {
        assert_false(rate_exceeded(&rate, &one, now));
        rate_failed(&rate, &one, now);
    }
    assert_true(rate_exceeded(&rate, &one, now));
    assert_false(rate_exceeded(&rate, &two, now));
    now += 1000 / LIMIT_HANDSHAKE_FAILURES_PER_S; // one token grows
    assert_false(rate_exceeded(&rate, &one, now));
    rate_failed(&rate, &one, now);
    assert_true(rate_exceeded(&rate, &one, now));
    now += 3600 * 1000; // never more than the burst
    for (int i = 0; i < LIMIT_HANDSHAKE_FAILURES_BURST; i++) {
        assert_false(rate_exceeded(&rate, &one, now));
        rate_failed(&rate, &one, now);
    }
    assert_true(rate_exceeded(&rate, &one, now));
}

// What a loop of accept does in a millisecond: each needs the place of another.
static unsigned made_room(struct pace *pace, int64_t now)
{
    unsigned count = 0;
    for (; count < 1U << 20 && pace_allows(pace, -1, now); count++) {
        pace_made_room(pace);
    }
    return count;
}

static void test_pace(void **state)
{
    (void)state;
    const unsigned slept = LIMIT_MADE_ROOM_PER_S * LISTENER_PACE_SLEPT_MS / 1000;
    struct pace pace = {0};
    int64_t now = 1000000;
    assert_int_equal(made_room(&pace, now), slept);
    assert_int_equal(made_room(&pace, now), 0);
    unsigned second = 0;
    for (int i = 0; i < 1000; i++) {
        second += made_room(&pace, ++now);
    }
    assert_int_equal(second, LIMIT_MADE_ROOM_PER_S);
    now += 3600 * 1000; // never more than it makes up
    assert_int_equal(made_room(&pace, now), slept);
    now += 1;
    assert_int_equal(made_room(&pace, now), LIMIT_MADE_ROOM_PER_S / 1000);
}

// No pace where the line of those who wait is long: one who came last is in within the second.
static void test_pace_of_a_long_line(void **state)
{
    (void)state;
    assert_false(pace_line_is_long(0, 4096));
    assert_false(pace_line_is_long(2560, 4096));
    assert_true(pace_line_is_long(2561, 4096));
    assert_true(pace_line_is_long(4097, 4096)); // as far as the kernel lets it grow
    assert_true(pace_line_is_long(1, 1));
    assert_true(4096 / 8 * 5 < LIMIT_MADE_ROOM_PER_S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),     cmocka_unit_test(test_values),
        cmocka_unit_test(test_command_line), cmocka_unit_test(test_rate),
        cmocka_unit_test(test_pace),         cmocka_unit_test(test_pace_of_a_long_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
