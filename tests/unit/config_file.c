// SPDX-License-Identifier: Apache-2.0
//
// dsmd's configuration file: what it may say, what the command line overrides, where each value came
// from, and what a second reading changes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/config.h"

static char path[] = "/tmp/config-file-XXXXXX";
static struct failure failure;

static int enter(void **state)
{
    (void)state;
    memset(strrchr(path, '-') + 1, 'X', 6);
    int fd = mkstemp(path);
    failure.text[0] = '\0';
    return fd >= 0 ? close(fd) : -1;
}

static int leave(void **state)
{
    (void)state;
    return unlink(path);
}

static void put(const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int read_with(struct config *config, const char *option, const char *value)
{
    char *arguments[] = {
        "dsmd", "--config", path, (char *)(uintptr_t)option, (char *)(uintptr_t)value, NULL};
    return config_read(config, option != NULL ? 5 : 3, arguments, &failure);
}

static void source_is(const struct config *config, enum config_index index, const char *expected)
{
    struct setting_view view;
    char wanted[96];
    (void)snprintf(wanted, sizeof wanted, "%s%s", expected[0] == ':' ? path : "", expected);
    assert_true(config_view(config, index, &view));
    assert_string_equal(view.source, wanted);
}

static void test_file(void **state)
{
    (void)state;
    struct config config;
    put("# the store\nstore = /srv/dsm\ncapacity = 2T\n\nlisten = [::1]:1\nlisten = h:2 ; both\n"
        "log-level = debug\n");
    assert_int_equal(read_with(&config, NULL, NULL), 0);
    assert_string_equal(config.store, "/srv/dsm");
    assert_int_equal(config.capacity, 2ULL << 40);
    assert_int_equal(config.listen.count, 2);
    assert_string_equal(config.listen.items[1], "h:2");
    source_is(&config, CONFIG_INDEX_store, ":2");
    source_is(&config, CONFIG_INDEX_listen, ":6");
    source_is(&config, CONFIG_INDEX_name, "default");
    source_is(&config, CONFIG_INDEX_config, "option");
    config_clear(&config);
}

// Whichever is read first.
static void test_options_override(void **state)
{
    (void)state;
    struct config config;
    put("capacity = 2T\nlisten = h:2\nlisten = h:3\nlog-level = debug\n");
    assert_int_equal(read_with(&config, "--listen", "h:1"), 0);
    assert_int_equal(config.listen.count, 1);
    assert_string_equal(config.listen.items[0], "h:1");
    source_is(&config, CONFIG_INDEX_listen, "option");
    source_is(&config, CONFIG_INDEX_capacity, ":1");
    config_clear(&config);
    assert_int_equal(read_with(&config, "--capacity", "1G"), 0);
    assert_int_equal(config.capacity, 1 << 30);
    assert_int_equal(config.listen.count, 2);
    config_clear(&config);
    put("capacity = much\n"); // a bad value stays bad
    assert_int_equal(read_with(&config, "--capacity", "1G"), -EINVAL);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"stores = x\n", ":1: there is no key \"stores\""},
        {"ready-fd = 3\n", ":1: there is no key \"ready-fd\""}, // for the command line only
        {"config = x\n", ":1: there is no key \"config\""},
        {"name = a\n\nname = a\n", ":3: the key \"name\" stands already on line 1."},
        {"threads = 257\n", ":1: threads must be between 0 and 256, not 257."},
        {"seccomp = maybe\n", ":1: \"maybe\" is no value for seccomp: it is one of on|off|log."},
        {"log-level = loud\n", ":1: \"loud\" is no value for log-level"},
        {"[dsmd]\nname = a\n", ":1: there are no sections"},
    };
    struct config config;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put(cases[i].text);
        assert_int_equal(read_with(&config, NULL, NULL), -EINVAL);
        if (strncmp(failure.text, path, strlen(path)) != 0 ||
            strncmp(failure.text + strlen(path), cases[i].says, strlen(cases[i].says)) != 0) {
            fail_msg("\"%s\" does not say \"%s\"", failure.text, cases[i].says);
        }
    }
    char *absent[] = {"dsmd", "--config=/no/such/file", NULL};
    char *none[] = {"dsmd", "--config=", NULL};
    assert_int_equal(config_read(&config, 2, absent, &failure), -ENOENT);
    assert_non_null(strstr(failure.text, "/no/such/file"));
    assert_int_equal(config_read(&config, 2, none, &failure), 0);
    assert_string_equal(config.path, "");
    config_clear(&config);
}

static void test_second_reading(void **state)
{
    (void)state;
    struct config running, next;
    char later[256];
    put("store = /a\nname = x\nlog-level = info\nauthorized = /one\n");
    assert_int_equal(read_with(&running, NULL, NULL), 0);
    put("store = /b\nauthorized = /two\nlog-level = debug\nlease-ms = 500\n");
    assert_int_equal(read_with(&next, NULL, NULL), 0);
    config_exchange(&running, &next, later, sizeof later);
    assert_string_equal(later, "store, name, lease-ms");
    assert_string_equal(running.store, "/a");
    assert_string_equal(running.authorized, "/two");
    assert_string_equal(running.log_level, "debug");
    source_is(&running, CONFIG_INDEX_authorized, ":2");
    assert_string_equal(next.authorized, "/one");
    config_clear(&next);
    config_clear(&running);
}

static void test_views(void **state)
{
    (void)state;
    struct config config;
    struct setting_view view;
    size_t count = 0;
    assert_int_equal(config_init(&config, &failure), 0);
    while (config_view(&config, count, &view)) {
        assert_string_equal(view.value, view.initial);
        assert_string_equal(view.source, "default");
        assert_true(strlen(view.meaning) > 10);
        count++;
    }
    assert_int_equal(count, CONFIG_COUNT);
    config_clear(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_file, enter, leave),
        cmocka_unit_test_setup_teardown(test_options_override, enter, leave),
        cmocka_unit_test_setup_teardown(test_refused, enter, leave),
        cmocka_unit_test_setup_teardown(test_second_reading, enter, leave),
        cmocka_unit_test(test_views),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
