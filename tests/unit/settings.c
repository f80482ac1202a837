// SPDX-License-Identifier: Apache-2.0
//
// Settings from the environment: every default, each type with good and bad values, and sentences that name the variable.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

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
    return 0;
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
    assert_int_equal(s.cache_bytes, 64 << 20);
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
    (void)setenv("DSM_CACHE", "3g", 1);
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
    refused("DSM_CACHE", "much", "512M");
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
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint64_t bytes = 1;
        assert_int_equal(settings_parse_bytes(good[i].text, &bytes), 0);
        assert_true(bytes == good[i].bytes);
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
        if (settings_parse_bytes(bad[i], &bytes) != -EINVAL || bytes != 77) {
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
