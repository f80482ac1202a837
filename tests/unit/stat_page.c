// SPDX-License-Identifier: Apache-2.0
//
// The statistics page from its own process's side: what /proc shows of it, who may change it, and that it lets go of its own
// descriptor and of no other.
#include "libdsm/stat/stat_page.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const struct stat_page_facts facts = {.cache_bytes = 123456, .server = "host:7400"};

// How many descriptors of this process are statistics pages.
static int count_pages(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;
    assert_non_null(directory);
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        char link[256] = "";
        (void)readlinkat(dirfd(directory), entry->d_name, link, sizeof link - 1);
        count += strstr(link, "/memfd:" STAT_PAGE_NAME " ") != NULL ? 1 : 0;
    }
    (void)closedir(directory);
    return count;
}

static void tells_who_it_is(void **state)
{
    (void)state;
    struct stat_page page;
    struct stat_page_header header;
    uint64_t ticks = 0;
    assert_int_equal(count_pages(), 0);
    assert_int_equal(stat_page_create(&page, &facts, true), 0);
    assert_int_equal(count_pages(), 1);
    assert_int_equal(pread(page.fd, &header, sizeof header, 0), sizeof header);
    assert_true(header.magic == STAT_PAGE_MAGIC);
    assert_int_equal(header.version, STAT_PAGE_VERSION);
    assert_int_equal(header.pid, getpid());
    assert_int_equal(header.cache_bytes, 123456);
    assert_string_equal(header.server, "host:7400");
    assert_string_equal(header.program, program_invocation_short_name);
    assert_int_equal(stat_process_start(0, &ticks), 0);
    assert_int_equal(header.start_ticks, ticks);
    assert_true(ticks > 0);
    stat_page_destroy(&page);
    assert_int_equal(count_pages(), 0);
}

static void counters_are_found_by_name(void **state)
{
    (void)state;
    static uint8_t all[STAT_PAGE_MOST_BYTES];
    struct stat_page page;
    struct stat_page_header header;
    assert_int_equal(stat_page_create(&page, &facts, true), 0);
    uint64_t expected = 0;
#define DSM_COUNTER(name, ...) STAT_ADD(page.counters, name, 1000 + expected++);
#include <dsm/counters.def>
#undef DSM_COUNTER
    ssize_t got = pread(page.fd, all, sizeof all, 0);
    memcpy(&header, all, sizeof header);
    assert_true(header.bytes <= (size_t)got);
    assert_int_equal(header.counters, expected);
    const char *name = (const char *)all + header.names_offset;
    uint64_t at = header.counters_offset;
    uint64_t number;
    expected = 1000;
#define DSM_COUNTER(counter, ...)                                                                  \
    assert_string_equal(name, #counter);                                                           \
    name += strlen(name) + 1;                                                                      \
    memcpy(&number, all + at, sizeof number);                                                      \
    assert_int_equal(number, expected++);                                                          \
    at += sizeof number;
#include <dsm/counters.def>
#undef DSM_COUNTER
    stat_page_destroy(&page);
}

static void latencies_are_where_the_header_says(void **state)
{
    (void)state;
    struct stat_page page;
    struct stat_page_header header;
    uint64_t words[1 + LATENCY_BUCKETS];
    assert_int_equal(stat_page_create(&page, &facts, true), 0);
    STAT_ADD(page.counters, closed_for_edges, 1); // the last one does not reach them
    latency_add(page.fault_latency, 5000);
    latency_add(page.fault_latency, 1 << 20);
    latency_add(page.fault_latency, INT64_C(1) << 40);
    assert_int_equal(pread(page.fd, &header, sizeof header, 0), sizeof header);
    assert_int_equal(header.latency_buckets, LATENCY_BUCKETS);
    assert_true(header.fault_latency_offset >= header.names_offset + header.names_bytes);
    assert_true(header.fault_latency_offset + sizeof words <= header.bytes);
    assert_int_equal(pread(page.fd, words, sizeof words, header.fault_latency_offset),
                     sizeof words);
    assert_int_equal(words[0], 5000 + (1 << 20) + (UINT64_C(1) << 40));
    assert_int_equal(latency_count(words + 1), 3);
    assert_int_equal(words[1 + latency_bucket_of(5000)], 1);
    assert_int_equal(words[1 + latency_bucket_of(1 << 20)], 1);
    assert_int_equal(words[LATENCY_BUCKETS], 1);
    stat_page_destroy(&page);
}

// The places in the page as a reader finds them: how many are taken, and *found is the one of this number.
static int read_segments(const struct stat_page *page, uint32_t number,
                         struct stat_page_segment *found)
{
    struct stat_page_header header;
    int taken = 0;
    assert_int_equal(pread(page->fd, &header, sizeof header, 0), sizeof header);
    assert_true(header.segments_offset + (uint64_t)header.segments * header.segment_bytes <=
                header.bytes);
    for (uint32_t i = 0; i < header.segments; i++) {
        struct stat_page_segment one;
        off_t at = (off_t)(header.segments_offset + (uint64_t)i * header.segment_bytes);
        assert_int_equal(pread(page->fd, &one, sizeof one, at), sizeof one);
        assert_int_equal(one.number, one.again);
        taken += one.number != 0;
        if (one.number == number) {
            *found = one;
        }
    }
    return taken;
}

static void open_segments_are_listed(void **state)
{
    (void)state;
    struct stat_page page;
    struct stat_page_segment found = {0};
    assert_int_equal(stat_page_create(&page, &facts, true), 0);
    assert_int_equal(read_segments(&page, 1, &found), 0);
    for (uint32_t i = 1; i <= STAT_PAGE_SEGMENTS; i++) {
        struct stat_page_segment segment = {
            .number = i, .page_bytes = 4096, .base = 0x1000 * i, .pages = 10 + i, .id = 100 + i};
        (void)snprintf(segment.name, sizeof segment.name, "data/%u", i);
        stat_page_opened(&page, &segment);
    }
    assert_int_equal(read_segments(&page, 7, &found), STAT_PAGE_SEGMENTS);
    assert_int_equal(found.page_bytes, 4096);
    assert_int_equal(found.base, 0x7000);
    assert_int_equal(found.pages, 17);
    assert_int_equal(found.id, 107);
    assert_string_equal(found.name, "data/7");
    stat_page_closed(&page, 7);
    stat_page_closed(&page, 7); // is no other's place
    found.number = 0;
    assert_int_equal(read_segments(&page, 7, &found), STAT_PAGE_SEGMENTS - 1);
    assert_int_equal(found.number, 0);
    stat_page_opened(&page, &(struct stat_page_segment){.number = 1000, .name = "again"});
    assert_int_equal(read_segments(&page, 1000, &found), STAT_PAGE_SEGMENTS);
    assert_string_equal(found.name, "again"); // in the place of the one that was closed
    stat_page_destroy(&page);
}

static void nobody_else_writes(void **state)
{
    (void)state;
    struct stat_page page;
    struct stat about;
    assert_int_equal(stat_page_create(&page, &facts, true), 0);
    assert_int_equal(fstat(page.fd, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0600);
    assert_int_equal(pwrite(page.fd, "x", 1, 0), -1);
    assert_int_equal(ftruncate(page.fd, 0), -1);
    assert_int_equal(ftruncate(page.fd, 1 << 20), -1);
    assert_int_equal(
        fallocate(page.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, about.st_size), -1);
    void *view = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, page.fd, 0);
    assert_true(view == MAP_FAILED);
    assert_int_equal(fcntl(page.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    STAT_ADD(page.counters, faults_read, 7); // its owner still counts
    assert_int_equal(STAT_GET(page.counters, faults_read), 7);
    stat_page_destroy(&page);
}

static void not_shown_it_counts_all_the_same(void **state)
{
    (void)state;
    struct stat_page page;
    assert_int_equal(stat_page_create(&page, &facts, false), 0);
    assert_int_equal(count_pages(), 0);
    assert_int_equal(page.fd, -1);
    STAT_ADD(page.counters, wire_sent, 5);
    assert_int_equal(STAT_GET(page.counters, wire_sent), 5);
    stat_page_destroy(&page);
}

static void without_descriptors_it_counts_all_the_same(void **state)
{
    (void)state;
    struct rlimit before;
    struct stat_page page;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    const struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int error = stat_page_create(&page, &facts, true);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(error, 0);
    assert_int_equal(page.fd, -1);
    STAT_ADD(page.counters, victims, 3);
    assert_int_equal(STAT_GET(page.counters, victims), 3);
    stat_page_destroy(&page);
}

// A program that closes all descriptors may have got the page's number for a file of its own.
static void a_number_that_is_anothers_stays_open(void **state)
{
    (void)state;
    struct stat_page page;
    assert_int_equal(stat_page_create(&page, &facts, true), 0);
    int number = page.fd;
    assert_int_equal(close(number), 0);
    int other = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(other, number);
    STAT_ADD(page.counters, retries, 2);
    assert_int_equal(STAT_GET(page.counters, retries), 2);
    stat_page_destroy(&page);
    assert_int_equal(fcntl(other, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(close(other), 0);
}

static void a_child_that_leaves_takes_nothing_along(void **state)
{
    (void)state;
    struct stat_page page;
    assert_int_equal(stat_page_create(&page, &facts, true), 0);
    STAT_ADD(page.counters, clean_calls, 9);
    stat_page_leave(&page);
    assert_int_equal(count_pages(), 0);
    assert_int_equal(STAT_GET(page.counters, clean_calls), 9);
    stat_page_destroy(&page);
}

static void a_process_that_is_gone_has_no_start(void **state)
{
    (void)state;
    uint64_t ticks = 77;
    assert_int_equal(stat_process_start(1 << 22, &ticks), -ENOENT); // beyond the greatest pid
    assert_int_equal(ticks, 77);
    assert_int_equal(stat_process_start(1, &ticks), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_who_it_is),
        cmocka_unit_test(counters_are_found_by_name),
        cmocka_unit_test(latencies_are_where_the_header_says),
        cmocka_unit_test(open_segments_are_listed),
        cmocka_unit_test(nobody_else_writes),
        cmocka_unit_test(not_shown_it_counts_all_the_same),
        cmocka_unit_test(without_descriptors_it_counts_all_the_same),
        cmocka_unit_test(a_number_that_is_anothers_stays_open),
        cmocka_unit_test(a_child_that_leaves_takes_nothing_along),
        cmocka_unit_test(a_process_that_is_gone_has_no_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
