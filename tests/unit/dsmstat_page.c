// SPDX-License-Identifier: Apache-2.0
//
// What dsmstat takes for a statistics page, and what it does not: a page may be made by anybody whose process root looks at.
// Every page here is this process's own, made by hand and wrong in one thing.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "tools/dsmstat.h"

enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE, COUNTERS_AT = 512 };
static const char names[] = "wire_sent\0of_the_future\0victims";

_Static_assert(sizeof(struct stat_page_header) <= COUNTERS_AT, "the counters come after it");

static struct stat_page_header good_header(void)
{
    return (struct stat_page_header){.magic = STAT_PAGE_MAGIC,
                                     .version = STAT_PAGE_VERSION,
                                     .bytes = 4096,
                                     .pid = getpid(),
                                     .counters = 3,
                                     .counters_offset = COUNTERS_AT,
                                     .names_offset = COUNTERS_AT + 24,
                                     .names_bytes = sizeof names,
                                     .cache_bytes = 1 << 20,
                                     .program = "forger\x1b[31m",
                                     .server = "host:1"};
}

// What stat_client_find says of it.
static int look(const struct stat_page_header *header, int seals, const char *name,
                struct stat_client **client)
{
    const uint64_t counters[3] = {11, 22, 33};
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 4096), 0);
    assert_int_equal(pwrite(fd, header, sizeof *header, 0), sizeof *header);
    assert_int_equal(pwrite(fd, counters, sizeof counters, COUNTERS_AT), sizeof counters);
    assert_int_equal(pwrite(fd, names, sizeof names, COUNTERS_AT + 24), sizeof names);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    int result = stat_client_find(getpid(), client);
    assert_int_equal(close(fd), 0);
    return result;
}

static void refused(const struct stat_page_header *header)
{
    struct stat_client *client = NULL;
    assert_int_equal(look(header, SEALS, STAT_PAGE_NAME, &client), -ENOENT);
    assert_null(client);
}

static void a_page_is_read_by_names(void **state)
{
    (void)state;
    struct stat_client *client = NULL;
    const struct stat_page_header header = good_header();
    assert_int_equal(look(&header, SEALS, STAT_PAGE_NAME, &client), 0);
    stat_client_read(client); // after its process has closed it
    assert_int_equal(client->now[STAT_COUNTER_wire_sent], 11);
    assert_int_equal(client->now[STAT_COUNTER_victims], 33);
    assert_int_equal(client->now[STAT_COUNTER_retries], 0);
    assert_string_equal(client->program, "forger?[31m"); // no escape reaches the terminal
    assert_string_equal(client->server, "host:1");
    assert_int_equal(client->cache_bytes, 1 << 20);
    stat_client_destroy(&client);
}

static void a_file_that_may_change_is_refused(void **state)
{
    (void)state;
    static const int seals[] = {0, F_SEAL_SHRINK, F_SEAL_FUTURE_WRITE | F_SEAL_GROW,
                                F_SEAL_SHRINK | F_SEAL_GROW};
    const struct stat_page_header header = good_header();
    struct stat_client *client = NULL;
    for (size_t i = 0; i < sizeof seals / sizeof seals[0]; i++) {
        assert_int_equal(look(&header, seals[i], STAT_PAGE_NAME, &client), -ENOENT);
    }
    assert_int_equal(look(&header, SEALS, STAT_PAGE_NAME "x", &client), -ENOENT);
    assert_null(client);
}

static void wrong_headers_are_refused(void **state)
{
    (void)state;
    struct stat_page_header header = good_header();
    header.magic ^= 1;
    refused(&header);
    header = good_header();
    header.version++;
    refused(&header);
    header = good_header();
    header.pid++; // a child of the process that made it
    refused(&header);
}

static void offsets_outside_are_refused(void **state)
{
    (void)state;
    static const uint32_t bad[] = {4096, 4095, 4089, UINT32_MAX, UINT32_MAX - 7, 1U << 31};
    struct stat_page_header header;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        header = good_header();
        header.counters_offset = bad[i];
        refused(&header);
        header = good_header();
        header.counters = bad[i];
        refused(&header);
        header = good_header();
        header.names_offset = bad[i];
        refused(&header);
        header = good_header();
        header.names_bytes = bad[i];
        refused(&header);
    }
    header = good_header();
    header.counters_offset = 0; // the header itself
    refused(&header);
    header = good_header();
    header.counters_offset = COUNTERS_AT + 4; // not on a word
    refused(&header);
}

static void latencies_outside_are_not_shown(void **state)
{
    (void)state;
    static const uint32_t bad[] = {4096, 4096 - sizeof(struct latency) + 8, COUNTERS_AT + 4,
                                   UINT32_MAX - 7};
    struct stat_client *client = NULL;
    struct stat_page_header header = good_header();
    assert_int_equal(look(&header, SEALS, STAT_PAGE_NAME, &client), 0);
    assert_int_equal(client->latency_place, 0); // an older library's
    stat_client_destroy(&client);
    header.latency_buckets = LATENCY_BUCKETS;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        header.fault_latency_offset = bad[i];
        assert_int_equal(look(&header, SEALS, STAT_PAGE_NAME, &client), 0);
        assert_int_equal(client->latency_place, 0);
        stat_client_read(client);
        assert_int_equal(latency_count(client->latency_now.buckets), 0);
        stat_client_destroy(&client);
    }
    header.fault_latency_offset = COUNTERS_AT; // so that the counters are the total and two buckets
    assert_int_equal(look(&header, SEALS, STAT_PAGE_NAME, &client), 0);
    stat_client_read(client);
    assert_int_equal(client->latency_now.total_ns, 11);
    assert_int_equal(client->latency_now.buckets[1], 33);
    stat_client_destroy(&client);
    header.latency_buckets++;
    assert_int_equal(look(&header, SEALS, STAT_PAGE_NAME, &client), 0);
    assert_int_equal(client->latency_place, 0);
    stat_client_destroy(&client);
}

static void names_may_end_early(void **state)
{
    (void)state;
    struct stat_client *client = NULL;
    struct stat_page_header header = good_header();
    header.names_bytes = 9; // "wire_sent" without its end
    assert_int_equal(look(&header, SEALS, STAT_PAGE_NAME, &client), 0);
    stat_client_read(client);
    assert_int_equal(client->now[STAT_COUNTER_wire_sent], 11);
    assert_int_equal(client->now[STAT_COUNTER_victims], 0);
    stat_client_destroy(&client);
    header.names_bytes = 0;
    assert_int_equal(look(&header, SEALS, STAT_PAGE_NAME, &client), 0);
    stat_client_destroy(&client);
}

static void rates_take_at_most_six_characters(void **state)
{
    (void)state;
    static const struct {
        double rate;
        const char *text;
    } rows[] = {{0, "0"},         {0.04, "0.0"},    {9.94, "9.9"},  {9.96, "10"},
                {99999, "99999"}, {100000, "100k"}, {1e6, "1000k"}, {99.9e6, "99900k"},
                {1.5e9, "1500M"}, {1e14, "100T"},   {1e300, "0P"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[16];
        assert_string_equal(stat_rate_text(rows[i].rate, text), rows[i].text);
        assert_true(strlen(text) <= 6);
    }
}

static void times_take_at_most_six_characters(void **state)
{
    (void)state;
    static const struct {
        uint64_t ns;
        const char *text;
    } rows[] = {{0, "-"},
                {500, "0.5us"},
                {9949, "9.9us"},
                {9951, "10us"},
                {999499, "999us"},
                {999500, "1.0ms"},
                {12345678, "12ms"},
                {999499999, "999ms"},
                {1000000000, "1.0s"},
                {UINT64_C(1) << 34, "17s"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[16];
        assert_string_equal(stat_time_text(rows[i].ns, text), rows[i].text);
        assert_true(strlen(text) <= 6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_is_read_by_names),
        cmocka_unit_test(a_file_that_may_change_is_refused),
        cmocka_unit_test(wrong_headers_are_refused),
        cmocka_unit_test(offsets_outside_are_refused),
        cmocka_unit_test(latencies_outside_are_not_shown),
        cmocka_unit_test(names_may_end_early),
        cmocka_unit_test(rates_take_at_most_six_characters),
        cmocka_unit_test(times_take_at_most_six_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
