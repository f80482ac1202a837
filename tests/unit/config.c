// SPDX-License-Identifier: Apache-2.0
//
// Settings: defaults, kinds, ranges, the command line; and the bucket of failed handshakes, with
// the time moved by hand.
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_command_line),
        cmocka_unit_test(test_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
