// SPDX-License-Identifier: Apache-2.0
//
// What the test programs share around the library: sizes on the command line, names of segments, progress on a
// terminal, failures in the library's own words, and the closing table.
#ifndef TESTS_PROGRAMS_REPORT_H
#define TESTS_PROGRAMS_REPORT_H

#include <dsm/dsm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { EXIT_VERIFIED = 0, EXIT_MISMATCH = 1, EXIT_FAILURE_SETUP = 2, EXIT_SIGBUS = 3 };

struct report {
    const char *program;
    bool json;
    uint64_t segment_bytes;
    uint64_t cache_bytes;
    bool plain;          // arrays in memory of the process' own: there is no session
    double seconds;      // from first to last
    double work_seconds; // of the part that the program is about; 0: not told apart
    dsm_statistics statistics;
    dsm_statistics work; // what was counted in that part; its levels mean nothing
};

// "64M", "256K", "1G" or plain bytes; 0 or -EINVAL.
int report_parse_size(const char *text, uint64_t *bytes);
double report_now(void); // seconds, CLOCK_MONOTONIC

// What libdsm accepts at least for pages of page_bytes and `threads` that touch memory at once.
uint64_t report_least_cache(uint32_t page_bytes, unsigned threads);

// "program/pid-time/part": unique to this run.
void report_segment_name(const char *program, const char *part, char *name, size_t capacity);

// Prints "program: what: reason: sentence of the library" and returns `error`.
int report_failure(const char *program, const char *what, int error);
// Opens a session with the environment's settings but this cache. 0 or -errno, said.
int report_open(const char *program, uint64_t cache_bytes, dsm **session);
// Closes (when not NULL) and deletes; 0 or -errno, said.
int report_remove(const char *program, dsm *session, dsm_segment *segment, const char *name);

// One line on stderr, rewritten at most ten times a second, on terminals only. done > total: erases it.
// Not for several threads at once.
void report_progress(const char *label, uint64_t done, uint64_t total);

// SIGBUS in [base, base + bytes): says address and page of `name`, and ends with EXIT_SIGBUS. Call before report_open()
// so that the library's handler stands in front of this one.
void report_catch_sigbus(void);
enum { REPORT_RANGES = 16 };
void report_watch(const char *name,
                  const dsm_segment *segment); // names the range; at most REPORT_RANGES

// Reads the session's counters and looks at their identities. 0 or -errno, said.
int report_statistics(struct report *report, dsm *session);
// The closing table (or JSON object) on stdout, ending in "verified".
void report_print(const struct report *report);
// Where texts for people go: stdout, or stderr when stdout carries JSON.
FILE *report_text(const struct report *report);

#endif
