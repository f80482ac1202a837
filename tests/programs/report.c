// SPDX-License-Identifier: Apache-2.0
//
// See report.h. Jansson is seen here only. The SIGBUS handler uses nothing but write() and _exit(), and
// reads a table that is only appended to; it exists because a touch that libdsm cannot serve ends in
// SIGBUS, and a test that dies without a word about where is worth little.
#include "tests/programs/report.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "rpc/limits.h"
#include "tests/identities.h"

int report_parse_size(const char *text, uint64_t *bytes)
{
    static const char suffixes[] = "KMGT";
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *text == '-') {
        return -EINVAL;
    }
    unsigned shift = 0;
    if (*end != '\0') {
        const char *suffix = strchr(suffixes, *end);
        if (suffix == NULL || end[1] != '\0') {
            return -EINVAL;
        }
        shift = 10 * (unsigned)(suffix - suffixes + 1);
    }
    if (value > UINT64_MAX >> shift) {
        return -EINVAL;
    }
    *bytes = (uint64_t)value << shift;
    return 0;
}

double report_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

uint64_t report_least_cache(uint32_t page_bytes, unsigned threads)
{
    uint64_t page = page_bytes != 0 ? page_bytes : (uint64_t)sysconf(_SC_PAGESIZE);
    return page * (LIMIT_CACHE_MIN_PAGES + (uint64_t)LIMIT_CACHE_PAGES_PER_THREAD * threads);
}

void report_segment_name(const char *program, const char *part, char *name, size_t capacity)
{
    snprintf(name, capacity, "%s/%d-%lld/%s", program, (int)getpid(), (long long)time(NULL), part);
}

int report_failure(const char *program, const char *what, int error)
{
    const dsm_error_detail *detail = dsm_error();
    fprintf(stderr, "%s: %s: %s", program, what, dsm_strerror(error));
    if (detail != NULL && detail->error == error && detail->text[0] != '\0') {
        fprintf(stderr, ": %s", detail->text);
    }
    fprintf(stderr, "\n");
    return error;
}

int report_open(const char *program, uint64_t cache_bytes, dsm **session)
{
    dsm_options options = {.size = sizeof(options), .cache_bytes = cache_bytes};
    int result = dsm_open(&options, session);
    return result == 0 ? 0 : report_failure(program, "No session with the memory server", result);
}

int report_remove(const char *program, dsm *session, dsm_segment *segment, const char *name)
{
    int result = segment == NULL ? 0 : dsm_segment_close(segment);
    if (result != 0) {
        return report_failure(program, "Closing a segment", result);
    }
    result = dsm_segment_delete(session, name);
    return result == 0 ? 0 : report_failure(program, "Deleting a segment", result);
}

void report_progress(const char *label, uint64_t done, uint64_t total)
{
    static double last;
    static bool shown;
    if (done > total) {
        if (shown) {
            fputs("\r\033[K", stderr);
        }
        shown = false;
        return;
    }
    double now = report_now();
    if (now - last < 0.1 || !isatty(STDERR_FILENO)) {
        return;
    }
    last = now;
    shown = true;
    fprintf(stderr, "\r\033[K%s %3.0f %%", label,
            total == 0 ? 100.0 : 100.0 * (double)done / (double)total);
    fflush(stderr);
}

// ---- SIGBUS -------------------------------------------------------------------------------------------

static struct {
    uintptr_t base;
    uint64_t bytes, page_bytes;
    char name[32];
} ranges[REPORT_RANGES];
static volatile sig_atomic_t range_count;

void report_watch(const char *name, const dsm_segment *segment)
{
    sig_atomic_t i = 0;
    while (i < range_count && strcmp(ranges[i].name, name) != 0) {
        i++; // a segment that was opened again keeps its place
    }
    if (i == REPORT_RANGES) {
        return;
    }
    snprintf(ranges[i].name, sizeof(ranges[i].name), "%s", name);
    ranges[i].base = (uintptr_t)dsm_segment_base(segment);
    ranges[i].bytes = dsm_segment_size(segment);
    ranges[i].page_bytes = dsm_segment_page_size(segment);
    if (i == range_count) {
        range_count = i + 1;
    }
}

static void say(const char *text)
{
    (void)!write(STDERR_FILENO, text, strlen(text));
}

static void say_number(uint64_t value, unsigned base)
{
    char text[24];
    size_t at = sizeof(text);
    text[--at] = '\0';
    do {
        text[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    say(text + at);
}

static void on_sigbus(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    uintptr_t address = (uintptr_t)info->si_addr;
    say("\nSIGBUS at 0x");
    say_number(address, 16);
    for (sig_atomic_t i = 0; i < range_count; i++) {
        if (address - ranges[i].base < ranges[i].bytes) {
            say(", segment ");
            say(ranges[i].name);
            say(", page ");
            say_number((address - ranges[i].base) / ranges[i].page_bytes, 10);
        }
    }
    say("\n");
    _exit(EXIT_SIGBUS);
}

void report_catch_sigbus(void)
{
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigfillset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}

// ---- the closing table --------------------------------------------------------------------------------

FILE *report_text(const struct report *report)
{
    return report->json ? stderr : stdout;
}

static double pages_per_run(const dsm_statistics *statistics)
{
    return statistics->swap_in_virtual_runs == 0
               ? 0
               : (double)statistics->swap_in_reads / (double)statistics->swap_in_virtual_runs;
}

// Pages written: by cleanings, and one by one to make room for another.
static uint64_t cleaned_pages(const dsm_statistics *statistics)
{
    return statistics->clean_writes + statistics->swap_in_dirty_victims;
}

// Sums that are not 0.
static json_t *work_json(const dsm_statistics *work)
{
    enum { COUNTS_SUM = 1, COUNTS_LEVEL = 0 };
    const struct {
        const char *name;
        uint64_t value;
    } counters[] = {
#define DSM_COUNTER(name, unit, kind, trap, column, meaning) {#name, COUNTS_##kind * work->name},
#include "dsm/counters.def"
#undef DSM_COUNTER
    };
    json_t *object = json_object();
    for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
        if (counters[i].value != 0) {
            json_object_set_new(object, counters[i].name,
                                json_integer((json_int_t)counters[i].value));
        }
    }
    return object;
}

static void print_json(const struct report *report)
{
    const dsm_statistics *s = &report->statistics;
    json_t *object = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:f, s:f, s:b}", "program", report->program,
        "segment_bytes", (json_int_t)report->segment_bytes, "cache_bytes",
        (json_int_t)report->cache_bytes, "resident_peak_bytes", (json_int_t)s->resident_peak_bytes,
        "swap_ins", (json_int_t)s->swap_in_reads, "pages_per_run", pages_per_run(s), "cleaned",
        (json_int_t)cleaned_pages(s), "wire_sent", (json_int_t)s->wire_sent, "wire_received",
        (json_int_t)s->wire_received, "seconds", report->seconds, "work_seconds",
        report->work_seconds > 0 ? report->work_seconds : report->seconds, "verified", 1);
    json_object_set_new(object, "work", work_json(&report->work));
    json_dumpf(object, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    printf("\n");
    json_decref(object);
}

int report_statistics(struct report *report, dsm *session)
{
    report->statistics.size = sizeof report->statistics;
    int error = dsm_stats(session, &report->statistics);
    if (error != 0) {
        return report_failure(report->program, "Reading the counters", error);
    }
    const char *broken = identities_broken(session, true); // a server may have failed meanwhile
    if (broken != NULL) {
        fprintf(stderr, "%s: counters: does not hold: %s\n", report->program, broken);
        return -EPROTO;
    }
    return 0;
}

void report_print(const struct report *report)
{
    const dsm_statistics *s = &report->statistics;
    report_progress("", 1, 0);
    if (report->json) {
        print_json(report);
        return;
    }
    printf("\n%-22s %14.1f MiB\n", "in segments", (double)report->segment_bytes / 0x1p20);
    printf("%-22s %14.1f MiB (peak %.1f)\n", "cache", (double)report->cache_bytes / 0x1p20,
           (double)s->resident_peak_bytes / 0x1p20);
    printf("%-22s %14llu pages\n", "swap-ins", (unsigned long long)s->swap_in_reads);
    printf("%-22s %14.2f\n", "pages per run", pages_per_run(s));
    printf("%-22s %14llu pages\n", "cleaned", (unsigned long long)cleaned_pages(s));
    printf("%-22s %14.1f MiB\n", "on the wire", (double)(s->wire_sent + s->wire_received) / 0x1p20);
    printf("%-22s %14.1f s\n", "time", report->seconds);
    printf("verified\n");
}
