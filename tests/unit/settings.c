// SPDX-License-Identifier: Apache-2.0
//
// Settings of the library: every default, each type with good and bad values, sentences that name the variable, and files:
// which are read, what overrides what, and where a value came from.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libdsm/cache_size.h"
#include "libdsm/settings.h"

static const char *const variables[] = {
#define DSM_SETTING(field, variable, type, fallback, meaning) #variable,
#include "libdsm/settings.def"
#undef DSM_SETTING
};

static int clear_environment(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        (void)unsetenv(variables[i]);
    }
    return setenv("DSM_CONFIG", "", 1); // this machine's files are not ours
}

static struct settings read_well(void)
{
    struct settings s;
    struct failure failure = {.text = ""};
    int error = settings_read(&s, &failure);
    if (error != 0) {
        fail_msg("%s", failure.text);
    }
    return s;
}

static void refused(const char *variable, const char *value, const char *why)
{
    struct settings s;
    struct failure failure = {.text = ""};
    (void)setenv(variable, value, 1);
    int error = settings_read(&s, &failure);
    if (error != -EINVAL) {
        fail_msg("%s='%s' was taken", variable, value);
    }
    assert_non_null(strstr(failure.text, variable));
    assert_non_null(strstr(failure.text, why));
    (void)unsetenv(variable);
}

static void defaults(void **state)
{
    (void)state;
    struct settings s = read_well();
    assert_string_equal(s.server, "");
    assert_string_equal(s.cluster, "default");
    assert_true(s.cache_bytes >= cache_size_least());
    assert_int_equal(s.fault_timeout_ms, 30000);
    assert_int_equal(s.fault_lanes, SETTINGS_SOCK);
    assert_int_equal(s.fault_workers, 4);
    assert_int_equal(s.fill, SETTINGS_PWRITE);
    assert_int_equal(s.read_ahead_bytes, 1 << 20);
    assert_int_equal(s.swap_buffer_pages, 256);
    assert_int_equal(s.clean_gap_pages, 4);
    assert_int_equal(s.laundry, SETTINGS_ON_IS_FIRST);
    assert_int_equal(s.map_limit, 0);
    assert_int_equal(s.exact, 0);
}

static void every_type(void **state)
{
    (void)state;
    (void)setenv("DSM_SERVER", "[::1]:7000", 1);
    (void)setenv("DSM_CACHE", "3g", 1); // not what is free
    (void)setenv("DSM_FAULT_TIMEOUT", "0", 1);
    (void)setenv("DSM_FAULT_LANES", "grpc", 1);
    (void)setenv("DSM_SUITE", "chachapoly", 1);
    (void)setenv("DSM_CLEAN_GAP", "18446744073709551615", 1);
    (void)setenv("DSM_LAUNDRY", "off", 1);
    (void)setenv("DSM_CLUSTER", "", 1); // a text may be empty
    (void)setenv("DSM_FILL", "", 1);    // for anything else that is: unset
    (void)setenv("DSM_FAULT_WORKERS", "", 1);
    struct settings s = read_well();
    assert_string_equal(s.server, "[::1]:7000");
    assert_true(s.cache_bytes == 3ull << 30);
    assert_int_equal(s.fault_timeout_ms, 0);
    assert_int_equal(s.fault_lanes, SETTINGS_GRPC);
    assert_int_equal(s.suite, 2);
    assert_true(s.clean_gap_pages == UINT64_MAX);
    assert_int_equal(s.laundry, 1);
    assert_string_equal(s.cluster, "");
    assert_int_equal(s.fill, SETTINGS_PWRITE);
    assert_int_equal(s.fault_workers, 4);
}

static void bad_values(void **state)
{
    (void)state;
    static const char *const numbers[] = {"-1", "+1", " 1",  "1 ",  "x",
                                          "1x", "1K", "0x1", "1.5", "18446744073709551616"};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        refused("DSM_SWAP_BUFFER", numbers[i], "whole number");
        refused("DSM_FAULT_TIMEOUT", numbers[i], "whole number");
    }
    // More milliseconds than nanoseconds of it fit into 63 bits.
    refused("DSM_FAULT_TIMEOUT", "18446744073709551615", "whole number");
    refused("DSM_FAULT_TIMEOUT", "9223372036855", "whole number");
    static const char *const choices[] = {"sock|grpc", "SOCK", "s", "sockx", "|", "x"};
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        refused("DSM_FAULT_LANES", choices[i], "sock|grpc");
    }
    char text[600];
    memset(text, 'a', sizeof text);
    text[sizeof(settings_text)] = 0; // one too long
    refused("DSM_SERVER", text, "shorter");
    text[sizeof(settings_text) - 1] = 0;
    (void)setenv("DSM_SERVER", text, 1);
    assert_string_equal(read_well().server, text);
    refused("DSM_CACHE", "much", "512M, or auto");
    refused("DSM_CACHE", "0", "512M, or auto");
    refused("DSM_EMBEDDED_SIZE", "auto", "512M");
}

// ---- files

static char folder[] = "/tmp/settings-XXXXXX";
static char site[64];

static int enter(void **state)
{
    memset(strrchr(folder, '-') + 1, 'X', 6);
    if (clear_environment(state) != 0 || mkdtemp(folder) == NULL || chdir(folder) != 0) {
        return -1;
    }
    (void)snprintf(site, sizeof site, "%s/site.conf", folder);
    return mkdir("dsm", 0700);
}

static int leave(void **state)
{
    (void)state;
    (void)unlink("dsm/client.conf");
    (void)unlink("site.conf");
    (void)unsetenv("XDG_CONFIG_HOME");
    return rmdir("dsm") == 0 && chdir("/") == 0 && rmdir(folder) == 0 ? 0 : -1;
}

static void put(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void source_is(const struct settings *s, enum settings_index index, const char *expected)
{
    struct setting_view view;
    assert_true(settings_view(s, index, &view));
    assert_string_equal(view.source, expected);
}

static void one_file(void **state)
{
    (void)state;
    char expected[80];
    put(site, "# where this site's server is\nserver = [fd00::1]:7412 ; the only one\n"
              "cache=2G\n  cluster: blue\nsuite = chachapoly\n");
    (void)setenv("DSM_CONFIG", site, 1);
    (void)setenv("DSM_CACHE", "1G", 1);
    (void)setenv("DSM_CLUSTER", "", 1); // the environment may also take away
    struct settings s = read_well();
    assert_string_equal(s.server, "[fd00::1]:7412");
    assert_string_equal(s.cluster, "");
    assert_true(s.cache_bytes == 1ull << 30);
    assert_int_equal(s.suite, 2);
    (void)snprintf(expected, sizeof expected, "%s:2", site);
    source_is(&s, SETTINGS_INDEX_server, expected);
    source_is(&s, SETTINGS_INDEX_cache_bytes, "environment");
    source_is(&s, SETTINGS_INDEX_cluster, "environment");
    source_is(&s, SETTINGS_INDEX_fill, "default");
    settings_given(&s, SETTINGS_INDEX_server);
    source_is(&s, SETTINGS_INDEX_server, "option");
}

static void file_of_the_user(void **state)
{
    (void)state;
    char expected[80];
    (void)unsetenv("DSM_CONFIG");
    (void)setenv("XDG_CONFIG_HOME", folder, 1);
    put("dsm/client.conf", "key-file = /home/alice/dsm.key\n");
    struct settings s = read_well();
    assert_string_equal(s.key_file, "/home/alice/dsm.key");
    (void)snprintf(expected, sizeof expected, "%s/dsm/client.conf:1", folder);
    source_is(&s, SETTINGS_INDEX_key_file, expected);
    put(site, "key-file = /elsewhere\n"); // one that is named stands alone
    (void)setenv("DSM_CONFIG", site, 1);
    assert_string_equal(read_well().key_file, "/elsewhere");
    (void)setenv("DSM_CONFIG", "", 1);
    assert_string_equal(read_well().key_file, "");
}

static void bad_files(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"server = a:1\n\nserver_key = x\n", "site.conf:3: there is no key \"server_key\""},
        {"DSM_SERVER = a:1\n", "site.conf:1: there is no key"},
        {"cache = 1G\n\ncache = 1G\n", "site.conf:3: the key \"cache\" stands already on line 1."},
        {"cache = much\n", "site.conf:1: cache is 'much': it must be a size"},
        {"fill =\n", "site.conf:1: fill is '': it must be pwrite|alias"},
    };
    (void)setenv("DSM_CONFIG", site, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct settings s;
        struct failure failure = {.text = ""};
        put(site, cases[i].text);
        assert_int_equal(settings_read(&s, &failure), -EINVAL);
        if (strstr(failure.text, cases[i].says) == NULL) {
            fail_msg("\"%s\" does not say \"%s\"", failure.text, cases[i].says);
        }
    }
    struct settings s;
    struct failure failure = {.text = ""};
    (void)setenv("DSM_CONFIG", "/no/such/file", 1);
    assert_int_equal(settings_read(&s, &failure), -ENOENT);
    assert_non_null(strstr(failure.text, "/no/such/file cannot be opened"));
}

static void every_view(void **state)
{
    (void)state;
    struct settings s = read_well();
    struct setting_view view;
    size_t count = 0;
    while (settings_view(&s, count, &view)) {
        assert_string_equal(view.variable, variables[count]);
        assert_true(view.key[0] >= 'a' && strpbrk(view.key, "_ ABC") == NULL);
        assert_true(strlen(view.meaning) > 10);
        if (count != SETTINGS_INDEX_cache_bytes) {
            assert_string_equal(view.value, view.initial);
        }
        count++;
    }
    assert_int_equal(count, sizeof variables / sizeof variables[0]);
}

static void suffixes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"0", 0},
                {"4096", 4096},
                {"1K", 1ull << 10},
                {"1k", 1ull << 10},
                {"64M", 64ull << 20},
                {"7m", 7ull << 20},
                {"2G", 2ull << 30},
                {"3T", 3ull << 40},
                {"16777215T", 16777215ull << 40},
                {"18446744073709551615", UINT64_MAX}};
    char again[32];
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint64_t bytes = 1;
        assert_int_equal(setting_parse_size(good[i].text, &bytes), 0);
        assert_true(bytes == good[i].bytes);
        setting_format_size(bytes, again, sizeof again);
        assert_int_equal(setting_parse_size(again, &bytes), 0);
        assert_true(bytes == good[i].bytes && strlen(again) <= strlen(good[i].text));
    }
    static const char *const bad[] = {"",
                                      "K",
                                      "-1",
                                      "64 ",
                                      " 64",
                                      "64MB",
                                      "64MiB",
                                      "1P",
                                      "1KK",
                                      "1+",
                                      "1 K",
                                      "1.5G",
                                      "1e3",
                                      "0x10",
                                      "1\n",
                                      "16777216T",
                                      "18446744073709551616",
                                      "18014398509481984K"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t bytes = 77;
        if (setting_parse_size(bad[i], &bytes) != -EINVAL || bytes != 77) {
            fail_msg("'%s' was taken for %llu", bad[i], (unsigned long long)bytes);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(defaults, clear_environment),
        cmocka_unit_test_setup(every_type, clear_environment),
        cmocka_unit_test_setup(bad_values, clear_environment),
        cmocka_unit_test_setup(suffixes, clear_environment),
        cmocka_unit_test_setup(every_view, clear_environment),
        cmocka_unit_test_setup_teardown(one_file, enter, leave),
        cmocka_unit_test_setup_teardown(file_of_the_user, enter, leave),
        cmocka_unit_test_setup_teardown(bad_files, enter, leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
