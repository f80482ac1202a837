// SPDX-License-Identifier: Apache-2.0
//
// See workload.h. Counters are read before the segments go, so that what is shown is the program's own work. Segments
// are named by process and time, so that many runs share a server.
#include "tests/programs/workload.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int workload_open(struct workload *workload, unsigned threads)
{
    struct report *report = &workload->report;
    uint64_t least = report_least_cache(0, threads + 1);
    report->cache_bytes = report->cache_bytes < least ? least : report->cache_bytes;
    report_catch_sigbus();
    workload->started = report_now();
    if (report->plain) {
        return EXIT_VERIFIED;
    }
    return report_open(report->program, report->cache_bytes, &workload->session) == 0
               ? EXIT_VERIFIED
               : EXIT_FAILURE_SETUP;
}

// Small pages, as a cache of small pages has; else a memory limit would be met in steps of 2 MiB.
static void *plain_array(struct workload *workload, struct workload_array *array, uint64_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        fprintf(stderr, "%s: %s\n", workload->report.program, strerror(errno));
        return NULL;
    }
    (void)madvise(memory, bytes, MADV_NOHUGEPAGE);
    *array = (struct workload_array){.memory = memory, .bytes = bytes};
    workload->count++;
    workload->report.segment_bytes += bytes;
    return memory;
}

void *workload_array(struct workload *workload, const char *part, uint64_t bytes)
{
    const char *program = workload->report.program;
    struct workload_array *array = &workload->arrays[workload->count];
    if (workload->count == WORKLOAD_ARRAYS) {
        fprintf(stderr, "%s: more than %d arrays.\n", program, WORKLOAD_ARRAYS);
        return NULL;
    }
    if (workload->report.plain) {
        return plain_array(workload, array, bytes);
    }
    report_segment_name(program, part, array->name, sizeof(array->name));
    int error = dsm_segment_create(workload->session, array->name, bytes, 0, 0, &array->segment);
    if (error != 0) {
        report_failure(program, "No segment for an array", error);
        return NULL;
    }
    workload->count++;
    report_watch(part, array->segment);
    workload->report.segment_bytes += dsm_segment_size(array->segment);
    return dsm_segment_base(array->segment);
}

static void read_counters(const struct workload *workload, dsm_statistics *statistics)
{
    *statistics = (dsm_statistics){.size = sizeof(*statistics)};
    if (workload->session != NULL) {
        (void)dsm_stats(workload->session, statistics);
    }
}

void workload_begin(struct workload *workload)
{
    read_counters(workload, &workload->before);
    workload->begun = report_now();
}

double workload_end(struct workload *workload)
{
    dsm_statistics now;
    double seconds = report_now() - workload->begun;
    dsm_statistics *work = &workload->report.work;
    workload->report.work_seconds += seconds;
    read_counters(workload, &now);
#define DSM_COUNTER(name, unit, kind, trap, column, meaning)                                       \
    work->name += now.name - workload->before.name;
#include "dsm/counters.def"
#undef DSM_COUNTER
    return seconds;
}

dsm_segment *workload_segment(const struct workload *workload, const void *array)
{
    for (uint32_t i = 0; i < workload->count; i++) {
        if (dsm_segment_base(workload->arrays[i].segment) == array) {
            return workload->arrays[i].segment;
        }
    }
    return NULL;
}

// The whole pages of [from, end).
static dsm_interval pages_of(uint64_t from, uint64_t end, uint64_t page_bytes)
{
    uint64_t first = (from + page_bytes - 1) / page_bytes;
    uint64_t behind = end / page_bytes;
    return (dsm_interval){first, behind > first ? behind - first : 0};
}

// The whole pages of [from, end) of an array, as a hint of either kind is about: to the kernel, of
// plain memory, `advice`; to the library the call that comes to the same.
static void hint(const struct workload *workload, void *array, uint64_t from, uint64_t end,
                 int advice)
{
    if (!workload->hints) {
        return;
    }
    if (workload->report.plain) {
        uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
        dsm_interval pages = pages_of(from, end, page_bytes);
        (void)madvise((char *)array + pages.page * page_bytes, pages.count * page_bytes, advice);
        return;
    }
    dsm_segment *segment = workload_segment(workload, array);
    dsm_interval pages = pages_of(from, end, dsm_segment_page_size(segment));
    if (advice == MADV_COLD) {
        (void)dsm_age(segment, pages);
    } else {
        (void)dsm_swap_in(segment, pages, DSM_KILL | DSM_WRITE, DSM_NO_PAGE);
    }
}

void workload_overwritten(struct workload *workload, void *array, uint64_t from, uint64_t end)
{
    hint(workload, array, from, end, MADV_DONTNEED);
}

void workload_passed(struct workload *workload, void *array, uint64_t from, uint64_t end)
{
    hint(workload, array, from, end, MADV_COLD);
}

static void close_plain(struct workload *workload)
{
    while (workload->count > 0) {
        struct workload_array *array = &workload->arrays[--workload->count];
        (void)munmap(array->memory, array->bytes);
    }
}

int workload_close(struct workload *workload, int code, bool quiet)
{
    struct report *report = &workload->report;
    report_progress("", 1, 0);
    if (report->plain) {
        report->seconds = report_now() - workload->started;
        close_plain(workload);
        if (code == EXIT_VERIFIED && !quiet) {
            report_print(report);
        }
        return code;
    }
    if (workload->session == NULL) {
        return code;
    }
    report->seconds = report_now() - workload->started;
    int error = report_statistics(report, workload->session);
    while (workload->count > 0) {
        struct workload_array *array = &workload->arrays[--workload->count];
        int removed =
            report_remove(report->program, workload->session, array->segment, array->name);
        error = error != 0 ? error : removed;
    }
    int closed = dsm_close(workload->session);
    workload->session = NULL;
    if (closed != 0) {
        report_failure(report->program, "Closing the session", closed);
    }
    error = error != 0 ? error : closed;
    if (code == EXIT_VERIFIED && error != 0) {
        code = EXIT_FAILURE_SETUP;
    }
    if (code == EXIT_VERIFIED && !quiet) {
        report_print(report);
    }
    return code;
}
